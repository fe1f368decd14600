"""The plan of a command: its studies with their data, how far each has come, and what is left to train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fmnist_sweep.config.growing import refuse_full_start
from fmnist_sweep.config.identity import Study, hash_content, identify_study, label_studies
from fmnist_sweep.config.job import Job, RunKinds
from fmnist_sweep.config.schema import Config
from fmnist_sweep.data import Splits, format_fallback_banner, load_splits
from fmnist_sweep.errors import ConfigError, Locked, StoreError
from fmnist_sweep.files import is_same_path
from fmnist_sweep.masking import mask_address
from fmnist_sweep.search import space
from fmnist_sweep.search.estimates import (
    continues_beyond_budget,
    count_possible_trials,
    estimate_trials,
    explain_infeasible_search,
)
from fmnist_sweep.search.tunable import is_option_choice
from fmnist_sweep.study.folder import (
    RunLocation,
    StudyFolder,
    find_study_folder,
    find_unused_folder,
    list_study_locations,
)
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.study.sweep_journal import find_sweep_id
from fmnist_sweep.sweep.first_configurations import resolve_first
from fmnist_sweep.sweep.settling import is_settled
from fmnist_sweep.sweep.size_limit import refuse_unmet_limit
from fmnist_sweep.tracking.store import format_relocate_command, has_store_file, resolve_store_uri
from fmnist_sweep.training import backend
from fmnist_sweep.training.poolings import refuse_deep_models


@dataclass(frozen=True)
class PlannedStudy:
    """A study that is ready to run. splits: its images. record: what its journal says; None for a new study."""

    study: Study
    splits: Splits
    folder: StudyFolder
    record: StudyRecord | None

    @property
    def config(self) -> Config:
        return self.study.job.config

    @property
    def kinds(self) -> RunKinds:
        return self.study.job.kinds

    @property
    def banner(self) -> str | None:
        """The warning that the images are drawn and not Fashion-MNIST, or None."""
        return format_fallback_banner(self.splits.origin) if self.splits.origin.is_drawn else None

    @property
    def name_prefix(self) -> str:
        """What every run name begins with when the images are drawn."""
        return "DRAWN · " if self.splits.origin.is_drawn else ""

    @property
    def trial_limit(self) -> float:
        """search.max_trials, or math.inf where it is null."""
        return _find_trial_limit(self.config)

    @cached_property
    def configuration_count(self) -> float:
        """How many trials the oracle and the budget allow, without those that are promoted beyond the budget (ASHA).

        It is math.inf when only time limits them.
        """
        config = self.config
        if config.search.name == "grid":
            backend.import_tensorflow()  # for KerasTuner, which alone knows its grid
        trials = count_possible_trials(config.search.name, config.oracle, self.study.settings)
        return min(trials, self.trial_limit)

    @cached_property
    def trial_count(self) -> float:
        """How many trials the oracle and the budget allow, about where it promotes them beyond the budget."""
        config = self.config
        return estimate_trials(config.search.name, config.oracle, self.study.settings, self.configuration_count)

    @property
    def is_limited(self) -> bool:
        """Whether some of the space is refused, so that a number of trials made of it is an upper bound."""
        return self.config.search.max_parameters is not None and bool(self.study.tuned_keys)

    @property
    def ended_count(self) -> int:
        """How many trials have ended."""
        return sum(history.state != "running" for history in self.record.trained_trials) if self.record else 0

    @property
    def trials_left(self) -> float:
        """How many trials are still to be trained, begun ones included."""
        if self.record is None:
            return self.trial_count
        if self.config.search.fail_fast and self.record.count_trials("failed"):
            begun = [history for history in self.record.trained_trials if history.attempts]
            return float(sum(history.state == "running" for history in begun))
        return self._count_new_trials(self.record) + self.record.count_trials("running")

    def _count_new_trials(self, record: StudyRecord) -> float:
        """How many trials the oracle and the budgets still allow to be proposed."""
        if record.is_exhausted or not may_go_on(self.config, record, record.seconds):
            return 0.0
        missing_count = max(0.0, self.trial_count - record.trial_count)
        if has_trials_left(self.config, self.study.settings, record):
            # How many are promoted is an estimate, which may be too low.
            return max(missing_count, self.configuration_count - record.configuration_count)
        if not continues_beyond_budget(self.config.search.name, self.study.settings):
            return 0.0
        # There may be one to promote as long as the oracle has not said otherwise.
        return 0.0 if record.has_nothing_to_promote else max(1.0, missing_count)

    @property
    def has_settled(self) -> bool:
        """Whether search.until has ended it."""
        return self.record is not None and is_settled(self.config, self.record)

    @property
    def owes_figures(self) -> bool:
        """Whether figures of its trials are still to be drawn, which does not keep it from being done."""
        return self.record is not None and bool(self.record.undrawn_trials)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do but figures, neither here nor in the tracking store."""
        if self.record is None:
            return False
        keep_models = self.config.tracking.keep_models
        kept_models = sum(
            history.state == "finished" and not history.is_model_dropped for history in self.record.trained_trials
        )
        if keep_models != "all" and kept_models > keep_models:
            return False
        return self.record.state == "closed" and not self.trials_left and not self.record.unsettled_trials


