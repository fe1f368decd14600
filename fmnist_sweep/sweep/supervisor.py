"""The loop of one study: one owner of oracle, journal and store, plain workers.

The supervisor hands proposed trials to the executor, decides each trial's fate and is the only one that writes. Each
transition is in the journal before anything depends on it, so that from any kill the same command goes on.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from fmnist_sweep import files as packed
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.leaderboard import build_trial_record
from fmnist_sweep.study import results
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Parcel, now
from fmnist_sweep.sweep.parcels import Handover
from fmnist_sweep.sweep.plan import Planned
from fmnist_sweep.sweep.proposals import Proposals
from fmnist_sweep.training import trial
from fmnist_sweep.training.evaluation import compute_wilson_interval, evaluate_predictions
from fmnist_sweep.training.events import (
    CheckpointRefused,
    Epoch,
    EpochEnd,
    TrialEvent,
    TrialFailure,
    TrialResult,
    TrialSpec,
    TrialStart,
    WorkerLost,
)

# How long to wait for a word of the workers before looking at the clock and at the store that was away.
_PATIENCE_SECONDS = 1.0


@dataclass(eq=False)
class _Live:
    """A trial under way.

    epochs: those that have ended, shared with its parcel. kept: of them, how many a checkpoint has. seconds: trained in
    earlier attempts. begun: since when a worker has had it, None while it waits for one. at_rest: it trains no further,
    because the sweep stops.
    """

    history: TrialHistory
    parcel: Parcel
    epochs: list[Epoch]
    kept: int
    seconds: float
    begun: float | None
    at_rest: bool = False


class Supervisor:
    """The trials of one study, from the first proposal, or where an earlier session stopped, to the last result."""

    def __init__(self, sweep: Sweep, planned: Planned, opened: OpenStudy) -> None:
        self._sweep, self._planned, self._opened = sweep, planned, opened
        self._study, self._record = planned.study, opened.record
        self._handover = Handover(sweep, planned, opened)
        self._config = planned.study.job.config.search
        self._proposals = Proposals(planned, opened, self.seconds)
        self._running: dict[str, _Live] = {}
        self._leaving: list[_Live] = []  # that have ended and are being handed over
        self._unopened: deque[_Live] = deque()  # whose run is not begun in the store yet
        self._begun, self._before = time.monotonic(), self._record.seconds
        self._from_scratch: set[str] = set()  # trials that cannot use the checkpoint of the rung below
        self._stopped = False  # by search.fail_fast

    def run(self) -> None:
        """Train what is left to train; KeyboardInterrupt when the user asked for an end, with nothing left open."""
        try:
            self._restore()
            while self._fill_slots() or self._running:
                self._wait_and_take()
                if all(self._may_end(live) for live in self._running.values()):
                    self._end_if_asked()
            self._end_if_asked()
            self._sweep.delivery.flush(self._sweep.stop.sleep)
            self._bury_rest()
            self._handover.drop_models(insist=True)
        except BaseException:
            self._kill_running()
            raise
        if self._record.is_exhausted:
            # Only now: a promoted trial goes on from the checkpoint of the trial it was promoted from.
            self._opened.checkpoints.drop_all()

    def seconds(self) -> float:
        """Seconds spent on the study, those of earlier sessions included."""
        return round(self._before + time.monotonic() - self._begun, 3)

    def _end_if_asked(self) -> None:
        if self._sweep.stop.is_requested:
            raise KeyboardInterrupt

    def _may_end(self, live: _Live) -> bool:
        """Whether nothing is lost of a trial that is broken off now: its last epoch has ended and is kept."""
        return live.at_rest or (not self._sweep.executor.concurrent and live.kept == len(live.epochs))

    def _wait_and_take(self) -> None:
        event = self._next_event(0.0)
        if event is None and self._end_overdue():
            return
        if event is None and self._unopened:
            live = self._unopened.popleft()
            if self._running.get(live.history.trial_id) is live:  # else it is over, and the store knows all of it
                self._sweep.delivery.bring(live.parcel)
            return
        event = event or self._next_event(_PATIENCE_SECONDS)
        if event is None:
            self._sweep.delivery.retry()
            self._sweep.view.refresh()
        elif event.trial_id in self._running:
            self._take(event)
            if not self._sweep.executor.concurrent:
                self._end_overdue()

    def _next_event(self, timeout: float) -> TrialEvent | None:
        with self._sweep.stop.allow_interruption():
            return self._sweep.executor.next_event(timeout)

    def _take(self, event: TrialEvent) -> None:
        live = self._running[event.trial_id]
        match event:
            case TrialStart():
                live.begun = time.monotonic()
                self._sweep.view.show_worker(event.trial_id, event.worker)
            case EpochEnd():
                self._epoch(live, event)
            case TrialResult():
                self._finish(live, event)
            case TrialFailure():
                self._fail(live, event)
            case CheckpointRefused():
                self._begin_again(live, event)
            case WorkerLost():
                self._worker_lost(live, event.reason)

    # What an earlier session left behind

    def _restore(self) -> None:
        """Bring oracle, store and journal to agree on what has happened."""
        self._proposals.restore()
        unfinished = []
        for history in list(self._record.trials.values()):
            self._proposals.learn(history)
            if history.duplicate_of is None:
                self._settle(history)
                if history.state == "running":
                    unfinished.append(history)
        self._proposals.take_up(unfinished)
        self._stopped = self._config.fail_fast and self._record.count_trials("failed") > 0

    def _settle(self, history: TrialHistory) -> None:
        for attempt in history.attempts:
            if attempt.state == "running":
                self._note("killed", trial_id=history.trial_id, attempt=attempt.number)
            if attempt.state == "killed" and not attempt.is_delivered:
                self._handover.bury(history, attempt)
        if history.state != "running" and not history.attempts[-1].is_delivered:
            self._deliver_late(history)
        if history.is_settled:  # noted by a process that may have died before it came to this
            self._handover.forget_files(history)

    def _bury_rest(self) -> None:
        """Close the runs of attempts that were broken off while the store was away."""
        for history in self._record.trained_trials:
            for attempt in history.attempts:
                if attempt.state == "killed" and not attempt.is_delivered:
                    self._handover.bury(history, attempt)

    def _deliver_late(self, history: TrialHistory) -> None:
        try:
            self._handover.deliver_late(history)
        except packed.DamagedContent as error:
            path, attempt = self._opened.result_path(history.trial_id), history.attempts[-1]
            self._sweep.view.say(f"{path} is damaged ({error}): this trial is trained again", "yellow")
            self._note("lost", trial_id=history.trial_id, attempt=attempt.number)
            self._handover.bury(history, attempt)

    # One trial

    def _fill_slots(self) -> bool:
        """Begin trials while there are slots and proposals; whether any began."""
        began = False
        while len(self._running) < self._sweep.executor.slots and not self._sweep.stop.is_requested:
            history = self._proposals.next(len(self._running), only_begun=self._stopped)
            if history is None:
                break
            self._begin(history)
            began = True
        return began

    def _begin(self, history: TrialHistory) -> None:
        sweep, config = self._sweep, self._handover.resolved(history)
        self._note("attempt", trial_id=history.trial_id, attempt=len(history.attempts) + 1)
        resume = self._checkpoint(history)
        done = [] if resume is None else trial.read_checkpoint_history(resume)
        epochs = [Epoch(number, row, now()) for number, row in enumerate(done, 1)]
        parcel = self._handover.parcel(history, config, epochs)
        trained = sum(row["epoch_seconds"] for row in done)
        begun = None if sweep.executor.concurrent else time.monotonic()
        self._running[history.trial_id] = _Live(history, parcel, epochs, len(done), trained, begun)
        sweep.executor.submit(
            TrialSpec(
                study_id=self._study.id,
                trial_id=history.trial_id,
                attempt=history.attempts[-1].number,
                config=config,
                objective=self._config.objective,
                data=self._study.job.config.data,
                resume=resume,
                checkpoint_seconds=self._study.job.config.checkpoint.every_seconds,
                keep_final=history.proposal.epochs is not None,
            )
        )
        sweep.view.begin_trial(
            build_trial_record(history, self._record.about), history.number, config["train"]["epochs"], len(done)
        )
        if sweep.executor.concurrent:
            self._unopened.append(self._running[history.trial_id])  # first let all workers have something to do
        else:
            sweep.delivery.bring(parcel)

    def _checkpoint(self, history: TrialHistory) -> bytes | None:
        """Where this trial goes on: after its own last epoch, or for a promoted one after that of the rung below."""
        own = self._opened.checkpoints.load_newest(history.trial_id)
        below = history.proposal.continues
        if own is not None or below is None or history.trial_id in self._from_scratch:
            return own
        return self._opened.checkpoints.load_newest(self._record.trials[below].duplicate_of or below)

    def _epoch(self, live: _Live, event: EpochEnd) -> None:
        live.epochs.append(Epoch(event.epoch, event.metrics, now()))
        if event.checkpoint is not None:
            self._opened.checkpoints.save(event.trial_id, event.epoch, event.checkpoint)
            live.kept = len(live.epochs)
        live.at_rest = event.last
        self._sweep.seconds_trained += event.metrics["epoch_seconds"]
        self._sweep.delivery.bring(live.parcel)
        self._sweep.view.show_epoch(event.trial_id, event.epoch, event.metrics)

    # How an attempt ends

    def _finish(self, live: _Live, result: TrialResult) -> None:
        history, validation = live.history, self._planned.splits.validation
        evaluation = evaluate_predictions(validation.labels, result.probabilities, LABELS)
        right = round(evaluation.accuracy * len(validation.labels))
        packed.write_file_atomically(
            self._opened.result_path(result.trial_id), results.pack_result(result, live.epochs)
        )
        ended = now()
        self._over(
            "finished",
            live,
            score=result.history[result.best_epoch - 1][self._config.objective],
            best_val_accuracy=evaluation.accuracy,
            interval=list(compute_wilson_interval(right, len(validation.labels))),
            best_epoch=result.best_epoch,
            parameters=result.parameters,
            fit_seconds=result.fit_seconds,
            ended=ended,
        )
        at_hand = [result]
        live.parcel.ending = self._handover.finished(history, at_hand, ended)
        self._hand_over(live)
        at_hand.clear()
        self._handover.drop_models(insist=False)

    def _fail(self, live: _Live, failure: TrialFailure) -> None:
        self._over(
            "failed",
            live,
            reason=failure.reason,
            traceback=failure.traceback,
            epochs=[(epoch.metrics, epoch.ended) for epoch in live.epochs],
            ended=now(),
        )
        live.parcel.ending = self._handover.failed(live.history.outcome or {})
        if self._config.fail_fast:
            self._stopped = True
        self._hand_over(live)
        if self._config.fail_fast:
            self._sweep.view.say("search.fail_fast=true: the study stops here.", "red")

    def _over(self, kind: str, live: _Live, **outcome: Any) -> None:
        """Put a trial's end into the journal, and let the oracle know in its turn."""
        history, again = live.history, live.history.outcome is not None
        if self._proposals.told_later:
            outcome["later"] = True
        named = {"trial_id": history.trial_id, "attempt": history.attempts[-1].number}
        self._note(kind, **named, **outcome, seconds=self.seconds())
        if not again:
            self._proposals.ended(history)

    def _hand_over(self, live: _Live) -> None:
        """Give a trial that has ended to the store; first the next one to the worker that waits for it."""
        self._leaving.append(self._running.pop(live.history.trial_id))
        if self._sweep.executor.concurrent:
            self._fill_slots()
        self._sweep.delivery.bring(live.parcel)
        self._leaving.remove(live)
        self._sweep.view.end_trial(build_trial_record(live.history, self._record.about))

    def _begin_again(self, live: _Live, refused: CheckpointRefused) -> None:
        """From the first epoch: a checkpoint of other code, say, is of no use, and what was trained can be again."""
        history = live.history
        self._sweep.view.say(f"  a checkpoint cannot be used ({refused.reason}): this trial begins anew", "yellow")
        self._break_off(live)
        self._opened.checkpoints.drop(history.trial_id)
        self._from_scratch.add(history.trial_id)
        self._begin(history)

    def _worker_lost(self, live: _Live, reason: str) -> None:
        """Try again from the last checkpoint; a trial that gets no further with several workers is at fault itself."""
        history = live.history
        if self._sweep.stop.is_requested:
            live.at_rest = True  # what is kept of it is all there will be; it is closed with the others
            return
        attempts = self._study.job.config.executor.attempts
        before = sum(
            attempt.worker_loss is not None and attempt.kept_epochs == live.kept for attempt in history.attempts
        )
        if before + 1 >= attempts:
            times = (
                "" if attempts == 1 else f", the last of {attempts} in a row that got no further than epoch {live.kept}"
            )
            self._fail(live, TrialFailure(history.trial_id, f"WorkerLost: {reason}{times}", reason, []))
            return
        self._sweep.view.say(f"  {reason}: its trial goes on from epoch {live.kept} with another one", "yellow")
        self._break_off(live, lost=reason, kept=live.kept)
        self._begin(history)

    def _break_off(self, live: _Live, **why: Any) -> None:
        """Close an attempt that another one follows."""
        attempt = live.history.attempts[-1]
        self._note("killed", trial_id=live.history.trial_id, attempt=attempt.number, **why)
        self._sweep.delivery.forget(live.parcel)
        self._handover.bury(live.history, attempt, insist=False)
        del self._running[live.history.trial_id]

    def _end_overdue(self) -> bool:
        """End trials that have had their minutes, kept epochs of earlier attempts included; whether there were any.

        To be called when all that workers said is taken in: what has ended in time may have waited to be heard.
        """
        minutes, ended = self._config.trial_minutes, False
        for live in list(self._running.values()):
            if minutes is None or live.begun is None or live.at_rest:
                continue
            if live.seconds + time.monotonic() - live.begun < 60 * minutes:
                continue
            trial_id, ended = live.history.trial_id, True
            self._sweep.executor.abandon(trial_id)
            reason = f"OverTime: {len(live.epochs)} epochs after search.trial_minutes={minutes:g}"
            self._fail(live, TrialFailure(trial_id, reason, reason, []))
        return ended

    def _kill_running(self) -> None:
        """Close what is under way as KILLED; what the store does not take now is closed at the next start."""
        for live in (*self._leaving, *self._running.values()):
            attempt = live.history.attempts[-1]
            if attempt.state == "running":  # one that has ended keeps its result, to be delivered at the next start
                self._note("killed", trial_id=live.history.trial_id, attempt=attempt.number, seconds=self.seconds())
            self._handover.kill(attempt)

    def _note(self, kind: str, **body: Any) -> None:
        self._opened.append_event(kind, **body)
