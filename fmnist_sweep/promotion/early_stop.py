"""The interval of a gain after an early stop, corrected for what the look saw.

A look ends the training where the gain on the validation images is clear. The test images are scored with the same
seeds, whose luck made it clear, so that the gain there is too high by a part of that luck. The interval holds the true
gains for which what was found is not too improbable among promotions that ended so (conditional on the stop; Fan and
DeMets, Journal of Biopharmaceutical Statistics 16, 2006, 107-122).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fmnist_sweep.text import format_interval

_POINTS = (np.arange(200) + 0.5) / 200  # of the gains that a look may have seen, by their probability
_FARTHEST = 30.0  # sds of a look that a true gain may lie below what the look asked for


@dataclass(frozen=True)
class EarlyStop:
    """A look that ended the training.

    threshold: gain on the validation images from which it was clear. look_sd: standard error of that gain. common:
    variance of what it has in common with the gain on the test images, the luck of the seeds.
    """

    threshold: float
    look_sd: float
    common: float


@dataclass(frozen=True)
class CorrectedGain:
    """The interval of a winner's gain after an early stop. name: of the winner. level: of its confidence."""

    name: str
    seeds: int
    low: float
    high: float
    level: float

    @property
    def text(self) -> str:
        """The interval and why it is another one, in a sentence."""
        interval = format_interval(100 * self.low, 100 * self.high, decimals=2, signed=True)
        return (
            f"Training ended after {self.seeds} seeds because the gain was clear, and the test images are scored with "
            f"the same seeds, whose luck made it clear. Corrected for that, the {100 * self.level:.4g}% interval of "
            f"the gain of {self.name} is {interval} points; the decision is by the interval of the test itself."
        )


def correct_interval(low: float, high: float, level: float, stop: EarlyStop) -> tuple[float, float]:
    """The interval (low, high) of a gain on the test images, of this level, given the stop."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    gain = (low + high) / 2
    tail = (1 - level) / 2
    sd = (high - low) / 2 / float(ndtri(1 - tail))  # of a normal gain with the same interval
    slope = stop.common / stop.look_sd**2
    rest = math.sqrt(max(sd**2 - slope * stop.common, 0.05 * sd**2))
    lowest, highest = max(-1.0, stop.threshold - _FARTHEST * stop.look_sd), 1.0

    def solve(find_excess: Callable[[float], float]) -> float:
        if find_excess(lowest) >= 0:
            return lowest
        return float(brentq(find_excess, lowest, highest)) if find_excess(highest) > 0 else highest

    def compute_below(true_gain: float) -> float:
        """Probability of a lower gain than was found."""
        from scipy.special import ndtr

        passing = float(ndtr((true_gain - stop.threshold) / stop.look_sd))
        seen = true_gain - stop.look_sd * ndtri(_POINTS * passing)
        expected = true_gain + slope * (seen - true_gain)
        return float(ndtr((gain - expected) / rest).mean())

    return (
        solve(lambda true_gain: 1 - compute_below(true_gain) - tail),
        solve(lambda true_gain: tail - compute_below(true_gain)),
    )
