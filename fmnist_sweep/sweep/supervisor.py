"""The loop of one study. The supervisor owns the oracle, the journal and the store; workers only train.

The supervisor hands proposed trials to the executor, decides what becomes of each trial, and is the only one that
writes. Each transition is in the journal before anything depends on it, so that the same command continues after any
kill.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from fmnist_sweep.files import write_file_atomically
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.report.leaderboard import build_leaderboard_entry
from fmnist_sweep.study import results
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.kept_models import KeptModels
from fmnist_sweep.sweep.live_trial import LiveTrial, build_spec, describe_result, find_checkpoint, resolve_trial_config
from fmnist_sweep.sweep.parcels import StudyParcels
from fmnist_sweep.sweep.proposals import Proposals
from fmnist_sweep.sweep.recovery import close_killed_attempts, settle_trial
from fmnist_sweep.tracking.runs import read_clock_ms
from fmnist_sweep.training import trial
from fmnist_sweep.training.events import (
    CheckpointRefused,
    Epoch,
    EpochEnd,
    TrialEvent,
    TrialFailure,
    TrialResult,
    TrialStart,
    WorkerLost,
)

# How long to wait for an event of the workers before looking at the clock, and at a store that was away.
_EVENT_TIMEOUT_SECONDS = 1.0


class Supervisor:
    """Trains the trials of one study: from the first proposal, or from where an earlier session stopped, to the end."""

    def __init__(self, study: StudyContext) -> None:
        self._study, self._sweep = study, study.sweep
        self._opened, self._record = study.opened, study.record
        self._config = study.config.search
        self._models = KeptModels(study)
        self._parcels = StudyParcels(study, self._models)
        self._proposals = Proposals(study, self.count_seconds)
        self._live_trials: dict[str, LiveTrial] = {}
        self._departing_trials: list[LiveTrial] = []  # have ended and are being delivered
        self._trials_without_run: deque[LiveTrial] = deque()  # have no run in the store yet
        self._start_time, self._earlier_seconds = time.monotonic(), self._record.seconds
        self._from_scratch: set[str] = set()  # trials that cannot use the checkpoint of the rung below
        self._is_stopped = False  # by search.fail_fast

    def run(self) -> None:
        """Train what is left to train. KeyboardInterrupt when the user asked for an end; no run is left open then."""
        try:
            self._restore_study()
            self._fill_slots()
            while self._live_trials:
                self._process_event()
                if all(self._may_end(live) for live in self._live_trials.values()):
                    self._raise_if_asked()
                self._fill_slots()
            self._raise_if_asked()
            self._sweep.delivery.flush()
            close_killed_attempts(self._study, self._parcels)
            self._models.delete_surplus(wait=True)
        except BaseException:
            self._kill_running()
            raise
        if self._record.is_exhausted:
            # Not before: a promoted trial continues from the checkpoint of the trial it was promoted from.
            self._opened.checkpoints.drop_all()

    def count_seconds(self) -> float:
        """Seconds spent on the study, those of earlier sessions included."""
        return round(self._earlier_seconds + time.monotonic() - self._start_time, 3)

    def _raise_if_asked(self) -> None:
        if self._sweep.stop.is_requested:
            raise KeyboardInterrupt

    def _may_end(self, live: LiveTrial) -> bool:
        """Whether a trial can be broken off now without a loss: its last epoch has ended and is kept."""
        return live.is_stopped or (not self._sweep.executor.concurrent and live.kept_epochs == len(live.epochs))

    def _process_event(self) -> None:
        """Handle the next event, or do what can be done while no event waits.

        Overdue trials are looked for only then: the end of one that ended in time may be among the events that wait.
        """
        event = self._wait_for_event(0.0)
        if event is None and (overdue_trials := self._find_overdue_trials()):
            self._fail_overdue(overdue_trials)
            return
        if event is None and self._trials_without_run:
            live = self._trials_without_run.popleft()
            if self._live_trials.get(live.history.trial_id) is live:  # else it has ended and is delivered
                self._sweep.delivery.deliver(live.parcel)
            return
        event = event or self._wait_for_event(_EVENT_TIMEOUT_SECONDS)
        if event is None:
            self._sweep.delivery.retry_queue()
            self._sweep.view.refresh()
        elif event.trial_id in self._live_trials:
            self._handle_event(event)
            if not self._sweep.executor.concurrent:
                self._fail_overdue(self._find_overdue_trials())

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

    # How trials begin

    def _restore_study(self) -> None:
        """Bring oracle, store and journal to agree on what earlier sessions did."""
        self._models.restore()
        self._proposals.restore_oracle()
        unfinished = []
        for history in list(self._record.trials.values()):
            self._proposals.remember(history)
            if history.duplicate_of is None:
                settle_trial(self._study, self._parcels, history)
                if history.state == "running":
                    unfinished.append(history)
        self._proposals.enqueue(unfinished)
        self._is_stopped = self._config.fail_fast and self._record.count_trials("failed") > 0

    def _fill_slots(self) -> None:
        """Begin trials while there are slots and proposals."""
        while len(self._live_trials) < self._sweep.executor.slots and not self._sweep.stop.is_requested:
            history = self._proposals.take_next(len(self._live_trials), only_begun=self._is_stopped)
            if history is None:
                return
            self._begin(history)

    def _begin(self, history: TrialHistory) -> None:
        sweep, config = self._sweep, resolve_trial_config(self._study.settings, history.proposal)
        number = len(history.attempts) + 1
        nonce = self._record.compute_attempt_nonce(history.trial_id, number)
        self._note("attempt", trial_id=history.trial_id, attempt=number, nonce=nonce)
        checkpoint = find_checkpoint(self._study, history, is_from_scratch=history.trial_id in self._from_scratch)
        rows = [] if checkpoint is None else trial.read_checkpoint_history(checkpoint)
        epochs = [Epoch(number, row, read_clock_ms()) for number, row in enumerate(rows, 1)]
        live = self._live_trials[history.trial_id] = LiveTrial(
            history=history,
            parcel=self._parcels.make_parcel(history, config, epochs),
            epochs=epochs,
            kept_epochs=len(rows),
            earlier_seconds=sum(row["epoch_seconds"] for row in rows),
            start_time=None if sweep.executor.concurrent else time.monotonic(),
        )
        sweep.executor.submit(build_spec(self._study, history, config, checkpoint))
        entry = build_leaderboard_entry(history, self._record.about)
        sweep.view.begin_trial(entry, history.number, config["train"]["epochs"], len(rows))
        if sweep.executor.concurrent:
            self._trials_without_run.append(live)  # all workers get something to do first
        else:
            sweep.delivery.deliver(live.parcel)

    def _record_epoch(self, live: LiveTrial, event: EpochEnd) -> None:
        live.epochs.append(Epoch(event.epoch, event.metrics, read_clock_ms()))
        if event.checkpoint is not None:
            self._opened.checkpoints.save(event.trial_id, event.epoch, event.checkpoint)
            live.kept_epochs = len(live.epochs)
        live.is_stopped = event.last
        self._sweep.training_seconds += event.metrics["epoch_seconds"]
        self._sweep.delivery.deliver(live.parcel)
        self._sweep.view.show_epoch(event.trial_id, event.epoch, event.metrics)

    # How an attempt ends

    def _finish(self, live: LiveTrial, result: TrialResult) -> None:
        history = live.history
        evaluation = self._study.evaluate(result)
        write_file_atomically(self._opened.result_path(result.trial_id), results.pack_result(result, live.epochs))
        end_time = read_clock_ms()
        self._record_end("finished", live, **describe_result(self._study, result, evaluation), ended=end_time)
        live.parcel.closer = self._parcels.make_finished_closer(history, evaluation, end_time, result)
        self._deliver_ended(live)
        # While a store is away, results would fill the memory: a parcel that waits reads its result from the file.
        live.parcel.closer = self._parcels.make_finished_closer(history, evaluation, end_time)
        self._models.delete_surplus(wait=False)

    def _fail(self, live: LiveTrial, failure: TrialFailure) -> None:
        self._record_end(
            "failed",
            live,
            reason=mask_credentials(failure.reason),
            traceback=mask_credentials(failure.traceback),
            epochs=[(epoch.metrics, epoch.ended) for epoch in live.epochs],
            ended=read_clock_ms(),
        )
        live.parcel.closer = self._parcels.make_failed_closer(live.history.outcome or {})
        if self._config.fail_fast:
            self._is_stopped = True
        self._deliver_ended(live)
        if self._config.fail_fast:
            self._sweep.view.say("search.fail_fast=true: the study stops here.", "red")

    def _record_end(self, kind: str, live: LiveTrial, **outcome: Any) -> None:
        """Write a trial's end into the journal, and report it to the oracle in its turn."""
        history, has_outcome = live.history, live.history.outcome is not None
        if self._proposals.is_synchronous:
            outcome["later"] = True
        ids = {"trial_id": history.trial_id, "attempt": history.attempts[-1].number}
        self._note(kind, **ids, **outcome, seconds=self.count_seconds())
        if not has_outcome:
            self._proposals.report_end(history)

    def _deliver_ended(self, live: LiveTrial) -> None:
        """Deliver a trial that has ended, after giving the next one to the worker that waits for it."""
        self._departing_trials.append(self._live_trials.pop(live.history.trial_id))
        if self._sweep.executor.concurrent:
            self._fill_slots()
        self._sweep.delivery.deliver(live.parcel)
        self._departing_trials.remove(live)
        self._sweep.view.end_trial(build_leaderboard_entry(live.history, self._record.about))

    def _restart(self, live: LiveTrial, refused: CheckpointRefused) -> None:
        """Train a trial from its first epoch, because its checkpoint is of no use (made by other code, say)."""
        history = live.history
        self._sweep.view.say(f"  a checkpoint cannot be used ({refused.reason}): this trial begins anew", "yellow")
        self._abort_attempt(live)
        self._opened.checkpoints.drop(history.trial_id)
        self._from_scratch.add(history.trial_id)
        self._begin(history)

    def _handle_lost_worker(self, live: LiveTrial, reason: str) -> None:
        """Continue a trial from its last checkpoint; it fails where several workers in a row got it no further."""
        history = live.history
        if self._sweep.stop.is_requested:
            live.is_stopped = True  # nothing more comes of it; it is closed with the others
            return
        attempts = self._study.config.executor.attempts
        loss_count = sum(
            attempt.worker_loss is not None and attempt.kept_epochs == live.kept_epochs for attempt in history.attempts
        )
        if loss_count + 1 >= attempts:
            row = f", the last of {attempts} in a row that got no further than epoch {live.kept_epochs}"
            description = f"WorkerLost: {reason}{row if attempts > 1 else ''}"
            self._fail(live, TrialFailure(history.trial_id, description, reason, []))
            return
        self._sweep.view.say(f"  {reason}: its trial goes on from epoch {live.kept_epochs} with another one", "yellow")
        self._abort_attempt(live, lost=reason, kept=live.kept_epochs)
        self._begin(history)

    def _abort_attempt(self, live: LiveTrial, **details: Any) -> None:
        """Close an attempt that another attempt follows."""
        attempt = live.history.attempts[-1]
        self._note("killed", trial_id=live.history.trial_id, attempt=attempt.number, **details)
        self._sweep.delivery.discard(live.parcel)
        self._parcels.close_dead_run(live.history, attempt, wait=False)
        del self._live_trials[live.history.trial_id]

    def _find_overdue_trials(self) -> list[LiveTrial]:
        """The trials that have had search.trial_minutes."""
        minutes, now = self._config.trial_minutes, time.monotonic()
        if minutes is None:
            return []
        return [live for live in self._live_trials.values() if live.is_overdue(minutes, now)]

    def _fail_overdue(self, overdue_trials: Sequence[LiveTrial]) -> None:
        for live in overdue_trials:
            trial_id = live.history.trial_id
            self._sweep.executor.abandon(trial_id)
            reason = f"OverTime: {len(live.epochs)} epochs after search.trial_minutes={self._config.trial_minutes:g}"
            self._fail(live, TrialFailure(trial_id, reason, reason, []))

    def _kill_running(self) -> None:
        """Close the runs under way as KILLED; those that the store does not take now are closed at the next start."""
        for live in (*self._departing_trials, *self._live_trials.values()):
            attempt = live.history.attempts[-1]
            if attempt.state == "running":  # an attempt that has ended is delivered at the next start
                ids = {"trial_id": live.history.trial_id, "attempt": attempt.number}
                self._note("killed", **ids, seconds=self.count_seconds())
            if attempt.run_id is not None:
                self._sweep.delivery.kill_run(attempt.run_id)

    def _note(self, kind: str, **body: Any) -> None:
        self._opened.append_event(kind, **body)
