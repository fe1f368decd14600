"""The parameters of a space: the tunables of a study's settings, what each is drawn under, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from fmnist_sweep.search.tunable import TUNE_KEY, is_option_choice, is_tunable


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter of a space: what a tunable of the settings is to an oracle.

    name: unlike any other's; that of a tunable within an option names the option, as in optimizer.sgd.momentum. key:
    the dotted key of a trial's config that it decides. spec: its tunable without condition; for the options of a group
    a choice of their names. conditions: names of other parameters, and the values that each must have for this one to
    be drawn. otherwise: the value where they have others. option: the name of the group's parameter and the option that
    it belongs to, the first of the conditions.
    """

    name: str
    key: str
    spec: Mapping[str, Any]
    conditions: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    otherwise: Any = None
    option: tuple[str, str] | None = None

    def is_drawn(self, drawn: Mapping[str, Any]) -> bool:
        """Whether it is drawn beside these values of the parameters before it."""
        return all(name in drawn and drawn[name] in values for name, values in self.conditions)


class CircularConditions(ValueError):
    """Conditions of tunables that wait for each other. names: those of the tunables."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"the conditions of {', '.join(names)} form a circle")
        self.names = list(names)


def find_tunables(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the tunables of a study's settings: the name and the spec of each parameter, in the space's order."""
    for parameter in list_parameters(settings):
        yield parameter.name, dict(parameter.spec)


def list_parameters(settings: Mapping[str, Any]) -> list[Parameter]:
    """The parameters of a study's settings in their order, but each after those that its conditions name.

    Raises CircularConditions where there is no such order. A condition of what is no tunable is never met.
    """
    waiting, ordered = list(scan_parameters(settings)), list[Parameter]()
    while waiting:
        names = {parameter.name for parameter in waiting}
        ready = next((each for each in waiting if names.isdisjoint(name for name, _ in each.conditions)), None)
        if ready is None:
            raise CircularConditions([parameter.name for parameter in waiting])
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def scan_parameters(settings: Mapping[str, Any]) -> list[Parameter]:
    """The parameters of a study's settings in the order in which they are written, whatever their conditions name."""
    parameters = list(_scan(settings, "", "", None))
    names = {parameter.name for parameter in parameters}
    return [_name_conditions(parameter, names) for parameter in parameters]


def _scan(section: Mapping[str, Any], key: str, name: str, option: tuple[str, str] | None) -> Iterator[Parameter]:
    """key, name: what those of the section begin with."""
    option_condition = () if option is None else ((option[0], (option[1],)),)
    for own_key, value in section.items():
        if is_option_choice(value):
            yield Parameter(f"{name}{own_key}", f"{key}{own_key}", {TUNE_KEY: "choice", "values": list(value["of"])})
            for chosen in value["of"]:
                inner = value["settings"][chosen]
                yield from _scan(inner, f"{key}{own_key}.", f"{name}{own_key}.{chosen}.", (f"{name}{own_key}", chosen))
        elif is_tunable(value):
            spec = {argument: given for argument, given in value.items() if argument not in ("when", "otherwise")}
            when = tuple((other, tuple(values)) for other, values in value.get("when", {}).items())
            conditions = (*option_condition, *when)
            yield Parameter(
                f"{name}{own_key}", f"{key}{own_key}", spec, conditions, value.get("otherwise"), option=option
            )
        elif isinstance(value, Mapping):
            yield from _scan(value, f"{key}{own_key}.", f"{name}{own_key}.", option)


def _name_conditions(parameter: Parameter, names: Set[str]) -> Parameter:
    """A parameter whose conditions name the tunables of its own option in full: an option's file knows no other key."""
    if parameter.option is None:
        return parameter
    group, option = parameter.option

    def complete(name: str) -> str:
        full_name = f"{group}.{option}{name.removeprefix(group)}"
        return full_name if name.startswith(f"{group}.") and full_name in names else name

    return replace(parameter, conditions=tuple((complete(name), values) for name, values in parameter.conditions))
