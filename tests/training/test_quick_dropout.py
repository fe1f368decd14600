"""Quick dropout: the very masks of Keras, so that every bit of a training stays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.training import quick_dropout
from fmnist_sweep.training.compilation import compile_model
from fmnist_sweep.training.events import TrialResult
from fmnist_sweep.training.quick_dropout import QuickDropout
from tests.support.small import TINY, finished, spec, splits

DATA = splits(train=90)  # the last batch of 16 is shorter
DROPPING = (*TINY, "regularization.dropout=0.3", "regularization.dropout_after=every_layer")
PRECISIONS = ("float32", "mixed_bfloat16")
SHAPES = ((16, 7, 7, 3), (5, 7, 7, 3))  # a full batch and a shorter one, of no multiple of four units


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_dropout, "MIN_UNITS", 1)


def train_step(layer: Any, plain: keras.layers.Dropout, shape: tuple[int, ...]) -> list[Any]:
    """Outputs and the gradient of inputs of one step in training, and the state of the random numbers after it."""
    generator = np.random.default_rng(1)
    inputs, weights = (tf.constant(generator.normal(size=shape), plain.compute_dtype) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    values = [outputs, tape.gradient(outputs, inputs, output_gradients=weights)]
    return [*(tf.cast(value, tf.float32).numpy() for value in values), plain.seed_generator.state.numpy()]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rate", [0.001, 0.2, 0.25, 0.7, 0.999])
def test_it_drops_what_keras_drops_and_moves_its_state_as_keras_does(rate: float, precision: str) -> None:
    steps = []
    for is_quick in (True, False):
        plain = keras.layers.Dropout(rate, seed=2**40 + 5, dtype=precision)
        plain(keras.Input(SHAPES[0][1:]))
        layer = QuickDropout(plain, SHAPES[0][0]) if is_quick else plain
        steps.append([value for shape in SHAPES for value in train_step(layer, plain, shape)])
    for ours, theirs in zip(*steps, strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("infinite", [np.inf, np.nan])
def test_what_is_dropped_is_zero_whatever_it_was(infinite: float) -> None:
    plain = keras.layers.Dropout(0.5, seed=1)
    plain(keras.Input((100,)))
    outputs = QuickDropout(plain, 4)(tf.fill((4, 100), infinite), training=True).numpy()
    assert 100 < (outputs == 0).sum() < 300


def train(overrides: list[str]) -> TrialResult:
    return finished(spec([*DROPPING, "train.epochs=2", *overrides]), DATA)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            ["train.precision=mixed_bfloat16", "regularization.batch_normalization=true"], marks=pytest.mark.slow
        ),
        ["train.precision=float32"],
    ],
    ids=str,
)
def test_a_trial_is_bit_for_bit_the_one_without_it(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(overrides)
    monkeypatch.setattr(quick_dropout, "MIN_UNITS", 1)
    trainer = compile_model(spec([*DROPPING, *overrides]).config, FASHION_MNIST).trainer
    assert any(isinstance(layer, QuickDropout) for layer in trainer.layers)
    quick = train(overrides)
    assert np.array_equal(quick.probabilities, plain.probabilities)
    for ours, theirs in zip(quick.history, plain.history, strict=True):
        assert {name: ours[name] for name in ("loss", "val_loss")} == {
            name: theirs[name] for name in ("loss", "val_loss")
        }


@pytest.mark.usefixtures("_quick")
def test_its_checkpoints_are_those_of_the_plain_model() -> None:
    """The same variables in the same order, so that a trial begun without it continues with it."""
    compiled = compile_model(spec(DROPPING).config, FASHION_MNIST)
    assert compiled.trainer is not compiled.plain
    for kind in ("variables", "trainable_variables"):
        ours, theirs = (getattr(model, kind) for model in (compiled.trainer, compiled.plain))
        assert [variable.path for variable in ours[: len(theirs)]] == [variable.path for variable in theirs]


def test_a_small_batch_is_left_to_keras() -> None:
    compiled = compile_model(spec(DROPPING).config, FASHION_MNIST)
    assert compiled.trainer is compiled.plain


def test_what_xla_compiles_is_shared_by_batches_of_nearly_one_size() -> None:
    sizes = {quick_dropout._round_up(count) for count in range(2**16, 2**17)}
    assert len(sizes) == 17
    assert all(quick_dropout._round_up(count) < 1.07 * count for count in range(2**16, 2**17, 100))
