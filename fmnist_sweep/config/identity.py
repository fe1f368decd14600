"""Identity: what a study is, what it is called, and the command that repeats a trial of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from fmnist_sweep.config.job import SEARCH, Job
from fmnist_sweep.search import tunable

# Libraries whose version can change a trial's result.
_RESULT_VERSIONS = ("tensorflow", "keras", "keras-tuner", "numpy", "scikit-learn", "scipy")
# Raised when the project's own code changes what the same config gives.
_RESULTS_FORMAT = 1


@dataclass(frozen=True)
class Study:
    """A job whose data and precision are known: named by its content.

    label: what sets it apart from the other studies of its sweep.
    """

    id: str
    label: str
    job: Job
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]

    @property
    def tuned(self) -> list[str]:
        """The dotted keys of what is searched."""
        return [name for name, _ in tunable.find(self.settings)]


def name_by_content(job: Job, label: str, settings: Mapping[str, Any], data_sha256: str) -> Study:
    """A study and its id: a short hash of all that decides its results, and of nothing else."""
    identity = {
        "format": _RESULTS_FORMAT,
        "settings": settings,
        "search": {
            "name": job.config.search.name,
            "objective": job.config.search.objective,
            **({} if job.config.search.in_order is None else {"ahead": job.config.search.in_order}),
            **job.config.oracle,
        },
        "data": data_sha256,
        "versions": versions(),
        **({} if job.kinds is SEARCH else {"kind": job.kinds.study}),
    }
    return Study(short_hash(identity), label, job, settings, identity)


def short_hash(content: object) -> str:
    """Twelve hexadecimal digits that name a JSON-able content, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that can change a result."""
    return {name: version(name) for name in _RESULT_VERSIONS}


def labels(jobs: Sequence[Job]) -> list[str]:
    """What sets each study of a sweep apart: the values of the overrides in which they differ."""
    shared = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs))
    found = []
    for job in jobs:
        if job.label is not None:
            found.append(job.label)
            continue
        own = [override for override in job.overrides if override not in shared]
        found.append(" · ".join(_words(*override.lstrip("+~").split("=", 1)) for override in own) or _main(job))
    return found


def _main(job: Job) -> str:
    recipe = job.choices.get("experiment")
    if recipe and recipe != "null":
        return recipe
    return f"{job.choices.get('model')} · {job.choices.get('optimizer')}"


_WORDS = {
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


def _words(key: str, value: object = "") -> str:
    if key in _WORDS:
        return _WORDS[key].format(value)
    group, _, name = key.rpartition(".")
    return f"{name} {value}" if group else str(value)


def trial_name(label: str, values: Mapping[str, Any], epochs: int | None) -> str:
    """What a trial is called wherever it is shown: its study, and the values it was given."""
    order = {key: position for position, key in enumerate(("model.conv_layers", "model.filters"))}
    keys = sorted(values, key=lambda key: order.get(key, len(order)))
    parts = [label, *(_words(key, _short(values[key])) for key in keys)]
    return " · ".join(parts if epochs is None else [*parts, f"{epochs} epochs"])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
