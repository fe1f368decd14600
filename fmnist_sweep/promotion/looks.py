"""When a promotion has trained enough: the rule of its looks at the validation images, from values to a decision.

Seeds are trained in groups, and after each group is a look. A look only ever stops. It drops a finalist that will
hardly pass the test any more (futility by conditional power; Lan, Simon and Halperin, Communications in Statistics C 1,
1982, 207-219; with the gain at the present trend, Spiegelhalter, Freedman and Blackburn, Controlled Clinical Trials 7,
1986, 8-17), and one that will hardly end as the best (racing; Maron and Moore, NIPS 6, 1994, 59-66). It ends the
training where the test on the test images has the wanted power with the seeds that there are. It declares nobody
better: that is decided on the test images, by the gate alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fmnist_sweep.analysis.comparison.power import (
    DISAGREEMENT,
    INTERACTION,
    MEASURED,
    RECALL_SDS,
    VarianceComponents,
    compute_recall_power,
)
from fmnist_sweep.promotion.early_stop import EarlyStop

Fate = Literal["goes on", "futile", "beaten"]

# The measured spread of seeds is believed as if so many degrees of freedom had shown the assumed one before.
_ASSUMED_FREEDOM, _LESS_ASSUMED = 8, 3
_LOOKS = (4, 6, 8, 11, 14, 18, 23, 30, 40, 55, 75)


@dataclass(frozen=True)
class LookRule:
    """What is decided in the end on the test images, and so what the looks foresee.

    most: seeds of a finalist that no look stops, those of the fixed design. comparisons: number of finalists at the
    beginning. level: of the gate's interval before the correction for comparisons. validation_images: number of images
    that looks are taken on. The others are as given to `count_seeds_needed`.
    """

    most: int
    comparisons: int
    gain: float
    min_gain: float
    class_drop: float
    power: float
    level: float
    validation_images: int
    test_images: int = 10_000

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds after which a look is taken."""
        return tuple(seeds for seeds in _LOOKS if seeds < self.most)

    @property
    def error(self) -> float:
        """Of one comparison on the test images, both sides together."""
        return (1 - self.level) / self.comparisons

    # The three thresholds are by simulation (docs/promotion.md). The more finalists there are, the more chances each
    # look has to drop the one that is better, or to stop for one that is not.
    @property
    def futile_below(self) -> float:
        """Chance to pass the test below which a finalist is dropped."""
        return 0.15 / (1 + 0.2 * (self.comparisons - 1))

    @property
    def beaten_below(self) -> float:
        """Chance to end as the best below which a finalist is dropped."""
        return 0.2 / self.comparisons

    @property
    def enough_from(self) -> float:
        """Chance to pass the test with the seeds there are from which no more are trained."""
        return 1 - (1 - self.power) / (self.comparisons + 1)


@dataclass(frozen=True)
class Outlook:
    """A finalist at a look.

    gain: over the champion on the validation images, with the standard error `se`, over seeds and images. chance: to
    pass the test with all seeds. chance_now: with the seeds there are. chance_best: to end ahead of the finalist that
    is ahead now.
    """

    gain: float
    se: float
    chance: float
    chance_now: float
    chance_best: float
    fate: Fate


@dataclass(frozen=True)
class Look:
    """A look and what it decides.

    outlooks: of the finalists that were looked at, in their order. net_variance: of an accuracy over seeds without the
    luck of images, as it was estimated. measured_variance: the same with less assumed.
    """

    seeds: int
    outlooks: tuple[Outlook, ...]
    is_enough: bool
    net_variance: float = 0.0
    measured_variance: float = 0.0

    @property
    def remaining(self) -> list[int]:
        """Indices of the finalists that go on."""
        return [index for index, outlook in enumerate(self.outlooks) if outlook.fate == "goes on"]

    @property
    def ends_training(self) -> bool:
        """Whether nothing more is trained."""
        return self.is_enough or not self.remaining


