"""A trial's figures are drawn while a slot is idle or at the end, and are there when its sweep has ended."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import OpenStudy, list_study_folders
from fmnist_sweep.study.journal import Journal, read_events
from fmnist_sweep.sweep import figures, supervisor
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialSpec, TrialStart
from tests.support.process import LIMIT_SECONDS
from tests.support.simulated import Simulated, simulated
from tests.support.small import FILTERS, SMALLEST

TINY = (*SMALLEST, FILTERS, "regularization=none", "train.epochs=1")
ONE, BOTH = ("optimizer=rmsprop",), ("optimizer=rmsprop", "optimizer=adam")
FIGURES = {"curves.png", "confusion_matrix.png", "misclassified.png", "misclassified_shirt.png"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Killed(BaseException):
    """The process is gone at this point."""


def sweep(
    *overrides: str,
    slots: int = 2,
    studies: tuple[str, ...] = ONE,
    until: Mapping[str, Callable[[], bool]] = MappingProxyType({}),
    heard: Callable[[TrialEvent], None] = lambda event: None,
    stop: Stop | None = None,
) -> str:
    """What a sweep showed whose trials only wait. until: what they wait for, by study and number."""
    shown, deadline = io.StringIO(), time.monotonic() + LIMIT_SECONDS
    jobs = [compose_job([*TINY, *overrides, own]) for own in studies]

    def holds(spec: TrialSpec) -> bool:
        assert time.monotonic() < deadline, f"{spec.trial_id} waits for ever"
        return spec.trial_id in until and not until[spec.trial_id]()

    with simulated(slots, lambda spec: 0.0, heard, holds=holds):
        code = run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=shown, width=300), None), stop)
    assert code is ExitCode.DONE, shown.getvalue()
    return shown.getvalue()


@contextmanager
def noted(after: Callable[[str], None] = lambda note: None, before: Callable[[str], None] = lambda note: None) -> Any:
    """The events of the studies' journals, each with its study's label and a trial's id; called around each."""
    notes: list[str] = []
    append = OpenStudy.append_event

    def append_and_note(self: OpenStudy, kind: str, **body: Any) -> None:
        trial_id = body.get("trial_id") or body.get("drawn")
        optimizer = self.record.about["identity"]["settings"]["optimizer"]["name"]
        note = " ".join([optimizer, kind, *filter(None, [trial_id])])
        before(note)
        append(self, kind, **body)
        notes.append(note)
        after(note)

    with mock.patch.object(OpenStudy, "append_event", append_and_note):
        yield notes


@contextmanager
def killed() -> Iterator[None]:
    """A process that dies in this block leaves its runs as they are."""
    with ExitStack() as changed:
        changed.enter_context(mock.patch.object(supervisor.Supervisor, "_kill_running"))
        changed.enter_context(mock.patch("fmnist_sweep.sweep.parent_runs.kill_parent_run"))
        changed.enter_context(pytest.raises(Killed))
        yield


def runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.data.tags.get("fmnist.trial_id", ""))


def files(run: Any) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def drawn_ids() -> list[str]:
    """The finished trials that have all their figures, and whose run says that it is complete."""
    return [
        run.data.tags["fmnist.trial_id"]
        for run in runs("trial")
        if run.info.status == "FINISHED"
        and all((files(run) / name).exists() and (files(run) / name).read_bytes()[:4] == b"\x89PNG" for name in FIGURES)
    ]


def journal() -> Path:
    (folder,) = list_study_folders(Path("mlruns"))
    return folder.path / "journal.db"


def test_while_every_slot_is_busy_none_is_drawn_and_while_one_is_idle_those_that_are_owed_are() -> None:
    with noted() as notes:
        owed = {f"rmsprop drawn 000{number}" for number in range(3)}
        sweep("search.max_trials=4", until={"1/0003": lambda: owed <= set(notes)})
    drawn = [note for note in notes if " drawn " in note]
    assert notes.index("rmsprop attempt 0003") < notes.index(drawn[0])
    assert drawn[-1] == "rmsprop drawn 0003"
    assert notes.index(drawn[-1]) < notes.index("rmsprop closing")
    assert len(drawn) == 4 and drawn_ids() == ["0000", "0001", "0002", "0003"]


