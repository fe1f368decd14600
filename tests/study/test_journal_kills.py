"""The journal and the processes that write it: what was said to be written is there, whenever one is killed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.study.journal import Journal, JournalDamaged, JournalEvent, read_events, read_first_and_last
from tests.support.journals import LARGE, PAGE, add_noise, begin_journal_anew, continue_journal, write_events
from tests.support.process import LIMIT_SECONDS, Running, start

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
    events = write_events(path, LARGE)
    whole = path.read_bytes()
    with _python(_SPILLING, path) as process:
        process.end()
    assert path.read_bytes() != whole
    assert _undo(path).stat().st_size > PAGE
    return events


def _undo(path: Path) -> Path:
    return path.with_name("journal.db-journal")


def test_a_reader_sees_a_whole_beginning_while_another_process_appends(path: Path) -> None:
    write_events(path, 0)
    with _python(_APPENDING, path, "0.01") as process:
        process.wait_for("\n")
        seen, deadline = [len(read_events(path))], time.monotonic() + LIMIT_SECONDS
        while seen[-1] < seen[0] + 20 and time.monotonic() < deadline:
            seen.append(len(read_events(path)))
        assert read_first_and_last(path)[0] == JournalEvent("study", {"id": "abc"})
    assert seen == sorted(seen)
    assert seen[-1] >= seen[0] + 20


@pytest.mark.parametrize("look", [read_events, read_first_and_last, lambda path: Journal.open(path)[0].close()])
def test_a_half_written_event_is_taken_back_after_a_kill(path: Path, look: Callable[[Path], Any]) -> None:
    events = _hot(path)
    look(path)
    assert read_events(path) == events
    continue_journal(path, events)


@pytest.mark.parametrize("damage", ["removed", "empty", "first byte", "header", "half", "last byte", "noise"])
def test_damage_to_what_takes_half_an_event_back_is_noticed_or_does_no_harm(path: Path, damage: str) -> None:
    events = _hot(path)
    undo, chosen = _undo(path).read_bytes(), random.Random(7)
    whole, kept = path.read_bytes(), {"empty": 0, "first byte": 1, "header": 512, "half": len(undo) // 2}
    for _ in range(40 if damage == "noise" else 1):
        path.write_bytes(whole)
        if damage == "noise":
            _undo(path).write_bytes(add_noise(undo, chosen))
        elif damage == "removed":
            _undo(path).unlink()
        else:
            _undo(path).write_bytes(undo[: kept.get(damage, -1)])
        try:
            assert read_events(path) == events
        except JournalDamaged as error:
            assert str(path) in str(error)
        else:
            continue_journal(path, events)


@pytest.mark.parametrize("damage", [b"", b"\0", b"noise" * 1000])
def test_damage_to_the_idle_file_beside_a_journal_does_no_harm(path: Path, damage: bytes) -> None:
    events = write_events(path, LARGE)
    _undo(path).write_bytes(damage)
    continue_journal(path, events)


def test_every_event_that_was_said_to_be_written_is_there_after_a_kill_at_any_moment(path: Path) -> None:
    _kill_often(path, times=12)


@pytest.mark.slow
def test_every_event_that_was_said_to_be_written_is_there_after_many_kills(path: Path) -> None:
    _kill_often(path, times=40)


def test_of_a_transaction_that_a_kill_breaks_off_nothing_is_there_and_all_that_was_said_before(path: Path) -> None:
    events = write_events(path, 0)
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
    write_events(path, 0)
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
        continue_journal(tmp_path / f"{number}.db", [JournalEvent("study", {"id": str(number)})])
    begin_journal_anew(tmp_path / f"{len(found)}.db")


def test_a_new_journal_takes_nothing_from_what_a_lost_one_left_beside_it(path: Path) -> None:
    _hot(path)
    path.unlink()
    begin_journal_anew(path)
