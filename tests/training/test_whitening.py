"""The frozen first layer: what it makes of patches, and that it follows from the images alone."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.training import trial
from fmnist_sweep.training.layers import WHITENING_LAYER
from fmnist_sweep.training.whitening import EPSILON, compute_whitening
from tests.support.small import TINY, finished, spec, splits


def make_smooth_images(n: int, side: int, channels: int) -> NDArray[np.uint8]:
    """Images whose neighbouring pixels are alike, as those of photographs."""
    noise = np.random.default_rng(0).normal(size=(n, side + 3, side + 3, channels))
    smooth = sum(noise[:, down : down + side, across : across + side] for down in range(4) for across in range(4))
    images: NDArray[np.uint8] = np.clip(128 + 20 * np.asarray(smooth), 0, 255).astype(np.uint8)
    return images


def compute_layer(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the layer makes of images: one row for each patch."""
    kernels, offsets = compute_whitening(images)
    layer = keras.layers.Conv2D(kernels.shape[-1], kernels.shape[:2], padding="same")
    layer.build((None, *images.shape[1:]))
    layer.set_weights([kernels, offsets])
    outputs = np.asarray(layer(images.astype(np.float32) / 255), np.float64)
    return outputs.reshape(-1, outputs.shape[-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_become_uncorrelated_with_a_mean_of_zero_and_nearly_unit_variance(channels: int) -> None:
    images = make_smooth_images(60, 16, channels)
    outputs = compute_layer(images)
    half = 4 * channels
    assert np.allclose(outputs[:, :half], -outputs[:, half:], atol=1e-4), "once with each sign"
    assert outputs.mean(axis=0) == pytest.approx(0, abs=1e-3)
    covariance = np.cov(outputs[:, :half].T, bias=True)
    padded = np.pad(images / 255, ((0, 0), (0, 1), (0, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(1, 2)).reshape(-1, half)
    variances = np.linalg.eigvalsh(np.cov(patches.T, bias=True))
    assert np.diag(covariance) == pytest.approx(variances / (variances + EPSILON), abs=1e-3)
    assert covariance - np.diag(np.diag(covariance)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shape", [(5, 28, 28, 1), (3, 1, 1, 3)])
def test_images_without_any_variance_leave_the_layer_finite(shape: tuple[int, int, int, int]) -> None:
    for weights in compute_whitening(np.full(shape, 7, np.uint8)):
        assert np.isfinite(weights).all()


def test_a_part_of_many_images_is_looked_at_and_stands_for_all_of_them() -> None:
    images = make_smooth_images(40, 28, 1)
    many = np.repeat(images, 300, axis=0)
    many[1::2] = 0  # at odd places, where none is looked at
    for few, half in zip(compute_whitening(images), compute_whitening(many), strict=True):
        assert np.array_equal(few, half), "sums are exact, and so are their ratios"


def test_a_trial_leaves_the_layer_as_its_training_images_have_it_and_saves_it(tmp_path: Path) -> None:
    data = splits()
    result = finished(spec([*TINY, "model.whitening=true", "train.epochs=2", "optimizer.learning_rate=0.01"]), data)
    path = tmp_path / "model.keras"
    path.write_bytes(result.model)
    model = trial.load_model(path)
    layer = model.get_layer(WHITENING_LAYER)
    for saved, expected in zip(layer.get_weights(), compute_whitening(data.train.images), strict=True):
        assert np.array_equal(saved, expected)
    assert type(layer) is keras.layers.Conv2D and not layer.trainable
    np.testing.assert_allclose(model.predict(data.validation.images, verbose=0), result.probabilities, atol=1e-5)
