"""The account of the test images keeps its promise in simulated histories, and what it costs in power.

It prints the tables of docs/promotion.md: make test ARGS="-s tests/promotion/test_account_simulated.py".
"""

from __future__ import annotations

import numpy as np
import pytest

from fmnist_sweep.analysis.comparison import count_seeds_needed
from fmnist_sweep.promotion.spending import DecisionShare
from tests.support.histories import IMAGES, LEVEL, MIN_GAIN, Rule, simulate_histories

DECISIONS = 50
HARMONIC = sum(1 / number for number in range(1, DECISIONS + 1))
RULES: dict[str, Rule] = {
    "none: each at 95%": lambda number: 0.5,
    "1 / 50 each": lambda number: 1 / DECISIONS,
    "1 / n, over 50": lambda number: 1 / number / HARMONIC,
    "1 / (n (n + 1))": lambda number: DecisionShare(number).fraction,
}
CHOSEN = "1 / (n (n + 1))"


def rate(promoted: np.ndarray) -> float:
    """The share of histories with a promotion."""
    return float(promoted.any(axis=1).mean())


def test_fifty_decisions_among_equals_promote_in_at_most_one_history_of_twenty() -> None:
    for seeds in (5, 15, 30):
        histories = simulate_histories(20_000, DECISIONS, seeds=seeds)
        rates = {name: rate(histories.find_promoted(rule)) for name, rule in RULES.items()}
        rates["the ladder"] = rate(histories.find_promoted_by_ladder())
        print(
            f"{seeds} seeds each, 50 decisions among equals:",
            {name: f"{100 * one:.1f}%" for name, one in rates.items()},
        )
        assert rates[CHOSEN] <= 0.05
        # It is not for nothing.
        assert rates["none: each at 95%"] > 0.15
        assert rates["the ladder"] > 0.5


def test_whoever_goes_on_from_the_luckiest_challenger_gains_little() -> None:
    for inherited in (0.5, 0.9):
        histories = simulate_histories(20_000, DECISIONS, seeds=15, inherited=inherited)
        one, none = (rate(histories.find_promoted(RULES[name])) for name in (CHOSEN, "none: each at 95%"))
        print(f"{inherited} inherited from the luckiest: {100 * one:.1f}%, without an account {100 * none:.1f}%")
        assert one < none / 3


def count_seeds(number: int, gain: float, rule: Rule) -> int:
    """Seeds of one finalist that find a true gain with 85% at this decision; 101 if 100 are not enough."""
    level = 1 - 2 * (1 - LEVEL) * rule(number)
    power = count_seeds_needed(
        gain, images=IMAGES, min_gain=MIN_GAIN, class_drop=0.05, power=0.85, level=level, most=101
    )
    return power.seeds


def test_the_first_decision_costs_nothing_and_later_ones_more_seeds_or_a_higher_gain() -> None:
    numbers = (1, 2, 3, 5, 10, 20, 50)
    for name, rule in RULES.items():
        seeds = {
            f"{100 * gain:.1f}": [count_seeds(number, gain, rule) for number in numbers] for gain in (0.005, 0.008)
        }
        print(f"{name}: seeds that find a gain at decisions {numbers}: {seeds}")
    chosen, none = RULES[CHOSEN], RULES["none: each at 95%"]
    assert count_seeds(1, 0.005, chosen) == count_seeds(1, 0.005, none)
    assert count_seeds(10, 0.005, chosen) <= 100 < count_seeds(20, 0.005, chosen)  # used up for half a point
    assert count_seeds(DECISIONS, 0.008, chosen) <= 20


@pytest.mark.parametrize("gain", [0.005, 0.008])
def test_a_gain_is_found_as_often_as_its_seeds_are_counted_for(gain: float) -> None:
    found: dict[str, list[str]] = {}
    for name, rule in RULES.items():
        promoted = simulate_histories(20_000, DECISIONS, seeds=15, gain=gain).find_promoted(rule)
        found[name] = [f"{100 * promoted[:, number - 1].mean():.0f}%" for number in (1, 2, 3, 5, 10, 20, 50)]
    print(f"a gain of {100 * gain:.1f} points, 15 seeds, found at decisions 1, 2, 3, 5, 10, 20, 50:", found)
    histories = simulate_histories(20_000, 3, seeds=30, gain=0.005)
    assert histories.find_promoted(RULES[CHOSEN])[:, 2].mean() > 0.85  # of 30 seeds, as counted for the third
