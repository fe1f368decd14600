"""Which labels are mistaken for which, how often, and how accurate a model is without some of these mistakes.

Here, in `confidence` and in `labelling`, `labels` and `predicted` are integers of shape (n,), indices into `names`;
`probabilities` have shape (n, len(names)) and rows that sum to 1; a *row* is an image's place in these arrays. Other
shapes and values raise ValueError, which says what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import Calibration, measure_calibration
from fmnist_sweep.analysis.labelling import Suspects, find_suspects
from fmnist_sweep.analysis.probability_checks import check_probabilities
from fmnist_sweep.analysis.proportions import Proportion, measure_share
from fmnist_sweep.data import DataDescription
from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.training.array_checks import check_confusion
from fmnist_sweep.training.evaluation import count_confusion, find_most_confused


@dataclass(frozen=True)
class ClassScore:
    """How well a model recognises one label; all but support lie in 0..1.

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
class LabelGroup:
    """The scores of a group of labels, called `name`; the model still chose among all labels.

    images: how many have a label of the group; accuracy: of these; mistakes_inside: the share of all mistakes
    whose true and predicted label both belong to the group; outside_accuracy: of all other images.
    """

    name: str
    labels: tuple[str, ...]
    images: int
    accuracy: Proportion
    mistakes_inside: Proportion
    outside_accuracy: Proportion


@dataclass(frozen=True)
class ConfusedPair:
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


