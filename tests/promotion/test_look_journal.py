"""The journal of a promotion with looks: what is read is what was written, and only one process writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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


def test_a_journal_without_a_rule_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "promotions" / "key" / "journal.db"
    path.parent.mkdir(parents=True)
    Journal.create(path, "promotion", {"id": "key", "studies": [], "rule": {"most": 3}}).close()
    with pytest.raises(JournalDamaged, match="its rule"):
        read_look_record(tmp_path, "key")
