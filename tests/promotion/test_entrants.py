"""How many fresh seeds a finalist gets, beside a champion and without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.promotion.candidates import PromotionTarget
from fmnist_sweep.promotion.champion import Champion
from fmnist_sweep.promotion.confirmation import EarlierPlan
from fmnist_sweep.promotion.entrants import Entrant, choose_seeds
from fmnist_sweep.promotion.preparation import Promotion, PromotionRequest
from tests.promotion.test_confirmation import CONFIGURATION
from tests.tracking.test_registry import connected

UNUSED: Any = None


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
    promotion = Promotion(connected(tmp_path), request, UNUSED, UNUSED, UNUSED, [CONFIGURATION])
    champion = Champion(UNUSED, CONFIGURATION, None) if has_champion else None
    draft = Entrant(CONFIGURATION, base.promote.seeds or (20 if has_champion else base.promote.first_seeds))
    assert choose_seeds(promotion, draft, EarlierPlan(earlier), champion) == expected
