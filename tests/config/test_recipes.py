"""Every YAML that is shipped composes, builds and trains one step, and says of itself how it is run."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import find_conf_folder, find_experiments_folder
from fmnist_sweep.tracking.model_files import count_described_weights
from fmnist_sweep.training import models, trial
from tests.support.small import finished, resolved, spec, splits

GROUP_FILES = sorted(path for path in find_conf_folder().glob("*/*.yaml"))
HYDRA_FILES = sorted(find_conf_folder().glob("hydra/**/*.yaml"))
ROOT_FILES = sorted(find_conf_folder().glob("*.yaml"))
RECIPE_FILES = sorted(find_experiments_folder().glob("*.yaml"))
RECIPES = [path.stem for path in RECIPE_FILES]
WRITE_UP_FILES = [path for path in RECIPE_FILES if path.stem != "speedrun"]  # recipes of what a write-up documents
# Options of these groups decide how a trial is trained; of the others, where its images and its results are.
TRAINED = {"model", "optimizer", "regularization", "train", "search"}
WHERE = {"data", "executor", "tracking", "promote"}


def option(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def test_the_globs_find_every_group_and_no_group_is_left_out() -> None:
    assert {path.parent.name for path in GROUP_FILES} == TRAINED | WHERE
    assert len(RECIPE_FILES) >= 10


def trains_one_step(overrides: list[str], folder: Path) -> None:
    """One epoch on 64 images; the saved model predicts what the trial said."""
    data = splits()
    result = finished(spec(overrides), data)
    assert result.probabilities.shape == (20, 10)
    assert np.isfinite(result.probabilities).all()
    assert np.allclose(result.probabilities.sum(axis=1), 1, atol=1e-3)
    path = folder / "model.keras"
    path.write_bytes(result.model)
    again = trial.load_model(path).predict(data.validation.images, verbose=0)
    np.testing.assert_allclose(again, result.probabilities, atol=1e-5)


def shrunk(path: Path) -> list[str]:
    """The overrides of an option or a recipe, on a few drawn images."""
    if path in RECIPE_FILES:
        return [f"experiment={path.stem}", "data=drawn", "data.images=200", "train.epochs=1"]
    small = ["data=drawn", "data.images=200", option(path), "train.epochs=1"]
    if path.parent.name != "model":
        # The width is not what these options are about.
        small += ["model.filters.values=[4]", "model.dense_units=8"]
    if option(path) == "search=hyperband":
        small[small.index("train.epochs=1")] = "train.epochs=3"
    return small


TRAINABLE = [*(path for path in GROUP_FILES if path.parent.name in TRAINED), *RECIPE_FILES]


@pytest.mark.parametrize("path", TRAINABLE, ids=option)
def test_every_option_and_experiment_builds_and_its_layers_take_the_images(path: Path) -> None:
    config = resolved(compose_job(shrunk(path)))
    model = models.build_model(config["model"], config["regularization"])
    assert model.output_shape == (None, 10)
    assert model.input_shape == (None, 28, 28, 1)
    # So that no saved model of ours is taken for one that describes more weights than it holds.
    assert count_described_weights(model.to_json()) == model.count_params()


@cache
def ways_of_training(path: Path) -> set[tuple[str, str]]:
    """What a trial of it goes through that another may not: the builder, the optimizer, the loss, the schedule."""
    config = resolved(compose_job(shrunk(path)))
    train = config["train"]
    return {
        ("builder", config["model"]["builder"]),
        ("optimizer", config["optimizer"]["name"]),
        ("loss", train["loss"]),
        ("schedule", str(train["schedule"]["name"])),
    }


@pytest.mark.slow
def test_one_of_each_builder_optimizer_loss_and_schedule_trains_a_step_and_its_saved_model_predicts_the_same(
    tmp_path: Path,
) -> None:
    missing = set[tuple[str, str]]().union(*(ways_of_training(path) for path in TRAINABLE))
    assert {kind for kind, _ in missing} >= {"builder", "optimizer", "loss", "schedule"}
    for path in sorted(TRAINABLE, key=lambda path: -len(ways_of_training(path) & missing)):
        if ways_of_training(path) & missing:
            missing -= ways_of_training(path)
            trains_one_step(shrunk(path), tmp_path)
    assert not missing


@pytest.mark.parametrize("path", [path for path in GROUP_FILES if path.parent.name in WHERE], ids=option)
def test_every_option_of_where_things_are_is_what_its_schema_allows(path: Path) -> None:
    job = compose_job([option(path)])
    assert job.choices[path.parent.name] == path.stem


@pytest.mark.parametrize("path", [*ROOT_FILES, *GROUP_FILES, *RECIPE_FILES, *HYDRA_FILES], ids=option)
def test_every_yaml_begins_with_a_comment_that_says_what_it_is_and_how_it_is_run(path: Path) -> None:
    comment = leading_comment(path)
    assert len(comment.partition("Run:")[0]) > 4, "says what it is"
    if path in HYDRA_FILES:
        assert "python -m fmnist_sweep" in comment
    else:
        assert (
            "Run: fmnist-sweep promote " if path.parent.name == "promote" else "Run: python -m fmnist_sweep"
        ) in comment


def leading_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = lines[1:] if lines[0].startswith("# @package") else lines
    ends = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:ends])


def command(path: Path) -> list[str]:
    """The overrides of the command in a YAML's first comment."""
    comment = leading_comment(path)
    words = shlex.split(re.split("Run: (?:python -m fmnist_sweep|fmnist-sweep promote)", comment)[-1])
    return [word for word in words if word != "-m"]


