"""A share with its interval, and what the rest of this room asks of the arrays it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.text import format_estimate
from fmnist_sweep.training.evaluation import compute_wilson_interval

_SUM_TOLERANCE = 1e-3  # of a row of probabilities: far above float32's rounding, far below a wrong array's error


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


def check_labels(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> None:
    """ValueError unless both are (n,) indices into `names`, n >= 1."""
    if labels.ndim != 1 or labels.size == 0 or predicted.shape != labels.shape:
        raise ValueError(
            f"labels and predicted must have one shape (n,) with n >= 1, but have {labels.shape} and {predicted.shape}"
        )
    check_range(labels, "labels", len(names))
    check_range(predicted, "predicted", len(names))


def check_range(values: NDArray[Any], name: str, size: int) -> None:
    """ValueError, about `what`, unless these are integers 0..size - 1."""
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers, but are {values.dtype}")
    if values.size and (values.min() < 0 or values.max() >= size):
        raise ValueError(f"{name} must lie in 0..{size - 1}, but lie in {values.min()}..{values.max()}")


def check_probabilities(labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """ValueError unless `probabilities` are (n, labels) for n >= 1 `labels`, and such that `check_sums` passes."""
    if labels.ndim != 1 or labels.size == 0 or probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(
            f"labels must have shape (n,) with n >= 1 and probabilities (n, labels), but they have "
            f"{labels.shape} and {probabilities.shape}"
        )
    check_range(labels, "labels", probabilities.shape[1])
    check_sums(probabilities)


def check_sums(probabilities: NDArray[Any]) -> None:
    """ValueError unless the last axis holds numbers of 0 or more that sum to 1."""
    # Said so that NaN fails it too.
    good = (probabilities >= 0).all(axis=-1) & (np.abs(probabilities.sum(axis=-1) - 1) <= _SUM_TOLERANCE)
    if not good.all():
        raise ValueError(
            f"probabilities must be 0 or more and sum to 1 in each row, but {int((~good).sum())} of {good.size} do not"
        )
