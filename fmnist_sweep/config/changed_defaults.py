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
from fmnist_sweep.training.models import BUILDERS

# What settings that lack the key were trained with. A builder's later parameters say it in its signature.
NEUTRAL_VALUES: Mapping[str, Any] = {
    "train.normalization": "keras",
    "train.label_smoothing": 0.0,
    **{
        f"model.{parameter.name}": parameter.default
        for builder in BUILDERS.values()
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.default is not parameter.empty
    },
}


@dataclass(frozen=True)
class _Change:
    """A default that was another one: that of `key` was `was`.

    where: a key and its value, in the settings that the default concerns; None for all. group: the group whose default
    option changed, so that whoever names an option means the same as ever; None where the option itself changed.
    """

    key: str
    was: Any
    where: tuple[str, str] | None = None
    group: str | None = None


# The defaults that changed together, the first change first. Commands from before compose what they did with these.
_HISTORY: tuple[tuple[_Change, ...], ...] = ((_Change("train.normalization", "keras"),),)
DEFAULTS_VERSION = len(_HISTORY)  # of the defaults that a study was begun with


def drop_neutral_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A study's or a trial's settings without the keys that have their neutral value, or decide nothing here."""
    kept = dict(settings)
    for key, neutral in NEUTRAL_VALUES.items():
        values = list_values_at(kept, *key.split(".", 1))
        if all(value == neutral for value in values) or not _is_decisive(key, kept):
            kept = _drop_key(kept, key)
    return kept


def list_earlier_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The overrides with which a command composes what it did at each earlier time, the latest first.

    settings: what it composes now, of these overrides. Nothing for a time when it composed the same.
    """
    known: tuple[str, ...] = ()
    for first in reversed(range(len(_HISTORY))):
        changes = [change for changes in _HISTORY[first:] for change in changes]
        earlier = tuple(
            _build_override(change)
            for change in changes
            if _concerns(change, settings, overrides) and _find_setting(settings, change.key) != change.was
        )
        if earlier != known:
            yield earlier
        known = earlier


def list_pinning_overrides(settings: Mapping[str, Any], overrides: Sequence[str], version: int = 0) -> list[str]:
    """Overrides that a command with `overrides` also needs now to compose the same settings as ever.

    settings: as stored. A default that changed since would otherwise take the place of what they were trained with.
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
    is_typed = any(parse_override_key(o) == change.group or is_override_of(o, (change.key,)) for o in overrides)
    is_elsewhere = change.where is not None and find_value(settings, change.where[0]) != change.where[1]
    return not is_typed and not is_elsewhere and _is_decisive(change.key, settings)


def _find_setting(settings: Mapping[str, Any], key: str) -> Any:
    return find_value(settings, key, NEUTRAL_VALUES.get(key))


def _build_override(change: _Change) -> str:
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
