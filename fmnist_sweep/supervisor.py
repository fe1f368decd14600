"""The loop of one study: one owner of oracle, journal and store, plain workers.

The supervisor asks the oracle, hands trials to the executor, decides each trial's fate and is the only one that writes.
Each transition is in the journal before anything depends on it, so that from any kill the same command goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from fmnist_sweep import packed, results, search, trial
from fmnist_sweep.data import LABELS
from fmnist_sweep.delivery import Parcel, now
from fmnist_sweep.evaluate import evaluate, wilson
from fmnist_sweep.handover import Handover, Sweep
from fmnist_sweep.plan import Planned
from fmnist_sweep.record import TrialHistory
from fmnist_sweep.report import record_of
from fmnist_sweep.study_folder import OpenStudy
from fmnist_sweep.tracking import Epoch
from fmnist_sweep.trial import CheckpointRefused, EpochEnd, TrialFailure, TrialResult, TrialSpec


@dataclass(eq=False)
class _Live:
    """A trial under way. epochs: those that have ended, shared with its parcel. kept: a checkpoint has all of them."""

    history: TrialHistory
    parcel: Parcel
    epochs: list[Epoch]
    kept: bool = True


class Supervisor:
    """The trials of one study, from the first proposal, or where an earlier session stopped, to the last result."""

    def __init__(self, sweep: Sweep, planned: Planned, opened: OpenStudy) -> None:
        self._sweep, self._planned, self._opened = sweep, planned, opened
        self._study, self._record = planned.study, opened.record
        self._handover = Handover(sweep, planned, opened)
        config = self._study.job.config
        self._config = config.search
        self._search = search.Search(config.search.name, config.oracle, self._study.settings, config.search.objective)
        self._running: dict[str, _Live] = {}
        self._unfinished: list[TrialHistory] = []
        self._known: dict[str, TrialHistory] = {}
        self._begun, self._before = time.monotonic(), self._record.seconds
        self._from_scratch: set[str] = set()  # trials that cannot use the checkpoint of the rung below
        self._told_since_wait = True
        self._stopped = False  # by search.fail_fast

    def run(self) -> None:
        """Train what is left to train; KeyboardInterrupt when the user asked for an end, with nothing left open."""
        try:
            self._restore()
            while self._fill_slots() or self._running:
                self._take(self._next_event())
                if all(live.kept for live in self._running.values()):  # else after one more epoch, which will be kept
                    self._end_if_asked()
            self._end_if_asked()
            self._sweep.delivery.flush(self._sweep.stop.sleep)
            self._handover.drop_models(insist=True)
        except BaseException:
            self._kill_running()
            raise
        if self._record.exhausted:
            # Only now: a promoted trial goes on from the checkpoint of the trial it was promoted from.
            self._opened.checkpoints.drop_all()

    def _end_if_asked(self) -> None:
        if self._sweep.stop.asked:
            raise KeyboardInterrupt

    def _next_event(self) -> trial.Event:
        with self._sweep.stop.interruptible():
            return self._sweep.executor.next_event()

    def _take(self, event: trial.Event) -> None:
        live = self._running[event.trial_id]
        match event:
            case EpochEnd():
                self._epoch(live, event)
                return
            case TrialResult():
                self._finish(live, event)
            case TrialFailure():
                self._fail(live, event)
            case CheckpointRefused():
                self._begin_again(live, event)
                return
        del self._running[event.trial_id]

    # What an earlier session left behind

    def _restore(self) -> None:
        """Bring oracle, store and journal to agree on what has happened."""
        for exchange in self._record.exchanges:
            if isinstance(exchange, tuple):
                self._search.tell(*exchange)
            else:
                self._search.repeat(exchange)
        for history in list(self._record.trials.values()):
            self._known.setdefault(_key(history.proposal), history)
            self._settle(history)
        self._stopped = self._config.fail_fast and self._record.count("failed") > 0

    def _settle(self, history: TrialHistory) -> None:
        if history.same_as is not None:
            return
        for attempt in history.attempts:
            if attempt.state == "running":
                self._note("killed", trial_id=history.trial_id, attempt=attempt.number)
            if attempt.state == "killed" and not attempt.delivered:
                self._handover.bury(history, attempt)
        if history.state != "running" and not history.attempts[-1].delivered:
            self._deliver_late(history)
        if history.state == "running":
            self._unfinished.append(history)
        elif history.settled:  # noted by a process that may have died before it came to this
            self._handover.forget_files(history)

    def _deliver_late(self, history: TrialHistory) -> None:
        try:
            self._handover.deliver_late(history)
        except packed.Damaged as error:
            path, attempt = self._opened.result_path(history.trial_id), history.attempts[-1]
            self._sweep.view.say(f"{path} is damaged ({error}): this trial is trained again", "yellow")
            self._note("lost", trial_id=history.trial_id, attempt=attempt.number)
            self._handover.bury(history, attempt)

    # What comes next

    def _fill_slots(self) -> bool:
        """Begin trials while there are slots, budget and proposals; whether any began."""
        began = False
        while len(self._running) < self._sweep.executor.slots and not self._sweep.stop.asked and not self._stopped:
            if self._unfinished:
                history = self._unfinished.pop(0)
                if history.attempts or not self._already_known(history):
                    self._begin(history)
                    began = True
                continue
            if not self._budget_left() or (self._running and not self._told_since_wait):
                break
            asked = self._ask()
            if asked is None:
                break
            if not self._already_known(asked):
                self._begin(asked)
                began = True
        return began

    def _budget_left(self) -> bool:
        most, minutes = self._config.max_trials, self._config.max_minutes
        if most is not None and self._record.begun >= most:
            return False
        return minutes is None or self.seconds() < 60 * minutes

    def seconds(self) -> float:
        """Seconds spent on the study, those of earlier sessions included."""
        return round(self._before + time.monotonic() - self._begun, 3)

    def _ask(self) -> TrialHistory | None:
        answer = self._search.ask()
        if isinstance(answer, search.Wait):
            self._note("waited")  # it is an exchange too: Hyperband may have opened a bracket
            self._told_since_wait = False
            return None
        if answer is None:
            if not self._running:
                self._note("exhausted")
            return None
        self._note("asked", proposal=vars(answer))
        return self._record.trials[answer.trial_id]

    def _already_known(self, history: TrialHistory) -> bool:
        """Whether this configuration was trained before, for as many epochs; its result is then told at once."""
        known = self._known.setdefault(_key(history.proposal), history)
        if known is history or known.outcome is None:
            return False
        score = known.outcome.get("score")
        self._note("known", trial_id=history.trial_id, same_as=known.same_as or known.trial_id, score=score)
        self._tell(history.trial_id, score)
        return True

    def _tell(self, trial_id: str, score: float | None) -> None:
        self._search.tell(trial_id, score)
        self._told_since_wait = True

    # One trial

    def _begin(self, history: TrialHistory) -> None:
        sweep, config = self._sweep, self._handover.resolved(history)
        self._note("attempt", trial_id=history.trial_id, attempt=len(history.attempts) + 1)
        resume = self._checkpoint(history)
        done = [] if resume is None else trial.checkpoint_history(resume)
        epochs = [Epoch(number, row, now()) for number, row in enumerate(done, 1)]
        parcel = self._handover.parcel(history, config, epochs)
        self._running[history.trial_id] = _Live(history, parcel, epochs)
        sweep.delivery.bring(parcel)
        record = record_of(history, self._record.about)
        sweep.view.trial(record, self._record.begun, config["train"]["epochs"], len(done))
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

    def _checkpoint(self, history: TrialHistory) -> bytes | None:
        """Where this trial goes on: after its own last epoch, or for a promoted one after that of the rung below."""
        own = self._opened.checkpoints.newest(history.trial_id)
        below = history.proposal.continues
        if own is not None or below is None or history.trial_id in self._from_scratch:
            return own
        return self._opened.checkpoints.newest(self._record.trials[below].same_as or below)

    def _begin_again(self, live: _Live, refused: CheckpointRefused) -> None:
        """From the first epoch: a checkpoint of other code, say, is of no use, and what was trained can be again."""
        history = live.history
        self._sweep.view.say(f"  a checkpoint cannot be used ({refused.reason}): this trial begins anew", "yellow")
        self._note("killed", trial_id=history.trial_id, attempt=history.attempts[-1].number)
        self._sweep.delivery.forget(live.parcel)
        self._handover.bury(history, history.attempts[-1])
        self._opened.checkpoints.drop(history.trial_id)
        self._from_scratch.add(history.trial_id)
        self._begin(history)

    def _epoch(self, live: _Live, event: EpochEnd) -> None:
        live.kept = event.checkpoint is not None
        if event.checkpoint is not None:
            self._opened.checkpoints.save(event.trial_id, event.epoch, event.checkpoint)
        live.epochs.append(Epoch(event.epoch, event.metrics, now()))
        self._sweep.seconds_trained += event.metrics["epoch_seconds"]
        self._sweep.delivery.bring(live.parcel)
        self._sweep.view.epoch(event.epoch, event.metrics)

    def _finish(self, live: _Live, result: TrialResult) -> None:
        history, validation = live.history, self._planned.splits.validation
        evaluation = evaluate(validation.labels, result.probabilities, LABELS)
        right = round(evaluation.accuracy * len(validation.labels))
        packed.write(self._opened.result_path(result.trial_id), results.pack(result, live.epochs))
        ended, known = now(), history.outcome is not None
        self._note(
            "finished",
            trial_id=result.trial_id,
            attempt=history.attempts[-1].number,
            score=result.history[result.best_epoch - 1][self._config.objective],
            best_val_accuracy=evaluation.accuracy,
            interval=list(wilson(right, len(validation.labels))),
            best_epoch=result.best_epoch,
            parameters=result.parameters,
            fit_seconds=result.fit_seconds,
            ended=ended,
            seconds=self.seconds(),
        )
        if not known:
            self._tell(result.trial_id, (history.outcome or {})["score"])
        at_hand = [result]
        live.parcel.ending = self._handover.finished(history, at_hand, ended)
        self._sweep.delivery.bring(live.parcel)
        at_hand.clear()
        self._handover.drop_models(insist=False)
        self._sweep.view.ended(record_of(history, self._record.about))

    def _fail(self, live: _Live, failure: TrialFailure) -> None:
        history = live.history
        known = history.outcome is not None
        self._note(
            "failed",
            trial_id=failure.trial_id,
            attempt=history.attempts[-1].number,
            reason=failure.reason,
            traceback=failure.traceback,
            epochs=[(epoch.metrics, epoch.ended) for epoch in live.epochs],
            ended=now(),
            seconds=self.seconds(),
        )
        if not known:
            self._tell(failure.trial_id, None)
        live.parcel.ending = self._handover.failed(history.outcome or {})
        self._sweep.delivery.bring(live.parcel)
        self._sweep.view.ended(record_of(history, self._record.about))
        if self._config.fail_fast:
            self._sweep.view.say("search.fail_fast=true: the study stops here.", "red")
            self._stopped = True

    def _kill_running(self) -> None:
        """Close what is under way as KILLED; what the store does not take now is closed at the next start."""
        for live in self._running.values():
            attempt = live.history.attempts[-1]
            if attempt.state == "running":  # one that has ended keeps its result, to be delivered at the next start
                self._note("killed", trial_id=live.history.trial_id, attempt=attempt.number, seconds=self.seconds())
            self._handover.kill(attempt)
        self._running.clear()

    def _note(self, kind: str, **body: Any) -> None:
        self._opened.note(kind, **body)


def _key(proposal: search.Proposal) -> str:
    return json.dumps([proposal.values, proposal.epochs], sort_keys=True)
