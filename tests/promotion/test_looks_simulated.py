"""Promotions with looks against known truth, with the fixed design of as many seeds as the power calculation asks for.

It prints the table of docs/promotion.md: make test ARGS="-m slow -s tests/promotion/test_looks_simulated.py".
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fmnist_sweep.analysis.comparison import count_seeds_needed
from fmnist_sweep.promotion.early_stop import correct_interval
from fmnist_sweep.promotion.foresight import DrawnDecision, World, draw_decision
from fmnist_sweep.promotion.looks import LookRule

GAIN = 0.005
CHAMPION_SEEDS = 5  # as the first champion has
DECISIONS = int(os.environ.get("SIMULATED_DECISIONS", "300"))  # in a row of the table; more to be surer


@dataclass(frozen=True)
class Row:
    """Many decisions about one truth: the right ones, and trainings as a share of the fixed design's."""

    found: float
    found_fixed: float
    trainings: float
    most_trainings: float
    early: list[DrawnDecision]
    level: float

    @property
    def coverage(self) -> float:
        """Share of the test's intervals after an early stop that hold the true gain."""
        tested = [each.tested for each in self.early if each.tested is not None]
        return sum(one.low <= one.truth <= one.high for one in tested) / max(1, len(tested))

    @property
    def corrected_coverage(self) -> float:
        """The same of the intervals that are corrected for the stop."""
        held = [
            low <= each.tested.truth <= high
            for each in self.early
            if each.tested is not None and each.early_stop is not None
            for low, high in [correct_interval(each.tested.low, each.tested.high, self.level, each.early_stop)]
        ]
        return sum(held) / max(1, len(held))


def make_rule(finalists: int) -> LookRule:
    need = count_seeds_needed(
        GAIN, images=10_000, min_gain=0.001, class_drop=0.05, power=0.85, comparisons=finalists, level=0.95
    )
    return LookRule(need.seeds, finalists, GAIN, 0.001, 0.05, 0.85, 0.95, 6000)


def simulate(finalists: int, gain: float, seed_sd: float, decisions: int) -> Row:
    """The last finalist truly gains this, the others nothing."""
    rule, world = make_rule(finalists), World([0.0] * (finalists - 1) + [gain], CHAMPION_SEEDS, seed_sd)
    looks, fixed = (
        [draw_decision(rule, world, random, has_looks=has_looks) for _ in range(decisions)]
        for has_looks, random in ((True, np.random.default_rng(1)), (False, np.random.default_rng(1)))
    )

    def rate(drawn: list[DrawnDecision]) -> float:
        right = [each.winner == finalists - 1 if gain else each.winner is not None for each in drawn]
        return sum(right) / len(right)

    shares = np.array([each.trainings for each in looks]) / fixed[0].trainings
    early = [each for each in looks if each.stop == "enough"]
    row = Row(rate(looks), rate(fixed), float(shares.mean()), float(np.quantile(shares, 0.9)), early, 1 - rule.error)
    print(
        f"| {finalists} | {100 * seed_sd:.2f} | {100 * gain:.1f} | {row.found:.1%} | {row.found_fixed:.1%} | "
        f"{row.trainings:.0%}, {row.most_trainings:.0%} | {len(early) / decisions:.0%} | "
        f"{row.coverage:.1%}, {row.corrected_coverage:.1%} (n={len(early)}) |"
    )
    assert max(shares) <= 1
    return row


def check(finalists: int, seed_sd: float, decisions: int, slack: float) -> None:
    """What the looks promise. slack: for the luck of so few decisions."""
    equal, half, point = (simulate(finalists, gain, seed_sd, decisions) for gain in (0.0, GAIN, 2 * GAIN))
    assert equal.found <= 0.05
    assert equal.trainings <= 0.55 + slack
    assert half.found >= (0.8 if half.found_fixed >= 0.8 + slack else half.found_fixed - 0.1) - slack
    assert point.found >= 0.9
    early = replace(half, early=[*half.early, *point.early])
    luck = 3 * math.sqrt(early.level * (1 - early.level) / len(early.early))
    assert early.corrected_coverage >= early.level - 0.02 - luck
    assert point.trainings <= 0.45 + slack


@pytest.mark.parametrize("finalists", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_equals_stay_out_a_gain_gets_in_and_either_costs_about_half_as_much(finalists: int) -> None:
    check(finalists, 0.003, 400, slack=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed_sd", [0.0015, 0.003, 0.005])
@pytest.mark.parametrize("finalists", [1, 2, 3, 4])
def test_it_holds_for_one_to_four_finalists_and_little_or_much_luck(finalists: int, seed_sd: float) -> None:
    check(finalists, seed_sd, DECISIONS, slack=0.05)
