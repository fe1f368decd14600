"""Configurations that a search is to begin with, checked against its space and completed by its defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fmnist_sweep.config.keys import find_value, has_key
from fmnist_sweep.config.overrides import format_override_value, quote_override_value
from fmnist_sweep.config.refusals import suggest_closest
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import tunable
from fmnist_sweep.search.parameters import list_parameters

Parsed = tunable.Choice | tunable.Int | tunable.Float | tunable.Boolean


def complete_first(
    settings: Mapping[str, Any], first: Sequence[Mapping[str, Any]] | Literal["default"] | None, source: str
) -> list[dict[str, Any]]:
    """The configurations of search.first, each once and with a value of every tunable that is drawn beside the others.

    settings: a study's, tunables included. source: how they were given, for messages. Raises ConfigError.
    """
    given: Sequence[Mapping[str, Any]] = [{}] if first == "default" else first or []
    return drop_repeated([complete_values(settings, values, source) for values in given])


def drop_repeated(configurations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The configurations in their order, each once."""
    return [values for number, values in enumerate(configurations) if values not in configurations[:number]]


def complete_values(settings: Mapping[str, Any], given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The given values as the tunables would draw them, and the defaults of the others; see `complete_first`."""
    parameters = list_parameters(settings)
    names = [parameter.name for parameter in parameters]
    for key in given:
        if key not in names:
            raise ConfigError(f"{source}: {_describe_untuned(settings, str(key), names)}.")
    values: dict[str, Any] = {}
    for parameter in parameters:
        name, parsed = parameter.name, tunable.parse_tunable(parameter.spec)
        if parameter.is_drawn(values):
            values[name] = _fit_value(name, parsed, given[name], source) if name in given else find_default(parsed)
        elif name in given:
            needed = " and ".join(f"{other}={_join_values(allowed)}" for other, allowed in parameter.conditions)
            raise ConfigError(f"{source}: {name} is drawn only with {needed}; leave it out, or give that, too.")
    return values


def _describe_untuned(settings: Mapping[str, Any], key: str, tuned: Sequence[str]) -> str:
    if has_key(settings, key) and not isinstance(find_value(settings, key), Mapping):
        value = quote_override_value(find_value(settings, key))
        return f"{key} is no tunable but fixed, {key}={value}; leave it out, or tune it"
    names = f"its tunables are {', '.join(tuned)}" if tuned else "it has none"
    return f"{key} is no tunable of this study; {suggest_closest(key, tuned)}{names}"


def find_default(parsed: Parsed) -> Any:
    """The value that a tunable has where none is chosen, by KerasTuner's rule."""
    if parsed.default is not None:
        return float(parsed.default) if isinstance(parsed, tunable.Float) else parsed.default
    return parsed.values[0] if isinstance(parsed, tunable.Choice) else getattr(parsed, "min_value", None)


def _fit_value(name: str, parsed: Parsed, value: Any, source: str) -> Any:
    fitted = _find_drawn(parsed, value)
    if fitted is None:
        raise ConfigError(
            f"{source}: {name}={quote_override_value(value)} is outside of the space; expected "
            f"{_describe_values(parsed)}."
        )
    return fitted


def _find_drawn(parsed: Parsed, value: Any) -> Any:
    """The value that a tunable would draw for this one; None if it draws no such value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match parsed:
        case tunable.Boolean():
            return value if isinstance(value, bool) else None
        case tunable.Choice():
            same = [
                each for each in parsed.values if each == value and isinstance(each, bool) is isinstance(value, bool)
            ]
            return same[0] if same else None
        case _ if not is_number or not parsed.min_value <= value <= parsed.max_value:
            return None
        case tunable.Int() if value != int(value):
            return None
        case _ if parsed.step is None:
            return int(value) if isinstance(parsed, tunable.Int) else float(value)
        case _:
            return _find_step(parsed, value)


def _find_step(parsed: tunable.Int | tunable.Float, value: float) -> Any:
    """The value of a tunable with a step that this one is, but for rounding; None if it lies between two of them."""
    low, high, step = parsed.min_value, parsed.max_value, float(parsed.step or 1)
    match parsed.sampling:
        case "linear":
            nearest = low + step * round((value - low) / step)
        case "log":
            nearest = low * step ** round(math.log(value / low, step))
        case _:
            nearest = high + low - low * step ** round(math.log((high + low - value) / low, step))
    if not math.isclose(nearest, value, rel_tol=1e-9, abs_tol=1e-12) or nearest > high * (1 + 1e-9):
        return None
    return int(value) if isinstance(parsed, tunable.Int) else float(f"{nearest:.10g}")  # as the space lists it


def _join_values(values: Sequence[Any]) -> str:
    *others, last = [format_override_value(value) for value in values]
    return f"{', '.join(others)} or {last}" if others else last


def _describe_values(parsed: Parsed) -> str:
    match parsed:
        case tunable.Boolean():
            return "true or false"
        case tunable.Choice():
            return _join_values(parsed.values)
        case _:
            kind = "a whole number" if isinstance(parsed, tunable.Int) else "a number"
            ratio = "factors" if parsed.sampling != "linear" else "steps"
            steps = "" if parsed.step is None else f", in {ratio} of {parsed.step}"
            return f"{kind} from {parsed.min_value} to {parsed.max_value}{steps}"
