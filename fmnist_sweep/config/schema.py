"""The schema of every config group, checked before anything is created.

A group that names a function (a builder, an optimizer, an oracle, a schedule) has that function's keyword-only
parameters as its schema, so that an argument is described in one place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from fmnist_sweep.config.overrides import format_override_value
from fmnist_sweep.config.refusals import Locator, describe_unknown_key, describe_validation_error
from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import ask_and_tell as search
from fmnist_sweep.search import tunable
from fmnist_sweep.search.tunable import TUNABLE
from fmnist_sweep.training import models
from fmnist_sweep.training.optimization import OPTIMIZERS, SCHEDULES

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class EarlyStopping(BaseModel):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs."""

    model_config = _STRICT
    monitor: Literal["val_loss", "val_accuracy"]
    patience: Annotated[int, Field(ge=1), TUNABLE]
    min_delta: Annotated[float, Field(ge=0)]


class Augmentation(BaseModel):
    """Random changes to the training images of each epoch."""

    model_config = _STRICT
    flip: Annotated[bool, TUNABLE]
    shift: Annotated[int, Field(ge=0, le=8), TUNABLE]


class TrainConfig(BaseModel):
    """How a trial is fitted."""

    model_config = _STRICT
    epochs: Annotated[int, Field(ge=1), TUNABLE]
    batch_size: Annotated[int, Field(ge=1, le=65536), TUNABLE]
    loss: Annotated[
        Literal["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"], TUNABLE
    ]
    precision: Literal["float32", "mixed_bfloat16", "auto"]
    early_stopping: EarlyStopping | None
    schedule: dict[str, Any]
    augmentation: Augmentation


class SearchConfig(BaseModel):
    """What every oracle has; its own arguments are in `oracle`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
    name: str
    max_trials: Annotated[int, Field(ge=1)] | None
    max_minutes: Annotated[float, Field(gt=0)] | None
    trial_minutes: Annotated[float, Field(gt=0)] | None
    objective: Literal["val_accuracy", "val_loss"]
    fail_fast: bool
    synchronous: bool
    ahead: Annotated[int, Field(ge=1)]

    @property
    def lookahead(self) -> int | None:
        """How far the search may be ahead of the results it was told, in order; None: told as they come.

        What a random search or a grid proposes next does not depend on results.
        """
        return self.ahead if self.synchronous and self.name in ("bayesian", "hyperband") else None


class ExecutorConfig(BaseModel):
    """Where trials run. attempts: so often may a worker be lost over a trial that gets no further."""

    model_config = _STRICT
    name: Literal["auto", "in_process", "local", "ray"]
    workers: Annotated[int, Field(ge=1, le=1024)] | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    attempts: Annotated[int, Field(ge=1)]


class InProcessConfig(ExecutorConfig):
    """One trial at a time, in the process that was started."""

    workers: Annotated[int, Field(ge=1, le=1)]


class RayConfig(ExecutorConfig):
    """Tasks on a Ray cluster. address: of one that runs, or null to start one here; gpus: for each trial."""

    address: Annotated[str, Field(min_length=1)] | None
    gpus: Annotated[float, Field(ge=0)]

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above 1, a trial has whole GPUs")
        return gpus


EXECUTORS: dict[str, type[ExecutorConfig]] = {
    "auto": ExecutorConfig,
    "in_process": InProcessConfig,
    "local": ExecutorConfig,
    "ray": RayConfig,
}


class TrackingConfig(BaseModel):
    """Which MLflow store, and which experiment in it."""

    model_config = _STRICT
    uri: Annotated[str, Field(min_length=1)] | None
    experiment: Annotated[str, Field(min_length=1, max_length=256)]
    keep_models: Annotated[int, Field(ge=1)] | Literal["all"]


class CheckpointConfig(BaseModel):
    """How often a trial's state is kept, so that it can be continued."""

    model_config = _STRICT
    every_seconds: Annotated[float, Field(ge=0)]


