"""What one study's trials give to the tracking store: their runs' contents, their models, the closing of dead ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml

from fmnist_sweep import files as packed
from fmnist_sweep.config.commands import command
from fmnist_sweep.config.job import flat
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.artifacts import make_trial_artifacts
from fmnist_sweep.report.leaderboard import format_trial_name
from fmnist_sweep.search import space
from fmnist_sweep.study import results
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import Attempt, TrialHistory
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Ending, Parcel
from fmnist_sweep.sweep.plan import Planned
from fmnist_sweep.tracking import models as logged_model
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking.runs import RunEnd
from fmnist_sweep.training import environment as machine
from fmnist_sweep.training.environment import read_source_commit
from fmnist_sweep.training.evaluation import evaluate_predictions
from fmnist_sweep.training.events import Epoch, TrialResult


class Handover:
    """Makes the parcels of one study, and keeps its models to those that are wanted."""

    def __init__(self, sweep: Sweep, planned: Planned, opened: OpenStudy) -> None:
        self._sweep, self._planned, self._opened = sweep, planned, opened
        self._study, self._record = planned.study, opened.record
        self._most = planned.study.job.config.tracking.keep_models
        self._kept: list[TrialHistory] = []
        self._to_drop: list[TrialHistory] = []
        for history in self._record.trained_trials:
            if history.state == "finished" and not history.is_model_dropped:
                self._wanted(history)

    def resolved(self, history: TrialHistory) -> dict[str, Any]:
        """The trial's config: no tunables left, and as many epochs as Hyperband gives it."""
        config = space.resolve(self._study.settings, history.proposal.values)
        if history.proposal.epochs is not None:
            if "over_epochs" in config["train"]["schedule"] and config["train"]["schedule"]["over_epochs"] is None:
                # A promoted trial goes on with the schedule that the rung below began.
                config["train"]["schedule"]["over_epochs"] = config["train"]["epochs"]
            config["train"]["epochs"] = history.proposal.epochs
        return config

    def parcel(self, history: TrialHistory, config: Mapping[str, Any], epochs: list[Epoch]) -> Parcel:
        """What the store shall know of a trial's latest attempt; epochs: those so far, and more as they end."""
        attempt = history.attempts[-1]
        named = {"trial_id": history.trial_id, "attempt": attempt.number}
        info = self._info(history, attempt, config)
        written = yaml.safe_dump({**config, "data": self._study.job.config.data.content()}, sort_keys=False)

        def delivered() -> None:
            self._opened.append_event("delivered", **named)
            if attempt.state in ("finished", "failed"):
                self.forget_files(history)

        return Parcel(
            attempt=attempt,
            info=info,
            params=flat({**config, "data": self._study.job.config.data.content()}),
            files={"config.yaml": written.encode(), "overrides.txt": f"{info.command}\n".encode()},
            splits=self._planned.splits,
            found=lambda run_id: self._opened.append_event("attempt_run", **named, run_id=run_id),
            delivered=delivered,
            epochs=epochs,
            follows=[dead for dead in history.attempts[:-1] if dead.run_id is not None],
        )

    def _info(self, history: TrialHistory, attempt: Attempt, config: Mapping[str, Any]) -> tracking.RunInfo:
        origin, below = self._planned.splits.origin, history.proposal.continues
        # A twin has no run: the trial that trained for both is the one.
        continues = {} if below is None else {"continues": self._record.trials[below].duplicate_of or below}
        return tracking.RunInfo(
            kind=self._study.job.kinds.trial,
            name=format_trial_name(history, self._record.about)[:250],
            tags={
                "sweep_id": str(self._record.sweep_id),
                "study_id": self._study.id,
                "trial_id": history.trial_id,
                "attempt": str(attempt.number),
                "journal": self._opened.token,
                "data": self._planned.splits.tag,
                "canonical": str(origin.canonical).lower(),
                "precision": config["train"]["precision"],
                "git": read_source_commit(),
                "executor": str(self._sweep.arrangement),
                "threads": str(self._sweep.arrangement.threads),
                # Of a cluster's node nothing is known here.
                **({} if self._sweep.arrangement.name == "ray" else {"machine": machine.describe_machine()}),
                **continues,
                **self._study.job.marks,
            },
            command=command(self._study, config, origin.fallback_reason, self._sweep.arrangement.threads),
            parent=self._record.run_id,
        )

    def forget_files(self, history: TrialHistory) -> None:
        """Drop what was kept of a trial until the store had all of it."""
        self._opened.result_path(history.trial_id).unlink(missing_ok=True)
        if history.proposal.epochs is None:
            self._opened.checkpoints.drop(history.trial_id)
        else:  # Hyperband may promote it, and then goes on from its last checkpoint
            self._opened.checkpoints.drop_older(history.trial_id)

    def finished(self, history: TrialHistory, at_hand: list[TrialResult], ended: int) -> Ending:
        """How a finished trial's run is closed.

        at_hand: its result, or nothing: then it is read from its file. While a store is away, results would fill the
        memory, so the caller takes it out again.
        """
        validation, store = self._planned.splits.validation, self._sweep.store
        name, path = format_trial_name(history, self._record.about), self._opened.result_path(history.trial_id)

        def finish(run_id: str, again: bool) -> None:
            found = at_hand[0] if at_hand else results.unpack_result(path.read_bytes())[0]
            evaluation = evaluate_predictions(validation.labels, found.probabilities, LABELS)
            files = make_trial_artifacts(name, found, evaluation, validation)
            keep, closing = self._wanted(history), RunEnd(ended, again)
            tracking.finish_trial(store, run_id, found, evaluation, files, validation, closing, keep)
            if not keep and not history.is_model_dropped:
                self._opened.append_event("model_dropped", trial_id=history.trial_id)

        return finish

    def failed(self, outcome: Mapping[str, Any]) -> Ending:
        """How a failed trial's run is closed; outcome: what the journal says of it."""
        reason, trace, ended = outcome["reason"], outcome["traceback"], outcome["ended"]
        store = self._sweep.store
        return lambda run_id, again: tracking.fail_trial(store, run_id, reason, trace, RunEnd(ended, again))

    def kill(self, attempt: Attempt) -> None:
        """Close the run of an attempt that is broken off; where the store is away, the next start does it."""
        if attempt.run_id is None:
            return
        try:
            tracking.kill_run(self._sweep.store, attempt.run_id)
        except Exception as error:
            if stores.explain_outage(error) is None:
                raise

    def bury(self, history: TrialHistory, attempt: Attempt, *, insist: bool = True) -> None:
        """Close the run of a dead attempt, which may exist without the journal knowing its id.

        insist: wait for a store that is away; otherwise it is left for later.
        """
        store = self._sweep.store
        named = {"trial_id": history.trial_id, "attempt": attempt.number}
        marks = {"fmnist.journal": self._opened.token, "fmnist.trial_id": history.trial_id}
        marks["fmnist.attempt"] = str(attempt.number)

        def bury() -> None:
            if attempt.run_id is None:
                for run in tracking.search_runs(store, marks):
                    self._opened.append_event("attempt_run", **named, run_id=run.info.run_id)
            if attempt.run_id is not None:
                tracking.kill_run(store, attempt.run_id)

        if insist:
            self._sweep.delivery.insist(bury, self._sweep.stop.sleep)
        elif not self._sweep.delivery.tried(bury):
            return
        self._opened.append_event("delivered", **named)

    def deliver_late(self, history: TrialHistory) -> None:
        """Hand over what an earlier session could not; packed.Damaged when its result is not what was written."""
        outcome = history.outcome or {}
        if history.state == "failed":
            epochs = [Epoch(number, row, at) for number, (row, at) in enumerate(outcome["epochs"], 1)]
            ending = self.failed(outcome)
        else:
            path = self._opened.result_path(history.trial_id)
            try:
                _, epochs = results.unpack_result(path.read_bytes() if path.exists() else b"")
            except packed.DamagedContent:
                if not self._is_finished(history.attempts[-1]):
                    raise
                # Its run is closed last: the store has all of it, and only the word of it was lost.
                self._opened.append_event("delivered", trial_id=history.trial_id, attempt=history.attempts[-1].number)
                self.forget_files(history)
                return
            ending = self.finished(history, [], outcome["ended"])
        parcel = self.parcel(history, self.resolved(history), epochs)
        parcel.ending, parcel.again = ending, True
        self._sweep.delivery.bring(parcel)

    def _is_finished(self, attempt: Attempt) -> bool:
        run_id, sweep = attempt.run_id, self._sweep
        if run_id is None:
            return False
        return bool(sweep.delivery.insist(lambda: tracking.is_run_finished(sweep.store, run_id), sweep.stop.sleep))

    def _wanted(self, history: TrialHistory) -> bool:
        """Whether a finished trial's model is among those to keep; the one it drives out is dropped later."""
        if self._most == "all":
            return True
        if history not in self._kept:
            self._kept.append(history)
        if len(self._kept) > self._most:
            worst = min(reversed(self._kept), key=_accuracy)
            self._kept.remove(worst)
            self._to_drop.append(worst)
        return history in self._kept

    def drop_models(self, insist: bool) -> None:
        """Delete the models in the store that are no longer among the best; insist: wait for a store that is away."""
        sweep = self._sweep
        for history in [history for history in self._to_drop if history.is_settled and not history.is_model_dropped]:
            drop = partial(logged_model.delete_model, sweep.store, str(history.attempts[-1].run_id))
            if insist:
                sweep.delivery.insist(drop, sweep.stop.sleep)
            elif not sweep.delivery.tried(drop):
                return
            self._opened.append_event("model_dropped", trial_id=history.trial_id)
        self._to_drop = [history for history in self._to_drop if not history.is_model_dropped]


def _accuracy(history: TrialHistory) -> float:
    return float((history.outcome or {})["best_val_accuracy"])
