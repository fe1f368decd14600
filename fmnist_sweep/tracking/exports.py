"""A registered version exported to other formats: each file is run in its own runtime before any of them is kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import ConfigError, PromotionRefused, StoreError
from fmnist_sweep.text import shorten_text
from fmnist_sweep.tracking.models import hash_predictions
from fmnist_sweep.tracking.names import PRECISION_TAG, PREDICTIONS_SHA256_TAG, SHA256_TAG
from fmnist_sweep.tracking.prediction_files import read_intact_predictions
from fmnist_sweep.tracking.queries import find_run
from fmnist_sweep.tracking.trial_data import load_trial_splits
from fmnist_sweep.tracking.trials import build_trials
from fmnist_sweep.tracking.version_files import load_version
from fmnist_sweep.training.export_formats import (
    ExportFailure,
    ExportFormat,
    make_float32_copy,
    measure_bytes,
    write_export,
)
from fmnist_sweep.training.export_runtime import RuntimeFailure, measure_export

if TYPE_CHECKING:
    from fmnist_sweep.tracking.prediction_files import Predictions
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

EXPORT_FILE = "export.json"


@dataclass(frozen=True)
class Tolerance:
    """How far an export's probabilities may be from the stored ones, and why.

    difference: the largest of any probability. changed: the share of images whose likeliest label may be another.
    """

    difference: float
    changed: float
    reason: str


# Measured by benchmarks/exports.py; docs/using-the-model.md has the figures. A wrong layer gives differences near 1.
FLOAT32_TOLERANCE = Tolerance(1e-3, 0.001, "it was trained in float32, and only the order of sums differs")
BFLOAT16_TOLERANCE = Tolerance(
    0.15, 0.015, "it was trained in bfloat16, whose eight bits round every layer, and its exports compute in float32"
)


@dataclass(frozen=True)
class ExportedFile:
    """An export that gave the stored predictions in its runtime, and what it costs on one core.

    milliseconds: for one image at a time; batch_milliseconds: an image among many. difference: the largest of any
    probability to the stored one; changed: how many images got another label. accuracy: on the validation images.
    """

    export_format: ExportFormat
    size_bytes: int
    milliseconds: float
    batch_milliseconds: float
    accuracy: float
    difference: float
    changed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as export.json has them."""
        return {
            "file": self.export_format.file_name,
            "runtime": self.export_format.runtime,
            "bytes": self.size_bytes,
            "milliseconds": self.milliseconds,
            "milliseconds_among_many": self.batch_milliseconds,
            "validation_accuracy": self.accuracy,
            "largest_difference": self.difference,
            "labels_changed": self.changed,
        }


@dataclass(frozen=True)
class VersionExport:
    """The exports of a version in their folder. image_count, accuracy: of the stored predictions they agree with."""

    folder: Path
    files: tuple[ExportedFile, ...]
    image_count: int
    accuracy: float
    tolerance: Tolerance


def export_version(
    store: Store,
    version: RegisteredVersion,
    formats: Sequence[ExportFormat],
    folder: Path,
    data_dir: str | None,
    say: Callable[[str], None],
    raise_if_ended: Callable[[], None] = lambda: None,
) -> VersionExport:
    """Export a version into a new folder, which appears once every file gave the stored predictions.

    data_dir: the folder of the data, if a sweep would not find it by itself. raise_if_ended: raises KeyboardInterrupt
    if the command was to end meanwhile (interrupts.end_at_signals). Errors: ConfigError if the folder is there
    already, DataError without the data, StoreError without the predictions, PromotionRefused for an export that cannot
    be written, loaded or does not give them.
    """
    _refuse_existing(folder)
    images, predictions = _read_stored_predictions(store, version, data_dir)
    model = load_version(store, version)
    copy = make_float32_copy(model)
    tolerance = BFLOAT16_TOLERANCE if _computes_in_bfloat16(model, version) else FLOAT32_TOLERANCE
    with _stage_folder(folder) as stage:
        files = []
        for export_format in formats:
            say(f"{export_format.name}: exporting, then loading it in {export_format.runtime} in a fresh process ...")
            files.append(_export(copy, export_format, stage, images, predictions, tolerance))
            raise_if_ended()
        accuracy = float(predictions.correct_mask.mean())
        exported = VersionExport(folder, tuple(files), len(images), accuracy, tolerance)
        (stage / EXPORT_FILE).write_text(json.dumps(_describe(version, model, exported), indent=1), encoding="utf-8")
    return exported


def _refuse_existing(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"--folder={folder}: it is there already, and nothing is overwritten; name a new one.")


