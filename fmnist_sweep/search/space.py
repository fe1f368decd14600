"""Tunables of a config <-> KerasTuner's HyperParameters, named by their dotted keys.

A tunable that was not drawn, as its condition or its option was not, has no value among those of a trial.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

from fmnist_sweep.search import tunable
from fmnist_sweep.search.parameters import find_tunables, list_parameters

if TYPE_CHECKING:
    import keras_tuner

_METHODS = {"choice": "Choice", "int": "Int", "float": "Float", "boolean": "Boolean"}


def build_hyperparameters(settings: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Build the search space of a study's settings; a tunable's arguments are those of the KerasTuner method.

    What has conditions is within a `conditional_scope` of each: KerasTuner draws it where all of them are met. A float
    with a step becomes an ordered choice of its values: KerasTuner 1.4.8 counts them with `//`, so 0.0 to 0.5 in steps
    of 0.1 would never reach 0.5.
    """
    from fmnist_sweep.search.scopes import NestingHyperParameters

    space = NestingHyperParameters()
    for parameter in list_parameters(settings):
        name, spec = parameter.name, parameter.spec
        arguments = {key: value for key, value in spec.items() if key != tunable.TUNE_KEY}
        with ExitStack() as scopes:
            for parent, values in parameter.conditions:
                scopes.enter_context(space.conditional_scope(parent, list(values)))
            if spec[tunable.TUNE_KEY] == "float" and spec.get("step") is not None:
                steps = tunable.parse_tunable(spec).list_values()
                space.Choice(name, steps, ordered=True, default=spec.get("default"))
            else:
                getattr(space, _METHODS[spec[tunable.TUNE_KEY]])(name, **arguments)
    return space


def resolve_tunables(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every tunable of the settings by its proposed value. Raises KeyError if a value is missing.

    A group whose options are searched becomes the option that was drawn. What was not drawn needs no value: within
    other options it is gone, and what has a condition is what it is otherwise.
    """
    resolved = copy.deepcopy(dict(settings))
    drawn: dict[str, Any] = {}
    for parameter in list_parameters(settings):
        if parameter.is_drawn(drawn):
            drawn[parameter.name] = _convert_value(values[parameter.name], parameter.spec)
            value = drawn[parameter.name]
        elif parameter.option is None or drawn[parameter.option[0]] == parameter.option[1]:
            value = parameter.otherwise
        else:
            continue
        *parents, key = parameter.key.split(".")
        section = resolved
        for parent in parents:
            section = section[parent]
        is_group = tunable.is_option_choice(section[key])
        section[key] = section[key]["settings"][value] if is_group else value
    return resolved


def map_drawn_keys(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """The dotted keys of a trial's config that tunables decide, by the parameters' names, drawn or not.

    values: the trial's. Those within options that were not drawn, and the groups themselves, are left out.
    """
    groups = find_option_groups(settings)
    return {
        parameter.name: parameter.key
        for parameter in list_parameters(settings)
        if parameter.key not in groups
        and (parameter.option is None or values[parameter.option[0]] == parameter.option[1])
    }


def find_option_groups(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The groups whose options are searched, and the options of each."""
    return {group: list(value["of"]) for group, value in settings.items() if tunable.is_option_choice(value)}


def list_values_at(settings: Mapping[str, Any], section: str, key: str) -> list[Any]:
    """The values, or tunables, that a key of a section has: one, or one in each option that has the key."""
    return [option[key] for option in list_searched_sections(settings.get(section, {})) if key in option]


def list_searched_sections(section: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The options that a section is searched over, or the section itself."""
    options = section.get("settings", {}).values() if tunable.is_option_choice(section) else [section]
    return [option for option in options if isinstance(option, Mapping)]


def read_epochs(settings: Mapping[str, Any]) -> Any:
    """The number of epochs of a study's settings, or its tunable: of options, the one with the most."""
    return max(list_values_at(settings, "train", "epochs"), key=lambda epochs: max(tunable.list_extremes(epochs)))


def read_replicas(settings: Mapping[str, Any]) -> int:
    """How many replicas of a network train on parts of a batch, in a study's settings or a trial's config."""
    return max(list_values_at(settings, "train", "replicas"), default=1)


def _convert_value(value: Any, spec: Mapping[str, Any]) -> Any:
    if spec[tunable.TUNE_KEY] == "int":
        return int(value)
    return tunable.round_float(value) if isinstance(value, float) else value


def count_combinations(settings: Mapping[str, Any]) -> float:
    """Count the different trials of the space: math.inf with a continuous tunable, 1 without any tunable."""
    return float(_count_trials(settings, _count_values, lambda spec, value: True))


def count_grid_trials(settings: Mapping[str, Any]) -> int:
    """Count the trials of a grid search: KerasTuner tries ten points of a continuous tunable."""
    return int(_count_trials(settings, _count_grid_values, _is_in_grid))


def _count_trials(
    settings: Mapping[str, Any],
    count_values: Callable[[Mapping[str, Any]], float],
    takes_value: Callable[[Mapping[str, Any], Any], bool],
) -> float:
    """Count the different trials. count_values: of a tunable; takes_value: whether one of them is this value.

    What is not drawn makes no difference. Values that no condition names are counted together: they lead to the same.
    """
    parameters = list_parameters(settings)
    named: dict[str, dict[Any, None]] = {}
    for parameter in parameters:
        for name, values in parameter.conditions:
            named.setdefault(name, {}).update(dict.fromkeys(values))
    counts = [count_values(parameter.spec) for parameter in parameters]
    needed = [{name for each in parameters[place:] for name, _ in each.conditions} for place in range(len(parameters))]

    @cache
    def count(place: int, known: frozenset[tuple[str, Any]]) -> float:
        """From a place on; known: the values before it that conditions name."""
        if place == len(parameters):
            return 1
        parameter, after = parameters[place], place + 1
        remembered = needed[after] if after < len(parameters) else set()
        kept = frozenset(pair for pair in known if pair[0] in remembered)
        if not parameter.is_drawn(dict(known)):
            return count(after, kept)
        if parameter.name not in remembered:
            return counts[place] * count(after, kept)
        values = [value for value in named[parameter.name] if takes_value(parameter.spec, value)]
        total = sum(count(after, kept | {(parameter.name, value)}) for value in values)
        others = counts[place] - len(values)
        return total + others * count(after, kept) if others > 0 else total

    return count(0, frozenset())


def find_unlisted_tunable(settings: Mapping[str, Any]) -> tuple[str, int] | None:
    """A tunable with more values than a grid search can list, and how many they are; None if there is none."""
    for key, spec in find_tunables(settings):
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
    return len(_list_grid_values(spec))


def _list_grid_values(spec: Mapping[str, Any]) -> set[Any]:
    (parameter,) = build_hyperparameters({"": spec}).space
    # A default that is none of KerasTuner's points is tried as well.
    return {*parameter.values, parameter.default}


def _is_in_grid(spec: Mapping[str, Any], value: Any) -> bool:
    return (_lists_values(spec) and _count_values(spec) > tunable.MAX_LISTED_VALUES) or value in _list_grid_values(spec)


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
