"""Journals that somebody altered, and folders that somebody copied: named, and hiding no other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.cli.studies import StudyProgress, list_study_progress
from fmnist_sweep.study.folder import StudyFolder, list_misnamed_folders, list_study_folders
from fmnist_sweep.study.journal import Journal, JournalDamaged
from fmnist_sweep.study.sweep_journal import list_sweep_ids
from tests.support.in_process import clean_environment, run_verb

Event = tuple[str, dict[str, Any]]

ABOUT: dict[str, Any] = {
    "label": "cnn",
    "mark": "",
    "data": "drawn:0",
    "identity": {},
    "command": "python -m fmnist_sweep",
}
ABOUT |= {"token": "0a", "uri": "sqlite:///x", "experiment": "fashion-mnist"}
IDS: dict[str, Any] = {"trial_id": "0000", "attempt": 1}
PROPOSAL: dict[str, Any] = {
    "trial_id": "0000",
    "values": {},
    "epochs": None,
    "continues": None,
    "seed_state": 4,
    "guesses": {},
}
ASKED: Event = ("asked", {"proposal": PROPOSAL})
BEGUN: list[Event] = [ASKED, ("attempt", IDS)]
ENDED: Event = ("finished", {**IDS, "score": 0.9, "best_val_accuracy": 0.9, "ended": 0})


def write(state: Path, name: str, events: list[Event], **about: Any) -> Path:
    folder = state / "studies" / name
    folder.mkdir(parents=True)
    journal = Journal.create(folder / "journal.db", "study", {"id": name, **ABOUT, **about})
    for kind, body in events:
        journal.append(kind, **body)
    journal.close()
    return folder


def test_a_journal_as_a_study_writes_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, "0a", [*BEGUN, ENDED])
    (progress,) = list_study_progress(tmp_path)
    assert isinstance(progress, StudyProgress) and progress.best == 0.9


@pytest.mark.parametrize(
    "events",
    [
        [("attempt", IDS)],
        [ASKED, ("attempt_run", {**IDS, "run_id": "0a"})],
        [*BEGUN, ("attempt_run", {**IDS, "run_id": "../x"})],
        [*BEGUN, ("finished", {**IDS, "score": "much", "ended": 0})],
        [*BEGUN, ("finished", {**ENDED[1], "best_val_accuracy": float("nan")})],
        [*BEGUN, ("finished", {**ENDED[1], "interval": [0.1]})],
        [*BEGUN, ("killed", {"trial_id": "0000", "attempt": 0})],
        [*BEGUN, ("killed", {"trial_id": ["0000"], "attempt": 1})],
        [*BEGUN, ("known", {"trial_id": "0009", "same_as": "0000", "score": 0.1})],
        [("asked", {"proposal": {**PROPOSAL, "trial_id": "../../x"}})],
        [("asked", {"proposal": {**PROPOSAL, "shell": "rm"}})],
        [("asked", {"proposal": []})],
        [("asked", {})],
        [("opened", {"planned": "many"})],
        [("opened", {"command": 7})],
        [("opened", {"sweep_id": "../x", "sweep_run_id": "0a"})],
        [("invented", {})],
        [("run", {"run_id": None})],
        [("closed", {"seconds": "long"})],
    ],
    ids=lambda events: str(events[-1])[:50],
)
def test_an_event_that_no_study_writes_is_named_and_hides_no_other_study(events: list[Event], tmp_path: Path) -> None:
    write(tmp_path, "0b", events)
    write(tmp_path, "0c", [*BEGUN, ENDED])
    damaged, good = list_study_progress(tmp_path)
    assert isinstance(damaged, JournalDamaged) and "0b" in str(damaged) and str(damaged).count("\n") == 0
    assert isinstance(good, StudyProgress) and good.name == "0c"


@pytest.mark.parametrize("about", [{"token": "a'b"}, {"uri": 7}, {"label": None}, {"id": "../x"}, {"identity": "x"}])
def test_a_first_event_that_no_study_writes_is_named(about: dict[str, Any], tmp_path: Path) -> None:
    folder = StudyFolder(write(tmp_path, "0b", [], **about))
    for read in (folder.read_location, folder.read_record):
        with pytest.raises(JournalDamaged, match=next(iter(about))):
            read()


def test_a_journal_nested_too_deeply_or_of_no_mapping_is_damaged(tmp_path: Path) -> None:
    folder = StudyFolder(write(tmp_path, "0b", [("opened", {"x": [[]]})]))
    import hashlib
    import sqlite3

    for body in ("[" * 6000, "[]", '"x"', "7", "{"):
        database = sqlite3.connect(folder.path / "journal.db")
        (previous,) = database.execute("SELECT digest FROM events WHERE number=0").fetchone()
        digest = hashlib.sha256(f"{previous}\nopened\n{body}".encode()).hexdigest()[:32]
        database.execute("UPDATE events SET body=?, digest=? WHERE number=1", (body, digest))
        database.commit()
        database.close()
        for read in (folder.read_record, folder.has_clean_end):
            with pytest.raises(JournalDamaged, match="event 1 cannot be read"):
                read()


@pytest.mark.parametrize(
    "name", ["0a-backup", "0a copy", "0a (1)", "0a-2.bak", "0a-", "0a-02", "0a-²", "-1", "0a-9" * 30]
)
def test_a_copied_folder_is_named_and_hides_no_study(name: str, tmp_path: Path) -> None:
    state = tmp_path / "mlruns"
    folder = write(state, "0a", [*BEGUN, ENDED])
    shutil.copytree(folder, state / "studies" / name)
    (state / "sweeps" / name).mkdir(parents=True)
    shutil.copy(folder / "journal.db", state / "sweeps" / name)
    assert [each.name for each in list_study_folders(state)] == ["0a"]
    assert list_misnamed_folders(state) == [name]
    assert list_sweep_ids(state) == []
    done = run_verb("studies", cwd=tmp_path, environment=clean_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best validation accuracy 0.9000") == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("left out 1 in ") and name[:20] in done.stderr


def test_a_journal_that_cannot_be_read_hides_no_study(tmp_path: Path) -> None:
    for name in ("0a", "0b"):
        write(tmp_path, name, [*BEGUN, ENDED])
    (tmp_path / "studies" / "0b" / "journal.db").unlink()
    (tmp_path / "studies" / "0b" / "journal.db").mkdir()  # as root may read all files
    bad, good = sorted(list_study_progress(tmp_path), key=lambda entry: isinstance(entry, StudyProgress))
    assert "0b" in str(bad) and isinstance(good, StudyProgress) and good.name == "0a"
