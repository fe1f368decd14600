"""Settings that came later, or have another default now, so that what was stored before keeps its meaning and name.

A setting that decides results and did not exist before has a neutral value: what was done before there was a choice.
With that value, and wherever it decides nothing, it is left out of the settings, and so out of the study's id.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import format_override_value, is_override_of, parse_override_key
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.search.tunable import is_option_choice, is_tunable
from fmnist_sweep.training.backend import choose_precision
from fmnist_sweep.training.environment import read_cpu_info
from fmnist_sweep.training.models import BUILDERS

# What settings that lack the key were trained with. A builder's later parameters say it in its signature.
NEUTRAL_VALUES: Mapping[str, Any] = {
    "train.normalization": "keras",
    "train.label_smoothing": 0.0,
    "train.averaging": 0.0,
    "train.batch_growth": None,
    "train.resolution": None,
    "train.replicas": 1,
    "search.restart": False,
    **{
        f"model.{parameter.name}": parameter.default
        for builder in BUILDERS.values()
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.default is not parameter.empty and parameter.name not in BUILDERS.handed
    },
}


@dataclass(frozen=True)
class _Change:
    """A default that was another one: that of `key` was `was`, and became `now`.

    where: a key and its value, in the settings that the default concerns; None for all. group: the group whose default
    option changed, so that whoever names an option means the same as ever; None where the option itself changed.
    by_meaning: `now` was the default all along and came to mean something else than `was`, also where it is typed.
    override: what composes it as it was; None for an override of the key.
    """

    key: str
    was: Any
    now: Any
    where: tuple[str, str] | None = None
    group: str | None = None
    by_meaning: bool = False
    override: str | None = None


def _choice(*values: int) -> dict[str, Any]:
    return {"tune": "choice", "values": list(values)}


def _whole_number(low: int, high: int) -> dict[str, Any]:
    return {"tune": "int", "min_value": low, "max_value": high}


def _tenths(high: float) -> dict[str, Any]:
    return {"tune": "float", "min_value": 0.0, "max_value": high, "step": 0.1}


def _list_rate_changes() -> list[_Change]:
    """Each optimizer's rate became one that is searched."""
    return [
        _Change(
            "optimizer.learning_rate",
            was,
            {"tune": "float", "min_value": low, "max_value": high, "sampling": "log", "default": default},
            ("optimizer.name", name),
        )
        for name, was, low, high, default in (
            ("rmsprop", 0.001, 0.0015, 0.006, 0.003),
            ("adam", 0.001, 0.002, 0.008, 0.004),
            ("adamw", 0.001, 0.002, 0.008, 0.004),
            ("sgd", 0.05, 0.02, 0.2, 0.1),
        )
    ]


def _list_precision_changes(cpu_info: Mapping[str, str]) -> list[_Change]:
    """What `auto` meant where it went by the instructions for bfloat16 alone, and not by what is quicker."""
    has_instructions = {"avx512_bf16", "amx_bf16"} & set(cpu_info.get("flags", "").split())
    if not has_instructions or choose_precision(cpu_info) == "mixed_bfloat16":
        return []
    return [_Change("train.precision", "mixed_bfloat16", "auto", by_meaning=True)]


_CNN = ("model.builder", "cnn")
# The defaults that changed together, the first change first. Commands from before compose what they did with these.
_HISTORY: tuple[tuple[_Change, ...], ...] = (
    (_Change("train.normalization", "keras", "fused"),),
    # The default space became one that holds good models.
    (
        _Change("model.filters", _choice(32, 48, 64), _choice(16, 24, 32), _CNN),
        _Change("model.conv_layers", _whole_number(1, 3), _whole_number(2, 4), _CNN),
        _Change("model.dense_units", 128, 64, _CNN),
        _Change("model.growth", 1.0, 2.0, _CNN),
        _Change("model.pooling", "after_activation", "before_normalization", _CNN),
        *_list_rate_changes(),
        _Change("regularization.batch_normalization", False, True, group="regularization"),
        _Change("regularization.dropout", _tenths(0.5), _tenths(0.3)),
        _Change("train.epochs", 3, 5, group="train"),
        _Change("train.batch_size", 128, 64, group="train"),
        _Change(
            "train.schedule",
            {"name": "constant"},
            {"name": "one_cycle", "warmup": 0.25, "over_epochs": None},
            group="train",
        ),
        _Change("train.augmentation.flip", False, True, group="train"),
    ),
    tuple(_list_precision_changes(read_cpu_info())),
    # Each rung became a training of its own.
    (
        _Change("search.restart", False, True, ("search.name", "asha")),
        _Change("search.restart", False, True, ("search.name", "hyperband")),
    ),
    # The default search became one that goes by results.
    (_Change("search.name", "random", "tpe", group="search", override="search=random"),),
    # The dense layer of models 3 and 4 of write-up 003 became one with which they reach what it states.
    # Other options of the builder still have the former one, and are pinned to what they have: nothing else tells them
    # from model 3 with blocks of one's own.
    (_Change("model.dense_widths", [128], [2048], ("model.builder", "conv_stack")),),
)
DEFAULTS_VERSION = len(_HISTORY)  # of the defaults that a study is begun with