def score_classes(confusion: NDArray[np.int64], names: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each label, in the order of `names`."""
    check_confusion(confusion, names)
    return [_score_class(confusion, place, name) for place, name in enumerate(names)]


def score_similar_labels(confusion: NDArray[np.int64], description: DataDescription) -> LabelGroup | None:
    """The labels that look most alike, against all others; None if the data has no such labels."""
    names, group = description.labels, description.similar_labels
    check_confusion(confusion, names)
    if not group:
        return None
    indices = _find_label_indices(group, names)
    total, correct = int(confusion.sum()), int(confusion.trace())
    images, group_correct = int(confusion[indices].sum()), int(confusion[indices, indices].sum())
    said_inside = int(confusion[np.ix_(indices, indices)].sum())
    return LabelGroup(
        name=description.similar_name,
        labels=group,
        images=images,
        accuracy=Proportion.from_counts(group_correct, images),
        mistakes_inside=Proportion.from_counts(said_inside - group_correct, total - correct),
        outside_accuracy=Proportion.from_counts(correct - group_correct, total - images),
    )


def score_merged_labels(confusion: NDArray[np.int64], names: Sequence[str], group: Sequence[str]) -> Proportion:
    """The accuracy if the labels in `group` were one: what telling them apart costs."""
    check_confusion(confusion, names)
    indices = _find_label_indices(group, names)
    forgiven = int(confusion[np.ix_(indices, indices)].sum()) - int(confusion[indices, indices].sum())
    return Proportion.from_counts(int(confusion.trace()) + forgiven, int(confusion.sum()))


def score_without_images(labels: NDArray[Any], predicted: NDArray[Any], excluded: NDArray[np.bool_]) -> Proportion:
    """The accuracy without the images that `excluded`, a mask (n,), names."""
    if not labels.shape == predicted.shape == excluded.shape or labels.ndim != 1 or excluded.dtype != np.bool_:
        raise ValueError(
            f"labels, predicted and excluded must have one shape (n,), the last boolean, but have "
            f"{labels.shape}, {predicted.shape} and {excluded.shape} {excluded.dtype}"
        )
    return measure_share((labels == predicted)[~excluded])


def find_confused_pairs(
    confusion: NDArray[np.int64],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    names: Sequence[str],
    most: int = 6,
    examples: int = 8,
) -> list[ConfusedPair]:
    """The `most` commonest mistakes, commonest first, each with up to `examples` of its most confident cases.

    confusion: of these labels and of the most probable ones. Each direction counts by itself. Fewer come back where
    fewer kinds of mistake were made.
    """
    check_probabilities(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    pairs = []
    for name, predicted_name, count in find_most_confused(confusion.tolist(), names, most):
        true_index, predicted_index = names.index(name), names.index(predicted_name)
        rows = np.flatnonzero((labels == true_index) & (predicted == predicted_index))
        example_rows = rows[np.argsort(-probabilities[rows, predicted_index], kind="stable")][:examples]
        pairs.append(
            ConfusedPair(
                true=name,
                predicted=predicted_name,
                count=count,
                share=count / int(confusion[true_index].sum()),
                reverse=int(confusion[predicted_index, true_index]),
                examples=tuple(example_rows.tolist()),
            )
        )
    return pairs


def _score_class(confusion: NDArray[np.int64], index: int, name: str) -> ClassScore:
    hits, predicted_count = int(confusion[index, index]), int(confusion[:, index].sum())
    recall = Proportion.from_counts(hits, int(confusion[index].sum()))
    return ClassScore(
        label=name,
        support=recall.n,
        precision=hits / max(predicted_count, 1),
        recall=hits / max(recall.n, 1),
        f1=2 * hits / max(predicted_count + recall.n, 1),
        recall_low=recall.low,
        recall_high=recall.high,
    )


def _find_label_indices(labels: Sequence[str], names: Sequence[str]) -> list[int]:
    missing = [name for name in labels if name not in names]
    if missing:
        raise ValueError(f"the labels {missing} are not among {list(names)}")
    return [names.index(name) for name in labels]


@dataclass(frozen=True)
class Mistakes:
    """The best trial's predictions judged label by label.

    labels: the names of all. confusion: rows true, columns predicted, in the order of the labels. similar_labels: the
    scores of those that look most alike. merged_labels, merged_accuracy: two of them, and the accuracy with these as
    one label; empty and None for data of which no such labels are known. suspects: over all good trials. twins,
    accuracy_without_twins: how many validation images have a near twin among the training images, and the accuracy
    without these; None where that was not looked up.
    """

    labels: tuple[str, ...]
    predictions: Predictions
    confusion: list[list[int]]
    scores: tuple[ClassScore, ...]
    similar_labels: LabelGroup | None
    merged_labels: tuple[str, ...]
    merged_accuracy: Proportion | None
    pairs: tuple[ConfusedPair, ...]
    suspects: Suspects
    calibration: Calibration
    twins: int | None
    accuracy_without_twins: Proportion | None

    @property
    def accuracy(self) -> Proportion:
        """The accuracy of the best trial, from its predictions."""
        return self.calibration.accuracy


def analyse_mistakes(
    best: Predictions,
    good_predictions: Sequence[Predictions],
    twins: NDArray[np.bool_] | None,
    description: DataDescription,
) -> Mistakes:
    """Analyse the best's predictions, and those of all good trials on the same images (the best's included).

    description: of the data.
    """
    names, merged_labels = description.labels, description.merged_labels
    labels, predicted = best.labels, best.predicted_labels
    confusion = count_confusion(labels, predicted, names)
    return Mistakes(
        labels=names,
        predictions=best,
        confusion=confusion.tolist(),
        scores=tuple(score_classes(confusion, names)),
        similar_labels=score_similar_labels(confusion, description),
        merged_labels=merged_labels,
        merged_accuracy=score_merged_labels(confusion, names, merged_labels) if merged_labels else None,
        pairs=tuple(find_confused_pairs(confusion, labels, best.probabilities, names)),
        suspects=find_suspects(
            labels,
            np.stack([predictions.predicted_labels for predictions in good_predictions]),
            np.stack([predictions.probabilities for predictions in good_predictions]),
            names,
        ),
        calibration=measure_calibration(labels, best.probabilities),
        twins=None if twins is None else int(twins.sum()),
        accuracy_without_twins=None if twins is None else score_without_images(labels, predicted, twins),
    )
