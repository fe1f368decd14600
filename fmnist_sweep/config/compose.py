"""Composes configs through Hydra's public API, the only way a config comes to be, and checks each of them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException, UnsupportedInterpolationType

from fmnist_sweep.config.check import check_config
from fmnist_sweep.config.environment import (
    RefusedVariable,
    find_refused_variable,
    guard_environment,
    refuse_untyped_addresses,
)
from fmnist_sweep.config.folder_source import BoundedFolder
from fmnist_sweep.config.folders import find_conf_folder, list_groups, read_recipes
from fmnist_sweep.config.foreign import check_hydra_section, check_overrides
from fmnist_sweep.config.hydra_errors import describe_hydra_error
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.config.known_keys import list_options
from fmnist_sweep.config.options import compose_with_options
from fmnist_sweep.config.origins import ValueOrigins, quote_as_written
from fmnist_sweep.config.overrides import drop_clearing_overrides, is_override_of, replace_tunables
from fmnist_sweep.config.plugin_words import PLUGINS_KEY, find_scorers, find_used_plugins
from fmnist_sweep.config.promotion_options import refuse_promotion_options
from fmnist_sweep.config.regularized import refuse_unused_regularization
from fmnist_sweep.config.schema import OPTION_GROUPS, SearchConfig
from fmnist_sweep.config.section_schemas import make_search_schema
from fmnist_sweep.config.text_values import quote_texts, restore_typed
from fmnist_sweep.config.typed_overrides import check_typed_overrides
from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import ORACLES
from fmnist_sweep.search.tunable import is_option_choice
from fmnist_sweep.text import quote_text

VERSION_BASE = "1.3"  # of Hydra's defaults
MAIN_CONFIG = "config"
_stored_recipes: dict[str, dict[str, Any]] = {}


def compose_job(overrides: Sequence[str], folder: Path | None = None) -> Job:
    """The checked job that these overrides compose. Raises ConfigError. folder: of --config-dir."""
    typed_overrides = quote_texts(overrides)
    check_typed_overrides(typed_overrides)
    with search_configs(folder):
        config = compose_study(replace_tunables(list(typed_overrides)))
    return check_job(config, typed_overrides)


def find_flagged_folder(flags: Sequence[str]) -> Path | None:
    """The folder that a job's flags name with --config-dir, or None."""
    return Path(flags[1]) if flags else None


def compose_data(overrides: Sequence[str]) -> DataConfig:
    """The data section that these overrides compose, checked like a sweep's. Raises ConfigError."""
    for override in overrides:
        if not is_override_of(override, ("data",)):
            hint = "; own code is named with --plugins FILE.py" if is_override_of(override, (PLUGINS_KEY,)) else ""
            raise ConfigError(f"{override}: only overrides of data are taken here, such as data.dir=FOLDER{hint}.")
    return compose_job(overrides).config.data


@contextmanager
def search_configs(folder: Path | None = None) -> Iterator[None]:
    """Let Hydra search conf/, `folder` and the recipes, and turn its errors into ConfigErrors; to hold its calls only.

    folder: of --config-dir.
    """
    prepare_hydra()
    with (
        add_folder(folder),
        explain_hydra_errors(),
        hydra.initialize_config_dir(str(find_conf_folder()), version_base=VERSION_BASE),
    ):
        yield


@contextmanager
def add_folder(folder: Path | None) -> Iterator[None]:
    """Let Hydra search the folder of --config-dir, but read no file of it unchecked."""
    for plugin in (_CommandLineFolder, BoundedFolder):
        Plugins.instance().register(plugin)
    _CommandLineFolder.folder = folder
    try:
        yield
    finally:
        _CommandLineFolder.folder = None