def locate_runs(job: Job) -> RunLocation:
    """The store and the experiment that a job's runs go to. An address comes without its user and password."""
    tracking = job.config.tracking
    return RunLocation(mask_address(resolve_store_uri(tracking.uri)), tracking.experiment)


def plan_studies(jobs: Sequence[Job], state: Path, say: Callable[[str, str], None]) -> list[PlannedStudy]:
    """Plan every study of a command, without creating anything.

    say: prints a line in a style. It reads the images, but imports TensorFlow only to count parameters for a new study,
    so that a mistake, or that nothing is left to do, is reported at once. Raises ConfigError for a search that cannot
    work, Locked for a study that another process runs, and StoreError for one whose store is gone.
    """
    studies_by_id: dict[str, tuple[Study, Splits]] = {}
    for job, label in zip(jobs, label_studies(jobs), strict=True):
        settings = settle_precision(job.config.settings)
        _refuse_endless_search(job, settings)
        splits = load_splits(job.config.data)
        refuse_full_start(settings, splits.description.image_shape)
        refuse_deep_models(settings, splits.description)
        begins_with, like = resolve_first(job, settings, state)
        study = replace(identify_study(job, label, settings, splits.sha256, begins_with), like=like)
        first = studies_by_id.setdefault(study.id, (study, splits))[0]
        if first is not study:
            say(f"{label} is the same study as {first.label}: it is run once", "yellow")
            if _find_trial_limit(study.job.config) > _find_trial_limit(first.job.config):
                studies_by_id[study.id] = (study, splits)
    plan = [_plan_study(state, study, splits) for study, splits in studies_by_id.values()]
    _refuse_shared_process(plan)
    for planned in plan:
        if planned.record is None:  # else it has passed
            refuse_unmet_limit(planned.study, planned.splits.description)
    return plan


def has_mixed_replicas(plan: Sequence[PlannedStudy]) -> bool:
    """Whether a process that trained all that is left would have to share its cores out in more than one way."""
    return len({space.read_replicas(planned.study.settings) for planned in plan if not planned.is_done}) > 1


def _refuse_shared_process(plan: Sequence[PlannedStudy]) -> None:
    executor = plan[0].config.executor.name
    if executor not in ("auto", "local") and has_mixed_replicas(plan):
        raise ConfigError(
            f"executor={executor}: studies with another train.replicas each cannot be trained by one process; "
            "say executor=local, or type a command for each."
        )


