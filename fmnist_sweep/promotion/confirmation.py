"""Finalists trained again with fresh seeds: a sweep of its own kind, which the same command continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

from fmnist_sweep.config.job import CONFIRMATION, Job
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.sweep.plan import plan_studies
from fmnist_sweep.sweep.run import find_sweep_run
from fmnist_sweep.text import format_mean
from fmnist_sweep.tracking.deleted import describe_deleted_runs, list_deleted_runs
from fmnist_sweep.tracking.names import (
    CONFIG_HASH_TAG,
    JOURNAL_TAG,
    KIND_TAG,
    MIRRORED_ACCURACY,
    TEST_OPENED_TAG,
    TEST_OPENING_TAG,
)
from fmnist_sweep.tracking.queries import search_all_experiments
from fmnist_sweep.tracking.store import locate_state_folder
from fmnist_sweep.tracking.trial_data import build_data_config, load_matching_splits
from fmnist_sweep.tracking.trials import StoredTrial, build_trials

if TYPE_CHECKING:
    from fmnist_sweep.promotion.configuration import TrialConfiguration
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Confirmations:
    """A configuration's trainings with fresh seeds.

    journal: token that its runs are tagged with. runs: in the order of their seeds. other_runs: trainings of the same
    configuration in other journals (with other versions of the libraries or in other experiments) that have been scored
    on the test images.
    """

    configuration: TrialConfiguration
    journal: str
    runs: tuple[StoredTrial, ...]
    other_runs: tuple[StoredTrial, ...] = ()

    @property
    def finished_runs(self) -> list[StoredTrial]:
        return [run for run in self.runs if run.state == "finished"]

    @property
    def opened_runs(self) -> list[StoredTrial]:
        """Runs that the test images were opened for, including those that an interruption left without a score."""
        return [run for run in self.finished_runs if TEST_OPENING_TAG in run.tags]

    @property
    def scored_runs(self) -> list[StoredTrial]:
        """Runs that have test predictions."""
        return [run for run in self.finished_runs if TEST_OPENED_TAG in run.tags]

    @property
    def failed_runs(self) -> list[StoredTrial]:
        return [run for run in self.runs if run.state == "failed"]

    @property
    def openings(self) -> set[str]:
        """Names of the openings of the test images in which a run of this configuration was scored."""
        scored_runs = [run for run in (*self.runs, *self.other_runs) if TEST_OPENED_TAG in run.tags]
        return {run.tags.get(TEST_OPENING_TAG, "one without a name") for run in scored_runs}

    def describe_mirrored_accuracy(self) -> str:
        """A sentence on the accuracy with mirror images of all scored runs; empty where one of them has none."""
        values = [run.metrics.get(MIRRORED_ACCURACY) for run in self.scored_runs]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return ""
        figure = format_mean(mean(known), stdev(known) if len(known) > 1 else None, len(known))
        return (
            f"Averaged over each image and its mirror image, the predictions of {self.configuration.name} have a test "
            f"accuracy of {figure}. It decides nothing: a registered model predicts each image once."
        )

    def update_runs(self, runs: Mapping[str, StoredTrial]) -> Confirmations:
        """The same confirmations with newer readings of some runs, given by run id."""
        return replace(self, runs=tuple(runs.get(run.run_id, run) for run in self.runs))


@dataclass(frozen=True)
class ConfirmationSet:
    """All trainings for one promotion. run_id: run of the promotion, their parent."""

    run_id: str
    confirmations: tuple[Confirmations, ...]


def refuse_other_images(
    configurations: Sequence[TrialConfiguration], choose_folder: Callable[[str], str | None]
) -> None:
    """Raise DataError if the data at hand is not the data that a finalist was chosen on.

    choose_folder: takes a source of images, and returns the folder to read them from.
    """
    for configuration in configurations:
        content = {**configuration.data, "include_validation": False}
        data = build_data_config(content, choose_folder(configuration.data_source), configuration.name)
        load_matching_splits(data, configuration.data_tag, configuration.name)


@dataclass(frozen=True)
class EarlierPlan:
    """An earlier command's plan for a finalist. seeds: 0 if there was none. journal: token of its runs.

    study: id of the study that trains it. validation_images: number of images that it is validated on.
    """

    seeds: int = 0
    journal: str | None = None
    study: str = ""
    validation_images: int = 0


def read_earlier_plans(jobs: Sequence[Job], view: View) -> list[EarlierPlan]:
    """Earlier commands' plans, one for each finalist's job."""
    plan = plan_studies(jobs, locate_state_folder(jobs[0].config.tracking.uri), view.say)
    plans = []
    for planned in plan:
        description = planned.record.about if planned.record else {}
        seeds, images = int(description.get("planned") or 0), len(planned.splits.validation.labels)
        plans.append(EarlierPlan(seeds, description.get("token"), planned.study.id, images))
    return plans


def read_confirmation_set(
    store: Store, jobs: Sequence[Job], configurations: Sequence[TrialConfiguration], view: View
) -> ConfirmationSet:
    """The trainings of a promotion's jobs. Errors: StoreError if these jobs were never run."""
    sweep_runs = find_sweep_run(jobs, view.say)
    confirmations = [
        read_confirmations(store, configuration, journal)
        for configuration, journal in zip(configurations, sweep_runs.journal_tokens, strict=True)
    ]
    return ConfirmationSet(sweep_runs.run_id, tuple(confirmations))


def read_confirmations(store: Store, configuration: TrialConfiguration, journal: str | None) -> Confirmations:
    """A configuration's trainings in all experiments. journal: token of its own runs, None if there are none.

    Raises PromotionRefused if some of them were deleted: whoever leaves out seeds chooses among them.
    """
    _refuse_deleted(store, configuration, journal)
    own_runs = _read_runs(store, {JOURNAL_TAG: journal}) if journal is not None else []
    matching_runs = _read_runs(store, {CONFIG_HASH_TAG: configuration.key})
    other_runs = [run for run in matching_runs if run.tags.get(JOURNAL_TAG) != journal and TEST_OPENED_TAG in run.tags]
    return Confirmations(configuration, journal or "", tuple(own_runs), tuple(other_runs))


def _refuse_deleted(store: Store, configuration: TrialConfiguration, journal: str | None) -> None:
    """Raise PromotionRefused if own trainings were deleted, or others that the test images were opened for."""
    tags = {KIND_TAG: CONFIRMATION.trial, CONFIG_HASH_TAG: configuration.key}
    runs = [
        run
        for run in list_deleted_runs(store, tags=tags)
        if run.tags.get(JOURNAL_TAG) == journal or TEST_OPENED_TAG in run.tags
    ]
    if runs:
        raise PromotionRefused(
            f"of the trainings of {configuration.name} with fresh seeds none may be left out: "
            f"{describe_deleted_runs(store, runs)}."
        )


def _read_runs(store: Store, tags: dict[str, str]) -> list[StoredTrial]:
    """Confirmations with these tags, in the order of their seeds."""
    runs = build_trials(search_all_experiments(store, {KIND_TAG: CONFIRMATION.trial, **tags}))
    # A kill may leave a run that has no parameters yet, and so no seed: nothing was trained in it.
    seeds = {run.run_id: run.parse_value("seed") for run in runs}
    return sorted((run for run in runs if type(seeds[run.run_id]) is int), key=lambda run: seeds[run.run_id])
