"""Where a study's state is kept: its journal, checkpoints and undelivered results, held by one process at a time.

STATE/studies/<study id>/      <study id>-2 and so on for a further beginning of the same study
    journal.db  checkpoints/  results/  owner.lock  owner.json
STATE/sweeps/<sweep id>/
    journal.db  owner.lock  owner.json
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_sweep.study.checkpoints import Checkpoints
from fmnist_sweep.study.journal import Journal, JournalDamaged, read_events, read_first_and_last
from fmnist_sweep.study.lock import Owner, find_owner, lock_folder
from fmnist_sweep.study.record import StudyRecord

_JOURNAL_FILE = "journal.db"
Place = Mapping[str, str]  # which store and experiment a study's runs are in


@dataclass(frozen=True)
class StudyFolder:
    """One beginning of a study, on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def study_id(self) -> str:
        return self.name.partition("-")[0]

    def is_before(self, other: StudyFolder) -> bool:
        """Whether the other is a later beginning of the same study."""
        return self.study_id == other.study_id and _parse_number(self.name) < _parse_number(other.name)

    @property
    def has_journal(self) -> bool:
        """Whether it has a journal; JournalDamaged when only what belongs to one is left."""
        if (self.path / _JOURNAL_FILE).exists():
            return True
        if _has_remains(self.path):
            raise JournalDamaged(self.path / _JOURNAL_FILE, "it is gone")
        return False

    def read_place(self) -> Place:
        return _extract_place(read_first_and_last(self.path / _JOURNAL_FILE)[0].body)

    def has_clean_end(self) -> bool:
        """Whether its last session ended in good order: all its runs are closed."""
        return read_first_and_last(self.path / _JOURNAL_FILE)[1].kind in ("closed", "interrupted")

    def read_record(self) -> StudyRecord:
        """What its journal says at this moment."""
        return StudyRecord.from_events(read_events(self.path / _JOURNAL_FILE))

    def find_owner(self, patience: float = 0) -> Owner | None:
        """Who is running it, or None; patience: seconds to wait for one who only looks at it."""
        return find_owner(self.path, patience)


def _extract_place(body: Mapping[str, Any]) -> Place:
    return {"uri": body["uri"], "experiment": body["experiment"]}


def find_study_folder(state: Path, study_id: str, place: Place) -> StudyFolder | None:
    """The latest beginning of a study whose runs are in `place`, or None. A damaged journal is refused, not skipped."""
    for folder in reversed(_list_beginnings(state, study_id)):
        if folder.has_journal and folder.read_place() == place:
            return folder
    return None


def list_study_places(state: Path, study_id: str) -> list[Place]:
    """Where the runs of each beginning of a study are."""
    return [folder.read_place() for folder in _list_beginnings(state, study_id) if folder.has_journal]


def find_unused_folder(state: Path, study_id: str) -> StudyFolder:
    """The folder of a study's next beginning; not made yet."""
    numbers = [_parse_number(folder.name) for folder in _list_beginnings(state, study_id) if _has_remains(folder.path)]
    number = 1 + max(numbers, default=0)
    return StudyFolder(state / "studies" / (study_id if number == 1 else f"{study_id}-{number}"))


def _has_remains(path: Path) -> bool:
    """Whether anything of a study's beginning is left in its folder."""
    return any((path / name).exists() for name in (_JOURNAL_FILE, "checkpoints", "results"))


def list_study_folders(state: Path) -> list[StudyFolder]:
    """All studies begun below a state folder, the oldest first."""
    folders = [StudyFolder(path) for path in (state / "studies").glob("*") if (path / _JOURNAL_FILE).exists()]
    return sorted(folders, key=lambda folder: (folder.path / _JOURNAL_FILE).stat().st_ctime)


def _list_beginnings(state: Path, study_id: str) -> list[StudyFolder]:
    pattern = re.compile(rf"{re.escape(study_id)}(-\d+)?")
    folders = [StudyFolder(path) for path in (state / "studies").glob(f"{study_id}*") if pattern.fullmatch(path.name)]
    return sorted(folders, key=lambda folder: _parse_number(folder.name))


def _parse_number(name: str) -> int:
    return int(name.partition("-")[2] or 1)


