"""Test predictions put into the order of others': matched by the hashes of the images, whatever file they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data.splits import hash_images_briefly
from fmnist_sweep.tracking.prediction_files import TestPredictions, pack_predictions, unpack_test_predictions

COUNT = 60


def predict(order: np.ndarray, *, hashed: bool = True, seed: int = 0) -> TestPredictions:
    """What one model predicts for the same images in this order."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (COUNT, 28, 28, 1)).astype(np.uint8)
    images[7], images[8] = images[5], images[6]  # the same image twice: with one label, and with two
    labels = np.arange(COUNT) % 10
    labels[7] = labels[5]
    probabilities = random.random((COUNT, 10)).astype(np.float32)
    probabilities[7], probabilities[8] = probabilities[5], probabilities[6]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return TestPredictions(
        np.arange(COUNT),
        labels[order],
        probabilities[order],
        twin_mask=(labels == 3)[order],
        image_hashes=hash_images_briefly(images[order]) if hashed else None,
    )


def list_arrays(predictions: TestPredictions) -> dict[str, Any]:
    """The arrays of a file of earlier releases."""
    names = {"index": "index", "labels": "labels", "probabilities": "probabilities", "seen": "twin_mask"}
    return {name: getattr(predictions, attribute) for name, attribute in names.items()}


SAME, OTHER = np.arange(COUNT), np.random.default_rng(1).permutation(COUNT)


def test_predictions_of_the_same_images_in_another_order_are_put_into_the_same() -> None:
    one, other = predict(SAME), predict(OTHER)
    found = other.reorder_as(one)
    assert found is not None
    for name in ("labels", "probabilities", "twin_mask", "image_hashes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    assert not np.array_equal(found.index, one.index)  # where they are in their own file


@pytest.mark.parametrize(
    "other",
    [
        predict(SAME, seed=2),
        predict(OTHER, seed=2),
        TestPredictions(**{**vars(predict(SAME)), "labels": predict(SAME).labels[::-1]}),
        predict(OTHER, hashed=False),
    ],
    ids=["other images", "other images in another order", "other labels", "no hashes and another order"],
)
def test_predictions_of_other_images_are_not(other: TestPredictions) -> None:
    assert other.reorder_as(predict(SAME)) is None


def test_files_of_earlier_releases_are_matched_by_their_order() -> None:
    old, new = predict(SAME, hashed=False), predict(SAME)
    assert new.reorder_as(old) is new
    assert old.reorder_as(new) is old


@pytest.mark.parametrize("hashed", [True, False])
def test_hashes_are_kept_and_may_be_missing(hashed: bool) -> None:
    one = predict(SAME, hashed=hashed)
    arrays = list_arrays(one)
    if one.image_hashes is not None:
        arrays["image_hashes"] = one.image_hashes
    found = unpack_test_predictions(pack_predictions(**arrays))
    np.testing.assert_array_equal(found.image_hashes, one.image_hashes)
    assert (found.image_hashes is None) is not hashed


def test_hashes_of_the_wrong_kind_are_damage() -> None:
    one = predict(SAME)
    arrays = list_arrays(one)
    with pytest.raises(ValueError, match="image_hashes has the shape"):
        unpack_test_predictions(pack_predictions(**arrays, image_hashes=np.zeros((COUNT, 2))))
