"""A durable, ordered record of events; each one is on the disk before anything depends on it.

It is a SQLite file with one row an event; rows are appended and never changed. Each row has a hash of itself and the
row before, and the file's header (PRAGMA user_version) has the number of rows, so that noise, lost rows and rows of
another file are detected. It uses SQLite's rollback journal and not its write-ahead log: that is a second file, and if
it were cut short, the last events would silently disappear.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fmnist_sweep.errors import StoreError
from fmnist_sweep.files import replace_file
from fmnist_sweep.reading import parse_json

_CREATE_TABLE = "CREATE TABLE events (number INTEGER PRIMARY KEY, kind TEXT, body TEXT, digest TEXT)"
_MAX_BYTES = 4 * 2**30  # an event has some hundred bytes, and a trial some tens of events
_MAX_EVENT_BYTES = 64 * 2**20
_BUSY_SECONDS = 20.0  # a reader (fmnist-sweep studies) holds it for milliseconds


class JournalDamaged(StoreError):
    """A journal that is not what was written. It is never replaced by an empty one."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}): put a whole copy back, or type the command with fresh=true to begin anew "
            "beside it; what is in the tracking store stays as it is."
        )


@dataclass(frozen=True)
class JournalEvent:
    """An event: its kind, and what it says."""

    kind: str
    body: dict[str, Any]


class Journal:
    """The journal of one study or sweep: `Journal.create(path, ...)` or `Journal.open(path)`, then `append`."""

    def __init__(self, path: Path, database: sqlite3.Connection, event_count: int, digest: str) -> None:
        self.path = path
        self._database, self._event_count, self._digest = database, event_count, digest

    @classmethod
    def create(cls, path: Path, kind: str, body: dict[str, Any]) -> Self:
        """Create a journal with its first event; the file appears whole or not at all."""
        with _translate_errors(path):
            with replace_file(path) as temporary:
                # What a kill left there, SQLite would take for the new file's.
                for leftover in (temporary, _locate_rollback_file(temporary), _locate_rollback_file(path)):
                    leftover.unlink(missing_ok=True)
                with closing(_connect(temporary)) as database:
                    database.execute(_CREATE_TABLE)
                    journal = cls(temporary, database, 0, "")
                    journal.append(kind, **body)
            _locate_rollback_file(temporary).unlink(missing_ok=True)
            return cls(path, _connect(path), journal._event_count, journal._digest)

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[JournalEvent]]:
        """Open a journal to append to; returns its events so far, too. Raises JournalDamaged."""
        events, digest = _read_chain(path)
        with _translate_errors(path):
            database = _connect(path)
            # SQLite's notes on free space may be damaged while all events are intact; the next would overwrite some.
            verdict = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
        if verdict != "ok":
            database.close()
            raise JournalDamaged(path, verdict.splitlines()[-1])
        return cls(path, database, len(events), digest), events

    def append(self, kind: str, **body: Any) -> JournalEvent:
        """Append an event, which is on the disk when this returns."""
        text = json.dumps(body)
        digest = _hash_event(self._digest, kind, text)
        with _translate_errors(self.path), _transaction(self._database, "IMMEDIATE"):
            self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (self._event_count, kind, text, digest))
            self._database.execute(f"PRAGMA user_version={self._event_count + 1}")
        self._event_count, self._digest = self._event_count + 1, digest
        return JournalEvent(kind, json.loads(text))

    def close(self) -> None:
        self._database.close()


def rewrite_events(path: Path, change: Callable[[JournalEvent], JournalEvent]) -> None:
    """Change the events of a journal that no other process writes; the file is the old or the new one at any moment.

    Raises JournalDamaged, which leaves it as it is.
    """
    events = read_events(path)
    with _translate_errors(path), replace_file(path) as temporary:
        _locate_rollback_file(temporary).unlink(missing_ok=True)  # of a process that was killed
        temporary.unlink(missing_ok=True)
        with closing(_connect(temporary)) as database:
            digest = ""
            with _transaction(database):
                database.execute(_CREATE_TABLE)
                for number, event in enumerate(map(change, events)):
                    text = json.dumps(event.body)
                    digest = _hash_event(digest, event.kind, text)
                    database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (number, event.kind, text, digest))
                database.execute(f"PRAGMA user_version={len(events)}")
        _locate_rollback_file(temporary).unlink(missing_ok=True)
        _locate_rollback_file(path).unlink(missing_ok=True)  # reading has undone what a kill interrupted


def read_events(path: Path) -> list[JournalEvent]:
    """The events of a journal, which another process may be writing. Raises JournalDamaged."""
    return _read_chain(path)[0]


