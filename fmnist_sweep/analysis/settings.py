"""What differed among trials: settings with more than one value, and configurations trained with several seeds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_sweep.tracking.foreign import parse_parameter
from fmnist_sweep.tracking.names import DATA_TAG
from fmnist_sweep.tracking.trials import StoredTrial

# Where files lie and how trials run. The seed is luck, and is shown as that.
_BOOKKEEPING = ("data.dir", "data.download", "data.fallback", "executor", "tracking", "checkpoint", "seed")
_NAMING = (".name", ".builder")  # the end of a key that names what the other keys of its section are for
# Beyond this ratio of the greatest to the smallest value an axis is read by factors, not by differences.
_LOG_RATIO = 20
_GREATEST = 1e38  # float32, in which a forest computes, has no numbers beyond about this


@dataclass(frozen=True)
class VariedSetting:
    """One setting and its value in each trial, in the order of the trials; None where a trial has none.

    log: whether it is shown on a logarithmic axis. same_as: other settings that changed exactly when this one did, so
    that their effects cannot be told apart.
    """

    key: str
    values: tuple[Any, ...]
    log: bool = False
    same_as: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether all values that are present are numbers."""
        return all(_is_float32_number(value) for value in self.values if value is not None)

    @property
    def levels(self) -> list[Any]:
        """The distinct values in order: numbers by size, others as text; None last."""
        distinct = {format_value(value): value for value in self.values if value is not None}
        levels = sorted(distinct.values(), key=(lambda value: value) if self.numeric else format_value)
        return levels + ([None] if any(value is None for value in self.values) else [])


def find_varied_settings(trials: Sequence[StoredTrial]) -> list[VariedSetting]:
    """The settings with more than one value among trials, in the order in which the config has them."""
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    settings = []
    for key in keys:
        texts = tuple(trial.params.get(key) for trial in trials)
        if not _is_bookkeeping(key) and len({_normalize_text(text) for text in texts}) > 1:
            values = tuple(map(parse_parameter, texts))
            settings.append(VariedSetting(key, values, log=_spans_factors(values)))
    return settings


def select_distinct_settings(settings: Sequence[VariedSetting]) -> list[VariedSetting]:
    """One setting of each kind: of those that change together the first, which names the others in same_as.

    What names an option comes before the settings of that option: an optimizer before its learning rate.
    """
    kinds: dict[tuple[int, ...], list[VariedSetting]] = defaultdict(list)
    for setting in settings:
        kinds[_partition(setting.values)].append(setting)
    for kind in kinds.values():
        kind.sort(key=lambda setting: not setting.key.endswith(_NAMING))
    return [
        VariedSetting(first.key, first.values, first.log, tuple(other.key for other in others))
        for first, *others in kinds.values()
    ]


def number_configurations(trials: Sequence[StoredTrial], settings: Sequence[VariedSetting]) -> list[int]:
    """The number of each trial's configuration: the same for trials that differ in nothing but their seed.

    settings: all with more than one value among these trials. The data is part of the configuration.
    """
    numbers: dict[tuple[str, ...], int] = {}
    keys = [
        (trial.tags.get(DATA_TAG, ""), *(_format_exactly(setting.values[place]) for setting in settings))
        for place, trial in enumerate(trials)
    ]
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def group_by_seed(trials: Sequence[StoredTrial], configuration_numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """The places of the finished trials of each configuration, one for each seed, in the order of their first trials.

    A second trial with the same seed is no new draw, so it is left out.
    """
    groups: dict[int, dict[str | None, int]] = defaultdict(dict)
    for place, (trial, number) in enumerate(zip(trials, configuration_numbers, strict=True)):
        if trial.accuracy is not None:
            groups[number].setdefault(trial.params.get("seed"), place)
    return [tuple(places.values()) for places in groups.values()]


def is_number(value: Any) -> bool:
    """Whether a value is a number: a truth value is none, and neither is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def format_value(value: Any) -> str:
    """A setting's value as tables and axes show it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _normalize_text(text: str | None) -> str:
    """A value's text, the same for 0 and 0.0, and for None and a missing parameter."""
    return _format_exactly(parse_parameter(text))


def _format_exactly(value: Any) -> str:
    """A text that differs for different values, as format_value's rounded numbers do not."""
    return repr(float(value)) if _is_float32_number(value) else format_value(value)


def _is_bookkeeping(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _BOOKKEEPING)


def _is_float32_number(value: Any) -> bool:
    return is_number(value) and abs(value) < _GREATEST


def _spans_factors(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    numbers = [value for value in present if _is_float32_number(value) and value > 0]
    return len(numbers) == len(present) > 0 and max(numbers) >= _LOG_RATIO * min(numbers)


def _partition(values: Sequence[Any]) -> tuple[int, ...]:
    """Which trials share a value: the values of the trials, numbered by first occurrence."""
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(_format_exactly(value), len(numbers)) for value in values)