def drop_neutral_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A study's or a trial's settings without the keys that have their neutral value, or decide nothing here."""
    kept = dict(settings)
    for key, neutral in NEUTRAL_VALUES.items():
        if key.startswith("model.") and _has_own_builder(settings):
            continue  # a setting of the same name may mean something else there
        values = list_values_at(kept, *key.split(".", 1))
        if all(value == neutral for value in values) or not _is_decisive(key, kept):
            kept = _drop_key(kept, key)
    return kept


def _has_own_builder(settings: Mapping[str, Any]) -> bool:
    """Whether a model of the settings is none of the project's own."""
    registrations = map(BUILDERS.find_registration, list_values_at(settings, "model", "builder"))
    return any(each is None or each.plugin is not None for each in registrations)


def list_earlier_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The overrides with which a command composes what it did at each earlier time, the latest first.

    settings: what it composes now, of these overrides, with its search. Nothing for a time when it composed the same.
    A value that is not the present default was chosen by an option or a recipe, then as now.
    """
    known: tuple[str, ...] = ()
    for first in reversed(range(len(_HISTORY))):
        changes = [change for changes in _HISTORY[first:] for change in changes]
        earlier = tuple(
            _build_override(change)
            for change in changes
            if _concerns(change, settings, overrides) and _find_setting(settings, change.key) == change.now
        )
        if earlier != known:
            yield earlier
        known = earlier


def list_pinning_overrides(settings: Mapping[str, Any], overrides: Sequence[str], version: int = 0) -> list[str]:
    """Overrides that a command with `overrides` also needs now to compose the same settings as ever.

    settings: as stored, with the search where it decides something. A default that changed since would otherwise take
    the place of what they were trained with.
    version: of the defaults when the command was typed.
    """
    return [
        _build_override(change)
        for changes in _HISTORY[version:]
        for change in changes
        if _concerns(change, settings, overrides) and _find_setting(settings, change.key) == change.was
    ]


def _concerns(change: _Change, settings: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Whether a default decides something in the settings of a command with these overrides.

    Not where options of its group are searched: each of them is in the settings as its file was.
    """
    if is_option_choice(settings.get(change.key.partition(".")[0])):
        return False
    is_typed = any(
        parse_override_key(override) == change.group
        or (is_override_of(override, (change.key,)) and not _means_another(override, change))
        for override in overrides
    )
    is_elsewhere = change.where is not None and find_value(settings, change.where[0]) != change.where[1]
    return not is_typed and not is_elsewhere and _is_decisive(change.key, settings)


def _means_another(override: str, change: _Change) -> bool:
    """Whether this override of the key had another meaning before the change."""
    return change.by_meaning and override.partition("=")[2] == format_override_value(change.now)


def _find_setting(settings: Mapping[str, Any], key: str) -> Any:
    return find_value(settings, key, NEUTRAL_VALUES.get(key))


def _build_override(change: _Change) -> str:
    if change.override is not None:
        return change.override
    # Forced, because an option of one's own may have no such key. What replaces a mapping is never forced.
    force = "" if isinstance(change.was, Mapping) else "++"
    return f"{force}{change.key}={format_override_value(change.was)}"


def _is_decisive(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether another value of this key gives other results."""
    match key:
        case "train.normalization":
            values = list_values_at(settings, "regularization", "batch_normalization")
            return any(normalizes is True or is_tunable(normalizes) for normalizes in values)
        case _:
            return True


def _drop_key(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    section, _, name = key.partition(".")
    if is_option_choice(settings.get(section)):
        options = settings[section]["settings"]
        options = {option: _drop_key({section: inner}, key)[section] for option, inner in options.items()}
        return {**settings, section: {**settings[section], "settings": options}}
    if name not in settings.get(section, {}):
        return dict(settings)
    return {**settings, section: {inner: value for inner, value in settings[section].items() if inner != name}}