class PromoteConfig(BaseModel):
    """How a promotion is decided; conf/promote/default.yaml says what each is."""

    model_config = _STRICT
    finalists: Annotated[int, Field(ge=1, le=20)]
    seeds: Annotated[int, Field(ge=2, le=100)] | None
    gain: Annotated[float, Field(gt=0, lt=1)]
    power: Annotated[float, Field(gt=0, lt=1)]
    min_gain: Annotated[float, Field(ge=0, lt=1)]
    class_drop: Annotated[float, Field(ge=0, le=1)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    include_validation: bool


@dataclass(frozen=True)
class Config:
    """A checked study: `settings` decides the trials (tunables included), the rest how and where they run."""

    data: DataConfig
    settings: dict[str, Any]  # model, optimizer, regularization, train, seed: what a trial is made of
    search: SearchConfig
    oracle: dict[str, Any]  # the oracle's own arguments
    executor: ExecutorConfig
    tracking: TrackingConfig
    checkpoint: CheckpointConfig
    promote: PromoteConfig
    plan: bool
    fresh: bool

    def to_mapping(self) -> dict[str, Any]:
        """The mapping that `check` makes this config of."""
        sections = ("data", "search", "executor", "tracking", "checkpoint", "promote")
        mapping = {section: getattr(self, section).model_dump() for section in sections}
        mapping["search"] |= self.oracle
        return {**self.settings, **mapping, "plan": self.plan, "fresh": self.fresh}


SECTIONS = (
    *("data", "model", "optimizer", "train", "regularization", "search", "executor", "tracking", "checkpoint"),
    "promote",
)
ROOT_KEYS = (*SECTIONS, "seed", "plan", "fresh")


@cache
def _make_function_schema(function: Callable[..., Any], name: str | None = None) -> type[BaseModel]:
    """The keyword-only parameters of a function, each fixed or tunable; `name`: the key that names the function."""
    fields: dict[str, Any] = {} if name is None else {name: (str, ...)}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "regularization":
            fields[parameter.name] = (Annotated[parameter.annotation, TUNABLE], ...)
    return create_model(function.__name__, __config__=_STRICT, **fields)


@cache
def _make_regularization_schema() -> type[BaseModel]:
    hints = get_type_hints(models.Regularization, include_extras=True)
    fields: dict[str, Any] = {key: (Annotated[hint, TUNABLE], ...) for key, hint in hints.items()}
    return create_model("regularization", __config__=_STRICT, **fields)


@cache
def _make_search_schema(name: str) -> type[BaseModel]:
    oracle_fields = {
        key: (field.annotation, field)
        for key, field in _make_function_schema(search.ORACLES[name]).model_fields.items()
    }
    common_fields = {key: (field.annotation, field) for key, field in SearchConfig.model_fields.items()}
    fields: dict[str, Any] = {**common_fields, **oracle_fields}
    return create_model("search", __config__=_STRICT, **fields)


def _choose_schema(section: str, value: Mapping[str, Any], locate: Locator) -> type[BaseModel]:
    """The schema of one section of a raw config."""
    match section:
        case "data":
            return DataConfig
        case "model":
            return _make_function_schema(
                _look_up(models.BUILDERS, "model.builder", value.get("builder"), locate), "builder"
            )
        case "optimizer":
            return _make_function_schema(_look_up(OPTIMIZERS, "optimizer.name", value.get("name"), locate), "name")
        case "train.schedule":
            return _make_function_schema(_look_up(SCHEDULES, "train.schedule.name", value.get("name"), locate), "name")
        case "regularization":
            return _make_regularization_schema()
        case "train":
            return TrainConfig
        case "search":
            _look_up(search.ORACLES, "search.name", value.get("name"), locate)
            return _make_search_schema(value["name"])
        case "promote":
            return PromoteConfig
        case "executor":
            return _choose_executor_schema(value, locate)
        case "checkpoint":
            return CheckpointConfig
        case _:
            return TrackingConfig


def _choose_executor_schema(value: Mapping[str, Any], locate: Locator) -> type[ExecutorConfig]:
    schema: type[ExecutorConfig] = _look_up(EXECUTORS, "executor.name", value.get("name"), locate)
    return schema


def _look_up(registry: Mapping[str, Any], key: str, name: Any, locate: Locator) -> Any:
    if not isinstance(name, str) or name not in registry:
        allowed = ", ".join(registry)
        raise ConfigError(f"{key}={format_override_value(name)} ({locate(key)}): unknown; allowed: {allowed}.")
    return registry[name]


def check_config(raw: Mapping[str, Any], locate: Locator) -> Config:
    """The checked config of a composed mapping, or ConfigError: key, value, what is allowed, the file it came from."""
    _refuse_targets(raw, locate)
    for key in raw:
        if key not in ROOT_KEYS:
            reason = describe_unknown_key(key, ROOT_KEYS)
            raise ConfigError(f"{key}={format_override_value(raw[key])} ({locate(key)}): {reason}.")
    sections = {section: _check_mapping(section, raw.get(section), locate) for section in SECTIONS}
    values = {section: _check_section(section, sections[section], locate) for section in SECTIONS}
    train = values["train"]
    train["schedule"] = _check_section(
        "train.schedule", _check_mapping("train.schedule", train["schedule"], locate), locate
    )
    oracle_keys = set(_make_search_schema(values["search"]["name"]).model_fields) - set(SearchConfig.model_fields)
    config = Config(
        data=DataConfig(**values["data"]),
        settings={
            "model": values["model"],
            "optimizer": values["optimizer"],
            "regularization": values["regularization"],
            "train": train,
            "seed": _check_seed(raw.get("seed"), locate),
        },
        search=SearchConfig(**values["search"]),
        oracle={key: values["search"][key] for key in sorted(oracle_keys)},
        executor=EXECUTORS[values["executor"]["name"]](**values["executor"]),
        tracking=TrackingConfig(**values["tracking"]),
        checkpoint=CheckpointConfig(**values["checkpoint"]),
        promote=PromoteConfig(**values["promote"]),
        fresh=_check_flag("fresh", raw.get("fresh"), locate),
        plan=_check_flag("plan", raw.get("plan"), locate),
    )
    _refuse_tuned_epochs_in_hyperband(config, locate)
    _refuse_watching_trained_images(config, locate)
    return config


def _check_mapping(section: str, value: Any, locate: Locator) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{section}={format_override_value(value)} ({locate(section)}): expected a group's settings.")
    return value


def _check_section(section: str, value: Mapping[str, Any], locate: Locator) -> dict[str, Any]:
    schema = _choose_schema(section, value, locate)
    try:
        return schema.model_validate(dict(value)).model_dump(warnings=False)
    except ValidationError as error:
        raise ConfigError(describe_validation_error(section, value, schema, error, locate)) from None


def _check_seed(value: Any, locate: Locator) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ConfigError(
            f"seed={format_override_value(value)} ({locate('seed')}): expected a whole number from 0 to 2147483647."
        )
    return value


def _check_flag(key: str, value: Any, locate: Locator) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={format_override_value(value)} ({locate(key)}): expected true or false.")
    return value


def _refuse_targets(raw: Mapping[str, Any], locate: Locator, prefix: str = "") -> None:
    """A config file is data: a value that names code to import is refused, wherever it stands."""
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if key == "_target_":
            raise ConfigError(
                f"{path}={format_override_value(value)} ({locate(path)}): a config names no code; remove it."
            )
        if isinstance(value, Mapping):
            _refuse_targets(value, locate, f"{path}.")


def _refuse_tuned_epochs_in_hyperband(config: Config, locate: Locator) -> None:
    epochs = config.settings["train"]["epochs"]
    if config.search.name == "hyperband" and tunable.is_tunable(epochs):
        raise ConfigError(
            f"train.epochs={format_override_value(epochs)} ({locate('train.epochs')}): hyperband itself decides the "
            "epochs of each trial; give the longest as a plain number."
        )


def _refuse_watching_trained_images(config: Config, locate: Locator) -> None:
    train = config.settings["train"]
    if not config.data.include_validation:
        return
    for key, watches in {
        "train.early_stopping": bool(train["early_stopping"]),
        "train.schedule": train["schedule"]["name"] == "plateau",
    }.items():
        if watches:
            raise ConfigError(
                f"data.include_validation=true ({locate('data.include_validation')}): {key} ({locate(key)}) goes by "
                "validation images that are trained on then, and so say nothing; fix the epochs and take another one."
            )
