"""What labels, predictions and confusion matrices must be: ValueError says what was expected and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def check_confusion(confusion: Sequence[Sequence[int]] | NDArray[np.int64], names: Sequence[str]) -> None:
    """Raise ValueError unless `confusion` has a row and a column for each of `names`."""
    shape = np.asarray(confusion, dtype=object).shape  # of objects, since rows of differing lengths are no numbers
    if shape != (len(names), len(names)):
        raise ValueError(f"a confusion matrix of {len(names)} labels cannot have the shape {shape}")
