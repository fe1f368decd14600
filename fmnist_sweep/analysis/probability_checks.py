"""What probabilities must be: ValueError says what was expected and what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.training.array_checks import check_range

_SUM_TOLERANCE = 1e-3  # of a row of probabilities: far above float32's rounding, far below a wrong array's error


def check_probabilities(labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """Raise ValueError unless `probabilities` have shape (n, labels) for the n >= 1 `labels` and pass `check_sums`."""
    if labels.ndim != 1 or labels.size == 0 or probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(
            f"labels must have shape (n,) with n >= 1 and probabilities (n, labels), but they have "
            f"{labels.shape} and {probabilities.shape}"
        )
    check_range(labels, "labels", probabilities.shape[1])
    check_sums(probabilities)


def check_sums(probabilities: NDArray[Any]) -> None:
    """Raise ValueError unless the last axis holds numbers of 0 or more that sum to 1."""
    # Both comparisons are false for NaN, so it fails them too.
    good = (probabilities >= 0).all(axis=-1) & (np.abs(probabilities.sum(axis=-1) - 1) <= _SUM_TOLERANCE)
    if not good.all():
        raise ValueError(
            f"probabilities must be 0 or more and sum to 1 in each row, but {int((~good).sum())} of {good.size} do not"
        )
