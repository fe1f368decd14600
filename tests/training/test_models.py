"""Builders: keyword arguments in, an uncompiled model out, of raw pixels and ten probabilities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest

from fmnist_sweep.training import models

PLAIN: dict[str, Any] = {
    "dropout": 0.0,
    "dropout_after": "dense",
    "batch_normalization": False,
    "batch_normalization_layers": None,
    "l2": 0.0,
}
CNN = {"builder": "cnn", "filters": 4, "conv_layers": 2, "kernel_size": 3, "dense_units": 8}
STACK = {"builder": "conv_stack", "blocks": [[4, 5], [6]], "kernel_size": 3, "dense_widths": [8, 9]}
MLP = {"builder": "mlp", "dense_widths": [8, 9]}


def built(model: dict[str, Any], **regularization: Any) -> keras.Model:
    return models.build_model(model, {**PLAIN, **regularization})


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def test_every_builder_is_tried_here() -> None:
    assert {model["builder"] for model in (CNN, STACK, MLP)} == set(models.BUILDERS)


@pytest.mark.parametrize("model", [CNN, STACK, MLP], ids=lambda model: str(model["builder"]))
def test_a_model_turns_raw_pixels_into_ten_probabilities(model: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    probabilities = built(model).predict(pixels, verbose=0)
    assert probabilities.shape == (3, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("model", [CNN, STACK, MLP], ids=lambda model: str(model["builder"]))
def test_pixels_are_scaled_inside_the_model(model: dict[str, Any]) -> None:
    made = built(model)
    scale = made.get_layer("scale")
    assert float(scale(np.full((1, 28, 28, 1), 255, np.uint8)).numpy().max()) == pytest.approx(1.0)


@pytest.mark.parametrize("model", [CNN, STACK, MLP], ids=lambda model: str(model["builder"]))
def test_a_model_comes_uncompiled(model: dict[str, Any]) -> None:
    assert not built(model).compiled


def test_a_cnn_has_equally_wide_convolutions_each_followed_by_a_pooling() -> None:
    model = built({**CNN, "conv_layers": 3})
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 4, 4]
    assert Counter(kinds(model))["MaxPooling2D"] == 3
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 10]


@pytest.mark.parametrize(("poolings", "side"), [(1, 14), (2, 7), (3, 3), (4, 1)])
def test_four_poolings_are_possible_and_leave_one_pixel(poolings: int, side: int) -> None:
    model = built({**CNN, "conv_layers": poolings})
    flat = next(layer for layer in model.layers if isinstance(layer, keras.layers.Flatten))
    assert flat.input.shape == (None, side, side, 4)


def test_a_stack_is_as_wide_as_its_blocks_say_and_pools_once_a_block() -> None:
    model = built(STACK)
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 5, 6]
    assert Counter(kinds(model))["MaxPooling2D"] == 2
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 9, 10]


def test_a_dense_network_has_no_convolution() -> None:
    model = built(MLP)
    assert Counter(kinds(model))["Conv2D"] == 0
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 9, 10]


@pytest.mark.parametrize(("after", "count"), [("dense", 2), ("every_layer", 5)])
def test_dropout_follows_the_layers_it_is_asked_after(after: str, count: int) -> None:
    model = built(STACK, dropout=0.4, dropout_after=after)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.4] * count
    # Before the output comes no dropout of its own, and none after it.
    assert kinds(model)[-1] == "Dense"


def test_no_dropout_is_no_layer() -> None:
    assert "Dropout" not in kinds(built(STACK, dropout=0.0, dropout_after="every_layer"))


@pytest.mark.parametrize(("most", "count"), [(None, 5), (2, 2), (1, 1), (99, 5)])
def test_normalisation_stands_between_a_layer_and_its_activation_in_the_first_layers(
    most: int | None, count: int
) -> None:
    names = kinds(built(STACK, batch_normalization=True, batch_normalization_layers=most))
    assert names.count("BatchNormalization") == count
    for number, kind in enumerate(names):
        if kind == "BatchNormalization":
            assert names[number - 1] in ("Conv2D", "Dense")
            assert names[number + 1] == "ReLU"


def test_a_normalised_layer_has_no_bias_and_the_output_has_one() -> None:
    model = built(STACK, batch_normalization=True, batch_normalization_layers=1)
    weighted = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert [layer.use_bias for layer in weighted] == [False, True, True, True, True, True]


def test_the_penalty_is_on_every_hidden_kernel_and_not_on_the_output() -> None:
    model = built(STACK, l2=0.01)
    weighted = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert [layer.kernel_regularizer is not None for layer in weighted] == [True] * 5 + [False]
    assert len(model.losses) == 5
    assert built(STACK).losses == []


@pytest.mark.parametrize("builder", models.BUILDERS)
def test_a_builder_takes_keywords_only(builder: str) -> None:
    with pytest.raises(TypeError):
        models.BUILDERS[builder](4, 2)
