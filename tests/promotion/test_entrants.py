"""How many fresh seeds a finalist gets, beside a champion and without one."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.promotion.candidates import Candidates, PromotionTarget
from fmnist_sweep.promotion.champion import Champion
from fmnist_sweep.promotion.confirmation import EarlierPlan, read_confirmations
from fmnist_sweep.promotion.entrants import Entrant, choose_seeds, plan_groups
from fmnist_sweep.promotion.preparation import Promotion, PromotionRequest
from fmnist_sweep.report.terminal import View
from fmnist_sweep.tracking.registry import RegisteredVersion
from tests.promotion.test_confirmation import CONFIGURATION, make_confirmation
from tests.support.versions import connect_store

UNUSED: Any = None
VERSION = RegisteredVersion("1", None, "", "READY", {}, "", 0)


@pytest.mark.parametrize(
    ("typed", "earlier", "has_champion", "expected"),
    [
        ((), 0, True, 20),
        ((), 7, True, 7),  # an interrupted promotion keeps its plan
        ((), 5, False, 5),
        ((), 5, True, 20),  # it was begun as the first, and another became champion meanwhile
        (("promote.seeds=5",), 5, True, 5),
    ],
)
def test_an_interrupted_promotion_keeps_its_seeds_unless_they_were_for_nobody_to_beat(
    tmp_path: Path, typed: tuple[str, ...], earlier: int, has_champion: bool, expected: int
) -> None:
    base = compose_job(["search=grid", *typed]).config
    request = PromotionRequest(PromotionTarget(), base, None, False, False, "promote")
    promotion = Promotion(connect_store(tmp_path), request, UNUSED, UNUSED, UNUSED, [CONFIGURATION])
    champion = Champion(UNUSED, CONFIGURATION, None) if has_champion else None
    draft = Entrant(CONFIGURATION, base.promote.seeds or (20 if has_champion else base.promote.first_seeds))
    assert choose_seeds(promotion, draft, EarlierPlan(earlier), champion) == expected


@pytest.mark.parametrize(
    ("typed", "earlier", "open_again", "other", "looks"),
    [
        ((), 0, False, {}, (4, 6, 8, 11, 14, 18)),
        (("promote.seeds=20",), 0, False, {}, None),
        (("promote.include_validation=true",), 0, False, {}, None),
        ((), 7, False, {}, None),  # begun by a release without looks
        ((), 0, True, {}, None),
        ((), 0, False, {"data_tag": "d:2"}, None),  # there are no common validation images to look at
        ((), 0, False, {"data": {"include_validation": True}}, None),  # the champion was trained on them
    ],
)
def test_looks_are_planned_unless_a_number_of_seeds_is_asked_for_or_there_is_nothing_to_look_at(
    tmp_path: Path,
    typed: tuple[str, ...],
    earlier: int,
    open_again: bool,
    other: dict[str, Any],
    looks: tuple[int, ...] | None,
) -> None:
    base = compose_job(["search=grid", *typed]).config
    request = PromotionRequest(PromotionTarget(), base, None, False, open_again, "promote")
    view = View(Console(file=io.StringIO()), None)
    store = connect_store(tmp_path)
    make_confirmation(store, "another")
    trial = read_confirmations(store, CONFIGURATION, "another").runs[0]
    candidates = Candidates((trial,), "a sweep", 1, 1, ())
    promotion = Promotion(store, request, view, UNUSED, candidates, [CONFIGURATION])
    plan = EarlierPlan(earlier, None, "study", 6000)
    groups = plan_groups(
        promotion, [Entrant(CONFIGURATION, 20)], Champion(VERSION, replace(CONFIGURATION, **other), None), [plan]
    )
    assert (None if groups is None else groups.rule.looks) == looks
