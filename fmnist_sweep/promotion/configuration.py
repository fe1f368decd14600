"""A trial's configuration: everything that decides a training except its seed, and the job that trains it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.check import check_config
from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.config.job import CONFIRMATION, Job
from fmnist_sweep.config.overrides import is_override_of
from fmnist_sweep.config.plugin_words import PLUGINS_KEY, find_scorers
from fmnist_sweep.config.schema import Config
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.reading import parse_json, parse_yaml
from fmnist_sweep.tracking.names import (
    CONFIG_FILE,
    CONFIG_HASH_TAG,
    DATA_TAG,
    OVERRIDES_FILE,
    PARENT_RUN_TAG,
)
from fmnist_sweep.tracking.queries import read_run_params
from fmnist_sweep.tracking.run_files import read_artifact
from fmnist_sweep.training.own_code import list_active, refuse_other_plugins

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial

# No search uses these, so that no finalist was chosen for its luck with one of them.
_FIRST_SEED, _MAX_SEEDS = 10_001, 100


@dataclass(frozen=True)
class TrialConfiguration:
    """Everything that decides a training, except the seed of a new one.

    settings: resolved model, optimizer, regularization and train, without the seed. data: the data section of a trial's
    config (DataConfig.describe_content). data_tag: tag of the images that the trial was trained and validated on.
    objective: metric that chooses the best epoch. seed: the trial's own seed. overrides, flags: those of the command
    that trains it. trial_run: id of the trial's run. plugins: fingerprints of the own code that it needs, by name.
    """

    name: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    data_tag: str
    objective: str
    seed: int
    overrides: tuple[str, ...]
    flags: tuple[str, ...] = ()
    trial_run: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """A hash that trainings share if they differ in nothing but their seed."""
        settings = {section: self.settings[section] for section in ("model", "optimizer", "regularization", "train")}
        own_code = [dict(self.plugins)] if self.plugins else []
        return hash_content([settings, self.includes_validation, self.data_tag, self.objective, *own_code])

    @property
    def data_source(self) -> str:
        """Source of its images, such as fashion_mnist."""
        return self.data_tag.partition(":")[0]

    @property
    def includes_validation(self) -> bool:
        """Whether it is trained on the validation images too."""
        return bool(self.data.get("include_validation"))

    @property
    def fresh_seeds(self) -> list[int]:
        """Seeds that it was not chosen with: always the same ones in the same order."""
        return [seed for seed in range(_FIRST_SEED, _FIRST_SEED + _MAX_SEEDS + 1) if seed != self.seed][:_MAX_SEEDS]

    def include_validation_images(self, epochs: int) -> TrialConfiguration:
        """The same configuration trained on the validation images too, for this number of epochs.

        The number is fixed because no image is left to choose it by.
        """
        train = dict(self.settings["train"])
        schedule = dict(train["schedule"])
        if "over_epochs" in schedule and schedule["over_epochs"] is None:
            schedule["over_epochs"] = train["epochs"]
        train |= {"epochs": epochs, "early_stopping": None, "schedule": schedule}
        overrides = ["data.include_validation=true", "train.early_stopping=null"]
        overrides += [f"train.schedule.over_epochs={schedule['over_epochs']}"] if "over_epochs" in schedule else []
        return replace(
            self,
            settings={**self.settings, "train": train},
            data={**self.data, "include_validation": True},
            overrides=(*self.overrides, *overrides),
        )

    def make_job(self, base: Config, seeds: int, data_dir: str | None, command: str) -> Job:
        """The job that trains it: a grid over its fresh seeds, stopped after `seeds` of them. Errors: ConfigError.

        base: a composed config, which says where the job runs and what its store is. command: the one that continues
        the job.
        """
        refuse_other_plugins(self.plugins, f"the configuration of {self.name}")
        data = {"include_validation": False, **self.data, "dir": data_dir, "download": True, "fallback": None}
        neutral = dict.fromkeys(("until", "max_parameters", "first", "like"))
        search = {**neutral, "objective": self.objective, "max_trials": seeds}
        raw = {**base.to_mapping(), **self.settings, "seed": self.seed, "data": data}
        raw["search"] = {**raw["search"], **search}
        # Checked, because others may have written to the store that it comes from.
        config = check_config(raw, lambda key: f"the configuration of {self.name}")
        settings = {**config.settings, "seed": {"tune": "choice", "values": self.fresh_seeds}}
        plugins = tuple(source for source in list_active() if source.name in self.plugins)
        return Job(
            config=replace(config, settings=settings),
            overrides=self.overrides,
            choices={},
            flags=self.flags,
            kinds=CONFIRMATION,
            label=self.name,
            command=command,
            extra_tags={CONFIG_HASH_TAG: self.key},
            plugins=plugins,
            scorers=find_scorers(plugins),
        )


def read_trial_configuration(store: Store, trial: StoredTrial) -> TrialConfiguration:
    """A finished trial's configuration, read from its run. Errors: PromotionRefused if files of the run are gone."""
    try:
        settings = parse_yaml(_read_artifact(store, trial, CONFIG_FILE))
        flags, overrides = parse_repeat_command(_read_artifact(store, trial, OVERRIDES_FILE))
        data, seed, plugins = settings.pop("data"), settings.pop("seed"), settings.pop(PLUGINS_KEY, {})
        parent_params = read_run_params(store, trial.tags[PARENT_RUN_TAG])
        objective = parent_params.get("search.objective", "val_accuracy")
        configuration = TrialConfiguration(
            name=trial.name,
            settings=settings,
            data=data,
            data_tag=trial.tags[DATA_TAG],
            objective=objective,
            seed=seed,
            overrides=overrides,
            flags=flags,
            trial_run=trial.run_id,
            plugins={str(name): str(fingerprint) for name, fingerprint in plugins.items()},
        )
        _ = configuration.key  # raises if anything is missing
        return configuration
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise PromotionRefused(
            f"{trial.name} (run {trial.run_id}) does not say how it was trained ({type(error).__name__}: {error}): "
            "train it again."
        ) from None