def test_where_trials_train_on_other_machines_they_are_drawn_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulated, "uses_own_cores", False)
    with noted() as notes:
        waiting = dict.fromkeys(("1/0001", "1/0002"), lambda: "rmsprop drawn 0000" in notes)
        sweep("search.max_trials=3", until=waiting)
    assert notes.index("rmsprop drawn 0000") < notes.index("rmsprop finished 0001")


def test_with_one_slot_they_are_drawn_once_the_study_has_nothing_more_to_train() -> None:
    with noted() as notes:
        sweep("search.max_trials=2", slots=1)
    assert notes[notes.index("rmsprop delivered 0001") + 1 :][:3] == [
        *("rmsprop drawn 0000", "rmsprop drawn 0001"),
        "rmsprop closing",
    ]
    assert drawn_ids() == ["0000", "0001"]
    for kind in ("study", "sweep"):
        (run,) = runs(kind)
        assert {path.name for path in (files(run) / "best").iterdir()} >= FIGURES
    with noted() as notes:
        assert "Nothing to do" in sweep("search.max_trials=2", slots=1)
    assert notes == []


def test_a_study_that_is_closed_beside_trials_has_only_its_best_ones_drawn_before() -> None:
    with noted() as notes:
        until = dict.fromkeys(("2/0000", "2/0001"), lambda: "rmsprop closed" in notes)
        sweep("search.max_trials=3", studies=BOTH, until=until)
    before = [note for note in notes[: notes.index("rmsprop closed")] if " drawn " in note]
    later = [note for note in notes[notes.index("rmsprop closed") + 1 :] if note.startswith("rmsprop ")]
    assert len(before) == 1
    ids = {note.split(" ")[2] for note in (*before, *later)}
    assert ids == {"0000", "0001", "0002"} and all(note.startswith("rmsprop closed ") for note in later)
    assert drawn_ids() == sorted(2 * [*ids])
    assert all({path.name for path in (files(run) / "best").iterdir()} >= FIGURES for run in runs("study"))
    for folder in list_study_folders(Path("mlruns")):
        assert folder.has_clean_end() and not folder.read_record().undrawn_trials
    assert "Nothing to do" in sweep("search.max_trials=3", studies=BOTH)


@pytest.mark.parametrize(
    ("moment", "where"),
    [
        ("after", "rmsprop delivered 0000"),
        pytest.param("before", "rmsprop drawn 0000", marks=pytest.mark.slow),
        pytest.param("after", "rmsprop drawn 0000", marks=pytest.mark.slow),
        pytest.param("after", "rmsprop delivered 0001", marks=pytest.mark.slow),
        pytest.param("after", "rmsprop drawn 0001", marks=pytest.mark.slow),
        pytest.param("after", "rmsprop closing", marks=pytest.mark.slow),
    ],
)
def test_killed_between_recording_and_drawing_the_same_command_draws_what_is_owed(moment: str, where: str) -> None:
    def die(note: str) -> None:
        if note == where:
            raise Killed

    with noted(**{moment: die}) as notes, killed():
        sweep("search.max_trials=2", slots=1)
    first = [note for note in notes if " drawn " in note]
    with noted() as notes:
        sweep("search.max_trials=2", slots=1)
    second = [note for note in notes if " drawn " in note]
    assert [*first, *second] == ["rmsprop drawn 0000", "rmsprop drawn 0001"]
    assert drawn_ids() == ["0000", "0001"]
    assert "Nothing to do" in sweep("search.max_trials=2", slots=1)