def read_first_and_last(path: Path) -> tuple[JournalEvent, JournalEvent]:
    """The first and the last event, without reading those between. Raises JournalDamaged."""
    count, rows = _read_rows(path, "WHERE number IN (0, ?1 - 2, ?1 - 1)")
    if [row[0] for row in rows] != sorted({0, max(0, count - 2), count - 1}):
        raise JournalDamaged(path, f"it does not hold its {count} events")
    previous = ""
    for number, kind, body, digest in rows:
        # That of the last but one cannot be checked, as the row before it is not read.
        if number < 2 or number == count - 1:
            _refuse_altered(number, digest, _hash_event(previous, kind, body), path)
        previous = digest
    first, last = (_parse_event(path, number, kind, body) for number, kind, body, _ in (rows[0], rows[-1]))
    return first, last


def _read_chain(path: Path) -> tuple[list[JournalEvent], str]:
    count, rows = _read_rows(path)
    digest, events = "", []
    for position, (number, kind, body, stored_digest) in enumerate(rows):
        digest = _hash_event(digest, kind, body)
        _refuse_altered(position, (number, stored_digest), (position, digest), path)
        events.append(_parse_event(path, position, kind, body))
    if len(events) != count:
        raise JournalDamaged(path, f"it holds {len(events)} of {count} events")
    return events, digest


def _parse_event(path: Path, position: int, kind: Any, body: Any) -> JournalEvent:
    # The checksums show what was damaged, not what somebody wrote on purpose.
    try:
        fields = parse_json(body)
    except (ValueError, TypeError):
        fields = None
    if not isinstance(kind, str) or not isinstance(fields, dict):
        raise JournalDamaged(path, f"event {position} cannot be read")
    return JournalEvent(kind, fields)


def _refuse_altered(position: int, actual: object, expected: object, path: Path) -> None:
    if actual != expected:
        raise JournalDamaged(path, f"event {position} does not match its checksum")


def _read_rows(path: Path, condition: str = "") -> tuple[int, list[tuple[Any, ...]]]:
    """The number of events in the header (?1 in the condition; at least 1) and the rows, read at one moment."""
    with _translate_errors(path):
        _refuse_empty(path)
    with _translate_errors(path), closing(_connect(path, read_only=True)) as database, _transaction(database):
        count = int(database.execute("PRAGMA user_version").fetchone()[0])
        if count < 1:
            raise JournalDamaged(path, "it holds no event")
        query = f"SELECT number, kind, body, digest FROM events {condition} ORDER BY number"  # noqa: S608
        return count, database.execute(query, (count,) if condition else ()).fetchall()


def _refuse_empty(path: Path) -> None:
    # SQLite would take an empty file for a new database, and wait for a pipe.
    if not path.is_file():
        raise JournalDamaged(path, "it is gone" if not path.exists() else "it is no regular file")
    rollback = _locate_rollback_file(path)
    if rollback.exists() and not rollback.is_file():
        raise JournalDamaged(rollback, "it is no regular file")
    size = path.stat().st_size
    if not size:
        raise JournalDamaged(path, "it is empty")
    if size > _MAX_BYTES:
        raise JournalDamaged(path, f"it has more than {_MAX_BYTES:,} bytes")


def _hash_event(previous: str, kind: str, body: object) -> str:
    return hashlib.sha256(f"{previous}\n{kind}\n{body}".encode()).hexdigest()[:32]


def _connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    # A reader may write, if it can: after a kill, SQLite first removes a half-written event.
    mode = "rwc" if not read_only else "rw" if os.access(path, os.W_OK) else "ro"
    address = f"{path.resolve().as_uri()}?mode={mode}"
    database = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_EVENT_BYTES)
    # Noise that is not text then fails its checksum.
    database.text_factory = lambda content: content.decode(errors="replace")
    if not read_only:
        database.execute("PRAGMA journal_mode=TRUNCATE")
        database.execute("PRAGMA synchronous=FULL")
    return database


@contextmanager
def _transaction(database: sqlite3.Connection, kind: str = "DEFERRED") -> Iterator[None]:
    """Commit the changes of the block, or none of them if it raises."""
    database.execute(f"BEGIN {kind}")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # on a full disk SQLite has ended it already
            database.execute("ROLLBACK")
        raise


def _locate_rollback_file(path: Path) -> Path:
    """SQLite's own file beside a database, with which it undoes what a kill interrupted."""
    return path.with_name(f"{path.name}-journal")


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system raise as JournalDamaged or StoreError, with the file's name."""
    try:
        yield
    except OSError as error:
        raise _build_unusable_error(path, error.strerror or str(error)) from None
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in _DAMAGE_CODES:
            raise JournalDamaged(path, str(error)) from None
        # A full disk, a read-only folder or a file that cannot be opened: the content is not damaged.
        raise _build_unusable_error(path, str(error)) from None
    except sqlite3.DatabaseError as error:
        raise JournalDamaged(path, str(error)) from None
    except UnicodeDecodeError:  # SQLite's message quotes the noise
        raise JournalDamaged(path, "SQLite finds no table in it") from None


def _build_unusable_error(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path} cannot be read or written ({reason}): fix that, then type the same command again.")


# SQLite's codes for a file that it can read but not understand: no such table, another format, cut short.
_DAMAGE_CODES = frozenset((sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR_SHORT_READ))
