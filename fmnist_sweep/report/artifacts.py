"""The files that a finished trial leaves in MLflow: figures, tables and predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.report.figures import plots
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.prediction_files import pack_predictions
from fmnist_sweep.training.evaluation import count_confusion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_sweep.data import DataDescription, Split
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult


def make_trial_artifacts(
    result: TrialResult, evaluation: Evaluation, validation: Split, description: DataDescription
) -> dict[str, bytes]:
    """Make the files that a finished trial's run is closed with, by name: tables and predictions."""
    report = {"accuracy": evaluation.accuracy, **evaluation.report}
    return {
        "confusion_matrix.json": _encode_json({"labels": list(description.labels), "matrix": evaluation.confusion}),
        "classification_report.json": _encode_json(report),
        # Kept so that trials can later be compared image by image, and for the figures.
        PREDICTIONS_FILE: pack_predictions(
            index=validation.index, labels=validation.labels, probabilities=result.probabilities
        ),
    }


def draw_trial_figures(
    name: str,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    probabilities: NDArray[np.float32],
    validation: Split,
    description: DataDescription,
) -> dict[str, bytes]:
    """Draw the figures of a finished trial, by the names of their files.

    history: a mapping an epoch with loss, accuracy, val_loss and val_accuracy. best_epoch: from 1. probabilities:
    (n, labels), predicted for the n validation images. description: of the data.
    """
    labels, predicted, confidence = validation.labels, probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = predicted != labels
    names, hardest = description.labels, description.hardest_label
    confusion = count_confusion(labels, predicted, names)
    matrix_title = f"Validation accuracy {(~wrong).mean():.4f} · {name}"

    def encode_gallery(mask: NDArray[np.bool_], heading: str) -> bytes:
        title = f"{heading}: {int(mask.sum())} of {len(mask)}, most confident first · {name}"
        gallery = validation.images[mask], labels[mask], predicted[mask], confidence[mask]
        return encode_png(plots.draw_misclassified(*gallery, names, title))

    figures = {
        "curves.png": encode_png(plots.draw_curves(history, best_epoch, name)),
        "confusion_matrix.png": encode_png(plots.draw_confusion_matrix(confusion.tolist(), names, matrix_title)),
        "misclassified.png": encode_gallery(wrong, "Wrong"),
    }
    if hardest is not None:
        hardest_mask = wrong & (labels == names.index(hardest))
        gallery = encode_gallery(hardest_mask, f"{hardest}s taken for something else")
        figures[f"misclassified_{hardest.lower()}.png"] = gallery
    return figures


def _encode_json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
