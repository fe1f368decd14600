"""Commands to paste: the one that continues a study, and the one that trains a trial again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import Job, concerns
from fmnist_sweep.text import mask_credentials


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
    return mask_credentials(shlex.join(words))


def typed(job: Job) -> str:
    """The command that runs, or continues, one study alone."""
    if job.command is not None:
        return mask_credentials(job.command)
    kept = [override for override in job.overrides if not concerns(override, ("fresh", "plan", "hydra"))]
    return mask_credentials(shlex.join(["python", "-m", "fmnist_sweep", *job.flags, *kept]))


def continuing(command: str) -> str:
    """The command that goes on with what this one began."""
    return shlex.join(word for word in shlex.split(command) if not word.startswith("fresh="))


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _typed(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
