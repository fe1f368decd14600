"""A sweep's journal: which studies it has, its run, and how often that was closed with its figures."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_sweep.study.event_checks import check_first_event, sum_events
from fmnist_sweep.study.folder import JOURNAL_FILE, RunLocation, drop_half_written, is_folder_name
from fmnist_sweep.study.journal import Journal, JournalDamaged, JournalEvent, read_events, read_first_and_last
from fmnist_sweep.study.lock import find_owner, lock_folder
from fmnist_sweep.study.nonces import RUN, compute_nonce, draw_secret


@dataclass
class SweepRecord:
    """The sum of a sweep's journal.

    about: the first event's body (id, studies by folder name, token). secret, may_have_unmarked_run: as of a study's
    record. closings: how often its run was closed.
    """

    about: dict[str, Any]
    run_id: str | None = None
    secret: str | None = None
    may_have_unmarked_run: bool = False
    closings: int = 0

    @classmethod
    def from_events(cls, events: Iterable[JournalEvent], path: Path) -> SweepRecord:
        """The sum of the events of the journal in `path`. Raises JournalDamaged for events that no sweep writes."""
        return sum_events(path, "sweep", events, lambda first: cls(first.body, secret=first.body.get("secret")))

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        if event.kind == "opened":
            if self.secret is None:
                self.secret = event.body.get("secret")
            self.may_have_unmarked_run |= self.run_id is None and self.secret is None
        elif event.kind == "run":
            self.run_id = event.body["run_id"]
        elif event.kind == "closing":
            self.closings += 1

    @property
    def run_nonce(self) -> str | None:
        """The nonce of the sweep's own run."""
        return None if self.secret is None else compute_nonce(self.secret, RUN)


@dataclass
class OpenSweep:
    """A sweep that this process has locked."""

    journal: Journal
    record: SweepRecord

    def append_event(self, kind: str, **body: Any) -> None:
        """Write an event to the journal, and then take it into the record."""
        self.record.apply(self.journal.append(kind, **body))


@contextmanager
def lock_sweep(state: Path, sweep_id: str, about: Mapping[str, Any], must_exist: bool = True) -> Iterator[OpenSweep]:
    """Lock a sweep's folder and open its journal, creating it from `about` if there is none.

    must_exist: raise JournalDamaged instead of creating it. Raises Locked if another process holds the folder.
    """
    folder = state / "sweeps" / sweep_id
    with lock_folder(folder, f"sweep {sweep_id}"):
        drop_half_written(folder)
        if not must_exist and not (folder / JOURNAL_FILE).exists():
            marks = {"token": secrets.token_hex(8), "secret": draw_secret()}
            Journal.create(folder / JOURNAL_FILE, "sweep", {**about, "id": sweep_id, **marks}).close()
        journal, events = Journal.open(folder / JOURNAL_FILE)
        try:
            yield OpenSweep(journal, SweepRecord.from_events(events, journal.path))
        finally:
            journal.close()


def is_sweep_closed(state: Path, sweep_id: str) -> bool:
    """Whether a sweep's run needs no closing: it is closed with its figures, or was never started."""
    path = state / "sweeps" / sweep_id / JOURNAL_FILE
    return not path.exists() or read_first_and_last(path)[1].kind == "closed"


def read_sweep_run_id(state: Path, sweep_id: str) -> str | None:
    """The id of a sweep's run in the tracking store; None if it was never started."""
    path = state / "sweeps" / sweep_id / JOURNAL_FILE
    if not path.exists():
        return None
    return SweepRecord.from_events(read_events(path), path).run_id


def list_sweep_ids(state: Path) -> list[str]:
    """The ids of all sweeps in a state folder. Folders with another name, such as copies, are passed over."""
    names = [path.parent.name for path in (state / "sweeps").glob(f"*/{JOURNAL_FILE}")]
    return sorted(name for name in names if is_folder_name(name))


def find_sweep_id(state: Path, study_names: Sequence[str], location: RunLocation) -> str | None:
    """The id of the sweep that has exactly these studies, by their folders' names, and its run in this location."""
    for sweep_id in list_sweep_ids(state):
        with suppress(JournalDamaged):  # whoever opens it says so
            path = state / "sweeps" / sweep_id / JOURNAL_FILE
            first, _ = read_first_and_last(path)
            check_first_event(path, first, "sweep")
            if first.body["studies"] == list(study_names) and RunLocation.from_event(first).is_same(location):
                return sweep_id
    return None


def is_sweep_unfinished(state: Path, sweep_id: str, location: RunLocation) -> bool:
    """Whether a sweep's run is in this location and still open, though no process holds the sweep."""
    path = state / "sweeps" / sweep_id
    first, last = read_first_and_last(path / JOURNAL_FILE)
    check_first_event(path / JOURNAL_FILE, first, "sweep")
    return (
        RunLocation.from_event(first).is_same(location)
        and last.kind not in ("closed", "interrupted")
        and find_owner(path) is None
    )
