"""What a command would do: its studies with data and identity, where each stands, what is left, what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmnist_sweep.config.identity import Study, hash_content, identify_study, label_studies
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import Splits, format_fallback_banner, load_splits
from fmnist_sweep.errors import ConfigError, Locked, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import count_possible_trials, estimate_epochs, explain_infeasible_search
from fmnist_sweep.study.folder import Place, StudyFolder, find_study_folder, find_unused_folder, list_study_places
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import forecast
from fmnist_sweep.text import format_trial_count, mask_credentials
from fmnist_sweep.tracking.store import has_store_file, is_server, locate_store_file, resolve_store_uri
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost


@dataclass
class PlannedStudy:
    """A study that is ready to run: its data read, where it stands known. record: None if new."""

    study: Study
    splits: Splits
    folder: StudyFolder
    record: StudyRecord | None

    @property
    def banner(self) -> str | None:
        """The warning that the images are drawn and not Fashion-MNIST, or None."""
        return format_fallback_banner(self.splits.origin) if self.splits.origin.source == "drawn" else None

    @property
    def name_prefix(self) -> str:
        """What stands before every run name when the images are not Fashion-MNIST."""
        return "DRAWN · " if self.splits.origin.source == "drawn" else ""

    @cached_property
    def trial_count(self) -> float:
        """As many as the oracle and the budget allow; math.inf when only time limits them."""
        config = self.study.job.config
        if config.search.name == "grid":
            backend.import_tensorflow()  # for KerasTuner, which alone knows its grid
        trials = count_possible_trials(config.search.name, config.oracle, self.study.settings)
        return min(trials, _find_trial_limit(self.study))

    @property
    def ended_count(self) -> int:
        """Trials that have ended."""
        return sum(history.state != "running" for history in self.record.trained_trials) if self.record else 0

    @property
    def trials_left(self) -> float:
        """Trials still to be trained, begun ones included."""
        if self.record is None:
            return self.trial_count
        begun_count, config = len(self.record.trained_trials), self.study.job.config.search
        is_stopped = config.fail_fast and self.record.count_trials("failed") > 0
        minutes = config.max_minutes
        is_late = minutes is not None and self.record.seconds >= 60 * minutes
        has_no_new = is_stopped or is_late or self.record.is_exhausted or begun_count >= _find_trial_limit(self.study)
        new_count = 0.0 if has_no_new else max(0.0, self.trial_count - begun_count)
        resumable_count = sum(
            history.state == "running" and bool(history.attempts) for history in self.record.trained_trials
        )
        return new_count + (resumable_count if is_stopped else self.record.count_trials("running"))

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do, here or in the tracking store."""
        if self.record is None:
            return False
        keep_models = self.study.job.config.tracking.keep_models
        kept_models = sum(
            history.state == "finished" and not history.is_model_dropped for history in self.record.trained_trials
        )
        if keep_models != "all" and kept_models > keep_models:
            return False
        return self.record.state == "closed" and not self.trials_left and not self.record.unsettled_trials


def locate_runs(job: Job) -> Place:
    """The store and the experiment that a job's runs go to; without the user and password of an address."""
    tracking = job.config.tracking
    return {"uri": mask_credentials(resolve_store_uri(tracking.uri)), "experiment": tracking.experiment}


def plan_studies(jobs: Sequence[Job], state: Path, view: View) -> list[PlannedStudy]:
    """Every study of a command; nothing is created.

    TensorFlow is not imported here, so that a mistake, or that there is nothing to do, is told at once.
    """
    studies_by_id: dict[str, tuple[Study, Splits]] = {}
    for job, label in zip(jobs, label_studies(jobs), strict=True):
        train = job.config.settings["train"]
        settings = {
            **job.config.settings,
            "train": {**train, "precision": backend.resolve_precision(train["precision"])},
        }
        _refuse_endless_search(job, settings)
        splits = load_splits(job.config.data)
        study = identify_study(job, label, settings, splits.sha256)
        first = studies_by_id.setdefault(study.id, (study, splits))[0]
        if first is not study:
            view.say(f"{label} is the same study as {first.label}: it is run once", "yellow")
            if _find_trial_limit(study) > _find_trial_limit(first):
                studies_by_id[study.id] = (study, splits)
    return [_plan_study(state, study, splits) for study, splits in studies_by_id.values()]


def _plan_study(state: Path, study: Study, splits: Splits) -> PlannedStudy:
    """Where a study stands; Locked when another process is running it."""
    fresh = study.job.config.fresh
    folder = None if fresh else find_study_folder(state, study.id, locate_runs(study.job))
    if folder is None:
        if not fresh:
            _refuse_moved_store(state, study)
        return PlannedStudy(study, splits, find_unused_folder(state, study.id), None)
    owner = folder.find_owner(patience=1.0)
    if owner is not None:
        raise Locked(
            f"study {folder.name} ({study.label}) is being run by {owner}: wait for it or end it; type the command "
            "again afterwards and it continues."
        )
    if not has_store_file(study.job.config.tracking.uri):
        raise StoreError(
            f"study {folder.name} ({study.label}) was recorded in {locate_runs(study.job)['uri']}, which is gone: put it "
            "back, or type the command with fresh=true to begin anew."
        )
    return PlannedStudy(study, splits, folder, folder.read_record())


