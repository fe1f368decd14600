"""The journal of a promotion with looks: what is read is what was written, and only one process writes it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import Locked
from fmnist_sweep.promotion.look_journal import (
    RecordedLook,
    hold_look_journal,
    list_studies_with_looks,
    read_look_record,
)
from fmnist_sweep.promotion.looks import take_look
from fmnist_sweep.study.journal import Journal, JournalDamaged
from tests.promotion.test_looks import CHAMPION, RULE, shift

STUDIES = ("a1", "b2")
LOOK = RecordedLook(take_look(RULE, [shift(0.01), shift(0.004)], CHAMPION[:4]), ("first", "second"), ("k1", "k2"))


def test_what_is_read_is_what_was_written_and_the_first_plan_stays(tmp_path: Path) -> None:
    assert read_look_record(tmp_path, "key") is None
    with hold_look_journal(tmp_path, "key", RULE, STUDIES) as journal:
        journal.record_look(LOOK)
    with hold_look_journal(tmp_path, "key", replace(RULE, most=30), STUDIES) as journal:
        assert (journal.record.rule, journal.record.looks) == (RULE, {4: LOOK})
    record = read_look_record(tmp_path, "key")
    assert record is not None
    assert record.looks == {4: LOOK}
    assert list_studies_with_looks(tmp_path) == set(STUDIES)


def test_a_look_is_not_taken_a_second_time(tmp_path: Path) -> None:
    with hold_look_journal(tmp_path, "key", RULE, STUDIES) as journal:
        journal.record_look(LOOK)
        journal.record_look(replace(LOOK, names=("other", "second")))
        assert journal.record.looks == {4: LOOK}


def test_one_process_at_a_time_holds_it(tmp_path: Path) -> None:
    with (
        hold_look_journal(tmp_path, "key", RULE, STUDIES),
        pytest.raises(Locked, match="promotion key is being run by process"),
        hold_look_journal(tmp_path, "key", RULE, STUDIES),
    ):
        pass


@pytest.mark.parametrize(
    "change", [{"most": 10**9}, {"most": "20"}, {"gain": None}, {"unknown": 1}], ids=["most", "text", "none", "unknown"]
)
def test_a_journal_with_a_rule_that_nobody_wrote_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    _write(tmp_path, asdict(RULE) | change)
    with pytest.raises(JournalDamaged, match="its rule"):
        read_look_record(tmp_path, "key")


@pytest.mark.parametrize("change", [{"fate": "better"}, {"gain": "0.1"}, {"chance": None}, {"unknown": 1}])
def test_a_look_that_nobody_took_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    body = LOOK.as_body()
    body["finalists"][0] |= change
    _write(tmp_path, asdict(RULE), body)
    with pytest.raises(JournalDamaged, match="event 1"):
        read_look_record(tmp_path, "key")


def _write(state: Path, rule: dict[str, Any], *looks: dict[str, Any]) -> None:
    """Write the journal of a promotion as somebody else might."""
    path = state / "promotions" / "key" / "journal.db"
    path.parent.mkdir(parents=True)
    journal = Journal.create(path, "promotion", {"id": "key", "studies": [], "rule": rule})
    for look in looks:
        journal.append("look", **look)
    journal.close()
