"""Which of several scores are really apart: paired tests, the winner's luck, repeated seeds.

Two kinds of luck stand behind an accuracy. The images are a sample: all models are scored on the same ones, so
what they share cancels in a difference, and only the images on which two models disagree count. And training is
a draw: the same configuration trained with another seed scores otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.evaluate import wilson

# The sd of one configuration's accuracy over training seeds, assumed where no configuration was repeated.
SEED_SD = 0.0025

Booleans = NDArray[np.bool_]


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
class Standing:
    """Where one trial stands beside the best.

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


@dataclass(frozen=True)
class Optimism:
    """By how much the best of several scores flatters its model.

    `best` is the highest accuracy seen, `value` its expected excess over what the winner scores on other
    images, and `expected` is `best - value`. `sd` is that of `expected`, on the wide side: it is taken from the
    images that a resample leaves out, about a third.
    """

    value: float
    sd: float
    best: float
    expected: float
    trials: int


@dataclass(frozen=True)
class Repeats:
    """One configuration's accuracies over n training seeds.

    `sd` is that of a single training; `low` to `high` is the interval of the mean (Student's t). All three are
    None for a single training, which says nothing about spread.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """The mean, the sd of a single training and the count, as in `0.9123 ± 0.0021 (n=3)`."""
        spread = "" if self.sd is None else f" ± {self.sd:.4f}"
        return f"{self.mean:.4f}{spread} (n={self.n})"

    def __str__(self) -> str:
        return self.text()


def paired(
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
    a, b = _checked(correct_a, "(images,)"), _checked(correct_b, "(images,)")
    _same_images(len(a), len(b))
    only_a, only_b = _discordant(a, b)
    return _difference(only_a, only_b, len(a), seed_sd=seed_sd, comparisons=comparisons, level=level)


def standings(
    accuracies: Sequence[float],
    images: int,
    correct_of: Callable[[int], Booleans | None],
    *,
    seed_sd: float = 0.0,
) -> list[Standing]:
    """Say for every trial, in the order given, whether it can be told apart from the best.

    The best is the first with the highest accuracy. `correct_of(i)` gives trial i's correctness on the same
    `images` images, shape (images,), or None where that is not known. It is asked at most once a trial, and
    only for those that the largest discordance possible (no image wrong in both models) would leave tied, and
    for the best where there are such; what is not known is judged by that worst case. Whoever leads was chosen
    for leading, so the error is divided by all n(n-1)/2 pairs, which holds whichever trial that is (the
    problem: J. C. Hsu, "Multiple comparisons: theory and methods", Chapman & Hall 1996). `seed_sd` is as in
    `paired`. Raises ValueError for no accuracies, accuracies outside 0..1 and correctness that does not fit.
    """
    right = _successes(accuracies, images)
    best = right.index(max(right))
    pairs = max(1, len(right) * (len(right) - 1) // 2)
    judge = partial(_difference, images=images, seed_sd=seed_sd, comparisons=pairs)
    load = partial(_loaded, correct_of, accuracies, images)
    # Opened once, and not at all where the worst case decides every trial.
    leader = cache(partial(load, best))

    def beside_best(index: int) -> Difference:
        worst = replace(judge(*_most_discordant(right[index], right[best], images)), only_a=None, only_b=None)
        if worst.verdict == "worse" or (theirs := leader()) is None or (own := load(index)) is None:
            return worst
        return judge(*_discordant(own, theirs))

    result = []
    for index, count in enumerate(right):
        difference = None if index == best else beside_best(index)
        tied = difference is None or difference.verdict != "worse"
        result.append(Standing(index, float(accuracies[index]), *wilson(count, images), difference, tied))
    return result


def optimism(correct: Booleans, *, repeats: int = 1000, seed: int = 0) -> Optimism:
    """Estimate by how much the highest of several accuracies exceeds what its model scores on other images.

    `correct` has shape (trials, images). Each of `repeats` resamples of the images elects a winner, and
    `value` is how far that winner falls behind the best of all on the images the resample left out: the bias
    correction BBC-CV of Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions
    for efficient and accurate cross-validation", Machine Learning 107 (2018), 1895-1922. It is right where all
    are equally good and errs upwards, in simulations by a tenth to a half, where they are not. (The winner's
    accuracy inside the resample minus that outside would count the luck of the images up to twice.) One matrix
    product: trials x images x repeats multiplications and 4 bytes a trial and image, for 200 x 6,000 x 1,000 a
    tenth of a second on one core.
    Raises ValueError for another shape, fewer than 2 images and fewer than 100 repeats.
    """
    correct = _checked(correct, "(trials, images)")
    trials, images = correct.shape
    if images < 2 or repeats < 100:
        raise ValueError(f"optimism needs at least 2 images and 100 repeats, but got {images} and {repeats}")
    random = np.random.default_rng(seed)
    scores = correct.mean(axis=1)
    best = int(scores.argmax())
    as_numbers = correct.astype(np.float32).T
    winners, champions = [], []
    for start in range(0, repeats, 100):
        weights = _resampled(images, min(100, repeats - start), random)
        left_out = weights == 0
        # A resample of a handful of images may leave none out; it has nothing to say.
        kept = left_out.any(axis=1)
        elected = (weights @ as_numbers).argmax(axis=1)
        sizes = left_out.sum(axis=1)[kept]
        winners.append((correct[elected] & left_out).sum(axis=1)[kept] / sizes)
        champions.append((correct[best] & left_out).sum(axis=1)[kept] / sizes)
    outside = np.concatenate(winners)
    # Both on the same images: what these have of hard ones cancels. Of a single trial exactly 0 remains.
    value = float((np.concatenate(champions) - outside).mean())
    highest = float(scores[best])
    return Optimism(value, float(outside.std(ddof=1)), highest, highest - value, trials)


def shrunk(accuracies: Sequence[float], noise_sd: float) -> float:
    """Estimate the true accuracy behind the highest of `accuracies`, as for training its configuration again.

    Each accuracy is taken as true plus independent normal noise of sd `noise_sd`, and the true ones as normal
    among themselves: empirical Bayes, as in B. Efron, "Tweedie's formula and selection bias", JASA 106 (2011),
    1602-1614. Centre and spread are those of the upper half (the median, and the root mean square above it):
    failed trials far below would otherwise pass for a spread so wide that noise hardly matters. What is left of
    the distance to the centre is the share of the spread that is not noise. A few winners far above many equals
    are shrunk too much. Raises ValueError for no accuracies, accuracies outside 0..1 and a negative noise.
    """
    values = _fractions(accuracies)
    _not_negative("noise_sd", noise_sd)
    highest = float(values.max())
    if len(values) == 1:
        return highest
    centre = float(np.median(values))
    upper = values[values >= centre]
    spread = float(((upper - centre) ** 2).mean()) * len(values) / (len(values) - 1)
    kept = max(0.0, 1 - noise_sd**2 / spread) if spread > 0 else 0.0
    return centre + kept * (highest - centre)


def repeats(values: Sequence[float], *, level: float = 0.95) -> Repeats:
    """Sum up one configuration's accuracies over training seeds.

    `values` are accuracies in 0..1, one a seed, at least one. Raises ValueError otherwise. The interval is that
    of Student (Biometrika 6, 1908) and of confidence `level`.
    """
    from scipy.special import stdtrit

    array = _fractions(values)
    _checked_level(level)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Repeats(1, mean, None, None, None)
    sd = float(array.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Repeats(n, mean, sd, mean - half, mean + half)


def pooled_sd(groups: Iterable[Sequence[float]]) -> float | None:
    """The sd of an accuracy over training seeds, pooled over configurations trained with several.

    Each group holds one configuration's accuracies; groups of one say nothing and are passed over. None where
    there is no other. Measured on one set of images, it holds a part of their noise too: two trainings disagree
    on single images even where their accuracies on all images there are would be the same.
    """
    squares, freedom = _within(groups)
    return math.sqrt(squares / freedom) if freedom else None


def pooled_freedom(groups: Iterable[Sequence[float]]) -> int:
    """The degrees of freedom behind `pooled_sd(groups)`: trainings less configurations, 0 where it is None."""
    return _within(groups)[1]


def over_seeds(a: Booleans, b: Booleans, *, level: float = 0.95) -> Difference:
    """Compare two configurations, each trained with several seeds and scored on the same images.

    `a` and `b` have shapes (seeds, images), with at least two seeds each, not necessarily as many. The verdict
    is about other seeds and other images: the variance is that of the paired difference over images plus, for
    each configuration, that between its seeds less what images alone account for (crossed random effects,
    images by seeds), with degrees of freedom after Satterthwaite, Biometrics Bulletin 2 (1946), 110-114. The
    alternative, a bootstrap over seeds and images, draws its seeds from 3 and so understates their variance by
    a third (Davison and Hinkley, "Bootstrap methods and their application", Cambridge 1997, section 3.8).
    In simulations of equal configurations with 3, 5 and 10 seeds, and 3 beside 10 (sd over seeds 0 to 0.01,
    1,500 images, 3,000 studies each), it said "better" in 1.3 to 3.1 % and its interval held in 94.0 to 97.1 %.
    Raises ValueError for shapes that do not fit and for fewer than two seeds.
    """
    from scipy.special import stdtr, stdtrit

    a, b = _checked(a, "(seeds, images)"), _checked(b, "(seeds, images)")
    _same_images(a.shape[1], b.shape[1])
    _checked_level(level)
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"a configuration's luck shows only in two seeds or more, but got {len(a)} and {len(b)}; "
            "compare single trainings with paired(..., seed_sd=...)"
        )
    centre, image_variance = _over_images(a.mean(axis=0) - b.mean(axis=0))
    raw_a, net_a = _seed_variance(a)
    raw_b, net_b = _seed_variance(b)
    se = math.sqrt(image_variance + net_a + net_b)
    wobble = raw_a**2 / (len(a) - 1) + raw_b**2 / (len(b) - 1) + image_variance**2 / a.shape[1]
    freedom = se**4 / wobble
    half = float(stdtrit(freedom, (1 + level) / 2)) * se
    return Difference(
        value=float(a.mean() - b.mean()),
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        p=min(1.0, 2 * float(stdtr(freedom, -abs(centre) / se))),
        images=a.shape[1],
        level=level,
    )


def _difference(
    only_a: int, only_b: int, images: int, *, seed_sd: float, comparisons: int, level: float = 0.95
) -> Difference:
    from scipy.special import bdtr

    _not_negative("seed_sd", seed_sd)
    _checked_level(level)
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, but is {comparisons}")
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


def _discordant(a: Booleans, b: Booleans) -> tuple[int, int]:
    return int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))


def _most_discordant(right_a: int, right_b: int, images: int) -> tuple[int, int]:
    """Images only a and only b got right where as many as possible are wrong in just one, given each's count."""
    both = max(0, right_a + right_b - images)
    return right_a - both, right_b - both