def _refuse_moved_store(state: Path, study: Study) -> None:
    """StoreError where a study was recorded in this folder when it, and with it the store, was somewhere else."""
    current_place = locate_runs(study.job)
    for recorded_place in list_study_places(state, study.id):
        recorded_uri = recorded_place["uri"]
        if recorded_uri == current_place["uri"] or is_server(recorded_uri) or is_server(current_place["uri"]):
            continue
        recorded_file, current_file = (
            locate_store_file(recorded_uri),
            locate_store_file(current_place["uri"]),
        )
        if recorded_file.name == current_file.name and (
            not recorded_file.is_file() or (current_file.is_file() and recorded_file.samefile(current_file))
        ):
            raise StoreError(
                f"study {study.id} ({study.label}) was recorded in {recorded_uri}, and the folder was moved since: the "
                "addresses in the store moved with it are void. Move it back, or type the command with fresh=true to "
                "begin anew."
            )


def _find_trial_limit(study: Study) -> float:
    max_trials = study.job.config.search.max_trials
    return math.inf if max_trials is None else max_trials


def _refuse_endless_search(job: Job, settings: Mapping[str, Any]) -> None:
    config = job.config
    problem = explain_infeasible_search(config.search.name, config.oracle, settings)
    if problem:
        raise ConfigError(f"search={config.search.name}: {problem}.")
    budgets = (config.search.max_trials, config.search.max_minutes)
    if (
        budgets == (None, None)
        and config.search.name in ("random", "bayesian")
        and math.isinf(space.count_combinations(settings))
    ):
        raise ConfigError(
            "search.max_trials=null: a tunable is continuous, so the search would never end; give search.max_trials "
            "or search.max_minutes."
        )


def announce_studies(plan: Sequence[PlannedStudy], view: View) -> None:
    """Say what each study is, on which data, and how far it has come."""
    for banner in dict.fromkeys(planned.banner for planned in plan if planned.splits.origin.fallback_reason):
        view.say(banner or "", "bold yellow")
    for splits in {planned.splits.sha256: planned.splits for planned in plan}.values():
        view.say(
            f"data: {splits.tag} from {splits.origin.location}; {len(splits.train.labels)} train, "
            f"{len(splits.validation.labels)} validation images"
        )
        if splits.origin.source != "drawn" and not splits.origin.canonical:
            view.say("  by checksum these are not the canonical Fashion-MNIST images", "yellow")
    for planned in plan:
        _announce_study(planned, view)


def _announce_study(planned: PlannedStudy, view: View) -> None:
    study, record, trial_limit = planned.study, planned.record, _find_trial_limit(planned.study)
    tuned = ", ".join(study.tuned_keys) or "nothing"
    if planned.is_done:
        view.say(f"study {study.id} {study.label}: already done, {format_trial_count(planned.ended_count)}", "green")
        return
    trials = format_trial_count(planned.trial_count)
    view.say(f"study {study.id} {study.label}: {trials}, tuning {tuned}; {study.settings['train']['precision']}")
    if record is not None:
        running_count = record.count_trials("running")
        running_text = f", {running_count} to be taken up where it stopped" if running_count else ""
        view.say(f"  continued: {format_trial_count(planned.ended_count)} ended before{running_text}", "green")
    if planned.trial_count < trial_limit < math.inf and study.tuned_keys:
        view.say(
            f"  the space holds only {planned.trial_count:.0f} different trials, fewer than search.max_trials={trial_limit:.0f}: "
            "all of them will be run",
            "yellow",
        )


def hash_workload(planned: PlannedStudy) -> str:
    """What studies have alike that take the same time to train; optimizers and seeds make little difference."""
    settings = planned.study.settings
    return hash_content(
        [*(settings[section] for section in ("model", "regularization", "train")), planned.splits.sha256]
    )


def forecast_studies(plan: Sequence[PlannedStudy], probes: Mapping[str, TrainingCost], slots: int) -> forecast.Forecast:
    """What is left to do will take, so many trials at once; probes: of each kind of study."""
    forecasts = []
    for planned in plan:
        if planned.is_done:
            continue
        study, config = planned.study, planned.study.job.config
        minutes_spent = 0.0 if planned.record is None else planned.record.seconds / 60
        forecasts.append(
            forecast.forecast_study(
                probes[hash_workload(planned)],
                search_name=config.search.name,
                oracle=config.oracle,
                settings=study.settings,
                trials=planned.ended_count + planned.trials_left,
                ended_trials=planned.ended_count,
                max_minutes=None
                if config.search.max_minutes is None
                else max(0.0, config.search.max_minutes - minutes_spent),
                keep_models=config.tracking.keep_models,
                validation_images=len(planned.splits.validation.labels),
                slots=min(slots, config.search.lookahead or slots),
            )
        )
    return forecast.sum_forecasts(forecasts)


def estimate_epochs_left(planned: PlannedStudy) -> float:
    """About how many epochs a study has still to train, for the time that is left."""
    config = planned.study.job.config
    return estimate_epochs(config.search.name, config.oracle, planned.study.settings, planned.trials_left)