def _read_artifact(store: Store, trial: StoredTrial, name: str) -> str:
    content = read_artifact(store, trial.run_id, name)
    if content is None:
        raise PromotionRefused(f"{trial.name} (run {trial.run_id}) has no {name} any more: train it again.")
    return content.decode()


def parse_repeat_command(command: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Flags and overrides of the command that repeats a trial, without those that say where it runs."""
    words = shlex.split(command)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    flags = [word for previous_word, word in pairwise(("", *words)) if "--config-dir" in (previous_word, word)]
    excluded_keys = (PLUGINS_KEY, "executor", "tracking", "promote", "fresh", "plan", "seed")
    return tuple(flags), tuple(word for word in overrides if not is_override_of(word, excluded_keys))


def serialize_configuration(configuration: TrialConfiguration) -> str:
    """Write a configuration as one line of JSON, for readers who have only the registry."""
    content = {
        key: getattr(configuration, key)
        for key in ("name", "settings", "data", "data_tag", "objective", "seed", "overrides", "flags", "trial_run")
    }
    if configuration.plugins:
        content["plugins"] = dict(configuration.plugins)
    return json.dumps(content, sort_keys=True)


def parse_configuration(text: str) -> TrialConfiguration:
    """Read a configuration that `serialize_configuration` wrote. Errors: ValueError."""
    try:
        content = parse_json(text)
        words = {key: tuple(content.get(key, ())) for key in ("overrides", "flags")}
        configuration = TrialConfiguration(**{**content, **words})
        _ = configuration.key  # raises if anything is missing
        return configuration
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a configuration ({type(error).__name__}: {error})") from None


def list_keys(configurations: Sequence[TrialConfiguration]) -> list[str]:
    """Distinct keys of these configurations, sorted."""
    return sorted({configuration.key for configuration in configurations})
