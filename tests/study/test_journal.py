"""The journal as a file: what was written comes back, or the damage is named."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study import journal
from fmnist_sweep.study.journal import Journal, JournalDamaged, read_events, read_first_and_last
from tests.support.journals import LARGE, PAGE, SMALL, add_noise, continue_journal, write_events


def _sql(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize("count", [0, 1, SMALL, LARGE])
def test_what_is_appended_is_read_back_in_order_and_can_be_gone_on_with(path: Path, count: int) -> None:
    events = write_events(path, count)
    assert read_events(path) == events
    assert read_first_and_last(path) == (events[0], events[-1])
    continue_journal(path, events)
    assert sorted(each.name for each in path.parent.iterdir()) == ["journal.db", "journal.db-journal"]


LENGTHS = (1, 16, 99, 100, PAGE - 1, PAGE, PAGE + 7, 2 * PAGE - 1, -3 * PAGE, -PAGE - 100, -PAGE, -100, -1)


@pytest.mark.parametrize("count", [0, SMALL, LARGE])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_journal_cut_short_is_refused_by_its_name(path: Path, count: int, length: int) -> None:
    events = write_events(path, count)
    content = path.read_bytes()
    if abs(length) >= len(content):
        length = len(content) // 2
    path.write_bytes(content[:length])
    for look in (read_events, Journal.open):
        with pytest.raises(JournalDamaged) as told:
            look(path)
        assert str(path) in str(told.value)
        assert "fresh=true" in str(told.value)
    try:
        assert read_first_and_last(path) == (events[0], events[-1])  # it does not look at what is between
    except JournalDamaged as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("look", [read_events, Journal.open, read_first_and_last])
def test_an_empty_or_absent_journal_is_refused_and_not_made_anew(path: Path, look: Callable[[Path], Any]) -> None:
    with pytest.raises(JournalDamaged, match="it is gone"):
        look(path)
    assert not path.exists()
    path.write_bytes(b"")
    with pytest.raises(JournalDamaged, match="it is empty"):
        look(path)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_noise_is_noticed_or_does_no_harm(path: Path, count: int) -> None:
    _noise(path, count, rounds=400)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, SMALL, 10 * LARGE])
def test_much_noise_is_noticed_or_does_no_harm(path: Path, count: int) -> None:
    _noise(path, count, rounds=400)


def _noise(path: Path, count: int, rounds: int) -> None:
    """Overwrite bytes, bits, and the few bytes that say how a page is laid out."""
    events = write_events(path, count)
    content, chosen = path.read_bytes(), random.Random(count)
    noticed = 0
    for _ in range(rounds):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_bytes(add_noise(content, chosen))
        try:
            assert read_events(path) == events
            journal = Journal.open(path)[0]
        except JournalDamaged as error:
            assert str(path) in str(error)
            noticed += 1
            continue
        try:
            more = [journal.append("asked", text="x" * 900) for _ in range(12)]
            journal.close()
            assert read_events(path) == events + more
        except StoreError as error:  # the bytes that say by which versions of SQLite the file may be written
            assert str(path) in str(error)
    assert 0.1 * rounds < noticed < 0.9 * rounds


@pytest.mark.parametrize("count", [SMALL, LARGE])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE number = 2",
        "DELETE FROM events WHERE number = 0",
        "DELETE FROM events WHERE number = (SELECT MAX(number) FROM events)",
        "DELETE FROM events WHERE number > 1",
        "DELETE FROM events",
        "UPDATE events SET body = replace(body, '0.37', '0.38') WHERE number = 2",
        "UPDATE events SET kind = 'waited' WHERE number = 2",
        "UPDATE events SET body = CAST(body AS BLOB) WHERE number = 2",
        "UPDATE events SET body = NULL WHERE number = 3",
        "UPDATE events SET digest = 'x' WHERE number = 1",
        "UPDATE events SET number = number + 1000 WHERE number > 1",
        "UPDATE events SET number = CASE number WHEN 1 THEN -2 ELSE -1 END WHERE number IN (1, 2)",
        "INSERT INTO events SELECT number + 1000, kind, body, digest FROM events WHERE number = 1",
        "INSERT INTO events SELECT MAX(number) + 1, kind, body, digest FROM events",
        "DROP TABLE events",
        "ALTER TABLE events RENAME COLUMN body TO text",
    ],
)
def test_a_row_taken_away_changed_or_moved_is_noticed(path: Path, count: int, statement: str) -> None:
    write_events(path, count)
    _sql(path, statement, "UPDATE events SET number = -number WHERE number < 0" if "CASE" in statement else "SELECT 1")
    with pytest.raises(JournalDamaged, match=r"journal\.db"):
        read_events(path)
    with pytest.raises(JournalDamaged, match=r"journal\.db"):
        Journal.open(path)


def test_another_file_in_its_place_is_refused(path: Path) -> None:
    for content in (b"not a database", b"\n" * 5000, random.Random(1).randbytes(3 * PAGE)):
        path.write_bytes(content)
        with pytest.raises(JournalDamaged, match=r"journal\.db"):
            read_events(path)
        with pytest.raises(JournalDamaged, match=r"journal\.db"):
            read_first_and_last(path)


@pytest.mark.parametrize("name", ["journal.db", "journal.db-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    path: Path, name: str, make: Callable[[Path], object]
) -> None:
    write_events(path, 3)
    path.with_name(name).unlink(missing_ok=True)
    make(path.with_name(name))
    for look in (Journal.open, read_events, read_first_and_last):
        with pytest.raises(JournalDamaged, match="it is no regular file"):
            look(path)


def test_a_journal_far_larger_than_any_is_not_read(path: Path) -> None:
    write_events(path, 3)
    os.truncate(path, 2**40)  # takes no place on the disk
    with pytest.raises(JournalDamaged, match="more than"):
        read_events(path)


@pytest.mark.parametrize("body", ["[" * 100_000, "", "{"])
def test_an_event_that_is_no_json_is_damage(path: Path, body: str) -> None:
    events = write_events(path, 1)
    digest = ""
    for event in events:
        digest = journal._hash_event(digest, event.kind, json.dumps(event.body))
    with closing(sqlite3.connect(path)) as database:
        number = len(events)
        row = (number, "x", body, journal._hash_event(digest, "x", body))
        database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
        database.execute(f"PRAGMA user_version={number + 1}")
        database.commit()
    for look in (Journal.open, read_events, read_first_and_last):
        with pytest.raises(JournalDamaged, match=r"event \d+ cannot be read"):
            look(path)


def test_an_event_far_larger_than_any_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = write_events(path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE events SET body = zeroblob(2000000) WHERE number = ?", (len(events) - 1,))
        database.commit()
    monkeypatch.setattr(journal, "_MAX_EVENT_BYTES", 1_000_000)
    with pytest.raises(JournalDamaged, match="too big"):
        read_events(path)