def take_look(rule: LookRule, finalists: Sequence[Sequence[float]], champion: Sequence[float]) -> Look:
    """Decide after a look at the validation accuracies of finalists and champion, one for each seed.

    All finalists have as many seeds, at least two, and all accuracies are on the same images. The chances are those
    after the gain that was seen, without an opinion before it. Raises ValueError for other numbers of seeds.
    """
    seeds = len(finalists[0])
    if min(seeds, len(champion)) < 2 or any(len(accuracies) != seeds for accuracies in finalists):
        raise ValueError("a look needs two seeds of each at least, and as many of each finalist")
    groups = [*finalists, champion]
    spread = _Spread(rule, _estimate_net_variance(rule, groups, _ASSUMED_FREEDOM))
    means = [statistics.fmean(accuracies) for accuracies in finalists]
    best = max(means)
    reference = statistics.fmean(champion)
    counts = (seeds, len(champion))
    outlooks = []
    for mean in means:
        gain = mean - reference
        chance = spread.compute_chance(gain, counts, (rule.most, max(rule.most, len(champion))))
        chance_best = spread.compute_chance_best(mean - best, seeds) if mean < best else 1.0
        fate: Fate = "goes on"
        if chance < rule.futile_below:
            fate = "futile"
        elif chance_best < rule.beaten_below:
            fate = "beaten"
        chance_now = spread.compute_chance(gain, counts, counts)
        se = math.sqrt(spread.validation.compute_variance(counts))
        outlooks.append(Outlook(gain, se, chance, chance_now, chance_best, fate))
    is_enough = any(outlook.chance_now >= rule.enough_from for outlook in outlooks if outlook.fate == "goes on")
    return Look(
        seeds, tuple(outlooks), is_enough, spread.net_variance, _estimate_net_variance(rule, groups, _LESS_ASSUMED)
    )


def find_early_stop(rule: LookRule, look: Look, champion_seeds: int) -> EarlyStop:
    """What a look that ended the training asked for. champion_seeds: that the champion had."""
    spread, counts = _Spread(rule, look.net_variance), (look.seeds, champion_seeds)
    too_low, clear = 0.0, 1.0
    for _ in range(40):
        middle = (too_low + clear) / 2
        if spread.compute_chance(middle, counts, counts) < rule.enough_from:
            too_low = middle
        else:
            clear = middle
    # What is assumed would correct calm configurations for luck that they do not have.
    measured = _Spread(rule, look.measured_variance)
    look_sd = math.sqrt(measured.validation.compute_variance(counts))
    return EarlyStop(clear, look_sd, look.measured_variance * sum(1 / count for count in counts))


def _estimate_net_variance(rule: LookRule, groups: Sequence[Sequence[float]], assumed_freedom: int) -> float:
    """The variance of an accuracy over seeds without the luck of images: as assumed, and more and more as measured."""
    image_variance = DISAGREEMENT / 2 / rule.validation_images
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups)
    assumed = MEASURED.net_sd**2 + image_variance
    raw = (assumed_freedom * assumed + squares) / (assumed_freedom + freedom)
    return max(0.0, raw - image_variance)


class _Spread:
    """How far gains on the validation and on the test images lie from the true one, and from each other.

    Both have the luck of the same seeds, and each that of its own images.
    """

    def __init__(self, rule: LookRule, net_variance: float) -> None:
        self._rule, self.net_variance = rule, net_variance
        self.validation = self._derive(rule.validation_images)
        self.test = self._derive(rule.test_images)

    def _derive(self, images: int) -> VarianceComponents:
        return VarianceComponents(self.net_variance, DISAGREEMENT / 2 / images, INTERACTION / images, images)

    def compute_chance(self, gain: float, counts: tuple[int, int], last: tuple[int, int]) -> float:
        """Chance to pass the test with `last` seeds of finalist and champion, after this gain with `counts`."""
        rule = self._rule
        variance = self.test.compute_variance(last)
        quantile = find_quantile(round(self.test.compute_freedom(last), 1), rule.error)
        bound = max(rule.min_gain, quantile * math.sqrt(variance))
        common = self.net_variance * sum(1 / count for count in last)
        apart = variance + self.validation.compute_variance(counts) - 2 * common
        passing = _compute_normal((gain - bound) / math.sqrt(apart))
        return passing * compute_recall_power(max(0.0, gain) + rule.class_drop, RECALL_SDS, last)

    def compute_chance_best(self, behind: float, seeds: int) -> float:
        """Chance to end ahead of another finalist with all seeds, after being `behind` it (below 0) with so many."""
        counts, last = (seeds, seeds), (self._rule.most, self._rule.most)
        common = self.net_variance * sum(1 / count for count in last)
        apart = self.test.compute_variance(last) + self.validation.compute_variance(counts) - 2 * common
        return _compute_normal(behind / math.sqrt(apart))


def _compute_normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


@lru_cache(4096)
def find_quantile(freedom: float, error: float) -> float:
    """Student's t that is exceeded, on both sides together, with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - error / 2))
