"""Checks a composed config against its schema before anything is created."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from fmnist_sweep.config.changed_defaults import drop_neutral_settings
from fmnist_sweep.config.conditions import settle_conditions
from fmnist_sweep.config.growing import refuse_one_size
from fmnist_sweep.config.known_configurations import complete_first
from fmnist_sweep.config.known_keys import NAMING_KEYS, list_options_setting, suggest_keys
from fmnist_sweep.config.overrides import format_override_value, quote_override_value
from fmnist_sweep.config.refusals import Locator, describe_unknown_key, describe_validation_error
from fmnist_sweep.config.regularized import is_regularized, limit_regularization
from fmnist_sweep.config.replicas import refuse_unusable_replicas
from fmnist_sweep.config.schema import (
    EXECUTORS,
    OPTION_GROUPS,
    ROOT_KEYS,
    SECTIONS,
    CheckpointConfig,
    Config,
    PromoteConfig,
    SearchConfig,
    TrackingConfig,
)
from fmnist_sweep.config.section_schemas import choose_schema, make_search_schema
from fmnist_sweep.data.data_config import FASHION_MNIST_SOURCES, DataConfig, OwnDataConfig, choose_data_schema
from fmnist_sweep.data.description import FASHION_MNIST
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.search.tunable import is_option_choice, is_tunable
from fmnist_sweep.text import quote_text
from fmnist_sweep.training.augmentation import PLAIN_AUGMENTATION
from fmnist_sweep.training.poolings import OWN_IMAGES

_Entry = TypeVar("_Entry")


def check_config(raw: Mapping[str, Any], locate: Locator) -> Config:
    """Check a composed mapping. Raises ConfigError: the key, its value, what is allowed, where it was written."""
    _refuse_keys(raw, locate)
    _refuse_misplaced_choice(raw, locate)
    for key, value in raw.items():
        name = quote_override_value(key)  # as YAML has it: 1 and false are keys too
        if name not in ROOT_KEYS:
            reason = describe_unknown_key(name, ROOT_KEYS, suggest_keys(name))
            if name == "plugins":
                reason = "a config names no code; type plugins=FILE.py on the command line, and remove it here"
            raise ConfigError(f"{quote_text(name)}={quote_override_value(value)} ({locate(name)}): {reason}.")
    sections = {section: _check_mapping(section, raw.get(section), locate) for section in SECTIONS}
    values: dict[str, dict[str, Any]] = {}
    context: dict[str, Any] = {}
    for section in SECTIONS:
        if section == "regularization" and not is_regularized(values["model"]):
            values[section] = {}
        else:
            values[section] = _check_options(section, sections[section], locate, context)
        if section == "data":
            context[OWN_IMAGES] = values["data"]["source"] not in FASHION_MNIST_SOURCES
    oracle_keys = set(make_search_schema(values["search"]["name"]).model_fields) - set(SearchConfig.model_fields)
    data = choose_data_schema(values["data"]["source"])(**values["data"])
    config = Config(
        data=data,
        settings=drop_neutral_settings(
            settle_conditions(
                {
                    "model": values["model"],
                    "optimizer": values["optimizer"],
                    "regularization": limit_regularization(values["model"], values["regularization"]),
                    "train": values["train"],
                    "seed": _check_seed(raw.get("seed"), locate),
                },
                locate,
            )
        ),
        search=SearchConfig(**values["search"]),
        oracle={key: values["search"][key] for key in sorted(oracle_keys)},
        executor=EXECUTORS[values["executor"]["name"]](**values["executor"]),
        tracking=_name_experiment(TrackingConfig(**values["tracking"]), data),
        checkpoint=CheckpointConfig(**values["checkpoint"]),
        promote=PromoteConfig(**values["promote"]),
        fresh=_check_flag("fresh", raw.get("fresh"), locate),
        plan=_check_flag("plan", raw.get("plan"), locate),
    )
    _refuse_tuned_epochs_in_rungs(config, locate)
    _refuse_watching_trained_images(config, locate)
    _refuse_smoothed_bits(config, locate)
    refuse_one_size(config.settings, locate)
    refuse_unusable_replicas(config.settings, locate)
    complete_first(config.settings, config.search.first, f"search.first ({locate('search.first')})")
    return config


def _name_experiment(tracking: TrackingConfig, data: DataConfig) -> TrackingConfig:
    """Where the default experiment is named, that of own images is called after them."""
    if not isinstance(data, OwnDataConfig) or data.name is None or tracking.experiment != FASHION_MNIST.name:
        return tracking
    return tracking.model_copy(update={"experiment": data.name})


def is_allowed(settings: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a study with these settings may have this value, fixed or tunable, at a dotted key that it has."""
    section, *parents, name = key.split(".")
    changed = copy.deepcopy(dict(settings.get(section, {})))
    place: Any = changed
    for parent in parents:
        place = place.get(parent)
        if not isinstance(place, dict):
            return False
    if name not in place:
        return False
    place[name] = value
    try:
        checked = _check_section(section, changed, str)
        if section == "train":
            _check_section("train.schedule", checked["schedule"], str)
            _check_section("train.augmentation", checked["augmentation"], str)
    except ConfigError:
        return False
    return True


