"""How many training seeds it takes to find a true gain in accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fmnist_sweep.analysis.comparison.checks import check_at_least, check_fraction, check_level, check_not_negative

# The sd of an accuracy over seeds as seen on so many images, whose luck it holds. Without that luck it is 0.0030: both
# sets of images together of the ten documented models, 0.0023 on 6,000 validation and 0.0035 on 10,000 test images,
# with 20 degrees of freedom each.
RAW_SEED_SD, SEED_IMAGES = 0.0035, 10_000
# The share of images on which two trainings of one configuration disagree. Measured: 4 to 7 %, by configuration.
DISAGREEMENT = 0.06
# By how much more trainings of two configurations disagree. Measured: around 0.01 between those of similar accuracy.
INTERACTION = 0.01
# The sd of a class's recall over training seeds, in the order of data.LABELS. Measured with 20 degrees of freedom,
# pooled over the ten documented models, on 1,000 test images a class. What one class loses another gains, so these
# are far wider than an accuracy's.
RECALL_SDS = (0.031, 0.004, 0.033, 0.020, 0.056, 0.012, 0.047, 0.011, 0.007, 0.008)

_QUANTILES = 500  # of the estimated variance; twice as many change a power by less than 0.0001


@dataclass(frozen=True)
class Power:
    """How surely `seeds` trainings of each finalist find a true gain, and what was assumed.

    `power` is the probability of finding it, `wanted` the least that was asked for. `net_sd` is the sd of an
    accuracy over seeds without the luck of images. `champion_seeds` is None where the champion is trained as
    often as the finalist. The others are as given to `count_seeds_needed`.
    """

    seeds: int
    power: float
    wanted: float
    gain: float
    min_gain: float
    class_drop: float | None
    images: int
    comparisons: int
    level: float
    net_sd: float
    disagreement: float
    interaction: float
    champion_seeds: int | None

    @property
    def is_sufficient(self) -> bool:
        """Whether the power wanted is reached."""
        return self.power >= self.wanted

    @property
    def text(self) -> str:
        """The answer and its assumptions, in one or two sentences."""
        champion = "" if self.champion_seeds is None else f", beside the champion's {self.champion_seeds},"
        comparisons = f"{self.comparisons} comparison{'' if self.comparisons == 1 else 's'}"
        answer = (
            f"{self.seeds} seeds per finalist{champion} detect a gain of {100 * self.gain:.3g} points"
            f"{self._recall_condition} with {_format_power(self.power)} power (seed sd {self.net_sd:.4f}; two "
            f"trainings disagree on {self.disagreement:.1%} of images; {self.images:,} test images; {comparisons})."
        )
        if self.is_sufficient:
            return answer
        return f"{answer} This falls short of the {100 * self.wanted:.3g}% wanted, and more seeds are not allowed."

    @property
    def _recall_condition(self) -> str:
        if self.class_drop is None:
            return ""
        return f" and no fall of a recall by more than {100 * self.class_drop:.3g} points"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class SpreadAssumptions:
    """What is assumed of the spread of accuracies and recalls; by default, what was measured.

    `seed_sd` is the sd of an accuracy over seeds as seen on `seed_images` images. Two trainings of one configuration
    disagree on a share `disagreement` of images, those of two configurations on `disagreement + interaction`.
    `recall_sds` holds each class's sd of recall over seeds. Raises ValueError for values out of range.
    """

    seed_sd: float = RAW_SEED_SD
    seed_images: int = SEED_IMAGES
    disagreement: float = DISAGREEMENT
    interaction: float = INTERACTION
    recall_sds: Sequence[float] = RECALL_SDS

    def __post_init__(self) -> None:
        check_at_least("seed_images", self.seed_images, 1)
        for name, value in (("seed_sd", self.seed_sd), ("interaction", self.interaction)):
            check_not_negative(name, value)
        for sd in self.recall_sds:
            check_not_negative("recall_sds", sd)
        check_fraction("disagreement", self.disagreement)

    @property
    def net_sd(self) -> float:
        """The sd of an accuracy over seeds without the luck of images, which is disagreement / 2 / seed_images."""
        # A spread that images alone account for leaves nothing to the seeds.
        return math.sqrt(max(0.0, self.seed_sd**2 - self.disagreement / 2 / self.seed_images))


MEASURED = SpreadAssumptions()


def count_seeds_needed(
    gain: float,
    *,
    images: int,
    min_gain: float = 0.0,
    class_drop: float | None = None,
    power: float = 0.8,
    comparisons: int = 1,
    level: float = 0.95,
    champion_seeds: int | None = None,
    most: int = 30,
    assumptions: SpreadAssumptions = MEASURED,
) -> Power:
    """Count the fewest seeds with which `compare_over_seeds` finds a true gain in accuracy with at least this power.

    A gain is found if the interval of confidence `level`, corrected for `comparisons` (Bonferroni), lies above 0, the
    estimate is at least `min_gain`, and no recall falls by more than `class_drop` (None: recalls do not matter).
    Gains and drops are fractions of 1. `champion_seeds` is None where the champion is trained as often as the finalist.
    If `most` seeds are not enough, they are returned with the power they reach. Raises ValueError for settings out of
    range.

    With k and c seeds on n images, the estimate has variance
    (net_sd^2 + disagreement / 2 / n) (1/k + 1/c) + interaction / n. The estimate of that variance is scaled
    chi-squared with the degrees of freedom of `compare_over_seeds` (Satterthwaite 1946), so the test statistic is
    noncentral t. Every recall is assumed to gain as the accuracy does, with luck that is independent of the others'
    and of the accuracy's.
    """
    _check_arguments(gain, images, comparisons, champion_seeds, most)
    check_not_negative("min_gain", min_gain)
    check_not_negative("class_drop", class_drop or 0.0)
    check_level(level)
    check_fraction("power", power)
    components = VarianceComponents.derive(assumptions, images)
    error = (1 - level) / comparisons

    def compute_power(seeds: int) -> float:
        counts = (seeds, champion_seeds or seeds)
        variance, freedom = components.compute_variance(counts), components.compute_freedom(counts)
        gain_power = _compute_gain_power(gain, min_gain, variance, freedom, error)
        if class_drop is None:
            return gain_power
        return gain_power * compute_recall_power(gain + class_drop, assumptions.recall_sds, counts)

    seeds = next((count for count in range(2, most) if compute_power(count) >= power), most)
    return Power(
        seeds=seeds,
        power=compute_power(seeds),
        wanted=power,
        gain=gain,
        min_gain=min_gain,
        class_drop=class_drop,
        images=images,
        comparisons=comparisons,
        level=level,
        net_sd=assumptions.net_sd,
        disagreement=assumptions.disagreement,
        interaction=assumptions.interaction,
        champion_seeds=champion_seeds,
    )


@dataclass(frozen=True)
class VarianceComponents:
    """The parts of a difference's variance: per training, by its seed and by single images, and per configuration."""

    by_seed: float
    by_image: float
    by_configuration: float
    images: int

    @classmethod
    def derive(cls, assumptions: SpreadAssumptions, images: int) -> VarianceComponents:
        """Derive the parts of a difference's variance on so many images."""
        by_image = assumptions.disagreement / 2 / images
        return cls(assumptions.net_sd**2, by_image, assumptions.interaction / images, images)

    def compute_variance(self, counts: tuple[int, int]) -> float:
        """The variance of the difference of means over so many trainings of either configuration."""
        return self.by_seed * _sum_reciprocals(counts) + self._compute_image_variance(counts)

    def compute_freedom(self, counts: tuple[int, int]) -> float:
        """The degrees of freedom with which `compare_over_seeds` estimates it."""
        single = self.by_seed + self.by_image
        seed_terms = sum((single / count) ** 2 / (count - 1) for count in counts)
        return self.compute_variance(counts) ** 2 / (
            seed_terms + self._compute_image_variance(counts) ** 2 / self.images
        )

    def _compute_image_variance(self, counts: tuple[int, int]) -> float:
        return self.by_image * _sum_reciprocals(counts) + self.by_configuration


