"""Identity: what a study is, what it is called, and the command that repeats a trial of it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from fmnist_sweep.config.schema import Config
from fmnist_sweep.search import tunable

# Libraries whose version can change a trial's result.
_RESULT_VERSIONS = ("tensorflow", "keras", "keras-tuner", "numpy", "scikit-learn", "scipy")
# Raised when the project's own code changes what the same config gives.
_RESULTS_FORMAT = 1


@dataclass(frozen=True)
class Kinds:
    """What the runs of a command, of its jobs and of their trainings are, as their tag fmnist.kind says."""

    sweep: str
    study: str
    trial: str


SEARCH = Kinds("sweep", "study", "trial")
# A finalist's one configuration, trained again with fresh seeds.
CONFIRMATION = Kinds("promotion", "finalist", "confirmation")


@dataclass(frozen=True)
class Job:
    """One composed config, before its data is read.

    overrides: as typed, for this job alone. choices: the option of each config group. flags: Hydra's own that it needs.
    label: what it is called, where that is not to be made of what sets it apart. command: that continues it, where that
    is no plain sweep. marks: tags of its trials' runs beside the usual ones.
    """

    config: Config
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    flags: tuple[str, ...] = ()
    kinds: Kinds = SEARCH
    label: str | None = None
    command: str | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


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


def command(study: Study, config: Mapping[str, Any], drawn_for: str | None, threads: int) -> str:
    """The one command that trains exactly this trial again.

    drawn_for: why drawn data stood in, or None. threads: it was trained on; with another number of them, sums are added
    up in another order.
    """
    pinned = {key: _lookup(config, key) for key in study.tuned}
    pinned["train.epochs"] = config["train"]["epochs"]
    pinned["train.precision"] = config["train"]["precision"]
    pinned["seed"] = config["seed"]
    if config["train"]["schedule"].get("over_epochs") is not None:  # a rung of Hyperband trains a part of it
        pinned["train.schedule.over_epochs"] = config["train"]["schedule"]["over_epochs"]
    kept = [
        override
        for override in study.job.overrides
        # Of the search, a single trial keeps what its best epoch is chosen by.
        if not concerns(override, (*pinned, "search", "executor", "plan", "fresh", "hydra"))
        or concerns(override, ("search.objective",))
    ]
    if drawn_for is None and study.job.config.data.source != "drawn":
        # Elsewhere, without the data, drawn images would be no repetition.
        kept = [*(override for override in kept if not concerns(override, ("data.fallback",))), "data.fallback=null"]
    if drawn_for is not None:
        data = study.job.config.data
        kept = [override for override in kept if not concerns(override, ("data",))]
        kept += ["data=drawn", f"data.images={data.images}", f"data.drawn_seed={data.drawn_seed}"]
        kept += [f"data.validation={data.validation}", f"data.split_seed={data.split_seed}"]
        kept += [] if data.limit is None else [f"data.limit={data.limit}"]
    kept += ["executor=in_process", f"executor.threads={threads}"]
    words = [
        "python",
        "-m",
        "fmnist_sweep",
        *study.job.flags,
        *kept,
        *(f"{key}={_typed(value)}" for key, value in pinned.items()),
    ]
    return masked(shlex.join(words))


def typed(job: Job) -> str:
    """The command that runs, or continues, one study alone."""
    if job.command is not None:
        return masked(job.command)
    kept = [override for override in job.overrides if not concerns(override, ("fresh", "plan", "hydra"))]
    return masked(shlex.join(["python", "-m", "fmnist_sweep", *job.flags, *kept]))


def continuing(command: str) -> str:
    """The command that goes on with what this one began."""
    return shlex.join(word for word in shlex.split(command) if not word.startswith("fresh="))


def masked(text: str) -> str:
    """A command or address without the user and password of a store's address: it is kept where others read."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def concerns(override: str, keys: tuple[str, ...]) -> bool:
    """Whether an override is of one of these keys, or of one below."""
    name = override.lstrip("+~").split("=", 1)[0]
    return any(name == key or name.startswith((f"{key}.", f"{key}@")) for key in keys)


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _typed(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted keys; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