def _check_mapping(section: str, value: Any, locate: Locator) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{section}={quote_override_value(value)} ({locate(section)}): expected a group's settings.")
    return value


def _check_options(section: str, value: Mapping[str, Any], locate: Locator, context: dict[str, Any]) -> dict[str, Any]:
    """A section, or each of the options of it that a study searches. context: of the validation (`poolings`)."""
    if not is_option_choice(value):
        return _check_section(section, value, locate, context=context)
    options = {
        option: _check_section(
            section, _check_mapping(f"{section}.{option}", settings, locate), locate, option, context
        )
        for option, settings in value["settings"].items()
    }
    return {**value, "settings": options}


def _check_section(
    section: str,
    value: Mapping[str, Any],
    locate: Locator,
    option: str = "",
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Check a section, or one of its inner ones; option: which of those searched it is of."""
    group, dot, inner = section.partition(".")
    name = f"{group}.{option}{dot}{inner}" if option else section
    schema = choose_schema(section, value, locate)
    try:
        checked = schema.model_validate(dict(value), context=context).model_dump(warnings=False)
        if section == "train":
            schedule = _check_mapping(f"{name}.schedule", checked["schedule"], locate)
            checked["schedule"] = _check_section("train.schedule", schedule, locate, option)
            augmentation = _check_mapping(f"{name}.augmentation", checked["augmentation"], locate)
            checked["augmentation"] = _check_section("train.augmentation", augmentation, locate, option)
            if checked["augmentation"].get("name") == PLAIN_AUGMENTATION:
                del checked["augmentation"]["name"]  # as it was written before there were others
        return checked
    except ValidationError as error:
        message = describe_validation_error(name, value, schema, error, locate)
        kinds = {detail["type"] for detail in error.errors(include_url=False)}
        hint = _suggest_option(section, value, locate) if kinds & {"extra_forbidden", "missing"} else None
        raise ConfigError(f"{message.removesuffix('.')}; {hint}." if hint else message) from None


def _suggest_option(section: str, value: Mapping[str, Any], locate: Locator) -> str | None:
    """Which option to choose where only what names one was typed, such as optimizer.name=adam; else None."""
    group = section.partition(".")[0]
    for key in NAMING_KEYS:
        name = value.get(key.rpartition(".")[2]) if key.rpartition(".")[0] == section else None
        if isinstance(name, str) and locate(key) == "command line":
            options = " or ".join(f"{group}={option}" for option in list_options_setting(key, name))
            own = f"them into FOLDER/{group}/{name}.yaml, and --config-dir FOLDER {group}={name}"  # of a plugin
            return f"for {name} with its own settings, write {options or own} instead of {key}={name}"
    return None


def _check_seed(value: Any, locate: Locator) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ConfigError(
            f"seed={quote_override_value(value)} ({locate('seed')}): expected a whole number from 0 to 2147483647."
        )
    return value


def _check_flag(key: str, value: Any, locate: Locator) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={quote_override_value(value)} ({locate(key)}): expected true or false.")
    return value


def _refuse_keys(raw: Mapping[str, Any], locate: Locator, prefix: str = "") -> None:
    """Refuse, at any depth, a key that is no text, or that names code to import: a config is data."""
    for key, value in raw.items():
        name = key if isinstance(key, str) else format_override_value(key)
        path = f"{prefix}{name}"
        reason = "a config names no code; remove it" if key == "_target_" else ""
        if not isinstance(key, str) and prefix:
            reason = "the name of a setting is a text, and this key is none; remove it"
        if reason:
            raise ConfigError(f"{path}={quote_override_value(value)} ({locate(path)}): {reason}.")
        if isinstance(value, Mapping):
            _refuse_keys(value, locate, f"{path}.")


def _refuse_misplaced_choice(raw: Mapping[str, Any], locate: Locator, prefix: str = "") -> None:
    """Refuse {tune: option} where it is not the section of a group whose options were composed."""
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if is_option_choice(value) and not (path in OPTION_GROUPS and "settings" in value):
            example = f"{OPTION_GROUPS[1]}={{tune: option, of: [adam, sgd]}}"
            raise ConfigError(
                f"{path}={quote_override_value(value)} ({locate(path)}): tune: option is for a whole group, one of "
                f"{', '.join(OPTION_GROUPS)}, as in '{example}'; for the values of one key write tune: choice."
            )
        if isinstance(value, Mapping):
            inner = value.get("settings", {}) if is_option_choice(value) else value
            for option in inner.values() if is_option_choice(value) else [inner]:
                if isinstance(option, Mapping):
                    _refuse_misplaced_choice(option, locate, f"{path}.")


def _refuse_tuned_epochs_in_rungs(config: Config, locate: Locator) -> None:
    name = config.search.name
    if name not in ("hyperband", "asha"):
        return
    epochs, *others = list_values_at(config.settings, "train", "epochs")
    if any(other != epochs for other in others):
        raise ConfigError(
            f"train.epochs ({locate('train.epochs')}): {name} itself decides the epochs of each trial, and the options "
            f"of train have {' and '.join(map(format_override_value, [epochs, *others]))}; give all of them the same, "
            f"as in train.epochs={format_override_value(epochs)}."
        )
    if is_tunable(epochs):
        raise ConfigError(
            f"train.epochs={quote_override_value(epochs)} ({locate('train.epochs')}): {name} itself decides the "
            "epochs of each trial; give the greatest number of them as a plain number."
        )


def _refuse_watching_trained_images(config: Config, locate: Locator) -> None:
    if not config.data.include_validation:
        return
    schedules = list_values_at(config.settings, "train", "schedule")
    for key, watches in {
        "train.early_stopping": any(list_values_at(config.settings, "train", "early_stopping")),
        "train.schedule": any(schedule["name"] == "plateau" for schedule in schedules),
    }.items():
        if watches:
            raise ConfigError(
                f"data.include_validation=true ({locate('data.include_validation')}): {key} ({locate(key)}) goes by "
                "validation images, which say nothing once they are trained on; fix the epochs and choose another one."
            )


def _refuse_smoothed_bits(config: Config, locate: Locator) -> None:
    """Refuse label smoothing with a loss that knows of ten bits, not of one label out of ten."""
    loss, smoothing = (config.settings["train"].get(key) for key in ("loss", "label_smoothing"))
    if smoothing and "binary_crossentropy" in (loss.get("values", ()) if is_tunable(loss) else (loss,)):
        raise ConfigError(
            f"train.label_smoothing={quote_override_value(smoothing)} ({locate('train.label_smoothing')}): "
            f"binary_crossentropy (train.loss, {locate('train.loss')}) has no label to spread over the others; choose "
            "train.loss=categorical_crossentropy, or train.label_smoothing=0.0."
        )
