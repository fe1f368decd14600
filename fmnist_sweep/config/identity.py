"""What a study is and what it is called: its id, its label, the names of its trials."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from fmnist_sweep.config.changed_defaults import NEUTRAL_VALUES
from fmnist_sweep.config.job import SEARCH, Job
from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.config.plugin_words import describe_plugins
from fmnist_sweep.config.schema import OPTION_GROUPS
from fmnist_sweep.search.factories import needs_optuna
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.text import format_epoch_count

# Libraries whose version can change a trial's result.
_RESULT_LIBRARIES = ("tensorflow", "keras", "keras-tuner", "numpy", "scikit-learn", "scipy")
# Raised when the project's own code changes what the same config gives.
_RESULTS_FORMAT = 1


@dataclass(frozen=True)
class Study:
    """A job whose data and precision are known, named by its content.

    id: a hash of `identity`, all that decides its results. label: what sets it apart from the other studies of its
    sweep. settings: what a trial is made of, tunables included. first: the configurations that it trains before all
    others, each with a value of every tunable. like: the id of the `run` that search.like names, and its `values`.
    """

    id: str
    label: str
    job: Job
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    first: Sequence[Mapping[str, Any]] = ()
    like: Mapping[str, Any] | None = None

    @property
    def tuned_keys(self) -> list[str]:
        """The dotted keys of the tunables."""
        return [name for name, _ in find_tunables(self.settings)]

    @property
    def precision(self) -> str:
        """What its trials compute in; several where options of `train` differ in it."""
        return ", ".join(dict.fromkeys(map(str, list_values_at(self.settings, "train", "precision"))))


def identify_study(
    job: Job, label: str, settings: Mapping[str, Any], data_sha256: str, first: Sequence[Mapping[str, Any]] = ()
) -> Study:
    """Name a job by a short hash of all that decides its results, and of nothing else.

    first: see Study. Where the values come from is not in the hash: a run that they were read from may be deleted.
    """
    search = job.config.search
    identity = {
        "format": _RESULTS_FORMAT,
        "settings": settings,
        "search": {
            "name": search.name,
            "objective": search.objective,
            **({} if search.lookahead is None else {"ahead": search.lookahead}),
            **({} if search.max_parameters is None else {"max_parameters": search.max_parameters}),
            **({"first": [dict(values) for values in first]} if first else {}),
            **_drop_neutral_arguments(job.config.oracle),
        },
        "data": data_sha256,
        "versions": {
            **read_library_versions(),
            **({"optuna": version("optuna")} if needs_optuna(job.config.search.name, job.config.oracle) else {}),
        },
        **({} if job.kinds is SEARCH else {"kind": job.kinds.study}),
        **({"plugins": describe_plugins(job.plugins)} if job.plugins else {}),
    }
    return Study(hash_content(identity), label, job, settings, identity, tuple(first))


def _drop_neutral_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The oracle's arguments without those that decide nothing."""
    dropped = {"proposer", "initial_points"} if arguments.get("proposer") == "random" else set[str]()
    if arguments.get("restart") == NEUTRAL_VALUES["search.restart"]:
        dropped.add("restart")
    return {key: value for key, value in arguments.items() if key not in dropped}


def hash_content(content: object) -> str:
    """Hash JSON-able content, whatever the order of its keys, to twelve hexadecimal digits."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@cache
def read_library_versions() -> dict[str, str]:
    """Read the versions of the libraries that can change a result."""
    return {name: version(name) for name in _RESULT_LIBRARIES}


def label_studies(jobs: Sequence[Job]) -> list[str]:
    """Label each study of a sweep by the values of the overrides that it does not share with all others."""
    common_overrides = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs))
    study_labels = []
    for job in jobs:
        own_overrides = [override for override in job.overrides if override not in common_overrides]
        settings = " · ".join(map(_format_override, own_overrides))
        study_labels.append(job.label if job.label is not None else settings or _make_default_label(job))
    return study_labels


_OPTIONS = re.compile(r"\{\s*tune\s*:\s*option\s*,\s*of\s*:\s*\[(.*)\]\s*\}$")  # of a group, that are searched


def _format_override(override: str) -> str:
    key, value = parse_override_key(override), override.partition("=")[2]
    options = _OPTIONS.match(value)
    return f"{key} {options[1]}" if options else _format_setting(key, value)


def _make_default_label(job: Job) -> str:
    recipe = job.choices.get("experiment")
    if recipe and recipe != "null":
        return recipe
    return f"{job.choices.get('model')} · {job.choices.get('optimizer')}"


_LABEL_FORMATS = {
    "model.conv_layers": "{} conv",
    "model.filters": "{} filters",
    "model.dense_units": "{} dense units",
    "model.kernel_size": "kernel {}",
    "regularization.batch_normalization": "batch norm {}",
    "optimizer.learning_rate": "lr {}",
    "train.batch_size": "batch {}",
    "train.epochs": "{} epochs",
    "seed": "seed {}",
}


def _format_setting(key: str, value: object) -> str:
    if key in _LABEL_FORMATS:
        return _LABEL_FORMATS[key].format(value)
    group, _, name = key.rpartition(".")
    return f"{name} {value}" if group else str(value)


def make_trial_name(label: str, values: Mapping[str, Any], epochs: int | None) -> str:
    """The name of a trial wherever it is shown: its study's label, and the values of its tunables."""
    positions = {key: position for position, key in enumerate((*OPTION_GROUPS, "model.conv_layers", "model.filters"))}
    keys = {name: _drop_option(name, values) for name in values}
    names = sorted(values, key=lambda name: positions.get(keys[name], len(positions)))
    parts = [label, *(_format_setting(keys[name], _format_short(values[name])) for name in names)]
    return " · ".join(parts if epochs is None else [*parts, format_epoch_count(epochs)])


def _drop_option(name: str, values: Mapping[str, Any]) -> str:
    """The name of a tunable without the option that it is of, and that is among the values: optimizer.momentum."""
    group, _, rest = name.partition(".")
    return f"{group}.{rest.removeprefix(f'{values.get(group)}.')}" if rest else name


def _format_short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