def _loaded(
    correct_of: Callable[[int], Booleans | None], accuracies: Sequence[float], images: int, index: int
) -> Booleans | None:
    given = correct_of(index)
    if given is None:
        return None
    correct = _checked(given, "(images,)")
    _same_images(images, len(correct))
    # An accuracy may come rounded, but no further than by one image.
    if abs(float(correct.sum()) - accuracies[index] * images) > 1:
        raise ValueError(
            f"trial {index} scored {accuracies[index]:.4f}, but the images it got right make {correct.mean():.4f}; "
            "they are another model's, or of other images"
        )
    return correct


def _resampled(images: int, repeats: int, random: np.random.Generator) -> NDArray[np.float32]:
    """How often each image is drawn when as many are drawn with replacement; shape (repeats, images)."""
    drawn = random.integers(0, images, (repeats, images)) + np.arange(repeats)[:, None] * images
    return np.bincount(drawn.ravel(), minlength=repeats * images).reshape(repeats, images).astype(np.float32)


def _within(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    several = [_fractions(group) for group in groups if len(group) > 1]
    return sum(float(((group - group.mean()) ** 2).sum()) for group in several), sum(len(g) - 1 for g in several)


def _over_images(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its variance over images, with one image more for either side as in `_difference`."""
    padded = np.append(differences, [1.0, -1.0])
    return float(padded.mean()), float(padded.var()) / len(padded)


def _seed_variance(correct: Booleans) -> tuple[float, float]:
    """The variance of a mean over seeds, as seen between them and less the part that single images explain."""
    seeds, images = correct.shape
    between = float(correct.mean(axis=1).var(ddof=1))
    within_images = float(correct.var(axis=0, ddof=1).mean())
    residual = max(0.0, within_images - between) / max(1, images - 1)
    return between / seeds, max(0.0, between - residual) / seeds


def _checked(correct: Booleans, shape: str) -> Booleans:
    """The array itself, where it is boolean, not empty and has as many dimensions as `shape` names."""
    array: NDArray[Any] = np.asarray(correct)
    if array.dtype != np.bool_:
        raise ValueError(f"correctness must be boolean, one value an image, but is {array.dtype}")
    if array.ndim != len(shape.strip("(),").split(",")) or array.size == 0:
        raise ValueError(f"correctness must have shape {shape} and hold at least one image, but has {array.shape}")
    return array


def _same_images(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"models are compared on the same images, but one has {one} and the other {other}")


def _fractions(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("there must be at least one accuracy, but there is none")
    if not bool(((array >= 0) & (array <= 1)).all()):
        raise ValueError(f"accuracies must lie in 0..1, but lie in {array.min()}..{array.max()}")
    return array


def _successes(accuracies: Sequence[float], images: int) -> list[int]:
    if images < 1:
        raise ValueError(f"accuracies must come from at least one image, but images is {images}")
    return [round(float(accuracy) * images) for accuracy in _fractions(accuracies)]


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number from 0 up, but is {value}")


def _checked_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, as 0.95 does, but is {level}")
