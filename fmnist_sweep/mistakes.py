"""What the best trial gets wrong, and what all good trials do: the parts of `analysis`, put together for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep import analysis
from fmnist_sweep.analysis import Block, Calibration, ClassScore, Pair, Proportion, Suspects
from fmnist_sweep.data import LABELS
from fmnist_sweep.tracking.trials import Predictions


@dataclass(frozen=True)
class Mistakes:
    """The best trial's predictions judged label by label.

    confusion: rows true, columns predicted, in the order of LABELS. merged: accuracy with Shirt and T-shirt/top as one
    label. suspects: over all good trials. twins, without_twins: how many validation images have a near twin
    among the training images, and the accuracy without these; None where that was not looked up.
    """

    predictions: Predictions
    confusion: list[list[int]]
    scores: tuple[ClassScore, ...]
    block: Block
    merged: Proportion
    pairs: tuple[Pair, ...]
    suspects: Suspects
    calibration: Calibration
    twins: int | None
    without_twins: Proportion | None

    @property
    def accuracy(self) -> Proportion:
        """Of the best, from its predictions."""
        return self.calibration.accuracy


def find(best: Predictions, good: Sequence[Predictions], twins: NDArray[np.bool_] | None) -> Mistakes:
    """Analyse the best's predictions, and those of all good trials on the same images (the best's included)."""
    labels, predicted = best.labels, best.predicted
    size = len(LABELS)
    confusion = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    return Mistakes(
        predictions=best,
        confusion=confusion.tolist(),
        scores=tuple(analysis.per_class(labels, predicted, LABELS)),
        block=analysis.upper_body(labels, predicted, LABELS),
        merged=analysis.merged(labels, predicted, LABELS),
        pairs=tuple(analysis.confused_pairs(labels, best.probabilities, LABELS)),
        suspects=analysis.suspects(
            labels,
            np.stack([found.predicted for found in good]),
            np.stack([found.probabilities for found in good]),
            LABELS,
        ),
        calibration=analysis.calibration(labels, best.probabilities),
        twins=None if twins is None else int(twins.sum()),
        without_twins=None if twins is None else analysis.without(labels, predicted, twins),
    )
