"""The files that a finished trial leaves in MLflow: figures, tables and predictions."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures import plots
from fmnist_sweep.report.figures.canvas import png

if TYPE_CHECKING:
    from fmnist_sweep.data import Split
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult


SHIRT = LABELS.index("Shirt")


def trial_artifacts(name: str, result: TrialResult, evaluation: Evaluation, validation: Split) -> dict[str, bytes]:
    """What a finished trial leaves behind beside its config, by name: figures, tables, predictions."""
    predicted = result.probabilities.argmax(axis=1)
    confidence = result.probabilities.max(axis=1)
    wrong = predicted != validation.labels
    shirts = wrong & (validation.labels == SHIRT)
    report = {"accuracy": evaluation.accuracy, **evaluation.report}

    def gallery(chosen: Any, what: str) -> bytes:
        title = f"{what}: {int(chosen.sum())} of {len(chosen)}, most confident first · {name}"
        images, labels = validation.images[chosen], validation.labels[chosen]
        return png(plots.misclassified(images, labels, predicted[chosen], confidence[chosen], LABELS, title))

    matrix_title = f"Validation accuracy {evaluation.accuracy:.4f} · {name}"
    return {
        "curves.png": png(plots.curves(result.history, result.best_epoch, name)),
        "confusion_matrix.png": png(plots.confusion_matrix(evaluation.confusion, LABELS, matrix_title)),
        "confusion_matrix.json": _json({"labels": list(LABELS), "matrix": evaluation.confusion}),
        "classification_report.json": _json(report),
        "misclassified.png": gallery(wrong, "Wrong"),
        "misclassified_shirt.png": gallery(shirts, "Shirts taken for something else"),
        "predictions.npz": _predictions(result, validation),
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _predictions(result: TrialResult, validation: Split) -> bytes:
    # Kept so that trials can later be compared image by image.
    with tempfile.TemporaryFile() as file:
        np.savez(file, index=validation.index, labels=validation.labels, probabilities=result.probabilities)
        file.seek(0)
        return file.read()
