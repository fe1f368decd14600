"""Where configs come from: their folders, the file a value was written in, Hydra's errors in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from fmnist_sweep.config.folders import find_conf_folder, find_experiments_folder, read_recipes
from fmnist_sweep.config.hydra_errors import describe_hydra_error
from fmnist_sweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

    from fmnist_sweep.config.job import Job
    from fmnist_sweep.data.data_config import DataConfig


class ValueOrigins:
    """Which file, or the command line, a value of a composed config was written in.

    overrides: the job's, as typed. choices: the option of each group. sources: the folders Hydra searched.
    """

    def __init__(self, overrides: Sequence[str], choices: Mapping[str, str], sources: Sequence[str]) -> None:
        self._overrides = overrides
        self._choices = choices
        self._sources = [Path(source) for source in sources if source and Path(source).is_dir()]

    def locate(self, key: str) -> str:
        """The place a dotted key was written in, for a message."""
        for override in reversed(self._overrides):
            name = override.lstrip("+~").split("=", 1)[0]
            # An override of model.filters.values is why model.filters is what it is, and the other way round.
            if name == key or name.startswith(f"{key}.") or key.startswith(f"{name}."):
                if self._is_group(name):
                    continue
                return "command line"
        recipe = self._choices.get("experiment", "null")
        if recipe != "null":
            path = find_experiments_folder() / f"{recipe}.yaml"
            if path.is_file() and _has_key(yaml.safe_load(path.read_text(encoding="utf-8")), key):
                return f"experiments/{path.name}"
        return self._find_file(key)

    def _is_group(self, name: str) -> bool:
        return name in self._choices

    def _find_file(self, key: str) -> str:
        group = key.split(".", 1)[0]
        # A group's file may also set keys of other groups: the last in the defaults list has the word.
        for candidate in ("regularization", group):
            option = self._choices.get(candidate)
            for folder in self._sources:
                path = folder / candidate / f"{option}.yaml"
                if path.is_file() and (candidate == group or _has_key(_read_global(path), key)):
                    return f"{'conf' if folder == find_conf_folder() else folder}/{candidate}/{option}.yaml"
        return "conf/config.yaml"


def _read_global(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text) if "@package _global_" in text else {}


def _has_key(content: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    return True


def check_job(raw: DictConfig, hydra: HydraConf) -> Job:
    """The job of one composed config; hydra: what Hydra knows of its composition. Errors: ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from fmnist_sweep.config.job import Job
    from fmnist_sweep.config.schema import check_config

    task_overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # it may hold a ${...} as text
    overrides = _drop_clearing_overrides(task_overrides)
    choices = {str(group): str(option or "null") for group, option in hydra.runtime.choices.items()}
    origins = ValueOrigins(overrides, choices, [str(source.path) for source in hydra.runtime.config_sources])
    _refuse_outside_paths(choices)
    try:
        plain: Any = OmegaConf.to_container(raw, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_describe_unresolved(raw, error, origins)) from error
    return Job(check_config(plain, origins.locate), overrides, choices)


def _refuse_outside_paths(choices: Mapping[str, str]) -> None:
    """Hydra follows the .. of an option to any YAML file: an option is a name in the folders of configs."""
    for group, option in choices.items():
        if PurePath(option).is_absolute() or ".." in PurePath(option).parts:
            raise ConfigError(
                f"{group}={option}: expected the name of an option, found a path that leaves the folders of configs; "
                f"put the file into FOLDER/{group}/ and add --config-dir FOLDER."
            )


def compose_job(overrides: Sequence[str]) -> Job:
    """The job that these overrides compose, in this process and without running it. Errors: ConfigError."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    register_recipes()
    OmegaConf.register_new_resolver("fmnist_scratch", lambda: ".", replace=True)
    with explain_hydra_errors(), initialize_config_dir(str(find_conf_folder()), version_base="1.3"):
        raw = compose("config", replace_tunables(overrides), return_hydra_config=True)
    plain = OmegaConf.masked_copy(raw, [str(key) for key in raw if key != "hydra"])
    return check_job(plain, raw.hydra)


_FORCE_PREFIX = "++"
_TUNABLE_OVERRIDE = re.compile(r"^([A-Za-z_][\w.]*)=\s*\{\s*tune\s*:")


def replace_tunables(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which a tunable given as a mapping takes the place of what was there.

    Hydra would merge it into the tunable that stands there, so that a choice could not become a range.
    """
    overrides: list[str] = []
    for argument in arguments:
        tunable_match = _TUNABLE_OVERRIDE.match(argument)
        # Forced, because with -m Hydra keeps only the last override that is written in the same way.
        overrides += [f"{_FORCE_PREFIX}{tunable_match.group(1)}=null", argument] if tunable_match else [argument]
    return overrides


def _drop_clearing_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """A job's overrides without those that only make room for a tunable."""
    clearing_overrides = {
        f"{_FORCE_PREFIX}{tunable_match.group(1)}=null"
        for tunable_match in map(_TUNABLE_OVERRIDE.match, overrides)
        if tunable_match
    }
    return tuple(override for override in overrides if override not in clearing_overrides)


def compose_data(overrides: Sequence[str]) -> DataConfig:
    """The data section that these overrides compose, checked as a sweep's is."""
    for override in overrides:
        if not override.lstrip("+~").startswith(("data=", "data.")):
            raise ConfigError(f"{override}: only overrides of data are taken here, such as data.dir=FOLDER.")
    return compose_job(overrides).config.data


def register_recipes() -> None:
    """Make each recipe an option of the group `experiment`."""
    from hydra.core.config_store import ConfigStore

    for name, recipe in read_recipes():
        ConfigStore.instance().store(group="experiment", name=name, node=recipe, package="_global_")


@contextmanager
def explain_hydra_errors() -> Iterator[None]:
    """Turn what Hydra refuses to compose into a ConfigError of one sentence; to hold calls of Hydra only."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: Hydra's for model=null
        raise ConfigError(describe_hydra_error(error)) from error


def _describe_unresolved(raw: DictConfig, error: Exception, origins: ValueOrigins) -> str:
    """Which value holds the ${...} that cannot be resolved: OmegaConf does not say."""
    reason = str(error).splitlines()[0].rstrip(".")
    for key, value in _list_raw_values(raw):
        if isinstance(value, str) and "${" in value and not _can_resolve(raw, key):
            return f"{key}={value} ({origins.locate(key)}): cannot be resolved ({reason})."
    return f"{reason}."


def _list_raw_values(raw: DictConfig) -> Iterator[tuple[str, Any]]:
    from omegaconf import OmegaConf

    from fmnist_sweep.config.job import flatten_config

    plain: Any = OmegaConf.to_container(raw, resolve=False)
    yield from flatten_config(plain).items()


def _can_resolve(raw: DictConfig, key: str) -> bool:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.select(raw, key)
    except OmegaConfBaseException:
        return False
    return True
