"""One study of a sweep under way: its trials, from the first proposal, or from where an earlier session stopped.

It decides what becomes of each trial, and is the only one that writes. Each transition is in the journal before
anything depends on it, so that the same command continues after any kill.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from fmnist_sweep.files import write_file_atomically
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.report.leaderboard import LeaderboardEntry, build_leaderboard_entry
from fmnist_sweep.study import results
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.closing import close_study
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.kept_models import KeptModels
from fmnist_sweep.sweep.live_trial import LiveTrial, build_spec, describe_result, find_checkpoint, resolve_trial_config
from fmnist_sweep.sweep.parcels import StudyParcels
from fmnist_sweep.sweep.parent_runs import kill_parent_run
from fmnist_sweep.sweep.proposals import Proposals
from fmnist_sweep.sweep.recovery import close_dead_attempts, close_killed_attempts, deliver_late
from fmnist_sweep.sweep.study_opening import note_opening, open_study_run
from fmnist_sweep.text import format_epoch_count
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


class StudyRun:
    """The trials of one study, and its run in the store.

    number: its place among the studies of the sweep, from 1. fill_slots: gives trials to the slots that are free, and
    is called where a trial has ended and is still to be delivered. live_trials: by what the executor calls them.
    has_ended: nothing is left to train; what is left to do is `close`.
    """

    def __init__(self, study: StudyContext, number: int, fill_slots: Callable[[], None]) -> None:
        self.study, self.number, self._fill_slots = study, number, fill_slots
        self._sweep, self._opened, self._record = study.sweep, study.opened, study.record
        self._config = study.config.search
        self._models = KeptModels(study)
        self._parcels = StudyParcels(study, self._models)
        self._proposals = Proposals(study, self.count_seconds)
        self.live_trials: dict[str, LiveTrial] = {}
        self.has_ended = False
        self._departing_trials: list[LiveTrial] = []  # have ended and are being delivered
        self._trials_without_run: deque[LiveTrial] = deque()  # have no run in the store yet
        self._late_trials: deque[TrialHistory] = deque()  # ended in an earlier session, and are not delivered yet
        self._earlier_seconds = self._record.seconds
        self._start_time: float | None = None  # of the first trial
        self._end_time: float | None = None  # of the last one
        self._from_scratch: set[str] = set()  # trials that cannot use the checkpoint of the rung below
        self._is_open = False
        self._is_stopped = False  # by search.fail_fast

    def count_seconds(self) -> float:
        """Seconds from the first trial to the last one or to now, and those of earlier sessions."""
        if self._start_time is None:
            return round(self._earlier_seconds, 3)
        end_time = time.monotonic() if self._end_time is None else self._end_time
        return round(self._earlier_seconds + end_time - self._start_time, 3)

    # From the opening to the end

    def open(self, sweep: OpenSweep) -> None:
        """Open the study's run, below that of the sweep, and take up what earlier sessions did."""
        note_opening(self.study, sweep)
        self._is_open = True
        open_study_run(self.study)
        self._restore_study()

    def _restore_study(self) -> None:
        """Bring oracle, store and journal to agree on what earlier sessions did."""
        self._models.restore()
        self._proposals.recall_exchanges()
        for history in list(self._record.trials.values()):
            self._proposals.remember(history)
            if history.duplicate_of is None:
                close_dead_attempts(self.study, self._parcels, history)
                if history.is_settled:  # the process that noted it may have died before it dropped the files
                    self._parcels.drop_files(history)
                elif history.state != "running":
                    self._late_trials.append(history)
        unfinished = [history for history in self._record.trained_trials if history.state == "running"]
        self._proposals.enqueue(unfinished)
        # To deliver a trial takes a second, and to import KerasTuner some: workers get something to do first.
        while not self._sweep.executor.concurrent and self._deliver_late():
            pass
        if not (self._sweep.executor.concurrent and any(history.attempts for history in unfinished)):
            self._proposals.prepare_search()
        self._is_stopped = self._config.fail_fast and self._record.count_trials("failed") > 0

    def close(self, *, others_train: bool) -> list[LeaderboardEntry]:
        """Deliver what is left and close the study's run, once it has ended; return its trials.

        others_train: whether trials of other studies are under way.
        """
        self._sweep.delivery.flush()
        close_killed_attempts(self.study, self._parcels)
        self._models.delete_surplus(wait=True)
        if self._record.has_nothing_to_promote:
            # Not before: a promoted trial continues from the checkpoint of the trial it was promoted from. With a
            # larger budget, one more may be promoted (ASHA), which is then trained from its first epoch.
            self._opened.checkpoints.drop_all()
        return close_study(self.study, self.count_seconds(), others_train=others_train)

    def kill_running(self) -> None:
        """Close the runs under way as KILLED; those that the store does not take now are closed at the next start."""
        if not self._is_open:
            return
        living = [live.history for live in (*self._departing_trials, *self.live_trials.values())]
        for history in (*self._late_trials, *living):
            attempt = history.attempts[-1]
            if attempt.state == "running":  # an attempt that has ended is delivered at the next start
                ids = {"trial_id": history.trial_id, "attempt": attempt.number}
                self._note("killed", **ids, seconds=self.count_seconds())
            if attempt.run_id is not None and not attempt.is_delivered:
                self._sweep.delivery.kill_run(attempt.run_id)
        kill_parent_run(self._sweep, self._opened)

    # How trials begin

    @property
    def awaits_worker(self) -> bool:
        """Whether a trial waits for a worker that still starts: the supervisor must be there when it is ready."""
        return any(live.start_time is None for live in self.live_trials.values())

    @property
    def holds_slots(self) -> bool:
        """Whether the next trial has to wait, as its proposal would keep the supervisor from giving out another."""
        return self._sweep.executor.concurrent and self.awaits_worker and not self._proposals.is_at_hand

    def begin_next(self) -> bool:
        """Begin the next trial; return False where there is none now."""
        if self.has_ended or self.holds_slots:
            return False
        while True:
            history = self._proposals.take_next(len(self.live_trials), only_begun=self._is_stopped)
            if history is not None:
                self._begin(history)
                return True
            # A late trial whose result is damaged is trained again.
            if self.live_trials or not self._deliver_late():
                break
        if not self.live_trials:
            self.has_ended, self._end_time = True, time.monotonic()
        return False

    def _begin(self, history: TrialHistory) -> None:
        sweep, config = self._sweep, resolve_trial_config(self.study.settings, history.proposal)
        if self._start_time is None:
            self._start_time = time.monotonic()
        number = len(history.attempts) + 1
        nonce = self._record.compute_attempt_nonce(history.trial_id, number)
        self._note("attempt", trial_id=history.trial_id, attempt=number, nonce=nonce)
        checkpoint = find_checkpoint(self.study, history, is_from_scratch=history.trial_id in self._from_scratch)
        rows = [] if checkpoint is None else trial.read_checkpoint_history(checkpoint)
        epochs = [Epoch(number, row, read_clock_ms()) for number, row in enumerate(rows, 1)]
        live = LiveTrial(
            key=f"{self.number}/{history.trial_id}",
            history=history,
            parcel=self._parcels.make_parcel(history, config, epochs),
            epochs=epochs,
            kept_epochs=len(rows),
            earlier_seconds=sum(row["epoch_seconds"] for row in rows),
            start_time=None if sweep.executor.concurrent else time.monotonic(),
        )
        self.live_trials[live.key] = live
        sweep.executor.submit(build_spec(self.study, live, config, checkpoint))
        entry = build_leaderboard_entry(history, self._record.about)
        sweep.view.begin_trial(entry, history.number, config["train"]["epochs"], len(rows), study=self.number)
        if sweep.executor.concurrent:
            self._trials_without_run.append(live)  # all workers get something to do first
        else:
            sweep.delivery.deliver(live.parcel)

    def prepare_search(self) -> bool:
        """Make the oracle ready before a trial ends and it is needed; return False where it is ready."""
        if not self._is_open or self.has_ended or self.awaits_worker:
            return False
        return self._proposals.prepare_search()

    def _deliver_late(self) -> bool:
        """Deliver a trial that ended in an earlier session; return False where there is none."""
        if not self._late_trials:
            return False
        history = self._late_trials[0]
        deliver_late(self.study, self._parcels, history)
        self._late_trials.popleft()
        if history.state == "running":
            self._proposals.enqueue([history])
        return True

    def deliver_waiting(self) -> bool:
        """Deliver a trial that has begun and has no run yet, or one that ended before; return False without either."""
        if not self._trials_without_run:
            return not self.awaits_worker and self._deliver_late()
        live = self._trials_without_run.popleft()
        if self.live_trials.get(live.key) is live:  # else it has ended and is delivered
            self._sweep.delivery.deliver(live.parcel)
        return True

    def handle_event(self, event: TrialEvent) -> None:
        """Handle an event of one of the live trials."""
        live = self.live_trials[event.trial_id]
        match event:
            case TrialStart():
                live.start_time = time.monotonic()
                self._sweep.view.show_worker(live.history.trial_id, event.worker, study=self.number)
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

    def _record_epoch(self, live: LiveTrial, event: EpochEnd) -> None:
        trial_id = live.history.trial_id
        live.epochs.append(Epoch(event.epoch, event.metrics, read_clock_ms()))
        if event.checkpoint is not None:
            self._opened.checkpoints.save(trial_id, event.epoch, event.checkpoint)
            live.kept_epochs = len(live.epochs)
        live.is_stopped = event.last
        self._sweep.training_seconds += event.metrics["epoch_seconds"]
        self._sweep.delivery.deliver(live.parcel)
        self._sweep.view.show_epoch(trial_id, event.epoch, event.metrics, study=self.number)

    # How an attempt ends

    def _finish(self, live: LiveTrial, result: TrialResult) -> None:
        history = live.history
        evaluation = self.study.evaluate(result)
        write_file_atomically(self._opened.result_path(history.trial_id), results.pack_result(result, live.epochs))
        end_time = read_clock_ms()
        self._record_end("finished", live, **describe_result(self.study, result, evaluation), ended=end_time)
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
        self._departing_trials.append(self.live_trials.pop(live.key))
        if self._sweep.executor.concurrent:
            self._fill_slots()
        self._sweep.delivery.deliver(live.parcel)
        self._departing_trials.remove(live)
        self._sweep.view.end_trial(build_leaderboard_entry(live.history, self._record.about), study=self.number)

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
        attempts = self.study.config.executor.attempts
        loss_count = sum(
            attempt.worker_loss is not None and attempt.kept_epochs == live.kept_epochs for attempt in history.attempts
        )
        if loss_count + 1 >= attempts:
            row = f", the last of {attempts} in a row that got no further than epoch {live.kept_epochs}"
            description = f"WorkerLost: {reason}{row if attempts > 1 else ''}"
            self._fail(live, TrialFailure(live.key, description, reason, []))
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
        del self.live_trials[live.key]

    def find_overdue_trials(self) -> list[LiveTrial]:
        """The trials that have had search.trial_minutes."""
        minutes, now = self._config.trial_minutes, time.monotonic()
        if minutes is None:
            return []
        return [live for live in self.live_trials.values() if live.is_overdue(minutes, now)]

    def fail_overdue(self, live: LiveTrial) -> None:
        """End a trial that has had search.trial_minutes, as failed."""
        self._sweep.executor.abandon(live.key)
        epochs = format_epoch_count(len(live.epochs))
        reason = f"OverTime: {epochs} after search.trial_minutes={self._config.trial_minutes:g}"
        self._fail(live, TrialFailure(live.key, reason, reason, []))

    def _note(self, kind: str, **body: Any) -> None:
        self._opened.append_event(kind, **body)
