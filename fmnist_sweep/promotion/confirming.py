"""Finalists trained again with fresh seeds: a sweep of its own kind, resumed by the same command like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.config.job import CONFIRMATION, Job
from fmnist_sweep.data import load
from fmnist_sweep.errors import DataError
from fmnist_sweep.promotion.configuration import CONFIG_HASH
from fmnist_sweep.sweep import plan as plans
from fmnist_sweep.sweep.run import standing
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking import test_predictions as tested
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from fmnist_sweep.promotion.configuration import Configuration
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store

TEST_OPENING = "fmnist.test_opening"  # tag: which opening of the test images was for this run


@dataclass(frozen=True)
class Confirmations:
    """A configuration's trainings with fresh seeds. journal: what marks their runs. runs: the first seed first.

    elsewhere: trainings of it under other journals, by other versions of the libraries or in other experiments, that
    the test images were opened for.
    """

    configuration: Configuration
    journal: str
    runs: tuple[StoredTrial, ...]
    elsewhere: tuple[StoredTrial, ...] = ()

    @property
    def finished(self) -> list[StoredTrial]:
        return [run for run in self.runs if run.state == "finished"]

    @property
    def opened(self) -> list[StoredTrial]:
        """Those that the test images were opened for, whether or not they were scored before it was cut short."""
        return [run for run in self.finished if TEST_OPENING in run.tags]

    @property
    def scored(self) -> list[StoredTrial]:
        """Those that have their test predictions."""
        return [run for run in self.finished if tested.TEST_OPENED_TAG in run.tags]

    @property
    def failed(self) -> list[StoredTrial]:
        return [run for run in self.runs if run.state == "failed"]

    @property
    def openings(self) -> set[str]:
        """The openings of the test images that any of them was scored in."""
        seen = [run for run in (*self.runs, *self.elsewhere) if tested.TEST_OPENED_TAG in run.tags]
        return {run.tags.get(TEST_OPENING, "one without a name") for run in seen}


@dataclass(frozen=True)
class Set:
    """What was trained for one promotion. run_id: of its parent run."""

    run_id: str
    of: tuple[Confirmations, ...]


def refuse_other_images(configurations: Sequence[Configuration], data_dir: str | None) -> None:
    """DataError where the data at hand is not what a finalist was chosen on."""
    for configuration in configurations:
        content = {**configuration.data, "include_validation": False}
        found = load(evidence.build_data_config(content, data_dir, configuration.name))
        if found.tag != configuration.data_tag:
            raise DataError(
                f"{found.origin.location} is {found.tag}, but {configuration.name} was scored on "
                f"{configuration.data_tag}: name the folder of that data with --data-dir."
            )


@dataclass(frozen=True)
class Begun:
    """What an earlier command planned for a finalist. seeds: 0 for a new one. journal: that marks its runs."""

    seeds: int = 0
    journal: str | None = None


def begun_before(jobs: Sequence[Job], view: View) -> list[Begun]:
    """What earlier commands planned for each finalist."""
    plan = plans.plan_studies(jobs, stores.locate_state_folder(jobs[0].config.tracking.uri), view)
    told = [planned.record.about if planned.record else {} for planned in plan]
    return [Begun(int(about.get("planned") or 0), about.get("token")) for about in told]


def gathered(store: Store, jobs: Sequence[Job], configurations: Sequence[Configuration], view: View) -> Set:
    """What was trained, read back from the store."""
    found = standing(jobs, view)
    of = [
        of_journal(store, configuration, journal)
        for configuration, journal in zip(configurations, found.journals, strict=True)
    ]
    return Set(found.run_id, tuple(of))


def of_journal(store: Store, configuration: Configuration, journal: str | None) -> Confirmations:
    """The trainings of a configuration in all experiments; journal: that marks its own, None where there are none."""
    own = _runs(store, {"fmnist.journal": journal}) if journal is not None else []
    alike = _runs(store, {f"fmnist.{CONFIG_HASH}": configuration.key})
    elsewhere = [
        run for run in alike if run.tags.get("fmnist.journal") != journal and tested.TEST_OPENED_TAG in run.tags
    ]
    return Confirmations(configuration, journal or "", tuple(own), tuple(elsewhere))


def _runs(store: Store, marks: dict[str, str]) -> list[StoredTrial]:
    found = evidence.build_trials(tracking.search_all_experiments(store, {"fmnist.kind": CONFIRMATION.trial, **marks}))
    return sorted(found, key=lambda run: int(run.params["seed"]))
