"""search.first: what a search begins with is checked against its space, and completed by KerasTuner's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.known_configurations import complete_first, find_default
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import space
from fmnist_sweep.search.tunable import parse_tunable

SPACE = (
    "model.filters={tune: choice, values: [32, 48, 64]}",
    "model.conv_layers={tune: int, min_value: 1, max_value: 3}",
    "regularization=dropout",
    "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5, step: 0.1, default: 0.2}",
    "regularization.batch_normalization={tune: boolean}",
    "optimizer.learning_rate={tune: float, min_value: 1e-4, max_value: 1e-2, sampling: log}",
    "train.epochs=3",
)
DEFAULTS = {
    "model.filters": 32,
    "model.conv_layers": 1,
    "regularization.dropout": 0.2,
    "regularization.batch_normalization": False,
    "optimizer.learning_rate": 1e-4,
}


def compose(*overrides: str) -> Job:
    return compose_job([*SPACE, *overrides])


def complete(job: Job) -> list[dict[str, Any]]:
    return complete_first(job.config.settings, job.config.search.first, "search.first")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("null", []),
        ("[]", []),
        ("default", [{}]),
        ("[{}]", [{}]),
        ("[{model.filters: 48}]", [{"model.filters": 48}]),
        (
            "[{model.filters: 64, regularization.dropout: 0.3}, {model.conv_layers: 3}]",
            [{"model.filters": 64, "regularization.dropout": 0.3}, {"model.conv_layers": 3}],
        ),
        ("[{model.filters: 48},{model.filters: 48}]", [{"model.filters": 48}]),
        ("[{regularization.batch_normalization: true}]", [{"regularization.batch_normalization": True}]),
        ("[{optimizer.learning_rate: 3e-3}]", [{"optimizer.learning_rate": 0.003}]),
        ("[{regularization.dropout: 0}]", [{"regularization.dropout": 0.0}]),
        ("[{model.conv_layers: 2.0}]", [{"model.conv_layers": 2}]),
    ],
)
def test_what_is_typed_is_completed_by_the_defaults(typed: str, expected: Sequence[Mapping[str, Any]]) -> None:
    completed = complete(compose(f"search.first={typed}"))
    assert completed == [{**DEFAULTS, **values} for values in expected]
    types = {key: type(value) for key, value in DEFAULTS.items()}
    assert all({key: type(value) for key, value in values.items()} == types for values in completed)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("[{model.filtres: 48}]", ["model.filtres is no tunable of this study", "did you mean model.filters?"]),
        ("[{filters: 48}]", ["filters is no tunable of this study", "model.conv_layers"]),
        ("[{train.epochs: 5}]", ["train.epochs is no tunable but fixed, train.epochs=3; leave it out, or tune it"]),
        ("[{optimizer.name: adam}]", ["optimizer.name is no tunable but fixed"]),
        ("[{model.filters: 50}]", ["model.filters=50 is outside of the space; expected 32, 48 or 64"]),
        ("[{model.filters: {tune: boolean}}]", ["model.filters={tune: boolean} is outside of the space"]),
        ("[{model.filters: null}]", ["model.filters=null is outside of the space"]),
        ("[{model.conv_layers: 4}]", ["model.conv_layers=4 is outside", "a whole number from 1 to 3"]),
        ("[{model.conv_layers: 1.5}]", ["model.conv_layers=1.5 is outside"]),
        ("[{model.conv_layers: true}]", ["model.conv_layers=true is outside"]),
        ("[{regularization.dropout: 0.25}]", ["dropout=0.25 is outside", "from 0.0 to 0.5, in steps of 0.1"]),
        ("[{regularization.batch_normalization: 1}]", ["batch_normalization=1 is outside", "expected true or false"]),
        (
            "[{optimizer.learning_rate: 0.5}]",
            ["optimizer.learning_rate=0.5 is outside", "a number from 0.0001 to 0.01"],
        ),
        ("[{model.filters: 48}, {model.filters: 1}]", ["model.filters=1 is outside"]),
        ("{model.filters: 48}", ["expected default, null or a list of mappings, as in [{model.filters: 24}]"]),
        ("[48]", ["search.first", "expected"]),
        ("[default]", ["search.first", "expected"]),
        ("defaults", ["search.first=defaults", "expected"]),
        ("[{model: {filters: 48}}]", ["model is no tunable of this study"]),
        ("[{_target_: os.system}]", ["_target_ is no tunable of this study"]),
        ("[{1: 2}]", ["search.first"]),
    ],
)
def test_what_is_no_configuration_of_the_space_is_refused_in_a_sentence(typed: str, words: Sequence[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(f"search.first={typed}")
    message = str(caught.value)
    assert "search.first" in message and "(command line)" in message and message.count("\n") == 0
    for word in words:
        assert word in message


def test_without_tunables_there_is_nothing_to_begin_with() -> None:
    assert complete(compose_job(["experiment=simple", "search.first=default"])) == [{}]
    with pytest.raises(ConfigError, match=r"train\.epochs is no tunable but fixed"):
        compose_job(["experiment=simple", "search.first=[{train.epochs: 2}]"])


@pytest.mark.parametrize(
    "spec",
    [
        {"tune": "choice", "values": [3, 1, 2]},
        {"tune": "choice", "values": ["b", "a"], "default": "a"},
        {"tune": "int", "min_value": 2, "max_value": 9},
        {"tune": "int", "min_value": 2, "max_value": 32, "step": 2, "sampling": "log", "default": 8},
        {"tune": "float", "min_value": 0.1, "max_value": 0.5, "step": 0.1},
        {"tune": "float", "min_value": 0.1, "max_value": 0.5, "step": 0.1, "default": 0.3},
        {"tune": "float", "min_value": 1, "max_value": 5},
        {"tune": "float", "min_value": 1e-4, "max_value": 1e-1, "step": 10, "sampling": "reverse_log"},
        {"tune": "boolean"},
        {"tune": "boolean", "default": True},
    ],
)
def test_defaults_and_values_are_those_of_keras_tuner(spec: dict[str, Any]) -> None:
    settings = {"a": spec, "train": {"epochs": 1}, "seed": 0}
    (parameter,) = space.build_hyperparameters({"a": spec}).space
    assert (find_default(parse_tunable(spec)), type(find_default(parse_tunable(spec)))) == (
        parameter.default,
        type(parameter.default),
    )
    for value in {*parameter.values, *(parameter.random_sample(seed) for seed in range(20))}:
        assert complete_first(settings, [{"a": value}], "search.first") == [{"a": value}]


OPTIONS = (
    *("model.filters=8", "model.conv_layers={tune: int, min_value: 1, max_value: 3}", "regularization=none"),
    "model.dense_units={tune: choice, values: [64, 128], when: {model.conv_layers: [1, 2]}, otherwise: 32}",
    *("optimizer={tune: option, of: [rmsprop, sgd]}", "optimizer.sgd.momentum={tune: choice, values: [0.5, 0.9]}"),
    *("optimizer.rmsprop.learning_rate=0.001", "optimizer.sgd.learning_rate=0.1"),
)


def test_a_known_configuration_has_no_value_of_what_is_not_drawn() -> None:
    first = "[{}, {model.conv_layers: 3}, {optimizer: sgd, optimizer.sgd.momentum: 0.9, model.dense_units: 128}]"
    assert complete(compose_job([*OPTIONS, f"search.first={first}"])) == [
        {"model.conv_layers": 1, "model.dense_units": 64, "optimizer": "rmsprop"},
        {"model.conv_layers": 3, "optimizer": "rmsprop"},
        {"model.conv_layers": 1, "model.dense_units": 128, "optimizer": "sgd", "optimizer.sgd.momentum": 0.9},
    ]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("[{optimizer: adam}]", "optimizer=adam is outside of the space; expected rmsprop or sgd"),
        ("[{optimizer.sgd.momentum: 0.9}]", "optimizer.sgd.momentum is drawn only with optimizer=sgd; leave it out"),
        ("[{model.conv_layers: 3, model.dense_units: 64}]", "model.dense_units is drawn only with model.conv_layers=1"),
        ("[{optimizer.momentum: 0.9}]", "optimizer.momentum is no tunable of this study"),
    ],
)
def test_a_value_of_what_is_not_drawn_is_refused(typed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.first") as caught:
        compose_job([*OPTIONS, f"search.first={typed}"])
    assert words in str(caught.value)