class _CommandLineFolder(SearchPathPlugin):
    """Adds the folder of --config-dir where Hydra's own command line adds it: after conf/."""

    folder: Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.append(provider="command-line", path=f"{BoundedFolder.scheme()}://{self.folder}")


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The config that these overrides compose, with the section `hydra`; within `search_configs`.

    Raises ConfigError for what could name code, before and after composing: there is no other way to a config, so that
    none is without this check.
    """
    check_overrides(overrides)
    return _compose_checked(MAIN_CONFIG, overrides)


def _compose_option(name: str) -> dict[str, Any]:
    """What an option GROUP/OPTION sets by itself, by section of the config. Raises HydraException or ConfigError."""
    config = _compose_checked(name, ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled"])
    sections: Any = OmegaConf.to_container(config, resolve=False)
    return {str(section): value for section, value in sections.items() if section != "hydra"}


def _drop_arguments_of_option(plain: dict[str, Any], choices: Mapping[str, str], origins: ValueOrigins) -> None:
    """Drop the arguments that an option of `search` has for its own oracle, where search.name names another one.

    What was typed, or stands in a recipe, stays; it is refused if the oracle takes no such setting.
    """
    search, option = plain.get("search"), choices.get("search", "")
    if not isinstance(search, dict) or option not in ORACLES or search.get("name") == option:
        return
    for key in make_search_schema(option).model_fields.keys() - SearchConfig.model_fields.keys():
        if origins.locate(f"search.{key}") == f"conf/search/{option}.yaml":
            search.pop(key, None)


def _compose_checked(name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        config = hydra.compose(name, list(overrides), return_hydra_config=True)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        longest = max(overrides, key=len)  # Hydra looks for a file of that name
        raise ConfigError(f"{quote_text(longest)} (command line): there is no such key and no such option.") from None
    section: Any = OmegaConf.to_container(config.hydra, resolve=False)
    check_hydra_section(section)
    return config


def compose_study(overrides: Sequence[str]) -> DictConfig:
    """The config of one job, with every option of the groups whose options it searches; within `search_configs`."""

    def compose(words: Sequence[str]) -> DictConfig:
        with explain_hydra_errors():
            return compose_config(words)

    return compose_with_options(overrides, compose, _compose_option)


def check_job(composed: DictConfig, typed_overrides: Mapping[str, str], *, of_sweep: bool = False) -> Job:
    """The job of a composed config. Raises ConfigError.

    typed_overrides: of `quote_texts`. of_sweep: whether to refuse what does nothing in a sweep.
    """
    settings = composed.hydra
    task_overrides: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # one may hold ${...} as text
    overrides = tuple(restore_typed(drop_clearing_overrides(task_overrides, typed_overrides), typed_overrides))
    choices = {str(group): str(option or "null") for group, option in settings.runtime.choices.items()}
    sources = [str(source.path) for source in settings.runtime.config_sources]
    options = {group: list(composed[group].of) for group in OPTION_GROUPS if is_option_choice(composed.get(group))}
    origins = ValueOrigins(overrides, choices, sources, options)
    _refuse_unnamed_options(choices)
    task_keys: list[Any] = [key for key in composed if key != "hydra"]  # YAML also has keys such as 1 and false
    raw = OmegaConf.masked_copy(composed, task_keys)
    try:
        plain: Any = OmegaConf.to_container(raw, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_describe_unresolved(raw, error, origins)) from error
    refuse_untyped_addresses(plain, overrides)
    _drop_arguments_of_option(plain, choices, origins)
    try:
        config = check_config(plain, origins.locate)
        refuse_unused_regularization(config.settings, overrides)
        if of_sweep:
            refuse_promotion_options(config, origins.locate)
        plugins = find_used_plugins(config)
        return Job(config, overrides, choices, plugins=plugins, scorers=find_scorers(plugins))
    except ConfigError as error:
        written: Any = OmegaConf.to_container(raw, resolve=False)
        raise ConfigError(quote_as_written(str(error), plain, written)) from None


def _refuse_unnamed_options(choices: Mapping[str, str]) -> None:
    """Refuse what Hydra takes for an option, and is not the name of one in the folders of configs.

    It follows .. to any YAML file, and a list in a defaults list mixes several options.
    """
    for group in list_groups():
        if group not in choices and group != "experiment":
            raise ConfigError(
                f"{group}: a defaults list chooses none of its options, or several, which would overwrite each other; "
                f"name one there, as in `override /{group}: {list_options(group)[0]}`."
            )
    for group, option in choices.items():
        if PurePath(option).is_absolute() or ".." in PurePath(option).parts:
            raise ConfigError(
                f"{group}={option}: expected the name of an option, found a path that leaves the folders of configs; "
                f"put the file into FOLDER/{group}/ and add --config-dir FOLDER."
            )


def prepare_hydra() -> None:
    """Limit what configs may read of the environment, and make each recipe an option of the group `experiment`."""
    guard_environment()
    for name, recipe in read_recipes():
        if _stored_recipes.get(name) != recipe:  # once a process: it takes as long as to read a config
            ConfigStore.instance().store(group="experiment", name=name, node=recipe, package="_global_")
            _stored_recipes[name] = recipe


@contextmanager
def explain_hydra_errors() -> Iterator[None]:
    """Turn what Hydra refuses to compose into a ConfigError of one sentence; to hold calls of Hydra only."""
    try:
        yield
    except (yaml.YAMLError, RecursionError) as error:  # a YAML error names its file
        reason = " ".join(str(error).split())
        raise ConfigError(f"a config cannot be read as YAML ({reason}): mend that file.") from None
    except RefusedVariable as error:
        raise ConfigError(f"{error}.") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: Hydra's for model=null
        refused = find_refused_variable(error)
        raise ConfigError(describe_hydra_error(error) if refused is None else f"{refused}.") from error


def _describe_unresolved(raw: DictConfig, error: Exception, origins: ValueOrigins) -> str:
    """Name the value whose ${...} cannot be resolved: OmegaConf does not say."""
    reason = _describe_reason(error)
    plain: Any = OmegaConf.to_container(raw, resolve=False)
    for key, value in flatten_config(plain).items():
        if isinstance(value, str) and "${" in value and not _can_resolve(raw, key):
            return f"{key}={value} ({origins.locate(key)}): cannot be resolved ({reason})."
    return f"{reason}."


def _describe_reason(error: Exception) -> str:
    """Why a value cannot be resolved, without what it was resolved to so far."""
    refused = find_refused_variable(error)
    if refused is not None:
        return str(refused)
    reason = str(error).splitlines()[0].rstrip(".")
    missing = re.fullmatch(
        r"KeyError raised while resolving interpolation: [\"']+(Environment variable .*?)[\"']+", reason
    )
    if missing:
        return missing[1]
    is_plain = isinstance(error, InterpolationKeyError | UnsupportedInterpolationType)
    return reason if is_plain else type(error).__name__


def _can_resolve(raw: DictConfig, key: str) -> bool:
    try:
        OmegaConf.select(raw, key)
    except OmegaConfBaseException:
        return False
    return True
