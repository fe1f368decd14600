"""The interval of a gain after an early stop: lower where the stop took luck, the same where it did not."""

from __future__ import annotations

import pytest

from fmnist_sweep.promotion.early_stop import CorrectedGain, EarlyStop, correct_interval

LOW, HIGH = 0.001, 0.011


def test_a_gain_far_above_what_the_look_asked_for_keeps_its_interval() -> None:
    low, high = correct_interval(LOW, HIGH, 0.95, EarlyStop(threshold=-0.05, look_sd=0.003, common=4e-6))
    assert (low, high) == pytest.approx((LOW, HIGH), abs=1e-5)


def test_without_common_luck_there_is_nothing_to_correct() -> None:
    low, high = correct_interval(LOW, HIGH, 0.95, EarlyStop(threshold=0.02, look_sd=0.003, common=0.0))
    assert (low, high) == pytest.approx((LOW, HIGH), abs=1e-5)


def test_a_stop_that_took_luck_moves_the_interval_down_and_the_more_the_more_luck_it_took() -> None:
    near, far = (
        correct_interval(LOW, HIGH, 0.95, EarlyStop(threshold=threshold, look_sd=0.003, common=4e-6))
        for threshold in (0.006, 0.012)
    )
    assert far[0] < near[0] < LOW
    assert far[1] < near[1] < HIGH
    assert all(low < high for low, high in (near, far))


def test_the_sentence_has_the_interval_and_says_what_decides() -> None:
    text = CorrectedGain("a name", 6, -0.0012, 0.009, 0.975).text
    assert "the 97.5% interval of the gain of a name is [-0.12, +0.90] points" in text
    assert text.endswith("the decision is by the interval of the test itself.")
