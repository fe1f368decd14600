"""What a run's saved model predicts for the test images: computed once, and kept with the run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import DataConfig, Split, load_splits
from fmnist_sweep.data.sources import reread_train
from fmnist_sweep.data.splits import hash_images_briefly, hash_in_any_order
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.names import MIRRORED_ACCURACY, TEST_OPENED_TAG, TEST_PART_TAG, TEST_PREDICTIONS_FILE
from fmnist_sweep.tracking.prediction_files import TestPredictions, pack_predictions, unpack_test_predictions
from fmnist_sweep.tracking.run_files import UnreadableArtifact, log_files, read_artifact

if TYPE_CHECKING:
    import keras

    from fmnist_sweep.tracking.store import Store

_BATCH_SIZE = 500  # images; it divides their number, since Keras would trace again for a shorter last batch


def read_test_predictions(store: Store, run_id: str, title: str) -> TestPredictions:
    """The test predictions of a run that has the tag TEST_OPENED_TAG. Raises StoreError. title: of the run."""
    try:
        content = read_artifact(store, run_id, TEST_PREDICTIONS_FILE)
    except UnreadableArtifact as error:
        raise _build_damage_error(title, error) from None
    if content is None:
        raise StoreError(f"{title} has no {TEST_PREDICTIONS_FILE} any more: delete that run and train it again.")
    try:
        return unpack_test_predictions(content)
    except ValueError as error:
        raise _build_damage_error(title, error) from None


def _build_damage_error(title: str, error: ValueError) -> StoreError:
    return StoreError(f"{TEST_PREDICTIONS_FILE} of {title} is damaged ({error}): delete that run and train it again.")


def find_training_twins(data: DataConfig, images: Split) -> NDArray[np.bool_]:
    """Mask (n,) of the test images that the training file holds too, or nearly so."""
    return find_near_twins(images.images, reread_train(data, load_splits(data).origin).images)


def log_test_predictions(
    store: Store,
    run_id: str,
    model: keras.Model,
    loss: str,
    images: Split,
    twin_mask: NDArray[np.bool_],
    has_mirrored: bool = False,
) -> dict[str, float]:
    """Log what a run's model predicts for the test images, and return its scores. Repeating it changes nothing.

    loss: the one that it was trained with. twin_mask: as of TestPredictions. has_mirrored: whether it was trained on
    mirror images, too; then a second accuracy is of its probabilities averaged over each image and its mirror image.
    """
    import keras
    from mlflow.entities import Metric, RunTag

    from fmnist_sweep.training.batches import predict_images
    from fmnist_sweep.training.optimization import encode_targets

    probabilities = np.asarray(predict_images(model, images.images, _BATCH_SIZE), np.float32)
    per_image = keras.losses.get(loss)(encode_targets(loss, images.labels, probabilities.shape[1]), probabilities)
    scores = {
        "test_accuracy": float((probabilities.argmax(axis=1) == images.labels).mean()),
        # With the penalties on the weights, as a trial's val_loss.
        "test_loss": float(keras.ops.mean(per_image)) + float(sum(model.losses)),
    }
    if has_mirrored:
        mirrored = predict_images(model, images.images[:, :, ::-1], _BATCH_SIZE)
        scores[MIRRORED_ACCURACY] = float(((probabilities + mirrored).argmax(axis=1) == images.labels).mean())
    content = pack_predictions(
        index=images.index,
        labels=images.labels,
        probabilities=probabilities,
        seen=twin_mask,
        image_hashes=hash_images_briefly(images.images),
    )
    now = datetime.now(UTC)
    log_files(store, run_id, {TEST_PREDICTIONS_FILE: content})
    # The tag comes last, with the metrics, so that a run with the tag has the file. MLflow commits metrics before tags:
    # a kill may have left the metrics alone. Logged again, with another time, they would be second values.
    logged_metrics = store.client.get_run(run_id).data.metrics
    timestamp = int(now.timestamp() * 1000)
    entries = [Metric(key, value, timestamp, 0) for key, value in scores.items() if logged_metrics.get(key) != value]
    tags = [
        RunTag(TEST_PART_TAG, hash_in_any_order(images)),
        RunTag(TEST_OPENED_TAG, now.isoformat(timespec="seconds")),
    ]
    store.client.log_batch(run_id, metrics=entries, tags=tags)
    return scores