def _sum_reciprocals(counts: tuple[int, int]) -> float:
    return sum(1 / count for count in counts)


def _compute_gain_power(gain: float, min_gain: float, variance: float, freedom: float, error: float) -> float:
    """The probability that the estimate is at least `min_gain` and its interval above 0.

    Without `min_gain` it is the upper tail of the noncentral t. With it the estimate, normal, has to exceed
    whichever is higher of two bounds, of which one depends on its estimated sd: the mean over that sd's quantiles.
    """
    import numpy as np
    from scipy.special import chdtri, ndtr, stdtrit

    tails = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    sds = np.sqrt(variance * chdtri(freedom, tails) / freedom)
    bounds = np.maximum(min_gain, float(stdtrit(freedom, 1 - error / 2)) * sds)
    return float(ndtr((gain - bounds) / math.sqrt(variance)).mean())


def compute_recall_power(fall: float, recall_sds: Sequence[float], counts: tuple[int, int]) -> float:
    """Compute the probability that no recall comes out lower by `fall` than it truly is, beside the champion's."""
    from scipy.special import ndtr

    scale = math.sqrt(_sum_reciprocals(counts))
    return math.prod(float(ndtr(fall / (sd * scale))) for sd in recall_sds if sd > 0)


def _format_power(power: float) -> str:
    """A power in percent, rounded down, so that one just short of the power wanted never reads like it."""
    return f"{math.floor(100 * power)}%"


def _check_arguments(gain: float, images: int, comparisons: int, champion_seeds: int | None, most: int) -> None:
    if not 0 < gain < 1:
        raise ValueError(f"gain must lie between 0 and 1, as 0.005 does, but is {gain}")
    check_at_least("images", images, 1)
    check_at_least("comparisons", comparisons, 1)
    for name, value in (("most", most), ("champion_seeds", most if champion_seeds is None else champion_seeds)):
        if value < 2:
            raise ValueError(f"{name} must be at least 2, since one training says nothing about luck, but is {value}")
