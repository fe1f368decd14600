"""Comparisons of two models on the same images, and of all models with the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import NormalDist

import numpy as np

from fmnist_sweep.analysis.comparison.checks import (
    Booleans,
    check_accuracies,
    check_at_least,
    check_correctness,
    check_level,
    check_not_negative,
    check_same_images,
)
from fmnist_sweep.training.evaluation import compute_wilson_interval


@dataclass(frozen=True)
class Difference:
    """How much more accurate a is than b, on the same images.

    `value` is the accuracy of a minus that of b, `low` to `high` its interval of confidence `level`, `p` the
    two-sided probability of a difference like this between equals; both are corrected for the number of
    comparisons. `only_a` and `only_b` count the images that only one of the two got right; they are None where
    that is unknown (a worst case was assumed) or has no meaning (several seeds).
    """

    value: float
    low: float
    high: float
    p: float
    images: int
    only_a: int | None = None
    only_b: int | None = None
    level: float = 0.95

    @property
    def verdict(self) -> str:
        """One of "better" (a is), "worse" and "cannot tell": the test and the interval must agree."""
        if self.p > 1 - self.level:
            return "cannot tell"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "cannot tell"


@dataclass(frozen=True)
class TrialStanding:
    """How one trial compares with the best.

    `index` is its place in the sequence given, `low` to `high` the 95 % interval of its own accuracy (Wilson).
    `difference` is the trial minus the best, None for the best itself; where its `only_a` is None the trial's
    images were not looked at, and its p and interval are those of the worst case. `tied` says that it cannot be
    told apart from the best; the best itself is tied.
    """

    index: int
    accuracy: float
    low: float
    high: float
    difference: Difference | None
    tied: bool


def compare_models(
    correct_a: Booleans,
    correct_b: Booleans,
    *,
    seed_sd: float = 0.0,
    comparisons: int = 1,
    level: float = 0.95,
) -> Difference:
    """Compare two models by the images that only one of them got right.

    `correct_a` and `correct_b` are booleans of shape (n,), in the same order of images. With `seed_sd` 0 the
    verdict is about these two trained models; with the sd of a configuration's accuracy over training seeds it
    is about their configurations, and the variance grows by twice its square. A `seed_sd` measured on the same
    images already holds some of their noise, which errs towards "cannot tell". `comparisons` divides the error
    allowed (Bonferroni). Raises ValueError for arrays that do not fit and for settings out of range. Sources:
    the exact test of McNemar, Psychometrika 12 (1947), 153-157; the interval of Bonett and Price, "Adjusted
    Wald confidence interval for a difference of binomial proportions based on paired data", J. Educational and
    Behavioral Statistics 37 (2012), 479-488.
    """
    a, b = check_correctness(correct_a, "(images,)"), check_correctness(correct_b, "(images,)")
    check_same_images(len(a), len(b))
    only_a, only_b = _count_discordant(a, b)
    return _compute_difference(only_a, only_b, len(a), seed_sd=seed_sd, comparisons=comparisons, level=level)


def compare_with_best(
    accuracies: Sequence[float],
    images: int,
    read_correct: Callable[[int], Booleans | None],
    *,
    seed_sd: float = 0.0,
) -> list[TrialStanding]:
    """Decide for every trial, in the order given, whether it can be told apart from the best.

    The best is the first with the highest accuracy. `read_correct(i)` gives trial i's correctness on the same
    `images` images, shape (images,), or None where that is not known. It is asked at most once a trial, and
    only for those that the largest discordance possible (no image wrong in both models) would leave tied, and
    for the best where there are such; what is not known is judged by that worst case. Whoever leads was chosen
    for leading, so the error is divided by all n(n-1)/2 pairs, which holds whichever trial that is (the
    problem: J. C. Hsu, "Multiple comparisons: theory and methods", Chapman & Hall 1996). `seed_sd` is as in
    `compare_models`. Raises ValueError for no accuracies, accuracies outside 0..1 and correctness that does not fit.
    """
    correct_counts = _count_successes(accuracies, images)
    best = correct_counts.index(max(correct_counts))
    pairs = max(1, len(correct_counts) * (len(correct_counts) - 1) // 2)
    judge = partial(_compute_difference, images=images, seed_sd=seed_sd, comparisons=pairs)
    load = partial(_load_correctness, read_correct, accuracies, images)
    # Opened once, and not at all where the worst case decides every trial.
    load_best = cache(partial(load, best))

    def compare_to_best(index: int) -> Difference:
        worst = replace(
            judge(*_bound_discordant(correct_counts[index], correct_counts[best], images)), only_a=None, only_b=None
        )
        if (
            worst.verdict == "worse"
            or (best_correctness := load_best()) is None
            or (correctness := load(index)) is None
        ):
            return worst
        return judge(*_count_discordant(correctness, best_correctness))

    standings = []
    for index, count in enumerate(correct_counts):
        difference = None if index == best else compare_to_best(index)
        tied = difference is None or difference.verdict != "worse"
        standings.append(
            TrialStanding(index, float(accuracies[index]), *compute_wilson_interval(count, images), difference, tied)
        )
    return standings


def _compute_difference(
    only_a: int, only_b: int, images: int, *, seed_sd: float, comparisons: int, level: float = 0.95
) -> Difference:
    from scipy.special import bdtr

    check_not_negative("seed_sd", seed_sd)
    check_level(level)
    check_at_least("comparisons", comparisons, 1)
    # Bonett and Price: one image more for either side, without which equal predictions have no width.
    total = images + 2
    centre = (only_a - only_b) / total
    se = math.sqrt(((only_a + only_b + 2) / total - centre**2) / total + 2 * seed_sd**2)
    # Exact and two-sided; the binomial at one half is symmetric, so twice a tail is scipy.stats.binomtest's p.
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    if seed_sd > 0:
        # One more source of luck never makes a verdict bolder than the exact test without it.
        p = max(p, math.erfc(abs(centre) / se / math.sqrt(2)))
    half = -NormalDist().inv_cdf((1 - level) / 2 / comparisons) * se
    return Difference(
        value=(only_a - only_b) / images,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        p=min(1.0, p * comparisons),
        images=images,
        only_a=only_a,
        only_b=only_b,
        level=level,
    )


def _count_discordant(a: Booleans, b: Booleans) -> tuple[int, int]:
    return int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))


def _bound_discordant(right_a: int, right_b: int, images: int) -> tuple[int, int]:
    """Images only a and only b got right where as many as possible are wrong in just one, given each's count."""
    both = max(0, right_a + right_b - images)
    return right_a - both, right_b - both


def _load_correctness(
    read_correct: Callable[[int], Booleans | None], accuracies: Sequence[float], images: int, index: int
) -> Booleans | None:
    answer = read_correct(index)
    if answer is None:
        return None
    correct = check_correctness(answer, "(images,)")
    check_same_images(images, len(correct))
    # An accuracy may come rounded, but no further than by one image.
    if abs(float(correct.sum()) - accuracies[index] * images) > 1:
        raise ValueError(
            f"trial {index} scored {accuracies[index]:.4f}, but the images it got right make {correct.mean():.4f}; "
            "they are another model's, or of other images"
        )
    return correct


def _count_successes(accuracies: Sequence[float], images: int) -> list[int]:
    if images < 1:
        raise ValueError(f"accuracies must come from at least one image, but images is {images}")
    return [round(float(accuracy) * images) for accuracy in check_accuracies(accuracies)]
