"""Whole histories of decisions among equals, simulated by the figures that a decision rests on.

A comparison of k with k seeds on n images is normal with the parts of variance that count_seeds_needed assumes; its
estimated variance is scaled chi-squared with Satterthwaite's degrees of freedom. The champion's part of the luck is the
same in all decisions of a history, as they compare with the same trainings on the same images. Recalls are left out:
they only keep finalists out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from fmnist_sweep.analysis.comparison.power import MEASURED

Floats = NDArray[np.float64]
IMAGES = 10_000
MIN_GAIN = 0.001
LEVEL = 0.95

# The share of the history's error that decision n, from 1, may spend.
Rule = Callable[[int], float]


@dataclass(frozen=True)
class Histories:
    """Decisions of many histories, each array of shape (histories, decisions).

    gains: estimated. sds: of these, estimated. freedom: of that estimate, in degrees. image_sd: of the gains if only
    images had luck, as the ladder takes it.
    """

    gains: Floats
    sds: Floats
    freedom: float
    image_sd: float

    def find_promoted(self, spend: Rule) -> NDArray[np.bool_]:
        """Which decisions promote, by a rule of how the history's error is spent."""
        numbers = range(1, self.gains.shape[1] + 1)
        errors = np.array([(1 - LEVEL) * spend(number) for number in numbers])
        bounds = np.array([stdtrit(self.freedom, 1 - error) for error in errors])
        return (self.gains > bounds * self.sds) & (self.gains >= MIN_GAIN)

    def find_promoted_by_ladder(self) -> NDArray[np.bool_]:
        """Which decisions promote by the ladder without parameters: a gain of a standard error over images."""
        return self.gains > self.image_sd


def simulate_histories(
    count: int, decisions: int, *, seeds: int, gain: float = 0.0, inherited: float = 0.0, seed: int = 0
) -> Histories:
    """Simulate histories in which each challenger truly gains `gain`.

    inherited: how much of its luck with these very images a challenger takes over from the luckiest before it, 0 to
    1: whoever looks at test figures and goes on from the best does that.
    """
    random = np.random.default_rng(seed)
    single = MEASURED.net_sd**2 + MEASURED.disagreement / 2 / IMAGES  # of one training
    own = MEASURED.interaction / 2 / IMAGES  # of one configuration, on these images
    image_luck = math.sqrt(own) * random.standard_normal((count, decisions + 1))
    for number in range(2, decisions + 1):
        best = image_luck[:, 1:number].max(axis=1)
        image_luck[:, number] = inherited * best + math.sqrt(1 - inherited**2) * image_luck[:, number]
    means = image_luck + math.sqrt(single / seeds) * random.standard_normal((count, decisions + 1))
    variance = 2 * single / seeds + 2 * own
    image_variance = MEASURED.disagreement / IMAGES / seeds + 2 * own
    freedom = variance**2 / (2 * (single / seeds) ** 2 / (seeds - 1) + image_variance**2 / IMAGES)
    sds = np.sqrt(variance * random.chisquare(freedom, (count, decisions)) / freedom)
    return Histories(means[:, 1:] - means[:, :1] + gain, sds, freedom, math.sqrt(image_variance))
