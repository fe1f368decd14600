"""Commands to paste: the one that continues a study, and the one that trains a trial again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fmnist_sweep.config.changed_defaults import list_pinning_overrides
from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import SEARCH, Job
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import (
    drop_overrides,
    format_override_value,
    is_override_of,
    parse_override_key,
)
from fmnist_sweep.data.data_config import OwnDataConfig
from fmnist_sweep.masking import mask_address, mask_credentials
from fmnist_sweep.search.space import find_option_groups, map_drawn_keys


def build_sweep_command(arguments: Iterable[str]) -> str:
    """The command `python -m fmnist_sweep` with these arguments, quoted for a shell, without credentials."""
    return shlex.join(["python", "-m", "fmnist_sweep", *map(mask_address, arguments)])


def build_verb_command(arguments: Iterable[str]) -> str:
    """The command `fmnist-sweep` with these arguments, quoted for a shell, without credentials."""
    return shlex.join(["fmnist-sweep", *map(mask_address, arguments)])


def build_trial_command(
    study: Study,
    config: Mapping[str, Any],
    fallback_reason: str | None,
    threads: int,
    values: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The command that trains exactly this trial again.

    fallback_reason: why drawn data stood in, or None. threads: how many it was trained with; another number would add
    up in another order. values: what was drawn for it, of which the options count here.
    """
    pinned_keys = [*map_drawn_keys(study.settings, values).values(), "train.epochs", "train.precision", "seed"]
    if find_value(config, "train.schedule.over_epochs") is not None:  # a rung of Hyperband trains a part of it
        pinned_keys.append("train.schedule.over_epochs")
    if find_value(config, "train.normalization") is not None:
        pinned_keys.append("train.normalization")
    overrides = [
        override
        for override in drop_overrides(
            _choose_options(study, values), *pinned_keys, "executor", "plan", "fresh", "hydra"
        )
        # Of the search, a single trial keeps what its best epoch is chosen by.
        if not is_override_of(override, ("search",)) or is_override_of(override, ("search.objective",))
    ]
    data = study.job.config.data
    if fallback_reason is not None:
        overrides = drop_overrides(overrides, "data")
        overrides += ["data=drawn", f"data.images={data.images}", f"data.drawn_seed={data.drawn_seed}"]
        overrides += [f"data.validation={data.validation}", f"data.split_seed={data.split_seed}"]
        overrides += [] if data.limit is None else [f"data.limit={data.limit}"]
    elif data.source != "drawn" and not isinstance(data, OwnDataConfig):
        # On a machine without the data, drawn images would be no repetition.
        overrides = [*drop_overrides(overrides, "data.fallback"), "data.fallback=null"]
    overrides += ["executor=in_process", f"executor.threads={threads}"]
    overrides += _list_needed_pins(study.job, config, [*overrides, *(f"{key}=" for key in pinned_keys)])
    # A key that is both tuned and pinned is given once, where it stands first.
    pinned = [f"{key}={format_override_value(find_value(config, key))}" for key in dict.fromkeys(pinned_keys)]
    return build_sweep_command([*study.job.words, *overrides, *pinned])


def _list_needed_pins(job: Job, config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Overrides that a trial's command needs because defaults changed after its job was composed.

    A search's job is composed of its overrides, as its trials' commands will be. That of a confirmation is not.
    """
    pins = list_pinning_overrides(config, overrides)
    if job.kinds is not SEARCH:
        return pins
    composed = list_pinning_overrides(job.config.settings, overrides)
    return [pin for pin in pins if pin not in composed]


def _choose_options(study: Study, values: Mapping[str, Any]) -> list[str]:
    """The overrides of a study's job with the options that a trial drew in the place of all those searched.

    What is typed for one option, as in optimizer.sgd.momentum=0.9, is typed for its group where that option was drawn.
    """
    overrides = []
    groups = find_option_groups(study.settings)
    for override in study.job.overrides:
        key = parse_override_key(override)
        group, _, rest = key.partition(".")
        option = next((each for each in groups.get(group, ()) if rest.startswith(f"{each}.")), None)
        if key in groups or option not in (None, values.get(group)):
            continue
        overrides.append(override if option is None else override.replace(f"{group}.{option}.", f"{group}.", 1))
    return [*(f"{group}={values[group]}" for group in groups), *overrides]


def build_study_command(study: Study) -> str:
    """The command that runs, or continues, one study alone, whether the run that search.like names is there or not."""
    job = study.job
    if job.command is not None:
        return mask_credentials(job.command)
    overrides = drop_overrides(job.overrides, "fresh", "plan", "hydra")
    if study.like is not None:
        overrides = drop_overrides(overrides, "search.like", "search.first")
        overrides.append(f"search.first={format_override_value([dict(values) for values in study.first])}")
    return build_sweep_command([*job.words, *overrides])


def pin_changed_defaults(command: str, identity: Mapping[str, Any], version: int = 0) -> str:
    """A stored command with what it needs to compose the same study although defaults have changed since.

    identity: the study's. version: of the defaults when it was typed.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # anybody may have written it
        return command
    settings = {**identity.get("settings", {}), "search": identity.get("search", {})}
    pins = list_pinning_overrides(settings, words, version)
    return shlex.join([*words, *pins]) if pins else command


def build_continuing_command(command: str) -> str:
    """The command that continues what this one began."""
    words = shlex.split(command)
    return shlex.join(word for word in words if "=" not in word or not is_override_of(word, ("fresh",)))
