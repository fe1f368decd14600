"""What labels, predictions and probabilities must be: ValueError says what was expected and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-3  # of a row of probabilities: far above float32's rounding, far below a wrong array's error


def check_labels(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> None:
    """Raise ValueError unless both are indices into `names` of one shape (n,), n >= 1."""
    if labels.ndim != 1 or labels.size == 0 or predicted.shape != labels.shape:
        raise ValueError(
            f"labels and predicted must have one shape (n,) with n >= 1, but have {labels.shape} and {predicted.shape}"
        )
    check_range(labels, "labels", len(names))
    check_range(predicted, "predicted", len(names))


def check_range(values: NDArray[Any], name: str, size: int) -> None:
    """Raise ValueError, which calls the values `name`, unless they are integers in 0..size - 1."""
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers, but are {values.dtype}")
    if values.size and (values.min() < 0 or values.max() >= size):
        raise ValueError(f"{name} must lie in 0..{size - 1}, but lie in {values.min()}..{values.max()}")


def check_probabilities(labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """Raise ValueError unless `probabilities` have shape (n, labels) for the n >= 1 `labels` and pass `check_sums`."""
    if labels.ndim != 1 or labels.size == 0 or probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(
            f"labels must have shape (n,) with n >= 1 and probabilities (n, labels), but they have "
            f"{labels.shape} and {probabilities.shape}"
        )
    check_range(labels, "labels", probabilities.shape[1])
    check_sums(probabilities)


def check_confusion(confusion: Sequence[Sequence[int]] | NDArray[np.int64], names: Sequence[str]) -> None:
    """Raise ValueError unless `confusion` has a row and a column for each of `names`."""
    shape = np.asarray(confusion, dtype=object).shape  # of objects, since rows of differing lengths are no numbers
    if shape != (len(names), len(names)):
        raise ValueError(f"a confusion matrix of {len(names)} labels cannot have the shape {shape}")


def check_sums(probabilities: NDArray[Any]) -> None:
    """Raise ValueError unless the last axis holds numbers of 0 or more that sum to 1."""
    # Both comparisons are false for NaN, so it fails them too.
    good = (probabilities >= 0).all(axis=-1) & (np.abs(probabilities.sum(axis=-1) - 1) <= _SUM_TOLERANCE)
    if not good.all():
        raise ValueError(
            f"probabilities must be 0 or more and sum to 1 in each row, but {int((~good).sum())} of {good.size} do not"
        )
