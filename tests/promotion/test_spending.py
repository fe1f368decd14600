"""How decisions share the error of a whole history."""

from __future__ import annotations

import pytest

from fmnist_sweep.promotion.spending import FIRST_SHARE, DecisionShare


def test_the_first_decision_is_made_at_the_level_itself() -> None:
    assert FIRST_SHARE.correct_level(0.95) == 0.95
    assert FIRST_SHARE.correct_level(0.9) == 0.9


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_all_decisions_together_never_spend_more_than_the_error_of_the_history(level: float) -> None:
    spent = 0.0
    for number in range(1, 2000):
        share = DecisionShare(number)
        spent += share.compute_error(level)
        assert spent + (1 - level) * share.remainder == pytest.approx(1 - level)
        # Of the two sides of its interval one does harm.
        assert (1 - share.correct_level(level)) / 2 == pytest.approx(share.compute_error(level))
