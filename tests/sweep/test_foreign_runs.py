"""Runs in a shared store that claim to be a study's: its journal decides, with nonces for what it did not note yet."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mlflow.entities import Run
from rich.console import Console

import fmnist_sweep
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import OpenStudy, list_study_folders
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.names import NONCE_TAG
from fmnist_sweep.tracking.store import open_existing_store
from tests.support.simulated import simulated
from tests.support.small import SMALLEST

SPACE = (*SMALLEST, "model.filters={tune: int, min_value: 2, max_value: 60}", "regularization=none", "train.epochs=1")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Killed(BaseException):
    """Stands for a kill: nothing is handled after it."""


def sweep(trials: int) -> str:
    shown = io.StringIO()
    job = compose_job([*SPACE, f"search.max_trials={trials}"])
    with simulated(1, lambda spec: 0.0, drawn=False):
        assert run_sweep([job], "python -m fmnist_sweep", View(Console(file=shown, width=200), None)) is ExitCode.DONE
    return shown.getvalue()


def sweep_until_run_is_made() -> Run:
    """A sweep that is killed when its second trial's run was made, and not noted yet; that run."""
    append = OpenStudy.append_event

    def append_or_die(self: OpenStudy, kind: str, **body: Any) -> None:
        if kind == "attempt_run" and body["trial_id"] != "0000":
            raise Killed
        append(self, kind, **body)

    # Nothing of a process that is killed closes its runs.
    with (
        mock.patch.object(OpenStudy, "append_event", append_or_die),
        mock.patch("fmnist_sweep.sweep.supervisor.Supervisor._kill_running"),
        mock.patch("fmnist_sweep.sweep.parent_runs.kill_parent_run"),
        pytest.raises(Killed),
    ):
        sweep(2)
    (run,) = [run for run in runs() if run.info.status == "RUNNING"]
    return run


def runs(kind: str = "trial") -> list[Run]:
    store = open_existing_store(None, "fashion-mnist")
    found = store.client.search_runs([store.experiment_id], f"tags.`fmnist.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def copy_run(run: Run, name: str | None = None, **changes: str | None) -> str:
    """A stranger's run with the tags of another, but for the changes (__ for a dot; None: without it)."""
    store = open_existing_store(None, "fashion-mnist")
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    tags: Mapping[str, str] = {
        key: value for key, value in {**run.data.tags, **changed}.items() if value and key != "mlflow.runName"
    }
    made = store.client.create_run(store.experiment_id, None, tags, name or run.info.run_name)
    return str(made.info.run_id)


def status(run_id: str) -> str:
    return str(open_existing_store(None, "fashion-mnist").client.get_run(run_id).info.status)


@pytest.fixture
def claimed() -> Iterator[tuple[list[str], list[str]]]:
    """A study of one trial, and five runs of a stranger that claim to be its; the ids of both."""
    sweep(1)
    store = open_existing_store(None, "fashion-mnist")
    (honest,) = runs()
    without_ids = {"fmnist__trial_id": None, "fmnist__attempt": None, "fmnist__study_id": None}
    foreign = [
        copy_run(honest),
        copy_run(honest, fmnist__trial_id="0007"),
        copy_run(honest, fmnist__attempt="2"),
        copy_run(honest, fmnist__trial_id="0001", fmnist__nonce=None),
        copy_run(honest, **without_ids),
    ]
    for run_id in foreign:
        store.client.log_param(run_id, "model.filters", "[" * 6000)
        store.client.log_metric(run_id, "best_val_accuracy", 1.0 if run_id != foreign[0] else float("nan"))
        store.client.set_terminated(run_id, "FINISHED")
    yield [honest.info.run_id], foreign


def test_runs_that_claim_a_study_are_named_and_left_out_and_end_no_sweep(
    claimed: tuple[list[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, foreign = claimed
    sweep(3)
    (folder,) = list_study_folders(Path("mlruns"))
    known = {history.attempts[-1].run_id for history in folder.read_record().trials.values()}
    assert len(known) == 3 and not known & set(foreign)
    named = [line for line in capsys.readouterr().err.splitlines() if "whose journal does not know" in line]
    assert len(named) == 1 and named[0].startswith(f"left out 3 runs, tagged as of study {folder.name}"), named
    assert set(fmnist_sweep.trials()["run_id"]) == known  # and in every other view where the journal is
    for kind in ("study", "sweep"):
        (parent,) = runs(kind)
        assert parent.data.tags["fmnist.best_run"] in known
        assert parent.data.metrics["best_val_accuracy"] < 1
        assert parent.data.metrics["trials_finished"] == 3


def test_the_run_of_a_killed_attempt_is_taken_up_by_its_nonce_and_no_copy_of_its_public_tags() -> None:
    begun = sweep_until_run_is_made()
    assert begun.data.tags[NONCE_TAG]
    copies = [copy_run(begun, fmnist__nonce=nonce) for nonce in (None, "0" * 32)]
    sweep(2)
    assert status(begun.info.run_id) == "KILLED"
    assert [status(run_id) for run_id in copies] == ["RUNNING"] * 2
    (folder,) = list_study_folders(Path("mlruns"))
    first, last = folder.read_record().trials["0001"].attempts
    assert first.run_id == begun.info.run_id
    assert status(str(last.run_id)) == "FINISHED"


def test_of_two_runs_with_one_nonce_none_is_taken_up() -> None:
    begun = sweep_until_run_is_made()
    copy = copy_run(begun)
    sweep(2)
    assert status(begun.info.run_id) == status(copy) == "RUNNING"
    (folder,) = list_study_folders(Path("mlruns"))
    assert [attempt.run_id is None for attempt in folder.read_record().trials["0001"].attempts] == [True, False]


def test_an_attempt_that_an_older_version_began_is_found_by_all_of_its_fields() -> None:
    with mock.patch.object(StudyRecord, "compute_attempt_nonce", lambda *_: None):
        begun = sweep_until_run_is_made()
    assert NONCE_TAG not in begun.data.tags
    others = [
        copy_run(begun, name="another name"),
        copy_run(begun, mlflow__parentRunId="0" * 32),
        copy_run(begun, fmnist__data="drawn:000000000000"),
        copy_run(begun, fmnist__sweep_id="000000000000"),
        copy_run(begun, fmnist__nonce="0" * 32),
    ]
    sweep(2)
    assert status(begun.info.run_id) == "KILLED"
    assert {status(run_id) for run_id in others} == {"RUNNING"}


def test_a_journal_that_lost_its_end_is_known_by_the_nonces_that_it_alone_could_make() -> None:
    sweep(1)
    (folder,) = list_study_folders(Path("mlruns"))
    shutil.copy(folder.path / "journal.db", "kept.db")
    sweep(2)
    shutil.copy("kept.db", folder.path / "journal.db")
    with pytest.raises(JournalDamaged, match="its end is lost"):
        sweep(2)
