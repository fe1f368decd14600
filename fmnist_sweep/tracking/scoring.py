"""The one door to the test images: models that still predict what was scored for them, and what they say of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.data import DataConfig, Split, open_test
from fmnist_sweep.tracking.models import download_model, load_keras_file, load_verified_model
from fmnist_sweep.tracking.names import MIRRORED_ACCURACY
from fmnist_sweep.tracking.test_predictions import find_training_twins, log_test_predictions
from fmnist_sweep.training.augmentation import mirrors_images

if TYPE_CHECKING:
    from fmnist_sweep.tracking.prediction_files import Predictions
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial


@dataclass(frozen=True)
class CheckedModel:
    """A trial's saved model in a file of this machine, which predicts what was scored. name: of the trial."""

    trial: StoredTrial
    name: str
    model_id: str
    file: Path


def fetch_checked_model(
    store: Store, trial: StoredTrial, name: str, validation: Split, predictions: Predictions, folder: Path
) -> CheckedModel:
    """Download a trial's model into a new folder, and check that it predicts what was scored. Raises UnusableModel.

    name: of the trial, for messages. predictions: of the validation images, as the trial logged them.
    """
    folder.mkdir()
    model_id, file = download_model(store, trial.run_id, folder)
    load_verified_model(name, file, validation.images, predictions.probabilities)
    return CheckedModel(trial, name, model_id, file)


def score_on_test_images(
    store: Store,
    models: Sequence[CheckedModel],
    data: DataConfig,
    *,
    reason: str,
    ledger: Path,
    say: Callable[[str], None],
    on_opened: Callable[[], None] = lambda: None,
) -> None:
    """Open the test images once for all models, and log each model's predictions for them with its run.

    reason: for the ledger. say: takes a line for each model. on_opened: called when the opening is recorded, before
    anything is scored. Raises DataError if the test images cannot be opened.
    """
    images = open_test(data, reason=reason, ledger=ledger)
    on_opened()
    twin_mask = find_training_twins(data, images)
    for model in models:
        loss = str(model.trial.parse_value("train.loss"))
        has_mirrored = mirrors_images(model.trial.parse_section("train.augmentation"))
        keras_model = load_keras_file(model.file)
        scores = log_test_predictions(
            store, model.trial.run_id, keras_model, loss, images, twin_mask, has_mirrored=has_mirrored
        )
        mirrored = f", averaged with mirror images {scores[MIRRORED_ACCURACY]:.4f}" if has_mirrored else ""
        say(f"{model.name}: test accuracy {scores['test_accuracy']:.4f}{mirrored}")
