"""Fused normalisation: TensorFlow's operation trains the weights of plain Keras layers, which predict and are saved."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.training.compilation import compile_model
from fmnist_sweep.training.events import TrialResult
from fmnist_sweep.training.fused_normalization import FusedBatchNormalization
from tests.support.small import TINY, finished, spec, splits

DATA = splits()
NORMALIZED = (*TINY, "regularization=dropout_bn", "regularization.dropout=0.1", "train.epochs=2")
PRECISIONS = ("float32", "mixed_bfloat16")
SHAPES = ((16, 6, 5, 3), (16, 3), (1, 3))


def draw(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


def train_step(layer: Any, plain: keras.layers.BatchNormalization, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Outputs and averages after one step in training, and the gradients of inputs, scale and offset."""
    inputs = tf.constant(draw(shape, 1), plain.compute_dtype)
    weights = tf.constant(draw(shape, 2))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        total = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
    gradients = tape.gradient(total, [inputs, plain.gamma.value, plain.beta.value])
    values = [outputs, plain.moving_mean.value, plain.moving_variance.value, *gradients]
    return [tf.cast(value, tf.float32).numpy() for value in values]


def build_plain(shape: tuple[int, ...], dtype: str) -> keras.layers.BatchNormalization:
    plain = keras.layers.BatchNormalization(dtype=dtype)
    plain.build((None, *shape[1:]))
    plain.set_weights([draw((3,), seed) ** 2 for seed in range(4)])
    return plain


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_is_that_of_keras_but_for_rounding(shape: tuple[int, ...], precision: str) -> None:
    theirs_plain, ours_plain = build_plain(shape, precision), build_plain(shape, precision)
    theirs = train_step(theirs_plain, theirs_plain, shape)
    ours = train_step(FusedBatchNormalization(ours_plain), ours_plain, shape)
    tolerance = 1e-4 if precision == "float32" else 0.05
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(other).max())))


def test_predicting_is_left_to_the_plain_layer() -> None:
    plain = build_plain((4, 3), "float32")
    inputs = draw((4, 3), 1)
    assert np.array_equal(FusedBatchNormalization(plain)(inputs, training=False), plain(inputs, training=False))
    assert np.array_equal(plain.get_weights()[2], draw((3,), 2) ** 2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_trainer_has_the_very_weights_of_the_plain_model(precision: str) -> None:
    config = spec([*NORMALIZED, f"train.precision={precision}"]).config
    compiled = compile_model(config, FASHION_MNIST)
    assert [type(layer).__module__.partition(".")[0] for layer in compiled.plain.layers] == ["keras"] * len(
        compiled.plain.layers
    )
    plain, trainer = compiled.plain, compiled.trainer
    for kind in ("trainable_variables", "non_trainable_variables"):
        assert [id(variable) for variable in getattr(plain, kind)] == [
            id(variable) for variable in getattr(trainer, kind)
        ]
    assert any(isinstance(layer, FusedBatchNormalization) for layer in trainer.layers)
    assert {layer.compute_dtype for layer in trainer.layers} == {layer.compute_dtype for layer in plain.layers}


@pytest.mark.parametrize("override", ["regularization.batch_normalization=false", "train.normalization=keras"])
def test_without_it_the_plain_model_is_trained_itself(override: str) -> None:
    compiled = compile_model(spec([*NORMALIZED, override]).config, FASHION_MNIST)
    assert compiled.trainer is compiled.plain


def load_plainly(result: TrialResult, folder: Path) -> keras.Model:
    """With Keras alone, which knows no class of ours and runs no code of the file."""
    path = folder / "model.keras"
    path.write_bytes(result.model)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_saved_is_plain_keras_and_predicts_what_was_scored(precision: str, tmp_path: Path) -> None:
    result = finished(spec([*NORMALIZED, f"train.precision={precision}"]), DATA)
    with zipfile.ZipFile(BytesIO(result.model)) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert all(layer["module"].startswith("keras") and layer["registered_name"] is None for layer in layers)
    loaded = load_plainly(result, tmp_path)
    assert {type(layer) for layer in loaded.layers} >= {keras.layers.BatchNormalization}
    images = DATA.validation.images
    assert np.array_equal(loaded.predict(images, batch_size=len(images), verbose=0), result.probabilities)
    accuracy = (result.probabilities.argmax(axis=1) == DATA.validation.labels).mean()
    assert accuracy == result.history[result.best_epoch - 1]["val_accuracy"]


@pytest.mark.slow
def test_it_learns_as_keras_does() -> None:
    overrides = [*NORMALIZED, "train.epochs=12", "optimizer.learning_rate=0.01"]
    accuracies = [
        finished(spec([*overrides, f"train.normalization={kind}"]), DATA).history[-1]["accuracy"]
        for kind in ("fused", "keras")
    ]
    assert min(accuracies) > 0.8, accuracies
