"""What a command would do: its studies with data and identity, where each stands, what is left, what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmnist_sweep.config import identity as studies
from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import Splits, fallback_banner, load
from fmnist_sweep.errors import ConfigError, Locked, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search import ask_and_tell as search
from fmnist_sweep.search import space
from fmnist_sweep.study import folder as folders
from fmnist_sweep.study.folder import Place, StudyFolder
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import forecast
from fmnist_sweep.text import format_trial_count, mask_credentials
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost


@dataclass
class Planned:
    """A study that is ready to run: its data read, where it stands known. record: None if new."""

    study: Study
    splits: Splits
    folder: StudyFolder
    record: StudyRecord | None

    @property
    def banner(self) -> str | None:
        """The warning that the images are drawn and not Fashion-MNIST, or None."""
        return fallback_banner(self.splits.origin) if self.splits.origin.source == "drawn" else None

    @property
    def mark(self) -> str:
        """What stands before every run name when the images are not Fashion-MNIST."""
        return "DRAWN · " if self.splits.origin.source == "drawn" else ""

    @cached_property
    def trials(self) -> float:
        """As many as the oracle and the budget allow; math.inf when only time limits them."""
        config = self.study.job.config
        if config.search.name == "grid":
            backend.import_tensorflow()  # for KerasTuner, which alone knows its grid
        trials = search.most_trials(config.search.name, config.oracle, self.study.settings)
        return min(trials, _budget(self.study))

    @property
    def trained(self) -> int:
        """Trials that have ended."""
        return sum(history.state != "running" for history in self.record.trained_trials) if self.record else 0

    @property
    def left(self) -> float:
        """Trials still to be trained, begun ones included."""
        if self.record is None:
            return self.trials
        begun, config = len(self.record.trained_trials), self.study.job.config.search
        stopped = config.fail_fast and self.record.count_trials("failed") > 0
        minutes = config.max_minutes
        late = minutes is not None and self.record.seconds >= 60 * minutes
        over = stopped or late or self.record.is_exhausted or begun >= _budget(self.study)
        new = 0.0 if over else max(0.0, self.trials - begun)
        begun_ones = sum(
            history.state == "running" and bool(history.attempts) for history in self.record.trained_trials
        )
        return new + (begun_ones if stopped else self.record.count_trials("running"))

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, here or in the tracking store."""
        if self.record is None:
            return False
        most = self.study.job.config.tracking.keep_models
        kept = sum(
            history.state == "finished" and not history.is_model_dropped for history in self.record.trained_trials
        )
        if most != "all" and kept > most:
            return False
        return self.record.state == "closed" and not self.left and not self.record.unsettled_trials


def place(job: Job) -> Place:
    """The store and the experiment that a job's runs go to; without the user and password of an address."""
    tracking = job.config.tracking
    return {"uri": mask_credentials(stores.resolve_store_uri(tracking.uri)), "experiment": tracking.experiment}


def plan_studies(jobs: Sequence[Job], state: Path, view: View) -> list[Planned]:
    """Every study of a command; nothing is created.

    TensorFlow is not imported here, so that a mistake, or that there is nothing to do, is told at once.
    """
    found: dict[str, tuple[Study, Splits]] = {}
    for job, label in zip(jobs, studies.labels(jobs), strict=True):
        train = job.config.settings["train"]
        settings = {
            **job.config.settings,
            "train": {**train, "precision": backend.resolve_precision(train["precision"])},
        }
        _refuse_endless(job, settings)
        splits = load(job.config.data)
        study = studies.name_by_content(job, label, settings, splits.sha256)
        known = found.setdefault(study.id, (study, splits))[0]
        if known is not study:
            view.say(f"{label} is the same study as {known.label}: it is run once", "yellow")
            if _budget(study) > _budget(known):
                found[study.id] = (study, splits)
    return [_standing(state, study, splits) for study, splits in found.values()]


def _standing(state: Path, study: Study, splits: Splits) -> Planned:
    """Where a study stands; Locked when another process is running it."""
    fresh = study.job.config.fresh
    folder = None if fresh else folders.find_study_folder(state, study.id, place(study.job))
    if folder is None:
        if not fresh:
            _refuse_moved(state, study)
        return Planned(study, splits, folders.find_unused_folder(state, study.id), None)
    owner = folder.find_owner(patience=1.0)
    if owner is not None:
        raise Locked(
            f"study {folder.name} ({study.label}) is being run by {owner}: wait for it or end it; type the command "
            "again afterwards and it continues."
        )
    if not stores.has_store_file(study.job.config.tracking.uri):
        raise StoreError(
            f"study {folder.name} ({study.label}) was recorded in {place(study.job)['uri']}, which is gone: put it "
            "back, or type the command with fresh=true to begin anew."
        )
    return Planned(study, splits, folder, folder.read_record())