@dataclass
class OpenStudy:
    """A study that this process holds: what has happened, and where its files are."""

    folder: StudyFolder
    journal: Journal
    record: StudyRecord
    checkpoints: Checkpoints

    def append_event(self, kind: str, **body: Any) -> None:
        """Make an event durable, and only then part of what is known."""
        self.record.apply(self.journal.append(kind, **body))

    @property
    def token(self) -> str:
        """What marks this beginning's runs in the tracking store."""
        return str(self.record.about["token"])

    def result_path(self, trial_id: str) -> Path:
        """Where a trial's result waits until the tracking store has it."""
        return self.folder.path / "results" / f"{trial_id}.npz"


@contextmanager
def lock_study(folder: StudyFolder, about: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[OpenStudy]:
    """Hold a study and open its journal, made from `about` where there is none yet; Locked when another has it."""
    with lock_folder(folder.path, f"study {folder.name}"):
        path = folder.path / _JOURNAL_FILE
        _drop_half_written(folder.path)
        if not folder.has_journal:
            Journal.create(path, "study", {**about, "token": secrets.token_hex(8)}).close()
        journal, events = Journal.open(path)
        try:
            yield OpenStudy(
                folder, journal, StudyRecord.from_events(events), Checkpoints(folder.path / "checkpoints", say)
            )
        finally:
            journal.close()


def _drop_half_written(folder: Path) -> None:
    """Remove what a writer that was killed had written aside and not renamed; only the folder's owner writes there."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+(-journal)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


@dataclass
class SweepRecord:
    """What a sweep's journal says. about: the first event's body (id, studies by folder name, token)."""

    about: dict[str, Any]
    run_id: str | None = None
    closings: int = 0


@dataclass
class OpenSweep:
    """A sweep that this process holds."""

    journal: Journal
    record: SweepRecord

    def append_event(self, kind: str, **body: Any) -> None:
        self.journal.append(kind, **body)
        _apply_event(self.record, kind, body)


def _apply_event(record: SweepRecord, kind: str, body: Mapping[str, Any]) -> None:
    if kind == "run":
        record.run_id = body["run_id"]
    elif kind == "closing":
        record.closings += 1


@contextmanager
def lock_sweep(state: Path, sweep_id: str, about: Mapping[str, Any], must_exist: bool = True) -> Iterator[OpenSweep]:
    """Hold a sweep and open its journal, made from `about` where there is none yet; JournalDamaged if `begun`."""
    folder = state / "sweeps" / sweep_id
    with lock_folder(folder, f"sweep {sweep_id}"):
        _drop_half_written(folder)
        if not must_exist and not (folder / _JOURNAL_FILE).exists():
            Journal.create(
                folder / _JOURNAL_FILE, "sweep", {**about, "id": sweep_id, "token": secrets.token_hex(8)}
            ).close()
        journal, (first, *events) = Journal.open(folder / _JOURNAL_FILE)
        record = SweepRecord(first.body)
        for event in events:
            _apply_event(record, event.kind, event.body)
        try:
            yield OpenSweep(journal, record)
        finally:
            journal.close()


def is_sweep_closed(state: Path, sweep_id: str) -> bool:
    """Whether a sweep's run needs no closing: it is closed with its figures, or was never opened."""
    path = state / "sweeps" / sweep_id / _JOURNAL_FILE
    return not path.exists() or read_first_and_last(path)[1].kind == "closed"


def read_sweep_run_id(state: Path, sweep_id: str) -> str | None:
    """The run of a sweep in the tracking store; None where it was never begun."""
    path = state / "sweeps" / sweep_id / _JOURNAL_FILE
    if not path.exists():
        return None
    record = SweepRecord({})
    for event in read_events(path):
        _apply_event(record, event.kind, event.body)
    return record.run_id


def list_sweep_ids(state: Path) -> list[str]:
    """The ids of all sweeps begun below a state folder."""
    return sorted(path.parent.name for path in (state / "sweeps").glob(f"*/{_JOURNAL_FILE}"))


def is_sweep_unfinished(state: Path, sweep_id: str, place: Place) -> bool:
    """Whether a sweep is in `place`, nobody holds it, and its last session did not end in good order."""
    path = state / "sweeps" / sweep_id
    first, last = read_first_and_last(path / _JOURNAL_FILE)
    return (
        _extract_place(first.body) == place and last.kind not in ("closed", "interrupted") and find_owner(path) is None
    )
