"""Conditions of tunables (`when`): checked against the tunables that they name, and settled where those are pinned."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NoReturn

from fmnist_sweep.config.keys import find_value, has_key
from fmnist_sweep.config.overrides import format_override_value, quote_override_value
from fmnist_sweep.config.refusals import MOST_QUOTED, Locator, suggest_closest
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.parameters import CircularConditions, Parameter, list_parameters, scan_parameters
from fmnist_sweep.search.tunable import parse_tunable
from fmnist_sweep.text import quote_text


def settle_conditions(settings: Mapping[str, Any], locate: Locator) -> dict[str, Any]:
    """A study's settings whose conditions can all be met, each value as the named tunable draws it.

    Where a file's condition names a tunable that is pinned elsewhere, as on the command line, its tunable loses the
    condition, or is pinned to `otherwise`. Raises ConfigError for a condition that names no tunable, or a value that
    the tunable never takes, and for a circle.
    """
    if not any(_read_when(settings, parameter) for parameter in scan_parameters(settings)):
        return dict(settings)
    settled = copy.deepcopy(dict(settings))
    original = {parameter.name: _find_spec(settings, parameter) for parameter in scan_parameters(settings)}
    pinned = set[str]()
    while _settle_pinned(settled, locate, original, pinned):
        pass
    parameters = {parameter.name: parameter for parameter in scan_parameters(settled)}
    for parameter in parameters.values():
        when = _read_when(settled, parameter)
        for key, name in _list_named(settled, parameter):
            when[key] = [_find_drawn(parameter, parameters[name], value, original, locate) for value in when[key]]
    try:
        list_parameters(settled)
    except CircularConditions as error:
        _refuse(error.names[0], original, locate, f"{error}, so that none of them can be drawn first; leave one out")
    return settled


def _settle_pinned(settings: dict[str, Any], locate: Locator, original: Mapping[str, Any], pinned: set[str]) -> bool:
    """Settle one condition on what is no tunable; return False where there is none. pinned: what it pins is added."""
    parameters = {parameter.name: parameter for parameter in scan_parameters(settings)}
    for parameter in parameters.values():
        for key, name in _list_named(settings, parameter):
            if name in parameters:
                continue
            section = _find_section(settings, parameter)
            value_key = _find_fixed_key(settings, parameter, key)
            if value_key is None:
                tuned = ", ".join(each for each in parameters if each != parameter.name) or "none"
                hint = suggest_closest(key, parameters)
                _refuse(
                    parameter.name,
                    original,
                    locate,
                    f"when names {quote_text(key)}, and no tunable of this study is called so; {hint}there are {tuned}",
                )
            if value_key not in pinned and locate(parameter.name) in ("command line", locate(name)):
                fixed = quote_override_value(find_value(section, value_key))
                _refuse(
                    parameter.name,
                    original,
                    locate,
                    f"when names {key}, which is no tunable but fixed to {fixed}; tune it, or leave the condition out",
                )
            _settle_condition(section, parameter, key, find_value(section, value_key), pinned)
            return True
    return False


def _settle_condition(section: dict[str, Any], parameter: Parameter, key: str, fixed: Any, pinned: set[str]) -> None:
    """Drop a condition on a fixed value that it meets, or pin its tunable. section: holds both by dotted keys."""
    *parents, own_key = parameter.key.split(".")
    holder = find_value(section, ".".join(parents)) if parents else section
    spec = holder[own_key]
    if fixed not in spec["when"][key]:
        holder[own_key] = spec["otherwise"]
        pinned.add(parameter.key)
        return
    del spec["when"][key]
    if not spec["when"]:
        del spec["when"], spec["otherwise"]


def _find_section(settings: Mapping[str, Any], parameter: Parameter) -> dict[str, Any]:
    """The settings as the file of a parameter sees them: with its own option in the place of its group."""
    if parameter.option is None:
        return dict(settings)
    group, option = parameter.option
    return {**settings, group: settings[group]["settings"][option]}


def _find_fixed_key(settings: Mapping[str, Any], parameter: Parameter, key: str) -> str | None:
    return key if has_key(_find_section(settings, parameter), key) else None


def _find_spec(settings: Mapping[str, Any], parameter: Parameter) -> Any:
    return find_value(_find_section(settings, parameter), parameter.key)


def _read_when(settings: Mapping[str, Any], parameter: Parameter) -> dict[str, Any]:
    spec = _find_spec(settings, parameter)
    when: dict[str, Any] = spec.get("when", {}) if "settings" not in spec else {}
    return when


def _list_named(settings: Mapping[str, Any], parameter: Parameter) -> list[tuple[str, str]]:
    """The keys of a condition as written, each with the name of the parameter that it means."""
    names = [name for name, _ in parameter.conditions[0 if parameter.option is None else 1 :]]
    return list(zip(_read_when(settings, parameter), names, strict=True))


def _find_drawn(
    parameter: Parameter, named: Parameter, value: Any, original: Mapping[str, Any], locate: Locator
) -> Any:
    parsed = parse_tunable(named.spec)
    drawn = parsed.find_drawn(value)
    if drawn is not None:
        return drawn
    values = parsed.list_values()
    low_high = [format_override_value(extreme) for extreme in parsed.list_extremes()]
    if values is not None:
        takes = f"takes {quote_override_value(values)}"
    elif named.spec["tune"] == "int":
        takes = f"takes whole numbers from {low_high[0]} to {low_high[1]}"
    else:
        takes = f"takes any number from {low_high[0]} to {low_high[1]}, and none of them exactly: give it a step"
    reason = f"when says {named.name}: {quote_override_value(value)}, which it never takes: {named.name} {takes}"
    return _refuse(parameter.name, original, locate, reason)


def _refuse(name: str, original: Mapping[str, Any], locate: Locator, reason: str) -> NoReturn:
    shown = quote_text(f"{name}={format_override_value(original[name])}", MOST_QUOTED)
    raise ConfigError(f"{shown} ({locate(name)}): {reason}.")
