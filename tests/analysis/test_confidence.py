"""Calibration is computed as by hand and judged against chance."""

from __future__ import annotations

import numpy as np
import pytest

from fmnist_sweep.analysis.confidence import measure_calibration
from fmnist_sweep.analysis.proportions import Proportion
from tests.support.predictions import SAID, TRUE, draw_cases, make_probabilities


def test_calibration_of_a_small_case_is_as_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    found = measure_calibration(labels, probabilities, bins=2)

    (only,) = found.bins
    assert (only.low, only.high, only.count) == (0.5, 1, 4)
    assert only.confidence == pytest.approx(0.75)
    assert only.accuracy == Proportion.from_counts(3, 4)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.brier == pytest.approx(2 * (0.01 + 0.04 + 0.49 + 0.16) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.6]).mean())
    assert found.overconfidence == pytest.approx(0, abs=1e-12)

    # Four bins: 0.5 to 0.75 holds 0.7 (wrong) and 0.6 (right), 0.75 to 1 holds 0.9 and 0.8 (both right).
    finer = measure_calibration(labels, probabilities, bins=4)
    assert [(b.low, b.count) for b in finer.bins] == [(0.5, 2), (0.75, 2)]
    assert finer.ece == pytest.approx((abs(0.5 - 0.65) + abs(1 - 0.85)) / 2)


def test_bins_are_closed_above_and_only_those_with_images_are_listed() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]])
    found = measure_calibration(np.array([0, 0, 0]), probabilities, bins=4)
    assert [(b.low, b.high, b.count) for b in found.bins] == [(0.25, 0.5, 1), (0.5, 0.75, 1), (0.75, 1.0, 1)]


def test_a_calibrated_model_shows_the_error_that_chance_predicts_and_not_none() -> None:
    found = measure_calibration(*draw_cases(6000))
    assert 0.003 < found.ece_if_calibrated < 0.03
    assert abs(found.ece - found.ece_if_calibrated) < 4 * found.ece_if_calibrated_sd
    assert abs(found.overconfidence) < 0.02
    inside = [b.accuracy.low <= b.confidence <= b.accuracy.high for b in found.bins]
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize(("sharp", "sign"), [(2.0, 1), (0.5, -1)])
def test_over_and_underconfidence_stand_out_from_chance(sharp: float, sign: int) -> None:
    calibrated, found = measure_calibration(*draw_cases(6000)), measure_calibration(*draw_cases(6000, sharp=sharp))
    assert found.ece > found.ece_if_calibrated + 10 * found.ece_if_calibrated_sd
    assert sign * found.overconfidence > 0.03
    assert found.ece == pytest.approx(sign * found.overconfidence, abs=0.01)
    assert found.accuracy == calibrated.accuracy
    assert found.brier > calibrated.brier and found.nll > calibrated.nll


def test_the_error_of_a_calibrated_model_is_what_repeated_draws_show() -> None:
    random = np.random.default_rng(4)
    confidence = random.uniform(0.5, 1, 400)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = measure_calibration(np.zeros(400, int), probabilities)
    drawn = [measure_calibration((random.random(400) > confidence).astype(int), probabilities).ece for _ in range(60)]
    assert found.ece_if_calibrated == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 60**0.5)
    assert found.ece_if_calibrated_sd == pytest.approx(np.std(drawn), rel=0.4)


def test_the_bias_of_the_error_shrinks_with_more_images() -> None:
    few, many = (measure_calibration(*draw_cases(n)).ece_if_calibrated for n in (300, 12_000))
    assert few > 4 * many


def test_the_same_predictions_are_judged_the_same() -> None:
    assert measure_calibration(*draw_cases(300)) == measure_calibration(*draw_cases(300))


def test_a_sure_mistake_has_a_finite_loss() -> None:
    found = measure_calibration(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], np.float32))
    assert found.nll == pytest.approx(-np.log(1e-7) / 2)
    assert found.brier == 1
    assert found.overconfidence == 0.5


def test_calibration_refuses_no_bins() -> None:
    with pytest.raises(ValueError, match="bins is 0"):
        measure_calibration(TRUE, make_probabilities(SAID), bins=0)