@pytest.mark.parametrize("path", [*GROUP_FILES, *RECIPE_FILES], ids=option)
def test_the_command_in_the_comment_composes_and_chooses_its_own_file(path: Path) -> None:
    group = "experiment" if path in RECIPE_FILES else path.parent.name
    assert compose_job(command(path)).choices[group] == path.stem


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_experiment_is_a_single_trial_on_the_real_data_or_none(recipe: str) -> None:
    config = compose_job([f"experiment={recipe}"]).config
    assert config.data.source == "fashion_mnist"
    assert config.data.fallback is None
    assert resolved(compose_job([f"experiment={recipe}"]), {}) == config.settings


@pytest.mark.parametrize("path", WRITE_UP_FILES, ids=option)
def test_an_experiment_states_the_figure_of_its_source_or_that_there_is_none(path: Path) -> None:
    assert "stated" in leading_comment(path)
    assert "Write-up 00" in leading_comment(path)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=option)
def test_an_experiment_holds_nothing_but_groups_of_the_config(path: Path) -> None:
    assert set(yaml.safe_load(path.read_text())) - {"defaults"} <= TRAINED | WHERE


def built(recipe: str) -> tuple[dict[str, Any], keras.Model]:
    config = resolved(compose_job([f"experiment={recipe}"]))
    return config, models.build_model(config["model"], config["regularization"])


def layers(model: keras.Model, kind: str) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


def counts(model: keras.Model) -> tuple[int, int, int, int, int]:
    """Convolutions, poolings, dense layers (the output among them), batch normalisations, dropouts."""
    kinds = ("Conv2D", "MaxPooling2D", "Dense", "BatchNormalization", "Dropout")
    found = [len(layers(model, kind)) for kind in kinds]
    return found[0], found[1], found[2], found[3], found[4]


