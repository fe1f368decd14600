"""What the comparisons promise holds in simulated worlds where the truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from fmnist_sweep.analysis.comparison import (
    SEED_SD,
    compare_models,
    compare_over_seeds,
    compare_with_best,
    estimate_optimism,
    shrink_best_accuracy,
    summarize_repeats,
)
from fmnist_sweep.training.evaluation import compute_wilson_interval

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


def _answers(
    accuracies: Floats, images: int, random: np.random.Generator, difficulty: Floats | None = None
) -> Booleans:
    """Models of known accuracy on images they share; shape (models, images).

    An image is right where its difficulty, 0.9 of it (in variance) common to all models, is below the model's
    ability. As difficulty is standard normal, an ability of ndtri(accuracy) is right on that share of all images.
    Two models of accuracy 0.9 disagree on 6 % of the images.
    """
    if difficulty is None:
        difficulty = random.standard_normal(images)
    own = random.standard_normal((len(accuracies), images), dtype=np.float32)
    return np.asarray(np.sqrt(0.9) * difficulty + np.sqrt(0.1) * own < ndtri(accuracies)[:, None])


def _configuration(accuracies: Floats, difficulty: Floats, random: np.random.Generator) -> Booleans:
    """Several trainings of one configuration, with hard images of its own: 0.85 common, 0.07 its own."""
    images = len(difficulty)
    liked = np.sqrt(0.85) * difficulty + np.sqrt(0.07) * random.standard_normal(images)
    own = random.standard_normal((len(accuracies), images), dtype=np.float32)
    return np.asarray(liked + np.sqrt(0.08) * own < ndtri(accuracies)[:, None])


def _at_least(count: int, studies: int, rate: float) -> None:
    """One simulation in a thousand would fall below what this allows, were the rate just as promised."""
    assert count >= binom.ppf(0.001, studies, rate), f"{count / studies:.4f} of {studies}, promised {rate}"


def _at_most(count: int, studies: int, rate: float) -> None:
    assert count <= binom.ppf(0.999, studies, rate), f"{count / studies:.4f} of {studies}, promised {rate}"


def _lookup(correct: Booleans) -> Callable[[int], Booleans]:
    return lambda index: correct[index]


@pytest.mark.parametrize("images", [200, 2000])
@pytest.mark.parametrize("accuracy", [0.85, 0.9, 0.95])
def test_the_interval_of_one_accuracy_holds_the_true_one(accuracy: float, images: int) -> None:
    random = np.random.default_rng(1)
    covered = 0
    for count in random.binomial(images, accuracy, 4000):
        low, high = compute_wilson_interval(int(count), images)
        covered += low <= accuracy <= high
    _at_least(covered, 4000, 0.93)


@pytest.mark.parametrize("images", [200, 2000])
@pytest.mark.parametrize(("one", "other"), [(0.85, 0.85), (0.9, 0.91), (0.95, 0.92)])
def test_the_interval_of_two_models_holds_the_true_difference(one: float, other: float, images: int) -> None:
    random = np.random.default_rng(2)
    studies, covered = 2000, 0
    for _ in range(studies):
        a, b = _answers(np.array([one, other]), images, random)
        found = compare_models(a, b)
        covered += found.low <= one - other <= found.high
    _at_least(covered, studies, 0.93)


@pytest.mark.parametrize("seed_sd", [0.0025, 0.01])
def test_with_seed_luck_the_interval_holds_the_difference_of_the_configurations(seed_sd: float) -> None:
    random = np.random.default_rng(3)
    studies, covered = 2000, 0
    for _ in range(studies):
        a, b = _answers(np.array([0.92, 0.9]) + seed_sd * random.standard_normal(2), 1000, random)
        found = compare_models(a, b, seed_sd=seed_sd)
        covered += found.low <= 0.02 <= found.high
    _at_least(covered, studies, 0.93)


@pytest.mark.parametrize("seed_luck", [0.0, SEED_SD])
@pytest.mark.parametrize("trials", [2, 20])
def test_among_equals_hardly_ever_is_anyone_told_apart(trials: int, seed_luck: float) -> None:
    random = np.random.default_rng(4)
    studies, wrong = 600, 0
    for _ in range(studies):
        correct = _answers(0.9 + seed_luck * random.standard_normal(trials), 2000, random)
        found = compare_with_best(list(correct.mean(axis=1)), 2000, _lookup(correct), seed_sd=seed_luck)
        wrong += not all(standing.tied for standing in found)
    _at_most(wrong, studies, 0.05)


def test_luck_of_seeds_passes_for_skill_where_it_is_left_out() -> None:
    """The reason for seed_sd: on many images the luck of seeds is easily seen, and is not skill."""
    random = np.random.default_rng(5)
    studies, wrong = 100, {0.0: 0, 0.005: 0}
    for _ in range(studies):
        correct = _answers(0.9 + 0.005 * random.standard_normal(10), 6000, random)
        for seed_sd in wrong:
            found = compare_with_best(list(correct.mean(axis=1)), 6000, _lookup(correct), seed_sd=seed_sd)
            wrong[seed_sd] += not all(standing.tied for standing in found)
    assert wrong[0.0] > 40
    _at_most(wrong[0.005], studies, 0.05)


@pytest.mark.parametrize(("trials", "seed_sd", "power"), [(2, SEED_SD, 0.9), (10, SEED_SD, 0.8), (50, 0.0, 0.9)])
def test_two_points_on_six_thousand_images_are_told_apart(trials: int, seed_sd: float, power: float) -> None:
    random = np.random.default_rng(6)
    studies, found = 100, 0
    for _ in range(studies):
        true = np.full(trials, 0.92)
        true[-1] = 0.9
        correct = _answers(true + seed_sd * random.standard_normal(trials), 6000, random)
        found += not compare_with_best(list(correct.mean(axis=1)), 6000, _lookup(correct), seed_sd=seed_sd)[-1].tied
    _at_least(found, studies, power)


def test_deciding_without_looking_never_contradicts_looking() -> None:
    random = np.random.default_rng(7)
    unlooked = 0
    for seed_sd in (0.0, SEED_SD):
        for _ in range(20):
            correct = _answers(random.uniform(0.8, 0.93, 30), 3000, random)
            asked: list[int] = []
            best = int(correct.mean(axis=1).argmax())
            settings = {"seed_sd": seed_sd, "comparisons": 30 * 29 // 2}
            for standing in compare_with_best(
                list(correct.mean(axis=1)), 3000, _noting(correct, asked), seed_sd=seed_sd
            ):
                if standing.index == best:
                    continue
                looked = compare_models(correct[standing.index], correct[best], **settings)  # type: ignore[arg-type]
                assert standing.tied == (looked.verdict != "worse")
                unlooked += standing.index not in asked
    assert unlooked > 200


def _noting(correct: Booleans, asked: list[int]) -> Callable[[int], Booleans]:
    def correct_of(index: int) -> Booleans:
        asked.append(index)
        return np.asarray(correct[index])

    return correct_of


def test_of_a_thousand_trials_far_apart_few_are_looked_at() -> None:
    random = np.random.default_rng(8)
    correct = _answers(random.uniform(0.5, 0.93, 1000), 6000, random)
    asked: list[int] = []
    compare_with_best(list(correct.mean(axis=1)), 6000, _noting(correct, asked), seed_sd=SEED_SD)
    assert len(asked) == len(set(asked)) < 120


def _flattery(spread: float, studies: int, trials: int = 30, images: int = 1500) -> tuple[Floats, Floats, Floats]:
    """True and estimated excess of the best, and by how many sd the expected accuracy misses the true one."""
    random = np.random.default_rng(9)
    true, estimated, missed = np.empty((3, studies))
    for study in range(studies):
        abilities = np.clip(0.9 + spread * random.standard_normal(trials), 0.5, 0.99)
        correct = _answers(abilities, images, random)
        scores = correct.mean(axis=1)
        winner = int(scores.argmax())
        found = estimate_optimism(correct, repeats=200, seed=study)
        true[study] = scores[winner] - abilities[winner]
        estimated[study] = found.value
        missed[study] = (found.expected - abilities[winner]) / found.sd
    return true, estimated, missed


def test_among_equals_the_optimism_found_is_the_true_one() -> None:
    true, estimated, missed = _flattery(0.0, 150)
    error = np.hypot(true.std(), estimated.std()) / np.sqrt(len(true))
    assert abs(estimated.mean() - true.mean()) < 3.3 * error
    assert estimated.mean() > 20 * error / 3.3
    _at_least(int((np.abs(missed) < 1.96).sum()), len(missed), 0.93)


@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_among_unequals_the_optimism_found_errs_upwards_by_about_half_at_most(spread: float) -> None:
    true, estimated, missed = _flattery(spread, 150)
    error = np.hypot(true.std(), estimated.std()) / np.sqrt(len(true))
    assert true.mean() - 3.3 * error < estimated.mean() < 1.5 * true.mean() + 3.3 * error
    _at_least(int((np.abs(missed) < 1.96).sum()), len(missed), 0.93)


@pytest.mark.parametrize("failed", [0.0, 0.3])
@pytest.mark.parametrize("spread", [0.0, 0.003, 0.01])
@pytest.mark.parametrize("trials", [5, 50])
def test_the_shrunk_best_is_nearer_the_truth_than_the_raw_best(trials: int, spread: float, failed: float) -> None:
    """In bias; in root mean square few trials far apart may cost a little. Failed trials change nothing of that."""
    random = np.random.default_rng(10)
    raw, better = np.empty((2, 2000))
    for study in range(2000):
        true = 0.9 + spread * random.standard_normal(trials)
        true[random.random(trials) < failed] = 0.1
        seen = true + 0.004 * random.standard_normal(trials)
        raw[study] = seen.max() - true[seen.argmax()]
        better[study] = shrink_best_accuracy(list(np.clip(seen, 0, 1)), 0.004) - true[seen.argmax()]
    assert abs(better.mean()) < raw.mean()
    assert np.sqrt((better**2).mean()) < 1.1 * np.sqrt((raw**2).mean())


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_interval_over_seeds_holds_the_true_mean(seeds: int) -> None:
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(4000):
        found = summarize_repeats(list(0.9 + 0.0025 * random.standard_normal(seeds)))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.9 <= found.high
    _at_least(covered, 4000, 0.93)


def _promotions(seeds: tuple[int, int], luck: tuple[float, float], gain: float, studies: int) -> tuple[int, int]:
    """How often a, better by `gain`, is found better, and how often the interval holds the gain."""
    random = np.random.default_rng(12)
    better = covered = 0
    for _ in range(studies):
        difficulty = random.standard_normal(1500)
        a = _configuration(0.9 + gain + luck[0] * random.standard_normal(seeds[0]), difficulty, random)
        b = _configuration(0.9 + luck[1] * random.standard_normal(seeds[1]), difficulty, random)
        found = compare_over_seeds(a, b)
        better += found.verdict == "better"
        covered += found.low <= gain <= found.high
    return better, covered


@pytest.mark.parametrize("luck", [(0.0, 0.0), (0.0025, 0.0025), (0.01, 0.01), (0.001, 0.006)])
@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (10, 10), (3, 10)])
def test_an_equal_configuration_is_hardly_ever_found_better(seeds: tuple[int, int], luck: tuple[float, float]) -> None:
    better, covered = _promotions(seeds, luck, 0.0, 400)
    _at_most(better, 400, 0.05)
    _at_least(covered, 400, 0.93)


@pytest.mark.slow
@pytest.mark.parametrize("luck", [(0.0, 0.0), (0.0025, 0.0025), (0.01, 0.01), (0.001, 0.006)])
@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (10, 10), (3, 10)])
def test_an_equal_configuration_is_hardly_ever_found_better_at_length(
    seeds: tuple[int, int], luck: tuple[float, float]
) -> None:
    better, covered = _promotions(seeds, luck, 0.0, 3000)
    _at_most(better, 3000, 0.05)
    _at_least(covered, 3000, 0.93)


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_configuration_better_by_two_points_is_found_better(seeds: int) -> None:
    better, covered = _promotions((seeds, seeds), (0.0025, 0.0025), 0.02, 200)
    _at_least(better, 200, 0.8)
    _at_least(covered, 200, 0.93)
