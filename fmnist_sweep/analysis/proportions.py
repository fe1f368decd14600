"""Shares, as of right answers among images, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.text import format_estimate
from fmnist_sweep.training.evaluation import compute_wilson_interval


@dataclass(frozen=True)
class Proportion:
    """`successes` out of `n`, with its 95 % Wilson interval.

    Of nothing (n = 0) nothing is known: then value is NaN and the interval 0..1.
    """

    value: float
    low: float
    high: float
    successes: int
    n: int

    @classmethod
    def from_counts(cls, successes: int, n: int) -> Proportion:
        """The proportion of these counts; ValueError unless 0 <= successes <= n."""
        if n == 0 and successes == 0:
            return cls(float("nan"), 0.0, 1.0, 0, 0)
        low, high = compute_wilson_interval(successes, n)
        return cls(successes / n, low, high, successes, n)

    def __str__(self) -> str:
        return format_estimate(self.value, self.low, self.high) if self.n else "none to count"


def measure_share(successes: NDArray[np.bool_]) -> Proportion:
    """How many of these booleans are true, of how many."""
    return Proportion.from_counts(int(successes.sum()), len(successes))


def compute_accuracy_interval(accuracy: float | None, images: int | None) -> tuple[float, float] | None:
    """Wilson's 95 % interval of an accuracy over so many images; None where either is not known."""
    return compute_wilson_interval(round(accuracy * images), images) if accuracy is not None and images else None


def compute_row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each cell's share of the images of its row's label, 0..1; 0 in the row of a label without images."""
    return np.asarray(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1), np.float64)
