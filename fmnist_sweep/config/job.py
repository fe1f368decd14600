"""A job: one composed config of a command, before its data is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fmnist_sweep.config.schema import Config


@dataclass(frozen=True)
class RunKinds:
    """What the runs of a command, of its jobs and of their trainings are, as their tag fmnist.kind says."""

    sweep: str
    study: str
    trial: str


SEARCH = RunKinds("sweep", "study", "trial")


# A finalist's one configuration, trained again with fresh seeds.
CONFIRMATION = RunKinds("promotion", "finalist", "confirmation")


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
    kinds: RunKinds = SEARCH
    label: str | None = None
    command: str | None = None
    extra_tags: Mapping[str, str] = field(default_factory=dict)
