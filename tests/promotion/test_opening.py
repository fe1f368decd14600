"""Which trainings are scored on the test images, when more seeds are refused, and how openings are counted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fmnist_sweep.data.opening_ledger import read_ledger
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import opening as opening_module
from fmnist_sweep.promotion.account import count_openings
from fmnist_sweep.promotion.configuration import TrialConfiguration
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.promotion.opening import (
    collect_opening_names,
    fetch_confirmed_model,
    find_pending_runs,
    refuse_more_seeds,
)
from fmnist_sweep.tracking import prediction_files
from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_OPENING_TAG
from fmnist_sweep.tracking.trials import StoredTrial

SETTINGS: dict[str, Any] = {"model": {}, "optimizer": {}, "regularization": {}, "train": {}}
CONFIGURATION = TrialConfiguration("a trial", SETTINGS, {}, "d:1", "val_loss", 1, ())


def make_run(run_id: str, *, opening: str | None = None, scored: bool = False, state: str = "finished") -> StoredTrial:
    tags = {TEST_OPENING_TAG: opening} if opening else {}
    tags |= {TEST_OPENED_TAG: "2026-11-28"} if scored else {}
    return StoredTrial(run_id, f"seed {run_id}", state, {}, {}, tags, 0, 1)


NEW, FAILED = make_run("new"), make_run("failed", state="failed")
INTERRUPTED, SCORED = make_run("interrupted", opening="x-1"), make_run("scored", opening="x-1", scored=True)


def confirm(*runs: StoredTrial, other_runs: tuple[StoredTrial, ...] = ()) -> Confirmations:
    return Confirmations(CONFIGURATION, "journal", runs, other_runs)


@pytest.mark.parametrize(
    ("runs", "include_added", "pending"),
    [
        ((NEW, FAILED), False, [NEW]),
        ((NEW, INTERRUPTED), False, [NEW, INTERRUPTED]),
        ((NEW, INTERRUPTED, SCORED), False, [INTERRUPTED]),
        ((NEW, INTERRUPTED, SCORED), True, [NEW, INTERRUPTED]),
        ((SCORED,), True, []),
    ],
)
def test_once_a_score_was_seen_only_its_own_opening_is_completed(
    runs: tuple[StoredTrial, ...], include_added: bool, pending: list[StoredTrial]
) -> None:
    assert find_pending_runs(confirm(*runs), include_added) == pending


def test_more_seeds_are_refused_once_a_score_was_seen() -> None:
    refuse_more_seeds(confirm(NEW, NEW), 3)
    refuse_more_seeds(confirm(SCORED, INTERRUPTED), None)
    refuse_more_seeds(confirm(SCORED, INTERRUPTED), 2)
    with pytest.raises(PromotionRefused, match=r"for a trial before \(x-1\): .* Keep to the 2 seeds .*--open-again"):
        refuse_more_seeds(confirm(SCORED, INTERRUPTED), 3)


def test_scores_seen_elsewhere_count_too() -> None:
    with pytest.raises(
        PromotionRefused, match=r"before \(x-1\), with other versions .* continue there, .*--open-again"
    ):
        refuse_more_seeds(confirm(NEW, other_runs=(SCORED,)), None)
    assert collect_opening_names([confirm(NEW), confirm(NEW, other_runs=(SCORED,)), confirm(INTERRUPTED)]) == {"x-1"}


def test_newer_readings_take_the_places_of_the_runs_they_are_of() -> None:
    scored = make_run("new", opening="x-1", scored=True)
    assert confirm(FAILED, NEW).update_runs({"new": scored}).runs == (FAILED, scored)


def test_an_opening_that_was_continued_counts_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    assert count_openings(read_ledger(ledger)) == 0
    reasons = [
        "fmnist-sweep documented test: a run",
        "opening x-1 of the test images: runs a b",
        "opening x-1 of the test images, continued: runs b",
        "fmnist-sweep documented test: a run",
        "opening x-2 of the test images, forced: runs c",
    ]
    ledger.write_text("".join(json.dumps({"reason": reason}) + "\n" for reason in reasons))
    assert count_openings(read_ledger(ledger)) == 4


@pytest.mark.parametrize("content", [None, b"\0" * 100], ids=["gone", "damaged"])
def test_a_model_without_readable_predictions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(opening_module, "load_trial_splits", lambda *_: SimpleNamespace(validation=None))
    monkeypatch.setattr(prediction_files, "read_artifact", lambda *_: content)
    store: Any = None
    with pytest.raises(PromotionRefused, match=r"seed new \(run new\) has no readable predictions.npz any more"):
        fetch_confirmed_model(store, NEW, None, tmp_path)
