"""The journal on real files, disks and processes: what was written comes back, or the damage is named."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study import journal
from fmnist_sweep.study.journal import Journal, JournalDamaged, JournalEvent, read_events, read_first_and_last
from tests.support.disks import disk
from tests.support.process import LIMIT_SECONDS, Running, start

SMALL, LARGE = 3, 60  # events: in one page of SQLite's, in several
PAGE = 4096


def _body(number: int) -> dict[str, Any]:
    return {"trial_id": str(number), "values": {"rate": number * 0.37, "text": "é" * (number % 90)}}


def _written(path: Path, count: int) -> list[JournalEvent]:
    """A journal of so many events after its first; all of them."""
    journal = Journal.create(path, "study", {"id": "abc"})
    events = [
        JournalEvent("study", {"id": "abc"}),
        *(journal.append("asked", **_body(number)) for number in range(count)),
    ]
    journal.close()
    return events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def _sql(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def _goes_on(path: Path, events: list[JournalEvent]) -> None:
    """It holds these events, and takes more."""
    journal, found = Journal.open(path)
    assert found == events
    more = [journal.append("asked", **_body(number)) for number in range(5)]
    journal.close()
    assert read_events(path) == events + more


@pytest.mark.parametrize("count", [0, 1, SMALL, LARGE])
def test_what_is_appended_is_read_back_in_order_and_can_be_gone_on_with(path: Path, count: int) -> None:
    events = _written(path, count)
    assert read_events(path) == events
    assert read_first_and_last(path) == (events[0], events[-1])
    _goes_on(path, events)
    assert sorted(each.name for each in path.parent.iterdir()) == ["journal.db", "journal.db-journal"]


def test_a_reader_sees_a_whole_beginning_while_another_process_appends(path: Path) -> None:
    _written(path, 0)
    with _python(_APPENDING, path, "0.01") as process:
        process.wait_for("\n")
        seen, deadline = [len(read_events(path))], time.monotonic() + LIMIT_SECONDS
        while seen[-1] < seen[0] + 20 and time.monotonic() < deadline:
            seen.append(len(read_events(path)))
        assert read_first_and_last(path)[0] == JournalEvent("study", {"id": "abc"})
    assert seen == sorted(seen)
    assert seen[-1] >= seen[0] + 20


# Damage to the file


LENGTHS = (1, 16, 99, 100, PAGE - 1, PAGE, PAGE + 7, 2 * PAGE - 1, -3 * PAGE, -PAGE - 100, -PAGE, -100, -1)


@pytest.mark.parametrize("count", [0, SMALL, LARGE])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_journal_cut_short_is_refused_by_its_name(path: Path, count: int, length: int) -> None:
    events = _written(path, count)
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
    events = _written(path, count)
    content, chosen = path.read_bytes(), random.Random(count)
    noticed = 0
    for _ in range(rounds):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_bytes(_noised(content, chosen))
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


def _noised(content: bytes, chosen: random.Random) -> bytes:
    noised = bytearray(content)
    kind = chosen.choice(("bytes", "bit", "header", "page"))
    page = PAGE * chosen.randrange(len(content) // PAGE)
    match kind:
        case "bytes":
            start = chosen.randrange(len(content))
            length = min(chosen.choice((1, 2, 8, 64, 512, PAGE)), len(content) - start)
            noised[start : start + length] = chosen.randbytes(length)
        case "bit":
            noised[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        case "header":
            noised[page + chosen.randrange(120)] = chosen.randrange(256)
        case "page":
            noised[page + chosen.randrange(10) + (0 if page else 100)] = chosen.randrange(256)
    return bytes(noised)


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
    _written(path, count)
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


# Processes that are killed


_PREFACE = """
import os, signal, sys, time
from pathlib import Path
from fmnist_sweep.study.journal import Journal
path = Path(sys.argv[1])
"""
# Says each event that is on the disk.
_APPENDING = """
journal, events = Journal.open(path)
for number in range(len(events), 1_000_000):
    journal.append("asked", trial_id=str(number), text="x" * 700)
    print(number, flush=True)
    time.sleep(float(*sys.argv[2:]))
"""
# The same, until it stands still amid a transaction: the one that many (its second argument) come before.
_STOPPING_AMID = (
    """
from fmnist_sweep.study import journal as module

commits = int(sys.argv.pop())

class Connection(module.sqlite3.Connection):
    def execute(self, statement, *arguments):
        global commits
        if statement == "COMMIT":
            commits -= 1
            if commits < 0:
                print("amid", flush=True)
                time.sleep(1000)
        return super().execute(statement, *arguments)

