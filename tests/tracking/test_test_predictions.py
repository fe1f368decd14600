"""What is logged of a model's predictions for the test images, into a real store."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.tracking.names import MIRRORED_ACCURACY, TEST_OPENED_TAG
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.test_predictions import log_test_predictions, read_test_predictions
from fmnist_sweep.tracking.trials import StoredTrial
from fmnist_sweep.training.augmentation import mirrors_images
from tests.support.small import splits

if TYPE_CHECKING:
    import keras


def make_lopsided_network() -> keras.Model:
    """A model that looks at the left half of an image only, so that a mirror image is another image to it."""
    import keras

    weights = np.random.default_rng(3).normal(0, 0.002, (28, 28, 10))
    weights[:, 14:] = 0
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.layers[-1].set_weights([weights.reshape(784, 10), np.zeros(10)])
    return model


@pytest.mark.parametrize("has_mirrored", [False, True])
def test_a_second_accuracy_is_of_probabilities_averaged_over_each_image_and_its_mirror_image(
    store: Store, has_mirrored: bool
) -> None:
    model, drawn = make_lopsided_network(), splits().train
    # Right for each image as it is, so that the second accuracy is a lower one.
    images = replace(drawn, labels=model.predict(drawn.images, verbose=0).argmax(axis=1).astype(np.uint8))
    run_id = store.client.create_run(store.experiment_id).info.run_id
    seen = np.zeros(len(images.labels), bool)
    loss = "sparse_categorical_crossentropy"
    once, again = (log_test_predictions(store, run_id, model, loss, images, seen, has_mirrored) for _ in range(2))
    one, other = (model.predict(way, verbose=0) for way in (images.images, images.images[:, :, ::-1]))
    expected = {"test_accuracy": one}
    if has_mirrored:
        expected[MIRRORED_ACCURACY] = (one + other) / 2
    right = {name: np.mean(each.argmax(axis=1) == images.labels) for name, each in expected.items()}
    assert right["test_accuracy"] == 1 and right.get(MIRRORED_ACCURACY, 0) < 1
    assert once == again == {**right, "test_loss": once["test_loss"]}
    assert store.client.get_run(run_id).data.metrics == once
    assert len(store.client.get_metric_history(run_id, "test_accuracy")) == 1
    np.testing.assert_allclose(read_test_predictions(store, run_id, "a run").probabilities, one, atol=1e-6)


@pytest.mark.parametrize(
    ("section", "mirrors"),
    [
        ({"name": "mirror_and_shift", "flip": True, "shift": 0}, True),
        ({"name": "mirror_and_shift", "flip": False, "shift": 1}, False),
        ({"flip": True, "shift": 0}, True),  # as it was before there were others
        ({"name": "alternate_and_erase", "shift": 1, "erase": 8}, True),
        ({"name": "somebodys", "flip": True}, False),
        ({}, False),
    ],
)
def test_only_an_augmentation_that_mirrors_does(section: dict[str, Any], mirrors: bool) -> None:
    texts = {f"train.augmentation.{key}": str(value) for key, value in section.items()}
    trial = StoredTrial("a", "a", "finished", {**texts, "train.augmentations": "1"}, {}, {}, 0, 1)
    assert trial.parse_section("train.augmentation") == section
    assert mirrors_images(section) is mirrors


def test_the_sentence_on_it_is_of_all_scored_runs_or_missing() -> None:
    def describe(*values: float | None) -> str:
        runs = [
            StoredTrial(str(seed), f"seed {seed}", "finished", {}, metrics, {TEST_OPENED_TAG: "then"}, 0, 1)
            for seed, value in enumerate(values)
            for metrics in [{} if value is None else {MIRRORED_ACCURACY: value}]
        ]
        configuration: Any = SimpleNamespace(name="adam")
        return Confirmations(configuration, "journal", tuple(runs)).describe_mirrored_accuracy()

    said = "mirror image, the predictions of adam have a test accuracy of 0.9450 ± 0.0014 (n=2). It decides nothing"
    assert said in describe(0.944, 0.946)
    assert "0.9440 (n=1)" in describe(0.944)
    assert describe() == describe(None, None) == describe(0.944, None) == ""
