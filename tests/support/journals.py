"""Journals of a few events or many: written, continued, begun anew, and their bytes with noise."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from fmnist_sweep.study.journal import Journal, JournalEvent, read_events

SMALL, LARGE = 3, 60  # events: in one page of SQLite's, in several
PAGE = 4096


def make_body(number: int) -> dict[str, Any]:
    """What an event says, of a length by its number."""
    return {"trial_id": str(number), "values": {"rate": number * 0.37, "text": "é" * (number % 90)}}


def write_events(path: Path, count: int) -> list[JournalEvent]:
    """A journal of so many events after its first; all of them."""
    journal = Journal.create(path, "study", {"id": "abc"})
    events = [
        JournalEvent("study", {"id": "abc"}),
        *(journal.append("asked", **make_body(number)) for number in range(count)),
    ]
    journal.close()
    return events


def continue_journal(path: Path, events: list[JournalEvent]) -> None:
    """Check that a journal holds these events, and takes more."""
    journal, found = Journal.open(path)
    assert found == events
    more = [journal.append("asked", **make_body(number)) for number in range(5)]
    journal.close()
    assert read_events(path) == events + more


def add_noise(content: bytes, chosen: random.Random) -> bytes:
    """A file's bytes with a few of them overwritten, one bit turned, or the layout of a page changed."""
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


def begin_journal_anew(path: Path) -> None:
    """Check that a new journal can be made there, and takes more."""
    Journal.create(path, "study", {"id": "new"}).close()
    continue_journal(path, [JournalEvent("study", {"id": "new"})])