connect = module.sqlite3.connect
module.sqlite3.connect = lambda *arguments, **keys: connect(*arguments, factory=Connection, **keys)
"""
    + _APPENDING
)
# So small a memory that SQLite writes pages of an unfinished transaction to the file.
_SPILLING = """
journal, events = Journal.open(path)
journal._database.execute("PRAGMA cache_size=2")
journal._database.execute("BEGIN IMMEDIATE")
journal._database.execute("DELETE FROM events WHERE number > 3")
for number in range(4, 60):
    journal._database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (number, "other", "x" * 3000, ""))
os.kill(os.getpid(), signal.SIGKILL)
"""
_CREATING = """
for number in range(1_000_000):
    Journal.create(path / f"{number}.db", "study", {"id": str(number)}).close()
    print(number, flush=True)
"""


def _python(code: str, path: Path, *arguments: str) -> AbstractContextManager[Running]:
    return start("-c", _PREFACE + code, str(path), *arguments, cwd=path.parent)


def _kill(process: Running) -> list[str]:
    """Kill a process; the whole lines it had said."""
    process.send_signal(signal.SIGKILL)
    done = process.end()
    assert done.returncode == -signal.SIGKILL, done
    return [line for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]


def _killed_after(seconds: float, code: str, path: Path) -> int:
    """Start a process that counts, kill it this long after its first line; the last number it said."""
    with _python(code, path) as process:
        process.wait_for("\n")
        time.sleep(seconds)
        return int(_kill(process)[-1])


def _hot(path: Path) -> list[JournalEvent]:
    """A journal that a process left in the middle of a transaction, half of it written; the events before it."""
    events = _written(path, LARGE)
    whole = path.read_bytes()
    with _python(_SPILLING, path) as process:
        process.end()
    assert path.read_bytes() != whole
    assert _undo(path).stat().st_size > PAGE
    return events


def _undo(path: Path) -> Path:
    return path.with_name("journal.db-journal")


@pytest.mark.parametrize("look", [read_events, read_first_and_last, lambda path: Journal.open(path)[0].close()])
def test_a_half_written_event_is_taken_back_after_a_kill(path: Path, look: Callable[[Path], Any]) -> None:
    events = _hot(path)
    look(path)
    assert read_events(path) == events
    _goes_on(path, events)


@pytest.mark.parametrize("damage", ["removed", "empty", "first byte", "header", "half", "last byte", "noise"])
def test_damage_to_what_takes_half_an_event_back_is_noticed_or_does_no_harm(path: Path, damage: str) -> None:
    events = _hot(path)
    undo, chosen = _undo(path).read_bytes(), random.Random(7)
    whole, kept = path.read_bytes(), {"empty": 0, "first byte": 1, "header": 512, "half": len(undo) // 2}
    for _ in range(40 if damage == "noise" else 1):
        path.write_bytes(whole)
        if damage == "noise":
            _undo(path).write_bytes(_noised(undo, chosen))
        elif damage == "removed":
            _undo(path).unlink()
        else:
            _undo(path).write_bytes(undo[: kept.get(damage, -1)])
        try:
            assert read_events(path) == events
        except JournalDamaged as error:
            assert str(path) in str(error)
        else:
            _goes_on(path, events)


@pytest.mark.parametrize("damage", [b"", b"\0", b"noise" * 1000])
def test_damage_to_the_idle_file_beside_a_journal_does_no_harm(path: Path, damage: bytes) -> None:
    events = _written(path, LARGE)
    _undo(path).write_bytes(damage)
    _goes_on(path, events)


def test_every_event_that_was_said_to_be_written_is_there_after_a_kill_at_any_moment(path: Path) -> None:
    _kill_often(path, times=12)


@pytest.mark.slow
def test_every_event_that_was_said_to_be_written_is_there_after_many_kills(path: Path) -> None:
    _kill_often(path, times=40)


def test_of_a_transaction_that_a_kill_breaks_off_nothing_is_there_and_all_that_was_said_before(path: Path) -> None:
    events = _written(path, 0)
    for commits in (1, 2, 3, 8):  # one of them ends the reading
        with _python(_STOPPING_AMID, path, "0", str(commits)) as process:
            process.wait_for("amid\n")
            said = _kill(process)[:-1]
        assert _undo(path).stat().st_size > 0
        assert len(said) == commits - 1
        events = events + [JournalEvent("asked", {"trial_id": line.strip(), "text": "x" * 700}) for line in said]
        assert read_events(path) == events


def _kill_often(path: Path, times: int) -> None:
    """Go on with one journal and kill the process that does, again and again."""
    chosen = random.Random(3)
    _written(path, 0)
    for _ in range(times):
        said = _killed_after(chosen.uniform(0, 0.03), _APPENDING, path)
        events = read_events(path)
        assert said + 1 <= len(events) <= said + 2  # the one in the making may be there
        assert [event.body["trial_id"] for event in events[1:]] == [str(number) for number in range(1, len(events))]


@pytest.mark.parametrize("seed", range(4))
def test_a_journal_is_made_whole_or_not_at_all_whenever_its_process_is_killed(tmp_path: Path, seed: int) -> None:
    _kill_makers(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 20))
def test_many_journals_are_made_whole_or_not_at_all(tmp_path: Path, seed: int) -> None:
    _kill_makers(tmp_path, seed)


def _kill_makers(tmp_path: Path, seed: int) -> None:
    made = _killed_after(random.Random(seed).uniform(0, 0.05), _CREATING, tmp_path)
    found = sorted(int(path.stem) for path in tmp_path.glob("[0-9]*.db"))
    assert found in (list(range(made + 1)), list(range(made + 2)))
    for number in found[-3:]:
        _goes_on(tmp_path / f"{number}.db", [JournalEvent("study", {"id": str(number)})])
    _goes_on_anew(tmp_path / f"{len(found)}.db")


def _goes_on_anew(path: Path) -> None:
    Journal.create(path, "study", {"id": "new"}).close()
    _goes_on(path, [JournalEvent("study", {"id": "new"})])


def test_a_new_journal_takes_nothing_from_what_a_lost_one_left_beside_it(path: Path) -> None:
    _hot(path)
    path.unlink()
    _goes_on_anew(path)


# The file system


def test_a_full_disk_is_said_and_with_room_again_the_journal_goes_on(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        journal = Journal.create(path, "study", {"id": "abc"})
        events = [
            JournalEvent("study", {"id": "abc"}),
            *(journal.append("asked", **_body(number)) for number in range(20)),
        ]
        for leave in (0, PAGE, 2 * PAGE, 3 * PAGE, 5 * PAGE):
            small.fill(leave)
            with pytest.raises(StoreError, match=r"journal\.db cannot be read or written \(database or disk is full\)"):
                for number in range(1000):
                    events.append(journal.append("asked", **_body(number), text="x" * 2000))
            assert read_events(path) == events
            small.free()
            events.append(journal.append("asked", leave=leave))
            assert read_events(path) == events
        journal.close()
        _goes_on(path, events)


def test_where_there_is_no_room_for_a_new_journal_none_is_made(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        for leave in (0, PAGE, 2 * PAGE, 3 * PAGE):
            small.fill(leave)
            with pytest.raises(StoreError, match=r"journal\.db.* cannot be read or written"):
                Journal.create(path, "study", {"id": "abc"})
            assert not path.exists()
            small.free()
        _goes_on_anew(path)


def test_a_journal_on_a_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        events = _written(path, LARGE)
        with small.read_only():
            assert read_events(path) == events
            assert read_first_and_last(path) == (events[0], events[-1])
            with pytest.raises(StoreError, match=r"journal\.db cannot be read or written"):
                Journal.open(path)[0].append("asked")
            with pytest.raises(StoreError, match=r"cannot be read or written"):
                Journal.create(small.path / "other.db", "study", {})
        _goes_on(path, events)


@pytest.mark.parametrize("name", ["journal.db", "journal.db-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    path: Path, name: str, make: Callable[[Path], object]
) -> None:
    _written(path, 3)
    path.with_name(name).unlink(missing_ok=True)
    make(path.with_name(name))
    for look in (Journal.open, read_events, read_first_and_last):
        with pytest.raises(JournalDamaged, match="it is no regular file"):
            look(path)


def test_a_journal_far_larger_than_any_is_not_read(path: Path) -> None:
    _written(path, 3)
    os.truncate(path, 2**40)  # takes no place on the disk
    with pytest.raises(JournalDamaged, match="more than"):
        read_events(path)


@pytest.mark.parametrize("body", ["[" * 100_000, "", "{"])
def test_an_event_that_is_no_json_is_damage(path: Path, body: str) -> None:
    events = _written(path, 1)
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
    events = _written(path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE events SET body = zeroblob(2000000) WHERE number = ?", (len(events) - 1,))
        database.commit()
    monkeypatch.setattr(journal, "_MAX_EVENT_BYTES", 1_000_000)
    with pytest.raises(JournalDamaged, match="too big"):
        read_events(path)