# What the write-ups say: convolutions, dense layers, dropouts; None where they leave it open.
DOCUMENTED: dict[str, dict[str, Any]] = {
    "bn_dropout": {"optimizer": "rmsprop", "loss": "binary_crossentropy", "rate": 0.25, "norms": 4},
    "two_conv": {
        "optimizer": "rmsprop",
        "loss": "sparse_categorical_crossentropy",
        "batch": 128,
        "epochs": 10,
        "filters": [64, 128],
        "pools": 2,
        "dense": 2,
        "dropouts": 0,
    },
    "deep_conv": {"optimizer": "rmsprop"},
    "regularized": {"loss": "categorical_crossentropy"},
    "model_1": {"optimizer": "rmsprop", "batch": 256, "epochs": 10, "convs": 2, "dense": 1, "dropouts": 0},
    "model_2": {"optimizer": "rmsprop", "batch": 256, "epochs": 10, "convs": 2, "dense": 2, "rate": 0.5},
    "model_3": {"optimizer": "rmsprop", "batch": 256, "epochs": 10, "convs": 3, "dense": 2, "rate": 0.5},
    "model_4": {"optimizer": "adam", "batch": 256, "epochs": 10, "convs": 3, "dense": 2, "rate": 0.5},
    "simple": {"loss": "categorical_crossentropy", "learning_rate": 0.001, "convs": 0},
    "double_conv": {"loss": "categorical_crossentropy", "learning_rate": 0.001, "convs": 2, "pools": 2},
}


def test_every_experiment_is_compared_with_its_source() -> None:
    assert {path.stem for path in WRITE_UP_FILES} == set(DOCUMENTED)


@pytest.mark.parametrize("recipe", DOCUMENTED)
def test_an_experiment_builds_and_fits_what_its_source_states(recipe: str) -> None:
    config, model = built(recipe)
    train = config["train"]
    dropouts = layers(model, "Dropout")
    found = {
        "optimizer": config["optimizer"]["name"],
        "learning_rate": config["optimizer"]["learning_rate"],
        "loss": train["loss"],
        "batch": train["batch_size"],
        "epochs": train["epochs"],
        "convs": len(layers(model, "Conv2D")),
        "filters": [layer.filters for layer in layers(model, "Conv2D")],
        "pools": len(layers(model, "MaxPooling2D")),
        "dense": len(layers(model, "Dense")),
        "norms": len(layers(model, "BatchNormalization")),
        "dropouts": len(dropouts),
        "rate": dropouts[0].rate if dropouts else 0,
    }
    stated = DOCUMENTED[recipe]
    assert {key: found[key] for key in stated} == stated
    assert len({layer.rate for layer in dropouts}) <= 1


def test_bn_dropout_has_dropout_in_each_hidden_layer_and_normalises_the_first_four() -> None:
    _, model = built("bn_dropout")
    kinds = [type(layer).__name__ for layer in model.layers]
    hidden = kinds.count("Conv2D") + kinds.count("Dense") - 1
    assert kinds.count("Dropout") == hidden == 4
    weighted = [number for number, kind in enumerate(kinds) if kind in ("Conv2D", "Dense")][:-1]
    assert [kinds[number + 1] == "BatchNormalization" for number in weighted] == [True] * 4 + [False] * (hidden - 4)


def test_deep_conv_has_more_convolutions_and_more_filters_than_two_conv() -> None:
    deep = [layer.filters for layer in layers(built("deep_conv")[1], "Conv2D")]
    shallow = [layer.filters for layer in layers(built("two_conv")[1], "Conv2D")]
    assert len(deep) > len(shallow)
    assert sum(deep) / len(deep) > sum(shallow) / len(shallow)
    assert max(deep) > max(shallow)


def test_regularized_stops_early_and_is_allowed_the_49_epochs_of_its_source() -> None:
    train = built("regularized")[0]["train"]
    assert train["early_stopping"]["monitor"] == "val_loss"
    assert train["epochs"] >= 49


def test_regularized_combines_dropout_with_an_l2_penalty() -> None:
    _, model = built("regularized")
    assert len(layers(model, "Dropout")) > 0
    assert layers(model, "Conv2D")[0].kernel_regularizer.l2 == pytest.approx(1e-4)


def test_the_four_models_of_one_write_up_differ_in_nothing_but_what_it_says() -> None:
    configs = {recipe: built(recipe)[0] for recipe in ("model_1", "model_2", "model_3", "model_4")}
    assert differing(configs["model_3"], configs["model_4"]) == {"optimizer"}
    assert differing(configs["model_2"], configs["model_3"]) == {"model"}
    assert differing(configs["model_1"], configs["model_2"]) == {"model", "regularization"}


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one if one[key] != other[key]}
