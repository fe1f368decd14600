"""What one study's trials give to the tracking store: their runs' contents, their models, the closing of dead ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml

from fmnist_sweep.config.commands import build_trial_command
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.data import LABELS
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.report.artifacts import make_trial_artifacts
from fmnist_sweep.report.leaderboard import format_trial_name
from fmnist_sweep.search import space
from fmnist_sweep.study import results
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import Attempt, TrialHistory
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Parcel, RunCloser
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking.models import delete_model
from fmnist_sweep.tracking.names import ATTEMPT_TAG, CONFIG_FILE, JOURNAL_TAG, OVERRIDES_FILE, TRIAL_ID_TAG
from fmnist_sweep.tracking.queries import is_run_finished, search_runs
from fmnist_sweep.tracking.runs import RunEnd
from fmnist_sweep.training.environment import describe_machine, read_source_commit
from fmnist_sweep.training.evaluation import evaluate_predictions
from fmnist_sweep.training.events import Epoch, TrialResult


class StudyParcels:
    """Makes the parcels of one study, and keeps its models to those that are wanted."""

    def __init__(self, sweep: Sweep, planned: PlannedStudy, opened: OpenStudy) -> None:
        self._sweep, self._planned, self._opened = sweep, planned, opened
        self._study, self._record = planned.study, opened.record
        self._model_limit = planned.study.job.config.tracking.keep_models
        self._kept_trials: list[TrialHistory] = []
        self._surplus_trials: list[TrialHistory] = []
        for history in self._record.trained_trials:
            if history.state == "finished" and not history.is_model_dropped:
                self._admit_model(history)

    def resolve_config(self, history: TrialHistory) -> dict[str, Any]:
        """The trial's config: no tunables left, and as many epochs as Hyperband gives it."""
        config = space.resolve_tunables(self._study.settings, history.proposal.values)
        if history.proposal.epochs is not None:
            if "over_epochs" in config["train"]["schedule"] and config["train"]["schedule"]["over_epochs"] is None:
                # A promoted trial goes on with the schedule that the rung below began.
                config["train"]["schedule"]["over_epochs"] = config["train"]["epochs"]
            config["train"]["epochs"] = history.proposal.epochs
        return config

    def make_parcel(self, history: TrialHistory, config: Mapping[str, Any], epochs: list[Epoch]) -> Parcel:
        """What the store shall know of a trial's latest attempt; epochs: those so far, and more as they end."""
        attempt = history.attempts[-1]
        ids = {"trial_id": history.trial_id, "attempt": attempt.number}
        info = self._make_run_info(history, attempt, config)
        config_yaml = yaml.safe_dump(
            {**config, "data": self._study.job.config.data.describe_content()}, sort_keys=False
        )

        def on_delivered() -> None:
            self._opened.append_event("delivered", **ids)
            if attempt.state in ("finished", "failed"):
                self.drop_files(history)

        return Parcel(
            attempt=attempt,
            info=info,
            params=flatten_config({**config, "data": self._study.job.config.data.describe_content()}),
            files={CONFIG_FILE: config_yaml.encode(), OVERRIDES_FILE: f"{info.command}\n".encode()},
            splits=self._planned.splits,
            on_run_id=lambda run_id: self._opened.append_event("attempt_run", **ids, run_id=run_id),
            on_delivered=on_delivered,
            epochs=epochs,
            dead_attempts=[earlier for earlier in history.attempts[:-1] if earlier.run_id is not None],
        )

    def _make_run_info(self, history: TrialHistory, attempt: Attempt, config: Mapping[str, Any]) -> tracking.RunInfo:
        origin, rung_below = self._planned.splits.origin, history.proposal.continues
        # A twin has no run: the trial that trained for both is the one.
        continues_tag = (
            {} if rung_below is None else {"continues": self._record.trials[rung_below].duplicate_of or rung_below}
        )
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
                "executor": str(self._sweep.placement),
                "threads": str(self._sweep.placement.threads),
                # Of a cluster's node nothing is known here.
                **({} if self._sweep.placement.name == "ray" else {"machine": describe_machine()}),
                **continues_tag,
                **self._study.job.extra_tags,
            },
            command=build_trial_command(self._study, config, origin.fallback_reason, self._sweep.placement.threads),
            parent=self._record.run_id,
        )

    def drop_files(self, history: TrialHistory) -> None:
        """Drop what was kept of a trial until the store had all of it."""
        self._opened.result_path(history.trial_id).unlink(missing_ok=True)
        if history.proposal.epochs is None:
            self._opened.checkpoints.drop(history.trial_id)
        else:  # Hyperband may promote it, and then goes on from its last checkpoint
            self._opened.checkpoints.drop_older(history.trial_id)

    def make_finished_closer(self, history: TrialHistory, result_buffer: list[TrialResult], end_time: int) -> RunCloser:
        """How a finished trial's run is closed.

        at_hand: its result, or nothing: then it is read from its file. While a store is away, results would fill the
        memory, so the caller takes it out again.
        """
        validation, store = self._planned.splits.validation, self._sweep.store
        name, path = format_trial_name(history, self._record.about), self._opened.result_path(history.trial_id)

        def close_run(run_id: str, is_retry: bool) -> None:
            result = result_buffer[0] if result_buffer else results.unpack_result(path.read_bytes())[0]
            evaluation = evaluate_predictions(validation.labels, result.probabilities, LABELS)
            files = make_trial_artifacts(name, result, evaluation, validation)
            keep_model, closing = self._admit_model(history), RunEnd(end_time, is_retry)
            tracking.finish_trial(store, run_id, result, evaluation, files, validation, closing, keep_model)
            if not keep_model and not history.is_model_dropped:
                self._opened.append_event("model_dropped", trial_id=history.trial_id)

        return close_run

    def make_failed_closer(self, outcome: Mapping[str, Any]) -> RunCloser:
        """How a failed trial's run is closed; outcome: what the journal says of it."""
        reason, trace, end_time = outcome["reason"], outcome["traceback"], outcome["ended"]
        store = self._sweep.store
        return lambda run_id, is_retry: tracking.fail_trial(store, run_id, reason, trace, RunEnd(end_time, is_retry))

    def kill_run(self, attempt: Attempt) -> None:
        """Close the run of an attempt that is broken off; where the store is away, the next start does it."""
        if attempt.run_id is not None:
            self._sweep.delivery.kill_run(attempt.run_id)

    def close_dead_run(self, history: TrialHistory, attempt: Attempt, *, wait: bool = True) -> None:
        """Close the run of a dead attempt, which may exist without the journal knowing its id.

        insist: wait for a store that is away; otherwise it is left for later.
        """
        store = self._sweep.store
        ids = {"trial_id": history.trial_id, "attempt": attempt.number}
        tags = {JOURNAL_TAG: self._opened.token, TRIAL_ID_TAG: history.trial_id}
        tags[ATTEMPT_TAG] = str(attempt.number)

        def kill_runs() -> None:
            if attempt.run_id is None:
                for run in search_runs(store, tags):
                    self._opened.append_event("attempt_run", **ids, run_id=run.info.run_id)
            if attempt.run_id is not None:
                tracking.kill_run(store, attempt.run_id)

        if wait:
            self._sweep.delivery.call_with_retries(kill_runs)
        elif not self._sweep.delivery.try_call(kill_runs):
            return
        self._opened.append_event("delivered", **ids)

    def deliver_late(self, history: TrialHistory) -> None:
        """Hand over what an earlier session could not; packed.Damaged when its result is not what was written."""
        outcome = history.outcome or {}
        if history.state == "failed":
            epochs = [Epoch(number, row, end_time) for number, (row, end_time) in enumerate(outcome["epochs"], 1)]
            closer = self.make_failed_closer(outcome)
        else:
            path = self._opened.result_path(history.trial_id)
            try:
                _, epochs = results.unpack_result(path.read_bytes() if path.exists() else b"")
            except DamagedContent:
                if not self._is_finished(history.attempts[-1]):
                    raise
                # Its run is closed last: the store has all of it, and only the word of it was lost.
                self._opened.append_event("delivered", trial_id=history.trial_id, attempt=history.attempts[-1].number)
                self.drop_files(history)
                return
            closer = self.make_finished_closer(history, [], outcome["ended"])
        parcel = self.make_parcel(history, self.resolve_config(history), epochs)
        parcel.closer, parcel.is_retry = closer, True
        self._sweep.delivery.deliver(parcel)

    def _is_finished(self, attempt: Attempt) -> bool:
        run_id, sweep = attempt.run_id, self._sweep
        if run_id is None:
            return False
        return bool(sweep.delivery.call_with_retries(lambda: is_run_finished(sweep.store, run_id)))

    def _admit_model(self, history: TrialHistory) -> bool:
        """Whether a finished trial's model is among those to keep; the one it drives out is dropped later."""
        if self._model_limit == "all":
            return True
        if history not in self._kept_trials:
            self._kept_trials.append(history)
        if len(self._kept_trials) > self._model_limit:
            worst = min(reversed(self._kept_trials), key=_read_accuracy)
            self._kept_trials.remove(worst)
            self._surplus_trials.append(worst)
        return history in self._kept_trials

    def drop_models(self, wait: bool) -> None:
        """Delete the models in the store that are no longer among the best; insist: wait for a store that is away."""
        sweep = self._sweep
        for history in [
            history for history in self._surplus_trials if history.is_settled and not history.is_model_dropped
        ]:
            drop = partial(delete_model, sweep.store, str(history.attempts[-1].run_id))
            if wait:
                sweep.delivery.call_with_retries(drop)
            elif not sweep.delivery.try_call(drop):
                return
            self._opened.append_event("model_dropped", trial_id=history.trial_id)
        self._surplus_trials = [history for history in self._surplus_trials if not history.is_model_dropped]


def _read_accuracy(history: TrialHistory) -> float:
    return float((history.outcome or {})["best_val_accuracy"])
