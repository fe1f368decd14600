"""Where configs come from: their folders, the file a value was written in, Hydra's errors in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from fmnist_sweep.config.folders import conf_folder, experiments_folder, recipes
from fmnist_sweep.config.hydra_errors import sentence
from fmnist_sweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

    from fmnist_sweep.config.job import Job
    from fmnist_sweep.data.config import DataConfig


class Origins:
    """Which file, or the command line, a value of a composed config was written in.

    overrides: the job's, as typed. choices: the option of each group. sources: the folders Hydra searched.
    """

    def __init__(self, overrides: Sequence[str], choices: Mapping[str, str], sources: Sequence[str]) -> None:
        self._overrides = overrides
        self._choices = choices
        self._sources = [Path(source) for source in sources if source and Path(source).is_dir()]

    def of(self, key: str) -> str:
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
            path = experiments_folder() / f"{recipe}.yaml"
            if path.is_file() and _holds(yaml.safe_load(path.read_text(encoding="utf-8")), key):
                return f"experiments/{path.name}"
        return self._file(key)

    def _is_group(self, name: str) -> bool:
        return name in self._choices

    def _file(self, key: str) -> str:
        group = key.split(".", 1)[0]
        # A group's file may also set keys of other groups: the last in the defaults list has the word.
        for candidate in ("regularization", group):
            option = self._choices.get(candidate)
            for folder in self._sources:
                path = folder / candidate / f"{option}.yaml"
                if path.is_file() and (candidate == group or _holds(_global(path), key)):
                    return f"{'conf' if folder == conf_folder() else folder}/{candidate}/{option}.yaml"
        return "conf/config.yaml"


def _global(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text) if "@package _global_" in text else {}


def _holds(content: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    return True


def checked_job(raw: DictConfig, hydra: HydraConf) -> Job:
    """The job of one composed config; hydra: what Hydra knows of its composition. Errors: ConfigError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from fmnist_sweep.config.job import Job
    from fmnist_sweep.config.schema import check

    typed: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # it may hold a ${...} as text
    overrides = _as_typed(typed)
    choices = {str(group): str(option or "null") for group, option in hydra.runtime.choices.items()}
    origins = Origins(overrides, choices, [str(source.path) for source in hydra.runtime.config_sources])
    _refuse_outside(choices)
    try:
        plain: Any = OmegaConf.to_container(raw, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_unresolved(raw, error, origins)) from error
    return Job(check(plain, origins.of), overrides, choices)


def _refuse_outside(choices: Mapping[str, str]) -> None:
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
    with one_sentence(), initialize_config_dir(str(conf_folder()), version_base="1.3"):
        raw = compose("config", tunables_replace(overrides), return_hydra_config=True)
    plain = OmegaConf.masked_copy(raw, [str(key) for key in raw if key != "hydra"])
    return checked_job(plain, raw.hydra)


_CLEARS = "++"
_GIVES_A_TUNABLE = re.compile(r"^([A-Za-z_][\w.]*)=\s*\{\s*tune\s*:")


def tunables_replace(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which a tunable given as a mapping takes the place of what was there.

    Hydra would merge it into the tunable that stands there, so that a choice could not become a range.
    """
    found: list[str] = []
    for argument in arguments:
        given = _GIVES_A_TUNABLE.match(argument)
        # Forced, because with -m Hydra keeps only the last override that is written in the same way.
        found += [f"{_CLEARS}{given.group(1)}=null", argument] if given else [argument]
    return found


def _as_typed(overrides: Sequence[str]) -> tuple[str, ...]:
    """A job's overrides without those that only make room for a tunable."""
    room = {f"{_CLEARS}{given.group(1)}=null" for given in map(_GIVES_A_TUNABLE.match, overrides) if given}
    return tuple(override for override in overrides if override not in room)


def compose_data(overrides: Sequence[str]) -> DataConfig:
    """The data section that these overrides compose, checked as a sweep's is."""
    for override in overrides:
        if not override.lstrip("+~").startswith(("data=", "data.")):
            raise ConfigError(f"{override}: only overrides of data are taken here, such as data.dir=FOLDER.")
    return compose_job(overrides).config.data


def register_recipes() -> None:
    """Make each recipe an option of the group `experiment`."""
    from hydra.core.config_store import ConfigStore

    for name, recipe in recipes():
        ConfigStore.instance().store(group="experiment", name=name, node=recipe, package="_global_")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what Hydra refuses to compose into a ConfigError of one sentence; to hold calls of Hydra only."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: Hydra's for model=null
        raise ConfigError(sentence(error)) from error


def _unresolved(raw: DictConfig, error: Exception, origins: Origins) -> str:
    """Which value holds the ${...} that cannot be resolved: OmegaConf does not say."""
    reason = str(error).splitlines()[0].rstrip(".")
    for key, value in _written(raw):
        if isinstance(value, str) and "${" in value and not _resolves(raw, key):
            return f"{key}={value} ({origins.of(key)}): cannot be resolved ({reason})."
    return f"{reason}."


def _written(raw: DictConfig) -> Iterator[tuple[str, Any]]:
    from omegaconf import OmegaConf

    from fmnist_sweep.config.job import flat

    plain: Any = OmegaConf.to_container(raw, resolve=False)
    yield from flat(plain).items()


def _resolves(raw: DictConfig, key: str) -> bool:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.select(raw, key)
    except OmegaConfBaseException:
        return False
    return True
