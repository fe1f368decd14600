"""A proportion: its value, its interval, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.training.evaluation import compute_wilson_interval

# --- labels and blocks of labels


def test_a_proportion_says_its_value_and_interval() -> None:
    assert str(Proportion.from_counts(5474, 6000)) == "0.9123 [0.9049, 0.9192]"
    assert (Proportion.from_counts(3, 4).low, Proportion.from_counts(3, 4).high) == compute_wilson_interval(3, 4)


def test_a_proportion_of_nothing_knows_nothing() -> None:
    nothing = Proportion.from_counts(0, 0)
    assert np.isnan(nothing.value) and (nothing.low, nothing.high) == (0, 1)
    assert str(nothing) == "none to count"


def test_a_proportion_refuses_more_successes_than_cases() -> None:
    with pytest.raises(ValueError, match="1 out of 0"):
        Proportion.from_counts(1, 0)
