"""Tunables of a config <-> KerasTuner's HyperParameters, named by their dotted keys."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fmnist_sweep.search import tunable

if TYPE_CHECKING:
    import keras_tuner

_METHODS = {"choice": "Choice", "int": "Int", "float": "Float", "boolean": "Boolean"}


def build_hyperparameters(settings: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Build the search space of a study's settings; a tunable's arguments are those of the KerasTuner method.

    A float with a step becomes an ordered choice of its values: KerasTuner 1.4.8 counts them with `//`, so
    0.0 to 0.5 in steps of 0.1 would never reach 0.5.
    """
    import keras_tuner

    space = keras_tuner.HyperParameters()
    for name, spec in tunable.find_tunables(settings):
        arguments = {key: value for key, value in spec.items() if key != tunable.TUNE_KEY}
        if spec[tunable.TUNE_KEY] == "float" and spec.get("step") is not None:
            space.Choice(name, _list_steps(spec), ordered=True, default=spec.get("default"))
        else:
            getattr(space, _METHODS[spec[tunable.TUNE_KEY]])(name, **arguments)
    return space


def _list_steps(spec: Mapping[str, Any]) -> list[float]:
    low, high, step = spec["min_value"], spec["max_value"], spec["step"]
    sampling = spec.get("sampling", "linear")
    indices = range(int(_count_steps(spec)))
    if sampling == "linear":
        values = [low + index * step for index in indices]
    elif sampling == "log":
        values = [low * step**index for index in indices]
    else:
        values = sorted(high + low - low * step**index for index in indices)
    return [_round_float(value) for value in values]


def resolve_tunables(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every tunable of the settings by its proposed value. Raises KeyError if a value is missing."""
    resolved = copy.deepcopy(dict(settings))
    for name, spec in tunable.find_tunables(settings):
        *parents, key = name.split(".")
        section = resolved
        for parent in parents:
            section = section[parent]
        section[key] = _convert_value(values[name], spec)
    return resolved


def _convert_value(value: Any, spec: Mapping[str, Any]) -> Any:
    if spec[tunable.TUNE_KEY] == "int":
        return int(value)
    return _round_float(value) if isinstance(value, float) else value


def _round_float(value: float) -> float:
    # Nobody wants to read, filter by or type 0.30000000000000004, which is 3 * 0.1.
    return float(f"{value:.10g}")


def count_combinations(settings: Mapping[str, Any]) -> float:
    """Count the different trials of the space: math.inf with a continuous tunable, 1 without any tunable."""
    return math.prod((_count_values(spec) for _, spec in tunable.find_tunables(settings)), start=1.0)


def count_grid_trials(settings: Mapping[str, Any]) -> int:
    """Count the trials of a grid search: KerasTuner tries ten points of a continuous tunable."""
    return math.prod(_count_grid_values(spec) for _, spec in tunable.find_tunables(settings))


def find_unlisted_tunable(settings: Mapping[str, Any]) -> tuple[str, int] | None:
    """A tunable with more values than a grid search can list, and how many they are; None if there is none."""
    for key, spec in tunable.find_tunables(settings):
        count = _count_values(spec)
        if _lists_values(spec) and count > tunable.MAX_LISTED_VALUES:
            return key, int(count)
    return None


def _lists_values(spec: Mapping[str, Any]) -> bool:
    """Whether KerasTuner lists all values of a tunable for a grid, instead of trying ten points of it."""
    return spec.get("sampling", "linear") == "linear" and _count_values(spec) < math.inf


def _count_grid_values(spec: Mapping[str, Any]) -> int:
    count = _count_values(spec)
    if _lists_values(spec) and count > tunable.MAX_LISTED_VALUES:
        return int(count)
    (parameter,) = build_hyperparameters({"": spec}).space
    # A default that is none of KerasTuner's points is tried as well.
    return len({*parameter.values, parameter.default})


def _count_values(spec: Mapping[str, Any]) -> float:
    match spec[tunable.TUNE_KEY]:
        case "choice":
            return len(spec["values"])
        case "boolean":
            return 2
        case "int" if spec.get("step") is None:
            return float(spec["max_value"] - spec["min_value"] + 1)
        case _ if spec.get("step") is None:
            return math.inf if spec["max_value"] > spec["min_value"] else 1
        case _:
            return _count_steps(spec)


def _count_steps(spec: Mapping[str, Any]) -> float:
    parsed = tunable.parse_tunable(spec)
    assert isinstance(parsed, tunable.Int | tunable.Float)
    return parsed.count_steps()
