"""What a command composed before defaults changed: composed anew, so that it is what the printed overrides name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from fmnist_sweep.config.changed_defaults import list_earlier_overrides
from fmnist_sweep.config.compose import compose_job, find_flagged_folder
from fmnist_sweep.config.job import Job
from fmnist_sweep.errors import ConfigError


@dataclass(frozen=True)
class EarlierJob:
    """What a command composed before defaults changed. overrides: those that compose it now."""

    job: Job
    overrides: tuple[str, ...]


def list_earlier_jobs(job: Job) -> Iterator[EarlierJob]:
    """What the same command composed before defaults changed, the latest first; none where it fixes their values."""
    composed = {**job.config.settings, "search": {"name": job.config.search.name, **job.config.oracle}}
    for overrides in list_earlier_overrides(composed, job.overrides):
        with suppress(ConfigError):  # then it could not be composed at that time
            earlier = compose_job([*job.overrides, *overrides], find_flagged_folder(job.flags))
            yield EarlierJob(replace(earlier, flags=job.flags), overrides)
