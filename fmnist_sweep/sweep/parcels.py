"""What one study's trials give to the tracking store: the contents of their runs, and how the runs are closed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from fmnist_sweep.config.plugin_words import PLUGINS_KEY, describe_plugins
from fmnist_sweep.files import DamagedContent, read_packed_file
from fmnist_sweep.report.artifacts import make_trial_artifacts
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import FIGURES_OWED, Attempt, TrialHistory
from fmnist_sweep.study.results import unpack_result
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.delivery import Parcel, RunCloser
from fmnist_sweep.sweep.kept_models import KeptModels
from fmnist_sweep.sweep.live_trial import list_trial_params
from fmnist_sweep.sweep.run_info import describe_begun_attempt, describe_trial_run
from fmnist_sweep.tracking.names import CONFIG_FILE, OVERRIDES_FILE
from fmnist_sweep.tracking.queries import is_run_finished
from fmnist_sweep.tracking.runs import find_begun_run, kill_run
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.trial_runs import FinishedTrial, RunEnd, fail_trial, finish_trial
from fmnist_sweep.training.evaluation import Evaluation
from fmnist_sweep.training.events import Epoch, TrialResult


def kill_attempt(store: Store, study: OpenStudy, history: TrialHistory, attempt: Attempt) -> None:
    """Close the run of a dead attempt as KILLED; it may exist although the journal does not know its id."""
    if attempt.run_id is None:
        run_id = find_begun_run(store, describe_begun_attempt(study, history, attempt))
        if run_id is not None:
            study.append_event("attempt_run", trial_id=history.trial_id, attempt=attempt.number, run_id=run_id)
    if attempt.run_id is not None:
        kill_run(store, attempt.run_id)


class StudyParcels:
    """Makes the parcels of one study, and closes the runs of attempts that died."""

    def __init__(self, study: StudyContext, models: KeptModels) -> None:
        self._study, self._opened, self._models = study, study.opened, models

    def make_parcel(self, history: TrialHistory, config: Mapping[str, Any], epochs: list[Epoch]) -> Parcel:
        """Pack what the store is to know of a trial's latest attempt.

        config: what is trained, without tunables. epochs: those that have ended; the caller appends further ones.
        """
        attempt = history.attempts[-1]
        ids = {"trial_id": history.trial_id, "attempt": attempt.number}
        info = describe_trial_run(self._study, history, config)
        described_config = {**config, "data": self._study.config.data.describe_content()}
        plugins = describe_plugins(self._study.study.job.plugins)
        if plugins:
            described_config[PLUGINS_KEY] = dict(plugins)
        config_yaml = yaml.safe_dump(described_config, sort_keys=False)

        def on_delivered() -> None:
            if attempt.state == "finished":
                self._note_finished_delivery(history)
                return
            self._opened.append_event("delivered", **ids)
            if attempt.state == "failed":
                self.drop_files(history)

        return Parcel(
            attempt=attempt,
            info=info,
            params=list_trial_params(history.proposal, described_config),
            files={CONFIG_FILE: config_yaml.encode(), OVERRIDES_FILE: f"{info.command}\n".encode()},
            splits=self._study.splits,
            on_run_id=lambda run_id: self._opened.append_event("attempt_run", **ids, run_id=run_id),
            on_delivered=on_delivered,
            epochs=epochs,
            dead_attempts=[earlier for earlier in history.attempts[:-1] if earlier.run_id is not None],
        )

    def _note_finished_delivery(self, history: TrialHistory) -> None:
        """Note that the store has all of a finished trial but its figures, and drop what was kept of it."""
        ids = {"trial_id": history.trial_id, "attempt": history.attempts[-1].number}
        self._opened.append_event("delivered", **ids, figures=FIGURES_OWED)
        self.drop_files(history)

    def drop_files(self, history: TrialHistory) -> None:
        """Delete the files that were kept of a trial until the store had all of it."""
        self._opened.result_path(history.trial_id).unlink(missing_ok=True)
        if history.proposal.may_go_on:  # from the last checkpoint
            self._opened.checkpoints.drop_older(history.trial_id)
        else:
            self._opened.checkpoints.drop(history.trial_id)

    def make_finished_closer(
        self, history: TrialHistory, evaluation: Evaluation, end_time: int, result: TrialResult | None = None
    ) -> RunCloser:
        """Make what closes a finished trial's run; its figures are drawn later (sweep.figures).

        end_time: in ms since 1970. result: where it is still in memory; without it, every try reads the result's file.
        """
        study = self._study

        def close_run(run_id: str, is_retry: bool) -> None:
            trained = result if result is not None else self._read_result(history)[0]
            files = make_trial_artifacts(trained, evaluation, study.validation, study.description)
            self._models.admit(history)
            keep_model = self._models.keeps(history)
            trial = FinishedTrial(trained, evaluation, files, study.validation, keep_model, study.description)
            finish_trial(study.store, run_id, trial, RunEnd(end_time, is_retry))
            if not keep_model and not history.is_model_dropped:
                self._opened.append_event("model_dropped", trial_id=history.trial_id)

        return close_run

    def make_failed_closer(self, outcome: Mapping[str, Any]) -> RunCloser:
        """Make what closes a failed trial's run. outcome: what the journal says of the failure."""
        reason, trace, end_time = outcome["reason"], outcome["traceback"], outcome["ended"]
        store = self._study.store
        return lambda run_id, is_retry: fail_trial(store, run_id, reason, trace, RunEnd(end_time, is_retry))

    def close_dead_run(self, history: TrialHistory, attempt: Attempt, *, wait: bool = True) -> None:
        """Close the run of a dead attempt; it may exist although the journal does not know its id.

        wait: for a store that is away; otherwise the run is left for later.
        """
        store, delivery = self._study.store, self._study.delivery
        ids = {"trial_id": history.trial_id, "attempt": attempt.number}

        def kill() -> None:
            kill_attempt(store, self._opened, history, attempt)

        if wait:
            delivery.call_with_retries(kill)
        elif not delivery.try_call(kill):
            return
        self._opened.append_event("delivered", **ids)

    def make_late_parcel(self, history: TrialHistory, config: Mapping[str, Any]) -> Parcel | None:
        """Make the parcel of a trial that ended in an earlier session; None where the store has everything already.

        config: what was trained. Raises DamagedContent if the file of the trial's result is not intact.
        """
        if history.state == "failed":
            return self._make_failed_parcel(history, config)
        try:
            result, epochs = self._read_result(history)
        except DamagedContent:
            if not self._is_run_finished(history.attempts[-1]):
                raise
            # A run is closed last of all: the store has the whole trial, and only the journal missed it.
            self._note_finished_delivery(history)
            return None
        evaluation, end_time = self._study.evaluate(result), (history.outcome or {})["ended"]
        parcel = self.make_parcel(history, config, epochs)
        # It may wait for a store that is away: it reads the result again instead of keeping it in memory.
        parcel.closer, parcel.is_retry = self.make_finished_closer(history, evaluation, end_time), True
        return parcel

    def _make_failed_parcel(self, history: TrialHistory, config: Mapping[str, Any]) -> Parcel:
        outcome = history.outcome or {}
        epochs = [Epoch(number, row, end_time) for number, (row, end_time) in enumerate(outcome["epochs"], 1)]
        parcel = self.make_parcel(history, config, epochs)
        parcel.closer, parcel.is_retry = self.make_failed_closer(outcome), True
        return parcel

    def _read_result(self, history: TrialHistory) -> tuple[TrialResult, list[Epoch]]:
        path = self._opened.result_path(history.trial_id)
        return unpack_result(read_packed_file(path) if path.exists() else b"")

    def _is_run_finished(self, attempt: Attempt) -> bool:
        run_id, store = attempt.run_id, self._study.store
        if run_id is None:
            return False
        return self._study.delivery.call_with_retries(lambda: is_run_finished(store, run_id))
