"""The files that a finished trial leaves in MLflow: figures, tables and predictions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures import plots
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.prediction_files import pack_predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_sweep.data import Split
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult


_SHIRT = LABELS.index("Shirt")


def make_trial_artifacts(name: str, result: TrialResult, evaluation: Evaluation, validation: Split) -> dict[str, bytes]:
    """Make the files of a finished trial, by name: figures, tables and predictions."""
    predicted = result.probabilities.argmax(axis=1)
    confidence = result.probabilities.max(axis=1)
    wrong = predicted != validation.labels
    shirts = wrong & (validation.labels == _SHIRT)
    report = {"accuracy": evaluation.accuracy, **evaluation.report}

    def encode_gallery(mask: NDArray[np.bool_], heading: str) -> bytes:
        title = f"{heading}: {int(mask.sum())} of {len(mask)}, most confident first · {name}"
        images, labels = validation.images[mask], validation.labels[mask]
        return encode_png(plots.draw_misclassified(images, labels, predicted[mask], confidence[mask], LABELS, title))

    matrix_title = f"Validation accuracy {evaluation.accuracy:.4f} · {name}"
    return {
        "curves.png": encode_png(plots.draw_curves(result.history, result.best_epoch, name)),
        "confusion_matrix.png": encode_png(plots.draw_confusion_matrix(evaluation.confusion, LABELS, matrix_title)),
        "confusion_matrix.json": _encode_json({"labels": list(LABELS), "matrix": evaluation.confusion}),
        "classification_report.json": _encode_json(report),
        "misclassified.png": encode_gallery(wrong, "Wrong"),
        "misclassified_shirt.png": encode_gallery(shirts, "Shirts taken for something else"),
        # Kept so that trials can later be compared image by image.
        PREDICTIONS_FILE: pack_predictions(
            index=validation.index, labels=validation.labels, probabilities=result.probabilities
        ),
    }


def _encode_json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
