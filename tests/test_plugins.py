"""The registries of what a config may name: what registers itself, and which signatures are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from fmnist_sweep import plugins
from fmnist_sweep.config.changed_defaults import drop_neutral_settings
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import RegisteredFunction, Registry
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.training.augmentation import augment_images
from fmnist_sweep.training.models import build_model
from tests.support.small import finished, spec, splits

TINY = ("data=drawn", "train.epochs=1", "train.precision=float32", "train=default", "optimizer.learning_rate=0.01")


@pytest.fixture
def own() -> Any:
    """Registers functions of kinds as a plugin's; they are gone after the test."""

    def register(registry: Registry, function: Callable[..., Any]) -> None:
        registry.register(RegisteredFunction(function.__name__, function, "mine.py"))

    yield register
    for registry in plugins.REGISTRIES:
        registry.drop_plugins()


def test_a_builder_of_ones_own_is_configured_by_its_signature_and_trained(own: Any) -> None:
    import keras

    def dots(*, units: Annotated[int, Field(ge=1, le=64)], growth: float = 1.0) -> keras.Model:
        pixels = keras.Input((28, 28, 1), dtype="uint8")
        hidden = keras.layers.Dense(int(units * growth), activation="relu")(keras.layers.Flatten()(pixels))
        return keras.Model(pixels, keras.layers.Dense(10, activation="softmax", dtype="float32")(hidden))

    own(plugins.MODELS, dots)
    chosen = ("~model.filters", "~model.conv_layers", "~model.kernel_size", "~model.dense_units", "~model.pooling")
    others = ("~model.head", "~model.residual", "~model.growth", "~model.whitening", "~model.members")
    words = [*TINY, "model.builder=dots", *chosen, *others]
    settings = compose_job([*words, "+model.units=8"]).config.settings
    assert settings["model"] == {"builder": "dots", "units": 8, "growth": 1.0}  # neutral for another builder alone
    assert settings["regularization"] == {}
    assert drop_neutral_settings(settings)["model"] == settings["model"]
    result = finished(spec([*words, "+model.units=8"]), splits())
    assert result.parameters == 784 * 8 + 8 + 8 * 10 + 10
    with pytest.raises(ConfigError, match="expected a whole number from 1 to 64"):
        compose_job([*words, "+model.units=65"])
    with pytest.raises(
        ConfigError, match=r"write them into FOLDER/model/dots.yaml, and --config-dir FOLDER model=dots"
    ):
        compose_job([*TINY, "model.builder=dots"])
    with pytest.raises(ConfigError, match=r"regularization.dropout=0.3 \(command line\): the model dots takes no"):
        compose_job([*words, "+model.units=8", "regularization.dropout=0.3"])
    with pytest.raises(ConfigError, match=r"model.builder=dots: it takes no image_shape, and so is for \(28, 28, 1\)"):
        build_model(settings["model"], {}, image_shape=(8, 8, 3))


def test_builders_that_take_the_shape_of_images_and_the_number_of_labels_get_them() -> None:
    model = {"builder": "mlp", "dense_widths": [4]}
    regularization = compose_job([*TINY, "model=simple", "regularization=none"]).config.settings["regularization"]
    built = build_model(model, regularization, (8, 9, 3), 4)
    assert built.input_shape == (None, 8, 9, 3)
    assert built.output_shape == (None, 4)


def test_an_augmentation_of_ones_own_gets_what_it_asks_for(own: Any) -> None:
    def darken(images: Any, *, by: Annotated[int, Field(ge=0, le=200)], epoch: int) -> Any:
        return images // (by + epoch)

    own(plugins.AUGMENTATIONS, darken)
    section = compose_job([*TINY, "train.augmentation={name: darken, by: 3}"]).config.settings["train"]["augmentation"]
    assert section == {"name": "darken", "by": 3}
    assert (augment_images(section, np.full((1, 2, 2, 1), 100, np.uint8), seed=0, epoch=2) == 20).all()
    with pytest.raises(ConfigError, match=r"train.augmentation.by=300 .*expected a whole number from 0 to 200"):
        compose_job([*TINY, "train.augmentation={name: darken, by: 300}"])
    with pytest.raises(
        ConfigError, match=r"train.augmentation.name=dark .*allowed: mirror_and_shift, alternate_and_erase, darken"
    ):
        compose_job([*TINY, "train.augmentation={name: dark}"])


def test_the_projects_augmentation_is_the_same_setting_with_and_without_its_name() -> None:
    named, plain = (
        compose_job([*TINY, f"train.augmentation={{{name}flip: true, shift: 1}}"]).config.settings
        for name in ("name: mirror_and_shift, ", "")
    )
    assert list_values_at(named, "train", "augmentation") == [{"flip": True, "shift": 1}]
    assert named == plain


def positional(filters: int) -> None: ...


def open_ended(**settings: int) -> None: ...


def bare(*, filters) -> None: ...  # type: ignore[no-untyped-def]


def unknown(*, filters: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821


def cnn(*, filters: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (positional, r"mine.py: the model positional: expected the parameters only keyword-only ones \(after a \*\)"),
        (open_ended, "mine.py: the model open_ended: expected the parameters only keyword-only ones"),
        (bare, "mine.py: the model bare: its parameter filters has no annotation"),
        (unknown, "annotation of its parameter filters cannot be evaluated .*Missing"),
        (cnn, "mine.py: the model cnn: there already is the project's own with this name; rename the function"),
    ],
)
def test_a_function_that_is_no_schema_is_refused(own: Any, function: Callable[..., Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        own(plugins.MODELS, function)
    assert plugins.MODELS.find_registration(function.__name__) is plugins.MODELS.find_registration("cnn") or (
        function.__name__ not in plugins.MODELS
    )


def test_two_plugins_with_one_name_are_refused(own: Any) -> None:
    def rotate(images: Any, *, seed: int) -> Any: ...

    own(plugins.AUGMENTATIONS, rotate)
    own(plugins.AUGMENTATIONS, rotate)  # the same one
    with pytest.raises(ConfigError, match=r"theirs: the augmentation rotate: there already is one of mine.py"):
        plugins.AUGMENTATIONS.register(RegisteredFunction("rotate", lambda images: images, "theirs"))


def test_the_projects_own_are_registered_as_a_plugins_are() -> None:
    assert list(plugins.MODELS) == ["cnn", "conv_stack", "mlp"]
    assert list(plugins.OPTIMIZERS) == ["rmsprop", "adam", "adamw", "sgd", "muon"]
    assert list(plugins.AUGMENTATIONS) == ["mirror_and_shift", "alternate_and_erase"]
    assert [name for name in plugins.SCHEDULES if plugins.SCHEDULES.find_registration(name).changes_within_epochs] == [  # type: ignore[union-attr]
        "one_cycle"
    ]
