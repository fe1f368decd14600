"""Sweeps of two studies whose trials only wait, as tests run them, and what they leave in journals and in the store."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import OpenStudy, list_study_folders
from fmnist_sweep.study.journal import JournalEvent, read_events
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialSpec
from tests.support.simulated import simulated
from tests.support.small import FILTERS, SMALLEST

TINY = (*SMALLEST, FILTERS, "regularization=none", "train.epochs=1")
BOTH = ("optimizer=rmsprop",), ("optimizer=adam",)

Holds = Mapping[str, Callable[[], bool]]


def sweep(
    *overrides: str,
    slots: int = 2,
    until: Holds = MappingProxyType({}),
    studies: tuple[tuple[str, ...], ...] = BOTH,
    heard: Callable[[TrialEvent], None] = lambda event: None,
    stop: Stop | None = None,
    **simulation: Any,
) -> tuple[ExitCode, str]:
    """The exit code of a sweep with trials that only wait, and what it showed.

    overrides: for all studies. until: what trials wait for, by study and number (2/0000: the first of the second).
    """
    shown = io.StringIO()
    jobs = [compose_job([*TINY, *overrides, *own]) for own in studies]

    def holds(spec: TrialSpec) -> bool:
        return spec.trial_id in until and not until[spec.trial_id]()

    with simulated(slots, lambda spec: 0.0, heard, drawn=False, holds=holds, **simulation):
        code = run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=shown, width=200), None), stop)
    return code, shown.getvalue()


def records(experiment: str = "fashion-mnist") -> list[StudyRecord]:
    """What the journals of an experiment's studies say, in the order of BOTH."""
    folders = [
        folder for folder in list_study_folders(Path("mlruns")) if folder.read_location().experiment == experiment
    ]
    return sorted((folder.read_record() for folder in folders), key=lambda record: record.about["label"], reverse=True)


def events(number: int, experiment: str = "fashion-mnist") -> list[JournalEvent]:
    """What is in the journal of the number-th study."""
    token = records(experiment)[number - 1].about["token"]
    (folder,) = (
        folder for folder in list_study_folders(Path("mlruns")) if folder.read_record().about["token"] == token
    )
    return read_events(folder.path / "journal.db")


def runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    return list(store.client.search_runs([store.experiment_id], f"tags.`fmnist.kind` = '{kind}'"))


@contextmanager
def noted() -> Iterator[list[str]]:
    """The events that go into the studies' journals, in their order, each with its study's label and its trial's id."""
    notes: list[str] = []
    append = OpenStudy.append_event

    def append_and_note(self: OpenStudy, kind: str, **body: Any) -> None:
        append(self, kind, **body)
        notes.append(" ".join([self.record.about["label"].split(" ")[0], kind, *filter(None, [body.get("trial_id")])]))

    with mock.patch.object(OpenStudy, "append_event", append_and_note):
        yield notes
