"""Commands to paste: the one that continues a study, and the one that trains a trial again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import Job, is_override_of
from fmnist_sweep.text import mask_credentials


def build_trial_command(study: Study, config: Mapping[str, Any], fallback_reason: str | None, threads: int) -> str:
    """The one command that trains exactly this trial again.

    drawn_for: why drawn data stood in, or None. threads: it was trained on; with another number of them, sums are added
    up in another order.
    """
    pinned_values = {key: _look_up(config, key) for key in study.tuned_keys}
    pinned_values["train.epochs"] = config["train"]["epochs"]
    pinned_values["train.precision"] = config["train"]["precision"]
    pinned_values["seed"] = config["seed"]
    if config["train"]["schedule"].get("over_epochs") is not None:  # a rung of Hyperband trains a part of it
        pinned_values["train.schedule.over_epochs"] = config["train"]["schedule"]["over_epochs"]
    overrides = [
        override
        for override in study.job.overrides
        # Of the search, a single trial keeps what its best epoch is chosen by.
        if not is_override_of(override, (*pinned_values, "search", "executor", "plan", "fresh", "hydra"))
        or is_override_of(override, ("search.objective",))
    ]
    if fallback_reason is None and study.job.config.data.source != "drawn":
        # Elsewhere, without the data, drawn images would be no repetition.
        overrides = [
            *(override for override in overrides if not is_override_of(override, ("data.fallback",))),
            "data.fallback=null",
        ]
    if fallback_reason is not None:
        data = study.job.config.data
        overrides = [override for override in overrides if not is_override_of(override, ("data",))]
        overrides += ["data=drawn", f"data.images={data.images}", f"data.drawn_seed={data.drawn_seed}"]
        overrides += [f"data.validation={data.validation}", f"data.split_seed={data.split_seed}"]
        overrides += [] if data.limit is None else [f"data.limit={data.limit}"]
    overrides += ["executor=in_process", f"executor.threads={threads}"]
    words = [
        "python",
        "-m",
        "fmnist_sweep",
        *study.job.flags,
        *overrides,
        *(f"{key}={_format_override_value(value)}" for key, value in pinned_values.items()),
    ]
    return mask_credentials(shlex.join(words))


def build_study_command(job: Job) -> str:
    """The command that runs, or continues, one study alone."""
    if job.command is not None:
        return mask_credentials(job.command)
    overrides = [override for override in job.overrides if not is_override_of(override, ("fresh", "plan", "hydra"))]
    return mask_credentials(shlex.join(["python", "-m", "fmnist_sweep", *job.flags, *overrides]))


def build_continuing_command(command: str) -> str:
    """The command that goes on with what this one began."""
    return shlex.join(word for word in shlex.split(command) if not word.startswith("fresh="))


def _look_up(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _format_override_value(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
