"""What the parts of a running sweep share: one context for the sweep, and one for each of its studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import RunKinds
from fmnist_sweep.config.schema import Config
from fmnist_sweep.data import DataDescription, Split, Splits
from fmnist_sweep.executors import Executor, Placement
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.page import ReportBody
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.training.evaluation import Evaluation, evaluate_predictions
from fmnist_sweep.training.events import TrialResult


@dataclass
class SweepContext:
    """What the studies of one command share.

    command: as typed. training_seconds: spent in epochs so far. deleted_ids: of runs that were deleted in the store,
    as far as they were named. last_report: the runs of the trials that were reported last, and what is said of them.
    """

    command: str
    store: Store
    executor: Executor
    placement: Placement
    view: View
    stop: Stop
    delivery: Delivery
    training_seconds: float = 0.0
    deleted_ids: set[str] = field(default_factory=set)
    last_report: tuple[Sequence[str], ReportBody] | None = None


@dataclass(frozen=True)
class StudyContext:
    """One study of a sweep: what was planned for it, and the journal and files that this process holds."""

    sweep: SweepContext
    planned: PlannedStudy
    opened: OpenStudy

    @property
    def study(self) -> Study:
        return self.planned.study

    @property
    def id(self) -> str:
        return self.planned.study.id

    @property
    def label(self) -> str:
        return self.planned.study.label

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides the study's results; its id is a hash of it."""
        return self.planned.study.identity

    @property
    def tuned_keys(self) -> list[str]:
        return self.planned.study.tuned_keys

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a trial is made of, tunables included."""
        return self.planned.study.settings

    @property
    def config(self) -> Config:
        return self.planned.config

    @property
    def kinds(self) -> RunKinds:
        return self.planned.kinds

    @property
    def splits(self) -> Splits:
        return self.planned.splits

    @property
    def record(self) -> StudyRecord:
        """What has happened so far, by the journal."""
        return self.opened.record

    @property
    def store(self) -> Store:
        return self.sweep.store

    @property
    def delivery(self) -> Delivery:
        return self.sweep.delivery

    @property
    def description(self) -> DataDescription:
        """What the images are."""
        return self.planned.splits.description

    @property
    def validation(self) -> Split:
        """The images that trials are scored on."""
        return self.planned.splits.validation

    def evaluate(self, result: TrialResult) -> Evaluation:
        """Score a result on the validation images."""
        return evaluate_predictions(self.validation.labels, result.probabilities, self.description.labels)
