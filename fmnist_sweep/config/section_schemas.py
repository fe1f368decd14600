"""The schema of each section of a config.

A group that names a function (a builder, an optimizer, an oracle, a schedule, an augmentation) has that function's
keyword-only parameters as its schema, so that an argument is described in one place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, create_model

from fmnist_sweep.config.overrides import quote_override_value
from fmnist_sweep.config.refusals import Locator
from fmnist_sweep.config.schema import (
    EXECUTORS,
    STRICT,
    CheckpointConfig,
    PromoteConfig,
    SearchConfig,
    TrackingConfig,
    TrainConfig,
)
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import DATA_SOURCES, Registry, read_keyword_parameters
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.search.tunable import TUNABLE
from fmnist_sweep.training.augmentation import AUGMENTATIONS, PLAIN_AUGMENTATION
from fmnist_sweep.training.layers import Regularization
from fmnist_sweep.training.models import BUILDERS
from fmnist_sweep.training.optimization import OPTIMIZERS, SCHEDULES
from fmnist_sweep.training.own_code import suggest_plugins

_Entry = TypeVar("_Entry")


@cache
def _make_function_schema(
    function: Callable[..., Any], name: str | None = None, handed: tuple[str, ...] = ()
) -> type[BaseModel]:
    """A schema of the keyword-only parameters of a function, each fixed or tunable; `name`: the key that names it.

    handed: parameters that are no settings. A config may lack a parameter with a default: of the project's own
    functions, it came later than the function.
    """
    fields: dict[str, Any] = {} if name is None else {name: (str, ...)}
    for key, (annotation, default) in read_keyword_parameters(function).items():
        if key not in handed:
            fields[key] = (Annotated[annotation, TUNABLE], ... if default is inspect.Parameter.empty else default)
    return create_model(function.__name__, __config__=STRICT, **fields)


def _make_registered_schema(registry: Registry, key: str, name: Any, locate: Locator) -> type[BaseModel]:
    """The schema of the settings of the function that `name`, the value of a key, stands for."""
    function = _look_up(registry, key, name, locate)
    return _make_function_schema(function, key.rpartition(".")[2], registry.handed)


@cache
def _make_regularization_schema() -> type[BaseModel]:
    hints = get_type_hints(Regularization, include_extras=True)
    fields: dict[str, Any] = {key: (Annotated[hint, TUNABLE], ...) for key, hint in hints.items()}
    return create_model("regularization", __config__=STRICT, **fields)


def make_search_schema(name: str) -> type[BaseModel]:
    """The schema of the section `search`: what every search has, and the arguments of the oracle of this name."""
    oracle_schema = _make_function_schema(ORACLES[name], None, ORACLES.handed)
    oracle_fields = {key: (field.annotation, field) for key, field in oracle_schema.model_fields.items()}
    common_fields = {key: (field.annotation, field) for key, field in SearchConfig.model_fields.items()}
    fields: dict[str, Any] = {**common_fields, **oracle_fields}
    return create_model("search", __config__=STRICT, **fields)


def choose_schema(section: str, value: Mapping[str, Any], locate: Locator) -> type[BaseModel]:
    """The schema of one section of a raw config. Raises ConfigError if what it names is unknown."""
    match section:
        case "data":
            _look_up(DATA_SOURCES, "data.source", value.get("source"), locate)
            return choose_data_schema(value["source"])
        case "model":
            return _make_registered_schema(BUILDERS, "model.builder", value.get("builder"), locate)
        case "optimizer":
            return _make_registered_schema(OPTIMIZERS, "optimizer.name", value.get("name"), locate)
        case "train.schedule":
            return _make_registered_schema(SCHEDULES, "train.schedule.name", value.get("name"), locate)
        case "train.augmentation":
            if "name" not in value:
                return _make_function_schema(AUGMENTATIONS[PLAIN_AUGMENTATION], None, AUGMENTATIONS.handed)
            return _make_registered_schema(AUGMENTATIONS, "train.augmentation.name", value["name"], locate)
        case "regularization":
            return _make_regularization_schema()
        case "train":
            return TrainConfig
        case "search":
            _look_up(ORACLES, "search.name", value.get("name"), locate)
            return make_search_schema(value["name"])
        case "promote":
            return PromoteConfig
        case "executor":
            return _look_up(EXECUTORS, "executor.name", value.get("name"), locate)
        case "checkpoint":
            return CheckpointConfig
        case _:
            return TrackingConfig


def _look_up(registry: Mapping[str, _Entry], key: str, name: Any, locate: Locator) -> _Entry:
    """The entry that `name`, the value of a key, stands for."""
    if not isinstance(name, str) or name not in registry:
        allowed = ", ".join(registry)
        hint = suggest_plugins() if isinstance(registry, Registry) else ""
        raise ConfigError(f"{key}={quote_override_value(name)} ({locate(key)}): unknown; allowed: {allowed}{hint}.")
    return registry[name]
