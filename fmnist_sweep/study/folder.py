"""Where a study's state is kept: its journal, checkpoints and undelivered results, locked by one process at a time.

STATE/studies/<study id>/      <study id>-2 and so on when the same study is begun anew (fresh=true)
    journal.db  checkpoints/  results/  owner.lock  owner.json
STATE/sweeps/<sweep id>/
    journal.db  owner.lock  owner.json
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_sweep.files import is_same_path
from fmnist_sweep.masking import mask_address
from fmnist_sweep.study.checkpoints import Checkpoints
from fmnist_sweep.study.event_checks import check_first_event
from fmnist_sweep.study.journal import Journal, JournalDamaged, JournalEvent, read_events, read_first_and_last
from fmnist_sweep.study.lock import Owner, find_owner, lock_folder
from fmnist_sweep.study.nonces import draw_secret
from fmnist_sweep.study.record import StudyRecord

JOURNAL_FILE = "journal.db"
SQLITE_PREFIX = "sqlite:///"


@dataclass(frozen=True)
class RunLocation:
    """The store and the experiment that runs are in. uri: of the store, without its user and password."""

    uri: str
    experiment: str

    @classmethod
    def from_event(cls, event: JournalEvent) -> RunLocation:
        """The location that the first event of a journal says.

        Earlier versions masked less of an address: it is masked again, so that the store stays the same one.
        """
        return cls(mask_address(event.body["uri"]), event.body["experiment"])

    @property
    def store_file(self) -> Path | None:
        """The store's file; None for a server."""
        return Path(self.uri.removeprefix(SQLITE_PREFIX)) if self.uri.startswith(SQLITE_PREFIX) else None

    def is_same(self, other: RunLocation) -> bool:
        """Whether the other is this one, perhaps by another path to the store's file (a mount, a link)."""
        if self.store_file is None or other.store_file is None or self.experiment != other.experiment:
            return self == other
        return is_same_path(self.store_file, other.store_file)


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, or of one that was begun anew."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state(self) -> Path:
        """The state folder that it is in."""
        return self.path.parent.parent

    @property
    def study_id(self) -> str:
        return self.name.partition("-")[0]

    def is_before(self, other: StudyFolder) -> bool:
        """Whether the other is the same study, begun anew later."""
        return self.study_id == other.study_id and _parse_number(self.name) < _parse_number(other.name)

    def has_journal(self) -> bool:
        """Whether it has a journal. Raises JournalDamaged if the journal is gone and other files are left."""
        if (self.path / JOURNAL_FILE).exists():
            return True
        if _has_remains(self.path):
            raise JournalDamaged(self.path / JOURNAL_FILE, "it is gone")
        return False

    def read_location(self) -> RunLocation:
        """Where its runs are, as its journal says."""
        first = read_first_and_last(self.path / JOURNAL_FILE)[0]
        check_first_event(self.path / JOURNAL_FILE, first, "study")
        return RunLocation.from_event(first)

    def has_clean_end(self) -> bool:
        """Whether its last session closed all runs before it ended."""
        return read_first_and_last(self.path / JOURNAL_FILE)[1].kind in ("closed", "interrupted")

    def read_record(self) -> StudyRecord:
        """Read what its journal says at this moment."""
        return StudyRecord.from_events(read_events(self.path / JOURNAL_FILE), self.path / JOURNAL_FILE)

    def find_owner(self, patience: float = 0) -> Owner | None:
        """The process that runs it; None if there is none. patience: seconds to wait for one that only looks."""
        return find_owner(self.path, patience)


def find_study_folder(state: Path, study_id: str, location: RunLocation) -> StudyFolder | None:
    """The newest folder of a study whose runs are in this location; None if there is none.

    Raises JournalDamaged for a damaged journal, which is never passed over.
    """
    for folder in reversed(_list_beginnings(state, study_id)):
        if folder.has_journal() and folder.read_location().is_same(location):
            return folder
    return None


