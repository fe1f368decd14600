"""A durable, ordered record of what has happened; each event is on the disk before anything depends on it.

One SQLite file, one row an event, appended and never changed. Each row carries a hash of itself and of the row before,
so that noise, a lost row or another file's rows are noticed. SQLite's rollback journal instead of its write-ahead log:
that log is a second file, and cutting it short would silently take the last events back.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fmnist_sweep.errors import StoreError

_TABLE = "CREATE TABLE events (number INTEGER PRIMARY KEY, kind TEXT, body TEXT, digest TEXT)"
_BUSY_SECONDS = 20.0  # a reader (fmnist-sweep studies) holds it for milliseconds


class JournalDamaged(StoreError):
    """A journal that is not what was written; it is never replaced by an empty one."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}): put a whole copy back, or type the command with fresh=true to begin anew "
            "beside it; what is in the tracking store stays as it is."
        )


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    kind: str
    body: dict[str, Any]


class Journal:
    """The events of one study or sweep: `Journal.create(path, ...)` or `Journal.open(path)`, then `append`."""

    def __init__(self, path: Path, database: sqlite3.Connection, number: int, digest: str) -> None:
        self.path = path
        self._database, self._number, self._digest = database, number, digest

    @classmethod
    def create(cls, path: Path, kind: str, body: dict[str, Any]) -> Self:
        """A new journal with its first event; the file appears whole or not at all."""
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.unlink(missing_ok=True)
        with _named(aside):
            database = _connect(aside)
            database.execute(_TABLE)
            journal = cls(aside, database, 0, "")
            journal.append(kind, **body)
            database.close()
            aside.replace(path)
            Path(f"{aside}-journal").unlink(missing_ok=True)
            database = _connect(path)
        return cls(path, database, journal._number, journal._digest)

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[Event]]:
        """A journal to go on with, and its events so far; JournalDamaged when it is not what was written."""
        events, digest = _read(path)
        with _named(path):
            database = _connect(path)
        return cls(path, database, len(events), digest), events

    def append(self, kind: str, **body: Any) -> Event:
        """Record an event; it is on the disk when this returns."""
        text = json.dumps(body)
        digest = _chained(self._digest, kind, text)
        with _named(self.path):
            self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (self._number, kind, text, digest))
        self._number, self._digest = self._number + 1, digest
        return Event(kind, json.loads(text))

    def close(self) -> None:
        self._database.close()


def read(path: Path) -> list[Event]:
    """The events of a journal that others may be writing; JournalDamaged when it is not what was written."""
    return _read(path)[0]


def ends(path: Path) -> tuple[Event, Event]:
    """The first and the last event alone, without a look at those between; JournalDamaged where they are unreadable."""
    _refuse_empty(path)
    with _named(path):
        database = _connect(path, to_read=True)
        try:
            rows = database.execute(
                "SELECT kind, body FROM events WHERE number IN (0, (SELECT MAX(number) FROM events)) ORDER BY number"
            ).fetchall()
        finally:
            database.close()
    if not rows:
        raise JournalDamaged(path, "it holds no event")
    try:
        first, last = (Event(kind, json.loads(body)) for kind, body in (rows[0], rows[-1]))
    except (ValueError, TypeError) as error:
        raise JournalDamaged(path, str(error)) from None
    return first, last


def _read(path: Path) -> tuple[list[Event], str]:
    _refuse_empty(path)
    digest, events = "", []
    with _named(path):
        database = _connect(path, to_read=True)
        try:
            rows = database.execute("SELECT number, kind, body, digest FROM events ORDER BY number").fetchall()
        finally:
            database.close()
    for position, (number, kind, body, found) in enumerate(rows):
        digest = _chained(digest, kind, body)
        if number != position or found != digest:
            raise JournalDamaged(path, f"event {position} does not match its checksum")
        events.append(Event(kind, json.loads(body)))
    if not events:
        raise JournalDamaged(path, "it holds no event")
    return events, digest


def _refuse_empty(path: Path) -> None:
    # SQLite would take a file of no bytes for a new database.
    if not path.is_file():
        raise JournalDamaged(path, "it is gone")
    if not path.stat().st_size:
        raise JournalDamaged(path, "it is empty")


def _chained(before: str, kind: str, body: object) -> str:
    return hashlib.sha256(f"{before}\n{kind}\n{body}".encode()).hexdigest()[:32]


def _connect(path: Path, to_read: bool = False) -> sqlite3.Connection:
    # A reader may write too where it can: after a kill, SQLite takes back a half-written event first.
    mode = "rwc" if not to_read else "rw" if os.access(path, os.W_OK) else "ro"
    address = f"{path.resolve().as_uri()}?mode={mode}"
    database = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    if not to_read:
        database.execute("PRAGMA journal_mode=TRUNCATE")
        database.execute("PRAGMA synchronous=FULL")
    return database


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """SQLite's errors with the file they are about."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise JournalDamaged(path, str(error)) from None
        # Full disk, read-only folder, a file that cannot be opened: nothing is wrong with what was written.
        raise StoreError(f"{path} cannot be written ({error}): mend that, then type the same command again.") from None
    except sqlite3.DatabaseError as error:
        raise JournalDamaged(path, str(error)) from None
