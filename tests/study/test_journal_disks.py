"""The journal on disks that are full or read-only: it says so, and goes on with room again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.journal import Journal, JournalEvent, read_events, read_first_and_last
from tests.support.disks import disk
from tests.support.journals import LARGE, PAGE, begin_journal_anew, continue_journal, make_body, write_events


def test_a_full_disk_is_said_and_with_room_again_the_journal_goes_on(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        journal = Journal.create(path, "study", {"id": "abc"})
        events = [
            JournalEvent("study", {"id": "abc"}),
            *(journal.append("asked", **make_body(number)) for number in range(20)),
        ]
        for leave in (0, PAGE, 2 * PAGE, 3 * PAGE, 5 * PAGE):
            small.fill(leave)
            with pytest.raises(StoreError, match=r"journal\.db cannot be read or written \(database or disk is full\)"):
                for number in range(1000):
                    events.append(journal.append("asked", **make_body(number), text="x" * 2000))
            assert read_events(path) == events
            small.free()
            events.append(journal.append("asked", leave=leave))
            assert read_events(path) == events
        journal.close()
        continue_journal(path, events)


def test_where_there_is_no_room_for_a_new_journal_none_is_made(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        for leave in (0, PAGE, 2 * PAGE, 3 * PAGE):
            small.fill(leave)
            with pytest.raises(StoreError, match=r"journal\.db.* cannot be read or written"):
                Journal.create(path, "study", {"id": "abc"})
            assert not path.exists()
            small.free()
        begin_journal_anew(path)


def test_a_journal_on_a_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", megabytes=1) as small:
        path = small.path / "journal.db"
        events = write_events(path, LARGE)
        with small.read_only():
            assert read_events(path) == events
            assert read_first_and_last(path) == (events[0], events[-1])
            with pytest.raises(StoreError, match=r"journal\.db cannot be read or written"):
                Journal.open(path)[0].append("asked")
            with pytest.raises(StoreError, match=r"cannot be read or written"):
                Journal.create(small.path / "other.db", "study", {})
        continue_journal(path, events)