def settle_precision(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A study's settings with the precision that `auto` is on this machine, in each option of `train`."""

    def resolve(train: Mapping[str, Any]) -> dict[str, Any]:
        return {**train, "precision": backend.resolve_precision(train["precision"])}

    train = settings["train"]
    if not is_option_choice(train):
        return {**settings, "train": resolve(train)}
    options = {option: resolve(section) for option, section in train["settings"].items()}
    return {**settings, "train": {**train, "settings": options}}


def _plan_study(state: Path, study: Study, splits: Splits) -> PlannedStudy:
    """Find out how far a study has come; Locked when another process is running it."""
    fresh = study.job.config.fresh
    folder = None if fresh else find_study_folder(state, study.id, locate_runs(study.job))
    if folder is None:
        if not fresh:
            _refuse_moved_study(state, study)
        return PlannedStudy(study, splits, find_unused_folder(state, study.id), None)
    owner = folder.find_owner(patience=1.0)
    if owner is not None:
        raise Locked(
            f"study {folder.name} ({study.label}) is being run by {owner}: wait for it or end it; type the command "
            "again afterwards and it continues."
        )
    if not has_store_file(study.job.config.tracking.uri):
        raise StoreError(
            f"study {folder.name} ({study.label}) was recorded in {locate_runs(study.job).uri}, which is gone: put "
            "it back, or type the command with fresh=true to begin anew."
        )
    return PlannedStudy(study, splits, folder, folder.read_record())


def _refuse_moved_study(state: Path, study: Study) -> None:
    """StoreError where a study was recorded in this folder before the folder, and the store with it, was moved."""
    current = locate_runs(study.job)
    if current.store_file is None:
        return
    for recorded in list_study_locations(state, study.id):
        if recorded.store_file is None or is_same_path(recorded.store_file.parent, state):
            continue
        advice = (
            f"{format_relocate_command(current.uri)} rewrites its addresses, then type the command again."
            if current.store_file.is_file()
            else f"put its store back as {current.store_file}, or type the command with fresh=true to begin anew."
        )
        raise StoreError(
            f"study {study.id} ({study.label}) was recorded in {recorded.uri}, and its folder was moved or copied "
            f"since: {advice}"
        )


def may_go_on(config: Config, record: StudyRecord, seconds: float) -> bool:
    """Whether search.max_minutes and search.until allow a trial more after so many seconds."""
    max_minutes = config.search.max_minutes
    return (max_minutes is None or seconds < 60 * max_minutes) and not is_settled(config, record)


def has_trials_left(config: Config, settings: Mapping[str, Any], record: StudyRecord) -> bool:
    """Whether search.max_trials allows a trial more, of ASHA a configuration more."""
    counts_configurations = continues_beyond_budget(config.search.name, settings)
    count = record.configuration_count if counts_configurations else record.trial_count
    return count < _find_trial_limit(config)


def _find_trial_limit(config: Config) -> float:
    max_trials = config.search.max_trials
    return math.inf if max_trials is None else max_trials


def _refuse_endless_search(job: Job, settings: Mapping[str, Any]) -> None:
    config = job.config
    problem = explain_infeasible_search(config.search.name, config.oracle, settings)
    if problem:
        raise ConfigError(f"search={config.search.name}: {problem}.")
    budgets = (config.search.max_trials, config.search.max_minutes)
    if (
        budgets == (None, None)
        and config.search.name not in ("hyperband", "grid")
        and math.isinf(space.count_combinations(settings))
    ):
        raise ConfigError(
            "search.max_trials=null: a tunable is continuous, so the search would never end; give search.max_trials "
            f"or search.max_minutes{_describe_open_end(config)}."
        )


def _describe_open_end(config: Config) -> str:
    return "" if config.search.until is None else f" (search.until={config.search.until} may never be reached)"


def compute_sweep_id(plan: Sequence[PlannedStudy]) -> str:
    """Name a sweep by its studies. Studies of one earlier sweep continue under its id; any other set has its own."""
    sweep_ids = {planned.record.sweep_id if planned.record else None for planned in plan}
    sweep_id = sweep_ids.pop() if len(sweep_ids) == 1 else None
    names = sorted(planned.folder.name for planned in plan)
    location = locate_runs(plan[0].study.job)
    # The address in the hash changes when the folder is moved, or as more of it is masked: an earlier sweep of this set
    # has its id all the same.
    earlier_id = sweep_id or find_sweep_id(plan[0].folder.state, names, location)
    return earlier_id or hash_content([*names, *sorted(asdict(location).items())])


def list_splits(plan: Sequence[PlannedStudy]) -> list[Splits]:
    """The different images of a plan."""
    return list({planned.splits.sha256: planned.splits for planned in plan}.values())
