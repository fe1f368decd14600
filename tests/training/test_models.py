"""Builders: keyword arguments in, an uncompiled model out, of raw pixels and ten probabilities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data.description import DataDescription
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.training import models
from fmnist_sweep.training.layers import WHITENING_LAYER
from fmnist_sweep.training.poolings import refuse_deep_models

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


@pytest.mark.parametrize(("side", "layers"), [(64, 6), (12, 4)])
def test_an_image_is_halved_until_it_is_one_pixel(side: int, layers: int) -> None:
    model = models.build_model({**CNN, "conv_layers": layers}, PLAIN, (side, side, 3), 5)
    assert Counter(kinds(model))["MaxPooling2D"] == side.bit_length() - 1
    assert model.output_shape == (None, 5)


def describe(*shape: int) -> DataDescription:
    return DataDescription("pictures", (shape[0], shape[1], 3), ("a", "b"))


@pytest.mark.parametrize(
    ("model", "fits", "is_too_small"),
    [
        ({**CNN, "conv_layers": 6}, (200, 64), (200, 63)),
        ({**CNN, "conv_layers": {"tune": "int", "min_value": 2, "max_value": 5}}, (40, 32), (31, 40)),
        ({**STACK, "blocks": [[4]] * 7}, (128, 128), (127, 127)),
    ],
)
def test_more_poolings_than_the_images_allow_are_one_sentence(
    model: dict[str, Any], fits: tuple[int, int], is_too_small: tuple[int, int]
) -> None:
    refuse_deep_models({"model": model}, describe(*fits))
    with pytest.raises(ConfigError, match=r"the images of pictures have \d+x\d+ pixels, which allows at most \d \("):
        refuse_deep_models({"model": model}, describe(*is_too_small))
    growing = {"model": {**CNN, "conv_layers": 6}, "train": {"resolution": {"start": 32, "step": 8, "every": 1}}}
    with pytest.raises(
        ConfigError, match=r"200x200 pixels, and 32 at first \(train.resolution.start\), which allows at most 5"
    ):
        refuse_deep_models(growing, describe(200, 200))
    refuse_deep_models({"model": {**CNN, "conv_layers": 4}}, describe(3, 3))  # what is one pixel stays so


def test_how_many_poolings_a_config_may_name_depends_on_whose_images_they_are() -> None:
    own = ("data=npz", "data.dir=pictures.npz")
    assert compose_job([*own, "model.conv_layers=9"]).config.settings["model"]["conv_layers"] == 9
    with pytest.raises(ConfigError, match=r"of at most 512 pixels, which allows at most 9 \(512 → 256 → .* → 1\)"):
        compose_job([*own, "model.conv_layers=10"])
    with pytest.raises(ConfigError, match="the 28-pixel image, which allows at most 4"):
        compose_job(["model.conv_layers=5"])


def test_a_cnn_has_equally_wide_convolutions_each_followed_by_a_pooling() -> None:
    model = built({**CNN, "conv_layers": 3})
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 4, 4]
    assert Counter(kinds(model))["MaxPooling2D"] == 3
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 10]


def test_widths_grow_with_depth_up_to_the_widest_that_is_allowed() -> None:
    def widths(**settings: Any) -> list[int]:
        layers = built({**CNN, "conv_layers": 3, **settings}).layers
        return [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)]

    assert widths(growth=1.0) == [4, 4, 4]
    assert widths(growth=2.0) == [4, 8, 16]
    assert widths(growth=1.5) == [4, 6, 9]
    assert widths(growth=4.0, filters=2000, conv_layers=2) == [2000, models.MAX_WIDTH]


def test_without_the_later_keys_a_cnn_is_what_it_was_before_there_were_any() -> None:
    neutral = {"growth": 1.0, "pooling": "after_activation", "residual": False, "head": "flatten"}
    regularization = {"batch_normalization": True, "dropout": 0.1, "dropout_after": "every_layer"}
    one, other = built(CNN, **regularization), built({**CNN, **neutral}, **regularization)
    assert kinds(one) == [
        "Rescaling",
        *("Conv2D", "BatchNormalization", "ReLU", "Dropout", "MaxPooling2D") * 2,
        *("Flatten", "Dense", "BatchNormalization", "ReLU", "Dropout", "Dense"),
    ]
    assert kinds(other) == kinds(one) and isinstance(one, keras.Sequential)
    assert [weight.shape for weight in other.weights] == [weight.shape for weight in one.weights]


def test_a_pooling_may_come_before_normalisation_and_activation() -> None:
    names = kinds(built({**CNN, "conv_layers": 1, "pooling": "before_normalization"}, batch_normalization=True))
    assert names[1:5] == ["Conv2D", "MaxPooling2D", "BatchNormalization", "ReLU"]


def test_pooling_first_computes_the_same_where_nothing_is_normalised() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    last, first = built(CNN), built({**CNN, "pooling": "before_normalization"})
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(first.predict(pixels, verbose=0), last.predict(pixels, verbose=0), atol=1e-6)


def test_a_global_average_makes_one_number_of_each_channel() -> None:
    model = built({**CNN, "growth": 2.0, "head": "global_average", "dense_units": 0})
    assert "Flatten" not in kinds(model)
    assert model.layers[-1].input.shape == (None, 8)


@pytest.mark.parametrize("head", ["flatten", "global_average"])
def test_without_a_dense_layer_dropout_stands_before_the_output(head: str) -> None:
    model = built({**CNN, "head": head, "dense_units": 0}, dropout=0.4)
    assert kinds(model)[-2:] == ["Dropout", "Dense"]
    assert Counter(kinds(model))["Dense"] == 1
    assert "Dropout" not in kinds(built({**CNN, "head": head, "dense_units": 0}))


@pytest.mark.parametrize("pooling", ["after_activation", "before_normalization"])
def test_a_residual_block_adds_its_input_to_its_output(pooling: str) -> None:
    residual = {**CNN, "conv_layers": 2, "growth": 2.0, "residual": True, "pooling": pooling}
    model = built(residual, batch_normalization=True)
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 4, 4, 8, 8, 8]
    assert Counter(kinds(model))["MaxPooling2D"] == 2
    adders = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(adders) == 2
    for adder, first in zip(adders, (convs[1], convs[4]), strict=True):
        assert adder.input[0] is first.input  # what the block takes is also what is added


def test_a_residual_network_is_saved_and_counted_like_any_other() -> None:
    model = built({**CNN, "residual": True, "head": "global_average", "dense_units": 0}, batch_normalization=True)
    assert model.predict(np.zeros((2, 28, 28, 1), np.uint8), verbose=0).shape == (2, 10)
    assert model.count_params() == sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert not model.compiled


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


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whitening_layer_comes_first_is_not_trained_and_leaves_the_size_as_it_is(channels: int) -> None:
    model = models.build_model({**CNN, "whitening": True}, PLAIN, (28, 20, channels), 10)
    assert kinds(model)[:4] == ["Rescaling", "Conv2D", "ReLU", "Conv2D"]
    layer = model.get_layer(WHITENING_LAYER)
    assert layer.output.shape == (None, 28, 20, 8 * channels)
    assert not layer.trainable_weights and len(layer.weights) == 2
    assert len(model.trainable_weights) == len(built(CNN).trainable_weights)
    assert models.has_whitening({**CNN, "whitening": True}) and not models.has_whitening(CNN)


@pytest.mark.parametrize("builder", models.BUILDERS)
def test_a_builder_takes_keywords_only(builder: str) -> None:
    with pytest.raises(TypeError):
        models.BUILDERS[builder](4, 2)
