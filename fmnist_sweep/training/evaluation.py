"""Predictions -> metrics, confusion matrix and report: NumPy in, plain JSON-able values out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.training.array_checks import check_confusion, check_labels, check_range


@dataclass(frozen=True)
class Evaluation:
    """How well one model labelled n images.

    `confusion` has rows true and columns predicted, and sums to n. `report` maps each label name, "macro avg"
    and "weighted avg" to precision, recall, f1-score (all 0..1) and support (a count). `f1` is by label name.
    """

    accuracy: float
    confusion: list[list[int]]
    report: dict[str, dict[str, float]]
    f1: dict[str, float]


def evaluate_predictions(labels: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]) -> Evaluation:
    """Judge predicted probabilities against the true labels.

    `labels` are integers of shape (n,), each an index into `names`; `probabilities` have shape (n,
    len(names)), and the first of the greatest in a row is the prediction. A label that never occurs, or is
    never predicted, scores 0. Raises ValueError for shapes that do not fit, labels out of range and
    probabilities that are not finite. Measures: scikit-learn's accuracy_score and classification_report.
    """
    # scikit-learn takes most of a second to import, which `--help` and config errors should not pay.
    from sklearn.metrics import accuracy_score, classification_report

    _check_predictions(labels, probabilities, names)
    predicted = probabilities.argmax(axis=1)
    indices = list(range(len(names)))
    full_report = classification_report(
        labels, predicted, labels=indices, target_names=list(names), output_dict=True, zero_division=0
    )
    # scikit-learn puts one bare number, "accuracy", among the mappings; it has a field of its own here.
    report = {
        row: {measure: float(value) for measure, value in measures.items()}
        for row, measures in full_report.items()
        if row != "accuracy"
    }
    return Evaluation(
        accuracy=float(accuracy_score(labels, predicted)),
        confusion=count_confusion(labels, predicted, names).tolist(),
        report=report,
        f1={name: report[name]["f1-score"] for name in names},
    )


def count_confusion(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """The confusion matrix, (len(names), len(names)): counts of images, rows true and columns predicted.

    `labels` and `predicted` are integers of shape (n,), indices into `names`. Raises ValueError for others.
    """
    check_labels(labels, predicted, names)
    size = len(names)
    cells = labels.astype(np.int64) * size + predicted.astype(np.int64)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def compute_wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval for a proportion seen as `successes` out of `n`, by default at 95 %.

    `z` is the standard normal quantile of the wanted confidence. Both bounds lie in 0..1, also at 0 or n
    successes, where the textbook normal interval has no width. Raises ValueError unless 0 <= successes <= n
    and n >= 1. Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927), 209-212.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"an interval needs 0 <= successes <= n and n >= 1, but got {successes} out of {n}")
    proportion = successes / n
    scale = 1 + z * z / n
    centre = (proportion + z * z / (2 * n)) / scale
    half_width = z / scale * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    # At the ends the exact bound is 0 or 1; rounding would leave it a hair beside that.
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == n else min(1.0, centre + half_width)
    return low, high


def find_most_confused(
    confusion: Sequence[Sequence[int]], names: Sequence[str], k: int = 3
) -> list[tuple[str, str, int]]:
    """The `k` commonest mistakes as (true, predicted, count), commonest first.

    `confusion` is square, rows true and columns predicted, in the order of `names`. Ties keep the order of
    the labels; pairs that never occurred are left out, so that fewer than `k` may come back. Raises
    ValueError where `confusion` is not of shape (len(names), len(names)).
    """
    check_confusion(confusion, names)
    mistakes = [
        (names[true], names[predicted], int(count))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count > 0
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:k]


def _check_predictions(labels: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"label names must differ from one another, but got {list(names)}")
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"labels must have shape (n,) with n >= 1, but have {labels.shape}")
    expected = (len(labels), len(names))
    if probabilities.shape != expected:
        raise ValueError(f"probabilities must have shape {expected}, but have {probabilities.shape}")
    check_range(labels, "labels", len(names))
    invalid_rows = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if invalid_rows:
        raise ValueError(f"probabilities must be finite, but {invalid_rows} of {len(labels)} rows hold NaN or infinity")
