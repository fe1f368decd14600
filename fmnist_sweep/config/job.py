"""A job: one composed config of a command, before its data is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fmnist_sweep.config.schema import Config
from fmnist_sweep.training.own_code import PluginSource


@dataclass(frozen=True)
class RunKinds:
    """The values of the tag fmnist.kind for the runs of a command, of its jobs and of their trainings."""

    sweep: str
    study: str
    trial: str


SEARCH = RunKinds("sweep", "study", "trial")
# One configuration, a finalist's, trained again with fresh seeds.
CONFIRMATION = RunKinds("promotion", "finalist", "confirmation")


@dataclass(frozen=True)
class Job:
    """One composed config, before its data is read.

    overrides: as typed, for this job alone. choices: the option of each config group. flags: options of Hydra that
    composing it takes. label: its name, if that is not to be made of its overrides. command: continues it, if it is
    not a plain sweep. extra_tags: of its trials' runs, beside the usual ones. plugins: own code that it uses. scorers:
    other packages, whose metrics are logged of its trials and decide nothing.
    """

    config: Config
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    flags: tuple[str, ...] = ()
    kinds: RunKinds = SEARCH
    label: str | None = None
    command: str | None = None
    extra_tags: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[PluginSource, ...] = ()
    scorers: tuple[PluginSource, ...] = ()

    @property
    def code(self) -> tuple[PluginSource, ...]:
        """All own code that its trials run."""
        return (*self.plugins, *self.scorers)

    @property
    def words(self) -> tuple[str, ...]:
        """What any command that composes it begins with: the options of Hydra, and the files of plugins."""
        return (*self.flags, *(word for plugin in self.plugins for word in plugin.words))
