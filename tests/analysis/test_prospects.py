"""The gain to expect of more trials: small cases by hand, and known distributions by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.analysis.prospects import (
    LEAST_TRIALS,
    count_hourly_trials,
    estimate_gain,
    measure_busy_seconds,
)

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]

EXPONENTIAL: Draw = lambda random, shape: random.exponential(0.01, shape)  # noqa: E731
# Those that a bound makes lighter, and one in which a fifth of the trials diverges.
LIGHTER: dict[str, Draw] = {
    "normal": lambda random, shape: 0.5 + random.normal(0, 0.01, shape),
    "uniform": lambda random, shape: random.uniform(0.5, 0.6, shape),
    "beta": lambda random, shape: random.beta(8, 2, shape),
    "quadratic loss in three settings": lambda random, shape: 0.9 - 0.1 * (random.random((3, *shape)) ** 2).sum(0),
    "diverging": lambda random, shape: np.where(random.random(shape) < 0.2, 0.1, 0.5 + random.normal(0, 0.01, shape)),
}


def _simulate(draw: Draw, count: int, further: int, studies: int = 1500) -> tuple[float, float]:
    """The means of the estimated gain and of the true one."""
    random = np.random.default_rng(count)
    accuracies = draw(random, (studies, count + further))
    estimates = [estimate_gain(row[:count].tolist(), further) or 0.0 for row in accuracies]
    return float(np.mean(estimates)), float((accuracies.max(axis=1) - accuracies[:, :count].max(axis=1)).mean())


@pytest.mark.parametrize(("count", "further"), [(8, 8), (12, 48), (20, 20), (50, 25)])
def test_the_estimate_is_right_on_average_for_an_exponential_tail(count: int, further: int) -> None:
    estimate, _ = _simulate(EXPONENTIAL, count, further, 4000)
    gain = 0.01 * sum(
        1 / number for number in range(count + 1, count + further + 1)
    )  # Rényi: of the maximum of n, H(n)
    assert estimate == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("name", LIGHTER)
@pytest.mark.parametrize(("count", "further"), [(8, 4), (12, 12), (20, 20), (50, 50)])
def test_for_a_lighter_tail_it_errs_upwards_and_by_less_than_three_times(name: str, count: int, further: int) -> None:
    estimate, gain = _simulate(LIGHTER[name], count, further)
    assert 1.0 * gain < estimate < 3.2 * gain


def test_many_trials_more_gain_more_but_never_beyond_all_images_right() -> None:
    accuracies = np.random.default_rng(1).normal(0.9, 0.01, 20).tolist()
    gains = [estimate_gain(accuracies, further) or 0.0 for further in (0, 1, 10, 100, 1000, 100_000)]
    assert gains[0] == 0
    assert gains == sorted(gains)
    assert gains[-1] <= 1 - max(accuracies)
    assert estimate_gain([0.1 * place for place in range(1, 10)], 10**9) == pytest.approx(0.1)


def test_the_estimate_of_a_small_case_by_hand() -> None:
    # Of 8 trials 6 are left out. The best is among them in 6/8 of the ways, the second, too, in 6/8 x 5/7, ...
    accuracies = [0.90, 0.80, 0.70, 0.70, 0.70, 0.70, 0.70, 0.70]
    past_gain = 0.1 * 6 / 8 + 0.1 * 6 / 8 * 5 / 7
    slope = past_gain / sum(1 / number for number in range(3, 9))
    assert estimate_gain(accuracies, 1) == pytest.approx(slope / 9)
    assert estimate_gain(list(reversed(accuracies)), 1) == pytest.approx(slope / 9)


def test_a_failed_trial_is_a_draw_that_gained_nothing() -> None:
    accuracies = [0.90, 0.88, 0.87, 0.86, 0.85, 0.84]
    with_failures = estimate_gain([*accuracies, None, None], 8)
    assert with_failures is not None
    assert with_failures == pytest.approx(estimate_gain([*accuracies, 0.84, 0.84], 8))


@pytest.mark.parametrize("accuracies", [[], [0.9] * (LEAST_TRIALS - 1), [*([0.9] * (LEAST_TRIALS - 1)), None, None]])
def test_of_too_few_trials_nothing_is_said(accuracies: list[float | None]) -> None:
    assert estimate_gain(accuracies, 5) is None


def test_equal_trials_promise_nothing() -> None:
    assert estimate_gain([0.9] * 12, 100) == 0


@pytest.mark.parametrize(
    ("ends", "trials"),
    [
        ([], 0),
        ([0.0], 0),
        ([60.0, 120.0], 60),  # at the same rate
        ([600.0 * place for place in range(1, 6)], 6),
        ([600.0 * place for place in range(1, 7)], 6),
        ([600.0 * place for place in range(1, 31)], 6),  # those of the last hour alone
        ([10.0, 20.0, 30.0, 40.0, 9000.0], 1),
    ],
)
def test_an_hour_has_as_many_trials_as_the_last_one(ends: list[float], trials: int) -> None:
    assert count_hourly_trials(ends) == trials


@pytest.mark.parametrize(
    ("intervals", "ends"),
    [
        ([], []),
        ([(5_000, 15_000)], [10]),
        ([(0, 10_000), (10_000, 20_000)], [10, 20]),
        ([(0, 10_000), (1_000_000, 1_005_000)], [10, 15]),  # the pause between two sessions is no time
        ([(0, 10_000), (0, 10_000), (5_000, 30_000)], [10, 10, 30]),  # side by side
        ([(7_000, 7_000), (0, 10_000)], [7, 10]),
    ],
)
def test_the_clock_of_a_sweep_runs_while_a_trial_does(intervals: list[tuple[int, int]], ends: list[float]) -> None:
    assert measure_busy_seconds(intervals) == pytest.approx(ends)


@pytest.mark.parametrize("name", ["normal", "uniform", "quadratic loss in three settings", "diverging"])
def test_a_search_that_ends_at_the_first_low_estimate_gives_up_about_the_gain_that_it_may(name: str) -> None:
    random, threshold, given_up = np.random.default_rng(3), 0.01, []
    for _ in range(150):
        accuracies = LIGHTER[name](random, (300,))
        count = next(n for n in range(12, 301) if (estimate_gain(accuracies[:n].tolist(), 50) or 0.0) < threshold)
        further = LIGHTER[name](random, (100, 50)).max(axis=1)
        given_up.append(float(np.maximum(0.0, further - accuracies[:count].max()).mean()))
    assert np.mean(given_up) < 1.3 * threshold
