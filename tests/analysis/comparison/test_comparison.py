"""Differences, standings, optimism and repeats: small cases by hand, the field's own functions, and refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fmnist_sweep.analysis.comparison import (
    Difference,
    compare_models,
    compare_over_seeds,
    compare_with_best,
    estimate_optimism,
    pool_seed_spread,
    shrink_best_accuracy,
    summarize_repeats,
)
from fmnist_sweep.training.evaluation import compute_wilson_interval

Booleans = NDArray[np.bool_]


def _pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[Booleans, Booleans]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a), np.array(b)


def _first(right: int, images: int = 1000) -> Booleans:
    """Right on the first images: of two such models the better is right wherever the worse is."""
    return np.arange(images) < right


def _none(index: int) -> None:
    return None


def _trial(correct: Any) -> Callable[[int], Booleans]:
    return lambda index: np.asarray(correct[index])


def test_a_difference_counts_the_images_only_one_got_right() -> None:
    found = compare_models(*_pair(800, 90, 50, 60))

    assert (found.only_a, found.only_b, found.images) == (90, 50, 1000)
    assert found.value == pytest.approx(0.04)
    # Bonett and Price by hand: 91 and 51 of 1002.
    half = 1.959964 * np.sqrt((142 / 1002 - (40 / 1002) ** 2) / 1002)
    assert (found.low, found.high) == pytest.approx((40 / 1002 - half, 40 / 1002 + half), abs=1e-7)
    assert found.verdict == "better"


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (5, 5), (3, 12), (90, 50), (400, 300)])
def test_its_p_is_that_of_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert compare_models(*_pair(10, only_a, only_b, 10)).p == pytest.approx(expected)


def test_the_other_way_round_is_the_same_with_another_sign() -> None:
    a, b = _pair(800, 90, 50, 60)
    one, other = compare_models(a, b, seed_sd=0.001), compare_models(b, a, seed_sd=0.001)

    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == other.p
    assert (one.verdict, other.verdict) == ("better", "worse")


@pytest.mark.parametrize("images", [1, 5, 1000])
def test_equal_predictions_cannot_be_told_apart_and_still_have_an_interval(images: int) -> None:
    found = compare_models(np.ones(images, dtype=bool), np.ones(images, dtype=bool))

    assert (found.value, found.p, found.verdict) == (0.0, 1.0, "cannot tell")
    assert -1 <= found.low < 0 < found.high <= 1


def test_seed_luck_widens_the_interval_and_never_makes_a_verdict_bolder() -> None:
    a, b = _pair(800, 90, 50, 60)
    found = [compare_models(a, b, seed_sd=sd) for sd in (0.0, 1e-9, 0.0025, 0.01, 0.1)]

    assert [one.p for one in found] == sorted(one.p for one in found)
    widths = [one.high - one.low for one in found]
    assert widths == sorted(widths)
    assert found[0].verdict == "better"
    assert found[-1].verdict == "cannot tell"


def test_more_comparisons_ask_for_more() -> None:
    a, b = _pair(800, 90, 50, 60)
    one, many = compare_models(a, b), compare_models(a, b, comparisons=100)

    assert many.p == pytest.approx(min(1.0, 100 * one.p))
    assert many.low < one.low < one.high < many.high
    assert (one.verdict, many.verdict) == ("better", "cannot tell")
    assert compare_models(a, b, comparisons=10_000).p == 1.0


def test_a_verdict_needs_both_the_test_and_the_interval() -> None:
    assert Difference(0.01, 0.001, 0.02, 0.06, 1000).verdict == "cannot tell"
    assert Difference(0.01, -0.001, 0.02, 0.04, 1000).verdict == "cannot tell"
    assert Difference(0.01, 0.001, 0.02, 0.04, 1000).verdict == "better"
    assert Difference(0.01, 0.001, 0.02, 0.04, 1000, level=0.99).verdict == "cannot tell"


def test_standings_keep_the_order_given_and_the_first_of_equals_leads() -> None:
    correct = [_first(500), _first(900), _first(900), _first(898)]
    found = compare_with_best([0.5, 0.9, 0.9, 0.898], 1000, _trial(correct))

    assert [standing.index for standing in found] == [0, 1, 2, 3]
    assert [standing.tied for standing in found] == [False, True, True, True]
    assert found[1].difference is None
    assert found[2].difference is not None
    assert (found[2].difference.value, found[2].difference.p) == (0.0, 1.0)
    assert (found[0].low, found[0].high) == compute_wilson_interval(500, 1000)


def test_a_difference_is_the_trial_less_the_best() -> None:
    found = compare_with_best([0.9, 0.88], 1000, _trial([_first(900), _first(880)]))[1]

    assert found.difference is not None
    assert (found.difference.value, found.difference.only_a, found.difference.only_b) == (-0.02, 0, 20)
    assert found.difference.verdict == "worse"
    assert not found.tied


def test_a_single_trial_is_the_best_and_nothing_is_looked_at() -> None:
    def refuse(index: int) -> Booleans:
        raise AssertionError(f"looked at {index}")

    (only,) = compare_with_best([0.9], 1000, refuse)
    assert (only.tied, only.difference) == (True, None)
    far = compare_with_best([0.9, 0.5, 0.1], 1000, refuse)
    assert [standing.tied for standing in far] == [True, False, False]
    assert far[1].difference is not None
    assert far[1].difference.only_a is None


def test_each_trial_is_looked_at_once_and_only_where_it_is_needed() -> None:
    correct = [_first(900), _first(100), _first(895), _first(890)]
    asked: list[int] = []

    def correct_of(index: int) -> Booleans:
        asked.append(index)
        return correct[index]

    compare_with_best([0.9, 0.1, 0.895, 0.89], 1000, correct_of)
    assert sorted(asked) == [0, 2, 3]


def test_missing_predictions_are_judged_by_the_worst_case() -> None:
    correct: list[Booleans | None] = [_first(900), _first(880), _first(100)]
    scores = [0.9, 0.88, 0.1]
    known = compare_with_best(scores, 1000, correct.__getitem__)
    assert [standing.tied for standing in known] == [True, False, False]

    for missing in ({1}, {0}, {0, 1, 2}):
        known_of = [None if index in missing else one for index, one in enumerate(correct)]
        found = compare_with_best(scores, 1000, known_of.__getitem__)
        assert [standing.tied for standing in found] == [True, True, False]
        assert found[1].difference is not None
        assert known[1].difference is not None
        assert (found[1].difference.only_a, found[1].difference.only_b) == (None, None)
        assert found[1].difference.low < known[1].difference.low < known[1].difference.high < found[1].difference.high


def test_the_worst_case_is_the_largest_discordance_the_two_counts_allow() -> None:
    found = compare_with_best([0.9, 0.88], 1000, _none)[1].difference
    a, b = _pair(780, 100, 120, 0)
    worst = compare_models(a, b)
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (worst.value, worst.low, worst.high, worst.p)


def test_thousands_of_trials_are_all_decided() -> None:
    accuracies = list(np.linspace(0.5, 0.92, 5000))
    found = compare_with_best(accuracies, 6000, _none, seed_sd=0.0025)
    assert [standing.index for standing in found] == list(range(5000))
    assert 0 < sum(standing.tied for standing in found) < 1000


def test_images_that_do_not_make_the_accuracy_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trial 1 scored 0\.8950, but the images it got right make 0\.4000"):
        compare_with_best([0.9, 0.895], 1000, _trial([_first(900), _first(400)]))
    with pytest.raises(ValueError, match="one has 1000 and the other 999"):
        compare_with_best([0.9, 0.895], 1000, _trial([_first(900), _first(895, 999)]))


def test_accuracies_rounded_to_four_places_are_taken() -> None:
    found = compare_with_best([0.9123, 0.912], 6000, _trial([_first(5474, 6000), _first(5472, 6000)]))
    assert all(standing.tied for standing in found)


def test_a_single_trial_has_no_optimism() -> None:
    found = estimate_optimism(_first(900)[None], repeats=100)
    assert (found.value, found.best, found.expected, found.trials) == (0.0, 0.9, 0.9, 1)


def test_a_winner_far_ahead_has_no_optimism() -> None:
    found = estimate_optimism(np.array([_first(500), _first(900), _first(100)]), repeats=100)
    assert (found.value, found.best) == (0.0, 0.9)


def test_optimism_is_repeatable_and_its_draw_follows_the_seed() -> None:
    correct = np.random.default_rng(0).random((20, 300)) < 0.9
    assert estimate_optimism(correct, repeats=250) == estimate_optimism(correct, repeats=250)
    assert estimate_optimism(correct, repeats=250) != estimate_optimism(correct, repeats=250, seed=1)
    assert estimate_optimism(correct, repeats=250).value > 0


@pytest.mark.parametrize("images", [2, 3, 10])
def test_optimism_of_a_handful_of_images_is_a_number(images: int) -> None:
    found = estimate_optimism(np.random.default_rng(0).random((4, images)) < 0.5, repeats=100)
    assert np.isfinite([found.value, found.sd, found.expected]).all()


def test_without_noise_nothing_is_shrunk_and_with_nothing_else_all_is() -> None:
    scores = [0.89, 0.9, 0.91, 0.92]
    assert shrink_best_accuracy(scores, 0.0) == pytest.approx(0.92)
    assert shrink_best_accuracy(scores, 1.0) == pytest.approx(0.905)
    assert 0.905 < shrink_best_accuracy(scores, 0.008) < 0.92
    assert shrink_best_accuracy([0.9], 0.01) == 0.9
    assert shrink_best_accuracy([0.9, 0.9, 0.9], 0.0) == pytest.approx(0.9)


def test_failed_trials_do_not_keep_the_best_from_being_shrunk() -> None:
    """Plain normal-normal shrinkage would take their distance for a spread of true accuracies."""
    scores = list(np.random.default_rng(0).normal(0.9, 0.003, 30))
    assert shrink_best_accuracy([*scores, *[0.1] * 10], 0.003) < max(scores) - 0.002


def test_repeats_are_summed_up_with_student() -> None:
    values = [0.91, 0.912, 0.917]
    found = summarize_repeats(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))

    assert found.n == 3
    assert (found.mean, found.sd) == pytest.approx((0.913, np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert str(found) == "0.9130 ± 0.0036 (n=3)"


def test_a_single_training_says_nothing_about_spread() -> None:
    found = summarize_repeats([0.9123])
    assert (found.n, found.sd, found.low, found.high) == (1, None, None, None)
    assert str(found) == "0.9123 (n=1)"


def test_the_pooled_sd_weighs_configurations_by_their_trainings() -> None:
    groups = [[0.90, 0.92], [0.5], [0.80, 0.81, 0.82, 0.83]]
    within = 2 * 0.01**2 + 2 * 0.015**2 + 2 * 0.005**2
    pooled = pool_seed_spread(groups)
    assert pooled is not None
    assert pooled.sd == pytest.approx(np.sqrt(within / 4))
    assert pooled.freedom == 4
    assert pool_seed_spread([[0.9], [0.8]]) is None
    assert pool_seed_spread([]) is None
    assert pool_seed_spread([[0.9]]) is None


def test_over_seeds_the_difference_is_that_of_the_means() -> None:
    random = np.random.default_rng(0)
    a, b = random.random((3, 800)) < 0.92, random.random((5, 800)) < 0.8
    one, other = compare_over_seeds(a, b), compare_over_seeds(b, a)

    assert one.value == pytest.approx(a.mean() - b.mean())
    assert one.verdict == "better"
    assert (one.value, one.low, one.high, one.p) == pytest.approx((-other.value, -other.high, -other.low, other.p))
    assert one.low < one.value < one.high
    assert (one.only_a, one.only_b) == (None, None)


def test_seeds_that_all_agree_leave_only_the_luck_of_the_images() -> None:
    a, b = _pair(800, 90, 50, 60)
    found, single = compare_over_seeds(np.stack([a] * 3), np.stack([b] * 3)), compare_models(a, b)
    assert (found.low, found.high) == pytest.approx((single.low, single.high), abs=1e-4)
    same = compare_over_seeds(np.stack([a] * 3), np.stack([a] * 3))
    assert (same.value, same.p, same.verdict) == (0.0, 1.0, "cannot tell")


def test_seeds_that_scatter_hide_a_difference_that_images_alone_would_show() -> None:
    a = np.array([_first(980), _first(900), _first(850)])
    b = np.array([_first(890), _first(870), _first(860)])
    assert compare_models(a[0], b[0]).verdict == "better"
    assert compare_over_seeds(a, b).verdict == "cannot tell"


TWO = np.zeros((2, 5), dtype=bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_models(TWO[0], TWO[0, :4]), "one has 5 and the other 4"),
        (lambda: compare_models(TWO[0, :0], TWO[0, :0]), "at least one image"),
        (lambda: compare_models(TWO, TWO), r"must have shape \(images,\)"),
        (lambda: compare_models(TWO[0].astype(int), TWO[0]), "must be boolean"),
        (lambda: compare_models(TWO[0], TWO[0], seed_sd=-0.1), "seed_sd must be a number from 0 up"),
        (lambda: compare_models(TWO[0], TWO[0], seed_sd=float("nan")), "seed_sd must be a number from 0 up"),
        (lambda: compare_models(TWO[0], TWO[0], comparisons=0), "comparisons must be at least 1"),
        (lambda: compare_models(TWO[0], TWO[0], level=95), "level must lie between 0 and 1"),
        (lambda: compare_with_best([], 10, _none), "at least one accuracy"),
        (lambda: compare_with_best([0.9, float("nan")], 10, _none), r"must lie in 0\.\.1"),
        (lambda: compare_with_best([91.0], 10, _none), r"must lie in 0\.\.1"),
        (lambda: compare_with_best([0.9], 0, _none), "at least one image"),
        (lambda: estimate_optimism(TWO[:0]), "at least one image"),
        (lambda: estimate_optimism(TWO[0]), r"must have shape \(trials, images\)"),
        (lambda: estimate_optimism(TWO, repeats=0), "100 repeats"),
        (lambda: estimate_optimism(TWO[:, :1]), "at least 2 images"),
        (lambda: shrink_best_accuracy([], 0.01), "at least one accuracy"),
        (lambda: shrink_best_accuracy([0.9], -1), "noise_sd must be a number from 0 up"),
        (lambda: summarize_repeats([]), "at least one accuracy"),
        (lambda: summarize_repeats([0.9], level=0), "level must lie between 0 and 1"),
        (lambda: pool_seed_spread([[0.9, 1.1]]), r"must lie in 0\.\.1"),
        (lambda: compare_over_seeds(TWO, TWO[:1]), r"two seeds or more, but got 2 and 1; .* single trainings"),
        (lambda: compare_over_seeds(TWO, TWO[:, :4]), "one has 5 and the other 4"),
        (lambda: compare_over_seeds(TWO[:0], TWO), "at least one image"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_it_imports_neither_scipy_nor_tensorflow_nor_mlflow() -> None:
    heavy = {"scipy", "tensorflow", "mlflow", "hydra"}
    code = f"import sys, fmnist_sweep.analysis.comparison; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
