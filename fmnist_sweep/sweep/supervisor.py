"""The loop of one study: one owner of oracle, journal and store, plain workers.

The supervisor hands proposed trials to the executor, decides each trial's fate and is the only one that writes. Each
transition is in the journal before anything depends on it, so that from any kill the same command goes on.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.data import LABELS
from fmnist_sweep.files import DamagedContent, write_file_atomically
from fmnist_sweep.report.leaderboard import build_trial_record
from fmnist_sweep.study import results
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Parcel, read_clock_ms
from fmnist_sweep.sweep.parcels import StudyParcels
from fmnist_sweep.sweep.plan import PlannedStudy
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
_EVENT_TIMEOUT_SECONDS = 1.0


@dataclass(eq=False)
class _LiveTrial:
    """A trial under way.

    epochs: those that have ended, shared with its parcel. kept: of them, how many a checkpoint has. seconds: trained in
    earlier attempts. begun: since when a worker has had it, None while it waits for one. at_rest: it trains no further,
    because the sweep stops.
    """

    history: TrialHistory
    parcel: Parcel
    epochs: list[Epoch]
    kept_epochs: int
    earlier_seconds: float
    start_time: float | None
    is_stopped: bool = False


class Supervisor:
    """The trials of one study, from the first proposal, or where an earlier session stopped, to the last result."""

    def __init__(self, sweep: Sweep, planned: PlannedStudy, opened: OpenStudy) -> None:
        self._sweep, self._planned, self._opened = sweep, planned, opened
        self._study, self._record = planned.study, opened.record
        self._parcels = StudyParcels(sweep, planned, opened)
        self._config = planned.study.job.config.search
        self._proposals = Proposals(planned, opened, self.count_seconds)
        self._live_trials: dict[str, _LiveTrial] = {}
        self._departing_trials: list[_LiveTrial] = []  # that have ended and are being handed over
        self._trials_without_run: deque[_LiveTrial] = deque()  # whose run is not begun in the store yet
        self._start_time, self._earlier_seconds = time.monotonic(), self._record.seconds
        self._from_scratch: set[str] = set()  # trials that cannot use the checkpoint of the rung below
        self._is_stopped = False  # by search.fail_fast

    def run(self) -> None:
        """Train what is left to train; KeyboardInterrupt when the user asked for an end, with nothing left open."""
        try:
            self._restore_study()
            while self._fill_slots() or self._live_trials:
                self._process_event()
                if all(self._may_end(live) for live in self._live_trials.values()):
                    self._raise_if_asked()
            self._raise_if_asked()
            self._sweep.delivery.flush()
            self._close_dead_runs()
            self._parcels.drop_models(wait=True)
        except BaseException:
            self._kill_running()
            raise
        if self._record.is_exhausted:
            # Only now: a promoted trial goes on from the checkpoint of the trial it was promoted from.
            self._opened.checkpoints.drop_all()

    def count_seconds(self) -> float:
        """Seconds spent on the study, those of earlier sessions included."""
        return round(self._earlier_seconds + time.monotonic() - self._start_time, 3)

    def _raise_if_asked(self) -> None:
        if self._sweep.stop.is_requested:
            raise KeyboardInterrupt

    def _may_end(self, live: _LiveTrial) -> bool:
        """Whether nothing is lost of a trial that is broken off now: its last epoch has ended and is kept."""
        return live.is_stopped or (not self._sweep.executor.concurrent and live.kept_epochs == len(live.epochs))

    def _process_event(self) -> None:
        event = self._wait_for_event(0.0)
        if event is None and self._fail_overdue():
            return
        if event is None and self._trials_without_run:
            live = self._trials_without_run.popleft()
            if self._live_trials.get(live.history.trial_id) is live:  # else it is over, and the store knows all of it
                self._sweep.delivery.deliver(live.parcel)
            return
        event = event or self._wait_for_event(_EVENT_TIMEOUT_SECONDS)
        if event is None:
            self._sweep.delivery.retry_queue()
            self._sweep.view.refresh()
        elif event.trial_id in self._live_trials:
            self._handle_event(event)
            if not self._sweep.executor.concurrent:
                self._fail_overdue()

    def _wait_for_event(self, timeout: float) -> TrialEvent | None:
        with self._sweep.stop.allow_interruption():
            return self._sweep.executor.next_event(timeout)

    def _handle_event(self, event: TrialEvent) -> None:
        live = self._live_trials[event.trial_id]
        match event:
            case TrialStart():
                live.start_time = time.monotonic()
                self._sweep.view.show_worker(event.trial_id, event.worker)
            case EpochEnd():
                self._record_epoch(live, event)
            case TrialResult():
                self._finish(live, event)
            case TrialFailure():
                self._fail(live, event)
            case CheckpointRefused():
                self._restart(live, event)
            case WorkerLost():
                self._handle_lost_worker(live, event.reason)

    # What an earlier session left behind

    def _restore_study(self) -> None:
        """Bring oracle, store and journal to agree on what has happened."""
        self._proposals.restore_oracle()
        unfinished = []
        for history in list(self._record.trials.values()):
            self._proposals.remember(history)
            if history.duplicate_of is None:
                self._settle(history)
                if history.state == "running":
                    unfinished.append(history)
        self._proposals.enqueue(unfinished)
        self._is_stopped = self._config.fail_fast and self._record.count_trials("failed") > 0

    def _settle(self, history: TrialHistory) -> None:
        for attempt in history.attempts:
            if attempt.state == "running":
                self._note("killed", trial_id=history.trial_id, attempt=attempt.number)
            if attempt.state == "killed" and not attempt.is_delivered:
                self._parcels.close_dead_run(history, attempt)
        if history.state != "running" and not history.attempts[-1].is_delivered:
            self._deliver_late(history)
        if history.is_settled:  # noted by a process that may have died before it came to this
            self._parcels.drop_files(history)

    def _close_dead_runs(self) -> None:
        """Close the runs of attempts that were broken off while the store was away."""
        for history in self._record.trained_trials:
            for attempt in history.attempts:
                if attempt.state == "killed" and not attempt.is_delivered:
                    self._parcels.close_dead_run(history, attempt)

    def _deliver_late(self, history: TrialHistory) -> None:
        try:
            self._parcels.deliver_late(history)
        except DamagedContent as error:
            path, attempt = self._opened.result_path(history.trial_id), history.attempts[-1]
            self._sweep.view.say(f"{path} is damaged ({error}): this trial is trained again", "yellow")
            self._note("lost", trial_id=history.trial_id, attempt=attempt.number)
            self._parcels.close_dead_run(history, attempt)

    # One trial

    def _fill_slots(self) -> bool:
        """Begin trials while there are slots and proposals; whether any began."""
        has_begun = False
        while len(self._live_trials) < self._sweep.executor.slots and not self._sweep.stop.is_requested:
            history = self._proposals.take_next(len(self._live_trials), only_begun=self._is_stopped)
            if history is None:
                break
            self._begin(history)
            has_begun = True
        return has_begun

    def _begin(self, history: TrialHistory) -> None:
        sweep, config = self._sweep, self._parcels.resolve_config(history)
        self._note("attempt", trial_id=history.trial_id, attempt=len(history.attempts) + 1)
        resume = self._find_checkpoint(history)
        rows = [] if resume is None else trial.read_checkpoint_history(resume)
        epochs = [Epoch(number, row, read_clock_ms()) for number, row in enumerate(rows, 1)]
        parcel = self._parcels.make_parcel(history, config, epochs)
        trained_seconds = sum(row["epoch_seconds"] for row in rows)
        start_time = None if sweep.executor.concurrent else time.monotonic()
        self._live_trials[history.trial_id] = _LiveTrial(
            history, parcel, epochs, len(rows), trained_seconds, start_time
        )
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
            build_trial_record(history, self._record.about), history.number, config["train"]["epochs"], len(rows)
        )
        if sweep.executor.concurrent:
            self._trials_without_run.append(
                self._live_trials[history.trial_id]
            )  # first let all workers have something to do
        else:
            sweep.delivery.deliver(parcel)

    def _find_checkpoint(self, history: TrialHistory) -> bytes | None:
        """Where this trial goes on: after its own last epoch, or for a promoted one after that of the rung below."""
        own_checkpoint = self._opened.checkpoints.load_newest(history.trial_id)
        rung_below = history.proposal.continues
        if own_checkpoint is not None or rung_below is None or history.trial_id in self._from_scratch:
            return own_checkpoint
        return self._opened.checkpoints.load_newest(self._record.trials[rung_below].duplicate_of or rung_below)

    def _record_epoch(self, live: _LiveTrial, event: EpochEnd) -> None:
        live.epochs.append(Epoch(event.epoch, event.metrics, read_clock_ms()))
        if event.checkpoint is not None:
            self._opened.checkpoints.save(event.trial_id, event.epoch, event.checkpoint)
            live.kept_epochs = len(live.epochs)
        live.is_stopped = event.last
        self._sweep.training_seconds += event.metrics["epoch_seconds"]
        self._sweep.delivery.deliver(live.parcel)
        self._sweep.view.show_epoch(event.trial_id, event.epoch, event.metrics)

    # How an attempt ends

    def _finish(self, live: _LiveTrial, result: TrialResult) -> None:
        history, validation = live.history, self._planned.splits.validation
        evaluation = evaluate_predictions(validation.labels, result.probabilities, LABELS)
        correct_count = round(evaluation.accuracy * len(validation.labels))
        write_file_atomically(self._opened.result_path(result.trial_id), results.pack_result(result, live.epochs))
        end_time = read_clock_ms()
        self._record_end(
            "finished",
            live,
            score=result.history[result.best_epoch - 1][self._config.objective],
            best_val_accuracy=evaluation.accuracy,
            interval=list(compute_wilson_interval(correct_count, len(validation.labels))),
            best_epoch=result.best_epoch,
            parameters=result.parameters,
            fit_seconds=result.fit_seconds,
            ended=end_time,
        )
        result_buffer = [result]
        live.parcel.closer = self._parcels.make_finished_closer(history, result_buffer, end_time)
        self._deliver_ended(live)
        result_buffer.clear()
        self._parcels.drop_models(wait=False)

    def _fail(self, live: _LiveTrial, failure: TrialFailure) -> None:
        self._record_end(
            "failed",
            live,
            reason=failure.reason,
            traceback=failure.traceback,
            epochs=[(epoch.metrics, epoch.ended) for epoch in live.epochs],
            ended=read_clock_ms(),
        )
        live.parcel.closer = self._parcels.make_failed_closer(live.history.outcome or {})
        if self._config.fail_fast:
            self._is_stopped = True
        self._deliver_ended(live)
        if self._config.fail_fast:
            self._sweep.view.say("search.fail_fast=true: the study stops here.", "red")

    def _record_end(self, kind: str, live: _LiveTrial, **outcome: Any) -> None:
        """Put a trial's end into the journal, and let the oracle know in its turn."""
        history, has_outcome = live.history, live.history.outcome is not None
        if self._proposals.is_synchronous:
            outcome["later"] = True
        ids = {"trial_id": history.trial_id, "attempt": history.attempts[-1].number}
        self._note(kind, **ids, **outcome, seconds=self.count_seconds())
        if not has_outcome:
            self._proposals.report_end(history)

    def _deliver_ended(self, live: _LiveTrial) -> None:
        """Give a trial that has ended to the store; first the next one to the worker that waits for it."""
        self._departing_trials.append(self._live_trials.pop(live.history.trial_id))
        if self._sweep.executor.concurrent:
            self._fill_slots()
        self._sweep.delivery.deliver(live.parcel)
        self._departing_trials.remove(live)
        self._sweep.view.end_trial(build_trial_record(live.history, self._record.about))

    def _restart(self, live: _LiveTrial, refused: CheckpointRefused) -> None:
        """From the first epoch: a checkpoint of other code, say, is of no use, and what was trained can be again."""
        history = live.history
        self._sweep.view.say(f"  a checkpoint cannot be used ({refused.reason}): this trial begins anew", "yellow")
        self._abort_attempt(live)
        self._opened.checkpoints.drop(history.trial_id)
        self._from_scratch.add(history.trial_id)
        self._begin(history)

    def _handle_lost_worker(self, live: _LiveTrial, reason: str) -> None:
        """Try again from the last checkpoint; a trial that gets no further with several workers is at fault itself."""
        history = live.history
        if self._sweep.stop.is_requested:
            live.is_stopped = True  # what is kept of it is all there will be; it is closed with the others
            return
        attempts = self._study.job.config.executor.attempts
        loss_count = sum(
            attempt.worker_loss is not None and attempt.kept_epochs == live.kept_epochs for attempt in history.attempts
        )
        if loss_count + 1 >= attempts:
            times = (
                ""
                if attempts == 1
                else f", the last of {attempts} in a row that got no further than epoch {live.kept_epochs}"
            )
            self._fail(live, TrialFailure(history.trial_id, f"WorkerLost: {reason}{times}", reason, []))
            return
        self._sweep.view.say(f"  {reason}: its trial goes on from epoch {live.kept_epochs} with another one", "yellow")
        self._abort_attempt(live, lost=reason, kept=live.kept_epochs)
        self._begin(history)

    def _abort_attempt(self, live: _LiveTrial, **details: Any) -> None:
        """Close an attempt that another one follows."""
        attempt = live.history.attempts[-1]
        self._note("killed", trial_id=live.history.trial_id, attempt=attempt.number, **details)
        self._sweep.delivery.discard(live.parcel)
        self._parcels.close_dead_run(live.history, attempt, wait=False)
        del self._live_trials[live.history.trial_id]

    def _fail_overdue(self) -> bool:
        """End trials that have had their minutes, kept epochs of earlier attempts included; whether there were any.

        To be called when all that workers said is taken in: what has ended in time may have waited to be heard.
        """
        minutes, has_failed = self._config.trial_minutes, False
        for live in list(self._live_trials.values()):
            if minutes is None or live.start_time is None or live.is_stopped:
                continue
            if live.earlier_seconds + time.monotonic() - live.start_time < 60 * minutes:
                continue
            trial_id, has_failed = live.history.trial_id, True
            self._sweep.executor.abandon(trial_id)
            reason = f"OverTime: {len(live.epochs)} epochs after search.trial_minutes={minutes:g}"
            self._fail(live, TrialFailure(trial_id, reason, reason, []))
        return has_failed

    def _kill_running(self) -> None:
        """Close what is under way as KILLED; what the store does not take now is closed at the next start."""
        for live in (*self._departing_trials, *self._live_trials.values()):
            attempt = live.history.attempts[-1]
            if attempt.state == "running":  # one that has ended keeps its result, to be delivered at the next start
                self._note(
                    "killed", trial_id=live.history.trial_id, attempt=attempt.number, seconds=self.count_seconds()
                )
            self._parcels.kill_run(attempt)

    def _note(self, kind: str, **body: Any) -> None:
        self._opened.append_event(kind, **body)