@contextmanager
def _stage_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that becomes it at the end of the block; if the block raises, nothing remains."""
    try:
        stage = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-")
    except OSError as error:
        raise ConfigError(
            f"--folder={folder} cannot be made in {folder.parent} ({error.strerror or error}): name another place."
        ) from None
    with stage as name:
        content = Path(name, folder.name)
        content.mkdir()
        yield content
        _refuse_existing(folder)
        content.rename(folder)


def _read_stored_predictions(
    store: Store, version: RegisteredVersion, data_dir: str | None
) -> tuple[NDArray[np.uint8], Predictions]:
    """The validation images of a version's run, and what was predicted for them when it was registered."""
    run = None if version.run_id is None else find_run(store, version.run_id)
    trials = [] if run is None else build_trials([run])
    if not trials:
        raise StoreError(
            f"{version.full_name} comes from no run of this store, so there are no predictions to check an export by."
        )
    predictions = read_intact_predictions(store, trials[0].run_id)
    registered = version.tags.get(PREDICTIONS_SHA256_TAG)
    if predictions is None or (registered and hash_predictions(predictions.probabilities) != registered):
        raise StoreError(
            f"the predictions.npz of {version.full_name} (run {trials[0].run_id}) is missing, damaged or altered, so "
            "an export cannot be checked by it: put it back from a copy, or name another version."
        )
    return load_trial_splits(store, trials[0], data_dir).validation.images, predictions


def _computes_in_bfloat16(model: Any, version: RegisteredVersion) -> bool:
    is_rounded = any(layer.dtype_policy.compute_dtype != "float32" for layer in model.layers)
    return is_rounded or "bfloat16" in version.tags.get(PRECISION_TAG, "")


def _export(
    model: Any,
    export_format: ExportFormat,
    folder: Path,
    images: NDArray[np.uint8],
    predictions: Predictions,
    tolerance: Tolerance,
) -> ExportedFile:
    try:
        path = write_export(model, export_format, folder)
    except ExportFailure as error:
        raise PromotionRefused(
            f"{export_format.name}: Keras cannot export this model ({shorten_text(str(error), 300)}): leave that "
            "format out."
        ) from None
    try:
        measured = measure_export(export_format.name, path, images)
    except RuntimeFailure as error:
        raise PromotionRefused(
            f"{export_format.name}: {export_format.runtime} cannot run what was exported "
            f"({shorten_text(str(error), 300)}): leave that format out."
        ) from None
    difference, changed = compare_predictions(export_format.name, measured.probabilities, predictions, tolerance)
    return ExportedFile(
        export_format=export_format,
        size_bytes=measure_bytes(path),
        milliseconds=measured.milliseconds,
        batch_milliseconds=measured.batch_milliseconds,
        accuracy=float((measured.probabilities.argmax(axis=1) == predictions.labels).mean()),
        difference=difference,
        changed=changed,
    )


def compare_predictions(
    name: str, probabilities: NDArray[np.float32], predictions: Predictions, tolerance: Tolerance
) -> tuple[float, int]:
    """The largest difference of an export's probabilities to the stored ones, and how many labels are others.

    name: of the format. Raises PromotionRefused for more than the tolerance.
    """
    expected = predictions.probabilities
    if probabilities.shape != expected.shape or not np.isfinite(probabilities).all():
        raise PromotionRefused(
            f"{name}: it predicts {probabilities.shape}, or what are no numbers; expected probabilities of shape "
            f"{expected.shape}."
        )
    difference = float(np.abs(probabilities - expected).max())
    changed = int((probabilities.argmax(axis=1) != predictions.predicted_labels).sum())
    if difference > tolerance.difference or changed > tolerance.changed * len(expected):
        raise PromotionRefused(
            f"{name}: it does not give the stored predictions: the largest difference of a probability is "
            f"{difference:.4g} and {changed} of {len(expected)} labels are others, but at most "
            f"{tolerance.difference:g} and {tolerance.changed:.1%} are expected ({tolerance.reason}); nothing was kept."
        )
    return difference, changed


def _describe(version: RegisteredVersion, model: Any, exported: VersionExport) -> dict[str, Any]:
    """What whoever gets the files needs to know, as plain values."""
    tolerance, labels = exported.tolerance, version.data.labels
    return {
        "model": f"models:/{version.model_name}/{version.number}",
        "run_id": version.run_id,
        "sha256_of_the_keras_file": version.tags.get(SHA256_TAG),
        "input": {"shape": ["n", *model.input_shape[1:]], "dtype": "uint8", "values": "raw pixels, 0 to 255"},
        "output": {"shape": ["n", len(labels)], "dtype": "float32", "labels": list(labels)},
        "checked_on": {"images": exported.image_count, "validation_accuracy": exported.accuracy},
        "tolerance": {"difference": tolerance.difference, "changed": tolerance.changed, "reason": tolerance.reason},
        "formats": {each.export_format.name: each.as_dict() for each in exported.files},
    }