def _refuse_moved(state: Path, study: Study) -> None:
    """StoreError where a study was recorded in this folder when it, and with it the store, was somewhere else."""
    here = place(study.job)
    for there in folders.list_study_places(state, study.id):
        recorded = there["uri"]
        if recorded == here["uri"] or stores.is_server(recorded) or stores.is_server(here["uri"]):
            continue
        before, now = stores.locate_store_file(recorded), stores.locate_store_file(here["uri"])
        if before.name == now.name and (not before.is_file() or (now.is_file() and before.samefile(now))):
            raise StoreError(
                f"study {study.id} ({study.label}) was recorded in {recorded}, and the folder was moved since: the "
                "addresses in the store moved with it are void. Move it back, or type the command with fresh=true to "
                "begin anew."
            )


def _budget(study: Study) -> float:
    most = study.job.config.search.max_trials
    return math.inf if most is None else most


def _refuse_endless(job: Job, settings: Mapping[str, Any]) -> None:
    config = job.config
    hopeless = search.refuse_hopeless(config.search.name, config.oracle, settings)
    if hopeless:
        raise ConfigError(f"search={config.search.name}: {hopeless}.")
    budgets = (config.search.max_trials, config.search.max_minutes)
    if budgets == (None, None) and config.search.name in ("random", "bayesian") and math.isinf(space.size(settings)):
        raise ConfigError(
            "search.max_trials=null: a tunable is continuous, so the search would never end; give search.max_trials "
            "or search.max_minutes."
        )


def announce(plan: Sequence[Planned], view: View) -> None:
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


def _announce_study(planned: Planned, view: View) -> None:
    study, record, budget = planned.study, planned.record, _budget(planned.study)
    tuned = ", ".join(study.tuned) or "nothing"
    if planned.over:
        view.say(f"study {study.id} {study.label}: already done, {format_trial_count(planned.trained)}", "green")
        return
    trials = format_trial_count(planned.trials)
    view.say(f"study {study.id} {study.label}: {trials}, tuning {tuned}; {study.settings['train']['precision']}")
    if record is not None:
        underway = record.count_trials("running")
        begun = f", {underway} to be taken up where it stopped" if underway else ""
        view.say(f"  continued: {format_trial_count(planned.trained)} ended before{begun}", "green")
    if planned.trials < budget < math.inf and study.tuned:
        view.say(
            f"  the space holds only {planned.trials:.0f} different trials, fewer than search.max_trials={budget:.0f}: "
            "all of them will be run",
            "yellow",
        )


def kind(planned: Planned) -> str:
    """What studies have alike that take the same time to train; optimizers and seeds make little difference."""
    settings = planned.study.settings
    return studies.short_hash(
        [*(settings[section] for section in ("model", "regularization", "train")), planned.splits.sha256]
    )


def costs(plan: Sequence[Planned], probes: Mapping[str, TrainingCost], slots: int) -> forecast.Forecast:
    """What is left to do will take, so many trials at once; probes: of each kind of study."""
    found = []
    for planned in plan:
        if planned.over:
            continue
        study, config = planned.study, planned.study.job.config
        spent = 0.0 if planned.record is None else planned.record.seconds / 60
        found.append(
            forecast.forecast(
                probes[kind(planned)],
                search_name=config.search.name,
                oracle=config.oracle,
                settings=study.settings,
                trials=planned.trained + planned.left,
                done=planned.trained,
                max_minutes=None if config.search.max_minutes is None else max(0.0, config.search.max_minutes - spent),
                keep_models=config.tracking.keep_models,
                images=len(planned.splits.validation.labels),
                slots=min(slots, config.search.in_order or slots),
            )
        )
    return forecast.total(found)


def epochs_left(planned: Planned) -> float:
    """About how many epochs a study has still to train, for the time that is left."""
    config = planned.study.job.config
    return search.planned_epochs(config.search.name, config.oracle, planned.study.settings, planned.left)
