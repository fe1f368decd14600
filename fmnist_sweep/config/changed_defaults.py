"""Settings that came later, or have another default now, so that what was stored before keeps its meaning and name.

A setting that decides results and did not exist before has a neutral value: what was done before there was a choice.
With that value, and wherever it decides nothing, it is left out of the settings, and so out of the study's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from fmnist_sweep.config.job import Job
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import format_override_value, is_override_of
from fmnist_sweep.search.tunable import is_tunable

# What settings that lack the key were trained with: the default before conf/ had another one.
_NEUTRAL_VALUES: Mapping[str, Any] = {"train.normalization": "keras"}


@dataclass(frozen=True)
class EarlierJob:
    """What a command composed before defaults changed. overrides: those that compose it now."""

    job: Job
    overrides: tuple[str, ...]


def drop_neutral_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A study's or a trial's settings without the keys that have their neutral value, or decide nothing here."""
    kept = dict(settings)
    for key, neutral in _NEUTRAL_VALUES.items():
        if find_value(kept, key, neutral) == neutral or not _is_decisive(key, kept):
            kept = _drop_key(kept, key)
    return kept


def list_earlier_jobs(job: Job) -> Iterator[EarlierJob]:
    """What the same command composed before one or several defaults changed; none where it fixes their values."""
    changed_keys = [
        key
        for key in _NEUTRAL_VALUES
        if find_value(job.config.settings, key) is not None
        and not any(is_override_of(o, (key,)) for o in job.overrides)
    ]
    for count in range(1, len(changed_keys) + 1):
        for keys in combinations(changed_keys, count):
            settings = dict(job.config.settings)
            for key in keys:
                settings = _drop_key(settings, key)
            overrides = tuple(map(_build_override, keys))
            earlier = replace(
                job, config=replace(job.config, settings=settings), overrides=(*job.overrides, *overrides)
            )
            yield EarlierJob(earlier, overrides)


def list_pinning_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Overrides that a command with `overrides` also needs now to compose the same settings as ever.

    settings: as stored. A default that changed since would otherwise take the place of what they were trained with.
    """
    return [
        _build_override(key)
        for key in _NEUTRAL_VALUES
        if find_value(settings, key) is None
        and _is_decisive(key, settings)
        and not any(is_override_of(override, (key,)) for override in overrides)
    ]


def _build_override(key: str) -> str:
    # Forced: an option of one's own may have no such key.
    return f"++{key}={format_override_value(_NEUTRAL_VALUES[key])}"


def _is_decisive(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether another value of this key gives other results."""
    match key:
        case "train.normalization":
            normalizes = find_value(settings, "regularization.batch_normalization", default=False)
            return normalizes is True or is_tunable(normalizes)
        case _:
            return True


def _drop_key(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    section, _, name = key.partition(".")
    if name not in settings.get(section, {}):
        return dict(settings)
    return {**settings, section: {inner: value for inner, value in settings[section].items() if inner != name}}
