"""The ledger of openings is chained: what was edited, removed or put between shows, and a torn line breaks nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fmnist_sweep.data.opening_ledger import PREVIOUS_KEY, append_entry, read_ledger

OLD = [json.dumps({"reason": f"old {number}"}) for number in range(2)]  # as earlier releases wrote them


@pytest.fixture(params=[0, 2], ids=["new", "with lines of an earlier release"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A ledger with three chained entries."""
    path = tmp_path / "state" / "openings.jsonl"
    if request.param:
        path.parent.mkdir()
        path.write_text("".join(f"{line}\n" for line in OLD))
    for number in range(3):
        append_entry(path, {"reason": f"opening {number}"})
    return path


def test_each_entry_names_the_hash_of_all_lines_before_it(ledger: Path) -> None:
    found = read_ledger(ledger)
    assert found.broken_line is None
    assert found.head == found.hashes[-1]
    assert [entry["reason"] for entry in found.entries][-3:] == ["opening 0", "opening 1", "opening 2"]
    assert [entry[PREVIOUS_KEY] for entry in found.entries[-2:]] == list(found.hashes[-3:-1])
    assert len(set(found.hashes)) == len(found.entries)


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = read_ledger(tmp_path / "none")
    assert (found.entries, found.hashes, found.broken_line) == ([], [], None)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace("o", "0"), *lines[1:]],
        lambda lines: [*lines[:-2], lines[-2].replace("opening", "0pening"), lines[-1]],
        lambda lines: lines[1:],
        lambda lines: [*lines[:-2], lines[-1]],
        lambda lines: [*lines[:-1], '{"reason": "put between"}', lines[-1]],
        lambda lines: [*lines[:-2], lines[-1], lines[-2]],
    ],
    ids=["first edited", "edited", "first removed", "removed", "put between", "exchanged"],
)
def test_what_was_changed_before_the_last_line_shows(ledger: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = ledger.read_text().splitlines()
    ledger.write_text("".join(f"{line}\n" for line in change(lines)))
    assert read_ledger(ledger).broken_line is not None


def test_what_was_changed_at_the_end_changes_the_head(ledger: Path) -> None:
    before = read_ledger(ledger)
    lines = ledger.read_text().splitlines()
    ledger.write_text("".join(f"{line}\n" for line in lines[:-1]))
    after = read_ledger(ledger)
    assert after.broken_line is None
    assert (after.head, len(after.hashes)) == (before.hashes[-2], len(before.hashes) - 1)


def test_a_line_that_was_cut_short_counts_and_the_next_one_goes_on_from_it(ledger: Path) -> None:
    count = len(read_ledger(ledger).entries)
    with ledger.open("a") as file:
        file.write('{"reason": "cut sh')
    append_entry(ledger, {"reason": "after it"})
    found = read_ledger(ledger)
    assert found.broken_line is None
    assert len(found.entries) == count + 2
    assert (found.entries[-2], found.entries[-1]["reason"]) == ({}, "after it")


def test_entries_that_are_added_at_once_are_chained_one_after_the_other(ledger: Path) -> None:
    count = len(read_ledger(ledger).entries)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_entry(ledger, {"reason": f"at once {number}"}), range(24)))
    found = read_ledger(ledger)
    assert found.broken_line is None
    assert len(found.entries) == count + 24