def test_killed_while_a_closed_study_owes_some_the_same_command_draws_them_and_opens_it_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(note: str) -> None:
        if note.startswith("rmsprop closed "):
            raise Killed

    monkeypatch.setattr(supervisor, "draw_next_figures", lambda study: False)  # no slot was ever idle
    with noted(die) as notes, killed():
        until = dict.fromkeys(("2/0000", "2/0001"), lambda: "rmsprop closed" in notes)
        sweep("search.max_trials=3", studies=BOTH, until=until)
    assert "adam closed" in notes
    with noted() as notes:
        sweep("search.max_trials=3", studies=BOTH)
    (left,) = notes
    assert left.startswith("rmsprop closed ")
    assert drawn_ids() == sorted(2 * ["0000", "0001", "0002"])
    assert {run.info.status for kind in ("sweep", "study") for run in runs(kind)} == {"FINISHED"}
    assert "Nothing to do" in sweep("search.max_trials=3", studies=BOTH)


def test_an_end_that_is_asked_for_while_they_are_drawn_leaves_the_others_to_the_same_command() -> None:
    stop = Stop()

    def interrupt(note: str) -> None:
        if note == "rmsprop drawn 0000":
            stop.receive_signal(signal.SIGINT, None)

    with noted(interrupt) as notes, pytest.raises(KeyboardInterrupt):
        sweep("search.max_trials=3", slots=1, stop=stop)
    assert [note for note in notes if " drawn " in note] == ["rmsprop drawn 0000"]
    assert notes[-1] == "rmsprop interrupted"
    with noted() as notes:
        sweep("search.max_trials=3", slots=1)
    assert [note for note in notes if " drawn " in note] == ["rmsprop drawn 0001", "rmsprop drawn 0002"]
    assert drawn_ids() == ["0000", "0001", "0002"]


def test_what_an_older_version_delivered_has_its_figures_and_is_not_drawn_again() -> None:
    sweep("search.max_trials=2", slots=1)
    path = journal()
    first, *events = [event for event in read_events(path) if event.kind != "drawn"]
    path.unlink()
    older = Journal.create(path, first.kind, first.body)
    for event in events:
        older.append(event.kind, **{key: value for key, value in event.body.items() if key != "figures"})
    older.close()
    with noted() as notes:
        sweep("search.max_trials=3", slots=1)
    assert [note for note in notes if " drawn " in note] == ["rmsprop drawn 0002"]


@pytest.mark.parametrize("damage", ["noise", "gone", "of others", "deleted"])
def test_a_run_that_somebody_damaged_or_deleted_keeps_no_sweep_from_its_end(damage: str) -> None:
    def harm(event: TrialEvent) -> None:
        if not isinstance(event, TrialStart) or event.trial_id != "1/0001":
            return
        (run, *_) = runs("trial")
        path = files(run) / "predictions.npz"
        if damage == "deleted":
            open_existing_store(None, "fashion-mnist").client.delete_run(run.info.run_id)
        elif damage == "gone":
            path.unlink()
        else:
            others = predictions_of_fewer_images(path) if damage == "of others" else b"noise"
            path.write_bytes(others)

    shown = sweep("search.max_trials=2", slots=1, heard=harm)
    said = "cannot be drawn: its predictions.npz is gone or damaged" in shown
    assert said == (damage != "deleted")
    assert drawn_ids() == ["0001"]
    assert "Nothing to do" in sweep("search.max_trials=2", slots=1)


def predictions_of_fewer_images(path: Path) -> bytes:
    """The predictions of a file for all but the last image."""
    import numpy as np

    from fmnist_sweep.tracking.prediction_files import pack_predictions

    with np.load(path) as arrays:
        return pack_predictions(**{name: array[:-1] for name, array in arrays.items()})


def test_of_many_figures_at_the_end_it_is_said_that_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_MAX_SILENT_TRIALS", 1)
    assert "drawing the figures of 2 trials ..." in sweep("search.max_trials=2", slots=1)
