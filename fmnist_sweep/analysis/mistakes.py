"""Which labels are mistaken for which, how often, and what a model is worth without some of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import Calibration, calibration
from fmnist_sweep.analysis.labelling import Suspects, suspects
from fmnist_sweep.analysis.proportions import Proportion, check_labels, check_probabilities, share
from fmnist_sweep.data import LABELS
from fmnist_sweep.tracking.trials import Predictions
from fmnist_sweep.training.evaluation import find_most_confused

UPPER_BODY = ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt")


@dataclass(frozen=True)
class ClassScore:
    """How well one label is found; all but support 0..1.

    support: images of the label. recall_low, recall_high: 95 % Wilson interval. A label without images has
    recall 0 in 0..1, one never predicted precision 0, as in the classification report.
    """

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    recall_low: float
    recall_high: float


@dataclass(frozen=True)
class Block:
    """How a group of labels fares, taken by itself, though told apart from all labels.

    images: those with a label of the block; accuracy: of these; mistakes_inside: the share of all mistakes
    whose true and predicted label both belong to the block; outside: the accuracy of all other images.
    """

    labels: tuple[str, ...]
    images: int
    accuracy: Proportion
    mistakes_inside: Proportion
    outside: Proportion


@dataclass(frozen=True)
class Pair:
    """Images of one label taken for another.

    share: `count` among the images of `true`, 0..1; reverse: how many of `predicted` were taken for `true`;
    examples: rows of the most confident of these mistakes, most confident first.
    """

    true: str
    predicted: str
    count: int
    share: float
    reverse: int
    examples: tuple[int, ...]


def per_class(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each label, in the order of `names`."""
    confusion = _confusion(labels, predicted, names)
    return [_class_score(confusion, place, name) for place, name in enumerate(names)]


def upper_body(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> Block:
    """The five labels worn on the upper body, which look most alike, against all others."""
    check_labels(labels, predicted, names)
    block = _places(UPPER_BODY, names)
    right, inside = labels == predicted, np.isin(labels, block)
    return Block(
        labels=UPPER_BODY,
        images=int(inside.sum()),
        accuracy=share(right[inside]),
        mistakes_inside=share((inside & np.isin(predicted, block))[~right]),
        outside=share(right[~inside]),
    )


def merged(
    labels: NDArray[Any],
    predicted: NDArray[Any],
    names: Sequence[str],
    together: Sequence[str] = ("T-shirt/top", "Shirt"),
) -> Proportion:
    """The accuracy if the labels in `together` were one: what telling them apart costs."""
    check_labels(labels, predicted, names)
    one = _places(together, names)
    return share((labels == predicted) | (np.isin(labels, one) & np.isin(predicted, one)))


def without(labels: NDArray[Any], predicted: NDArray[Any], excluded: NDArray[np.bool_]) -> Proportion:
    """The accuracy on the images that `excluded`, (n,) booleans, does not name."""
    if not labels.shape == predicted.shape == excluded.shape or labels.ndim != 1 or excluded.dtype != np.bool_:
        raise ValueError(
            f"labels, predicted and excluded must have one shape (n,), the last boolean, but have "
            f"{labels.shape}, {predicted.shape} and {excluded.shape} {excluded.dtype}"
        )
    return share((labels == predicted)[~excluded])


def confused_pairs(
    labels: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str], most: int = 6, examples: int = 8
) -> list[Pair]:
    """The `most` commonest mistakes, commonest first, each with up to `examples` of its most confident cases.

    Each direction counts by itself. Fewer come back where fewer kinds of mistake were made.
    """
    check_probabilities(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    confusion = _confusion(labels, predicted, names)
    pairs = []
    for name, other, count in find_most_confused(confusion.tolist(), names, most):
        true, said = names.index(name), names.index(other)
        rows = np.flatnonzero((labels == true) & (predicted == said))
        shown = rows[np.argsort(-probabilities[rows, said], kind="stable")][:examples]
        part = count / int(confusion[true].sum())
        pairs.append(Pair(name, other, count, part, int(confusion[said, true]), tuple(shown.tolist())))
    return pairs


def _class_score(confusion: NDArray[np.int64], place: int, name: str) -> ClassScore:
    hits, said = int(confusion[place, place]), int(confusion[:, place].sum())
    recall = Proportion.of(hits, int(confusion[place].sum()))
    return ClassScore(
        label=name,
        support=recall.n,
        precision=hits / max(said, 1),
        recall=hits / max(recall.n, 1),
        f1=2 * hits / max(said + recall.n, 1),
        recall_low=recall.low,
        recall_high=recall.high,
    )


def _confusion(labels: NDArray[Any], predicted: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """Counts with rows true and columns predicted, in the order of `names`."""
    check_labels(labels, predicted, names)
    size = len(names)
    cells = labels.astype(np.int64) * size + predicted.astype(np.int64)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def _places(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"the labels {missing} are not among {list(names)}")
    return [names.index(name) for name in wanted]


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
    labels, predicted = best.labels, best.predicted_labels
    size = len(LABELS)
    confusion = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    return Mistakes(
        predictions=best,
        confusion=confusion.tolist(),
        scores=tuple(per_class(labels, predicted, LABELS)),
        block=upper_body(labels, predicted, LABELS),
        merged=merged(labels, predicted, LABELS),
        pairs=tuple(confused_pairs(labels, best.probabilities, LABELS)),
        suspects=suspects(
            labels,
            np.stack([found.predicted_labels for found in good]),
            np.stack([found.probabilities for found in good]),
            LABELS,
        ),
        calibration=calibration(labels, best.probabilities),
        twins=None if twins is None else int(twins.sum()),
        without_twins=None if twins is None else without(labels, predicted, twins),
    )