def list_study_locations(state: Path, study_id: str) -> list[RunLocation]:
    """The locations of a study's runs: one for each time that it was begun."""
    return [folder.read_location() for folder in _list_beginnings(state, study_id) if folder.has_journal()]


def find_unused_folder(state: Path, study_id: str) -> StudyFolder:
    """The folder, not created yet, for a study that is begun, or begun anew."""
    numbers = [_parse_number(folder.name) for folder in _list_beginnings(state, study_id) if _has_remains(folder.path)]
    number = 1 + max(numbers, default=0)
    return StudyFolder(state / "studies" / (study_id if number == 1 else f"{study_id}-{number}"))


def _has_remains(path: Path) -> bool:
    """Whether a study's folder holds any of its files."""
    return any((path / name).exists() for name in (JOURNAL_FILE, "checkpoints", "results"))


def list_study_folders(state: Path) -> list[StudyFolder]:
    """All studies in a state folder, the oldest first; without folders whose name is none of a study's."""
    folders = [StudyFolder(path) for path in _list_journal_folders(state) if is_folder_name(path.name)]
    return sorted(folders, key=lambda folder: (folder.path / JOURNAL_FILE).stat().st_ctime)


def list_misnamed_folders(state: Path) -> list[str]:
    """The names of what lies among the studies, with a journal, under a name that no study has: copies, say."""
    return sorted(path.name for path in _list_journal_folders(state) if not is_folder_name(path.name))


def _list_journal_folders(state: Path) -> list[Path]:
    # os.path.exists takes what may not be looked into for nothing; Path.exists raises.
    return [path for path in (state / "studies").glob("*") if os.path.exists(path / JOURNAL_FILE)]  # noqa: PTH110


def is_folder_name(name: str) -> bool:
    """Whether a study or sweep may have a folder of this name: an id, or an id and the number of a fresh beginning."""
    return re.fullmatch(r"[0-9a-zA-Z]{1,64}(-[1-9][0-9]{0,8})?", name, re.ASCII) is not None


def _list_beginnings(state: Path, study_id: str) -> list[StudyFolder]:
    paths = [path for path in (state / "studies").glob(f"{study_id}*") if is_folder_name(path.name)]
    folders = [folder for folder in map(StudyFolder, paths) if folder.study_id == study_id]
    return sorted(folders, key=lambda folder: _parse_number(folder.name))


def _parse_number(name: str) -> int:
    return int(name.partition("-")[2] or 1)


@dataclass
class OpenStudy:
    """A study that this process has locked: what has happened, and where its files are."""

    folder: StudyFolder
    journal: Journal
    record: StudyRecord
    checkpoints: Checkpoints

    def append_event(self, kind: str, **body: Any) -> None:
        """Write an event to the journal, and then take it into the record."""
        self.record.apply(self.journal.append(kind, **body))

    @property
    def token(self) -> str:
        """The token that marks its runs in the tracking store."""
        return str(self.record.about["token"])

    def result_path(self, trial_id: str) -> Path:
        """The file that keeps a trial's result until the tracking store has it."""
        return self.folder.path / "results" / f"{trial_id}.npz"


@contextmanager
def lock_study(folder: StudyFolder, about: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[OpenStudy]:
    """Lock a study's folder and open its journal, creating it from `about` if there is none.

    Raises Locked if another process holds the folder.
    """
    with lock_folder(folder.path, f"study {folder.name}"):
        path = folder.path / JOURNAL_FILE
        drop_half_written(folder.path)
        if not folder.has_journal():
            Journal.create(path, "study", {**about, "token": secrets.token_hex(8), "secret": draw_secret()}).close()
        journal, events = Journal.open(path)
        try:
            yield OpenStudy(
                folder, journal, StudyRecord.from_events(events, path), Checkpoints(folder.path / "checkpoints", say)
            )
        finally:
            journal.close()


def drop_half_written(folder: Path) -> None:
    """Remove the half-written files of a process that was killed; only the folder's owner writes there."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+(-journal)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)
