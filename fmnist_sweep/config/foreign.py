"""Configs from elsewhere are data: whatever of them could make Hydra import or call code is refused before it acts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fmnist_sweep.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What a command may say of Hydra's own section: none of these is imported, called or handed to another process.
_HARMLESS_KEYS = ("mode", "verbose", "output_subdir", "run.dir", "sweep.dir", "sweep.subdir", "job.name", "job.chdir")
_HARMLESS_OVERRIDE = re.compile(rf"\+{{0,2}}hydra\.({'|'.join(map(re.escape, _HARMLESS_KEYS))})")
_WORD = re.compile(r"[\w$-]+")
_PACKAGE = re.compile(r"^\s*#\s*@package\b(.*)$", re.MULTILINE)
_PLUGIN_PACKAGE = "hydra._internal.core_plugins"
_SILENT_LOGGING = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}
# What Hydra imports, calls, or sets for other processes, as conf/config.yaml composes it.
_EXPECTED_SETTINGS: dict[str, Any] = {
    "searchpath": [],
    "callbacks": {},
    "launcher": {"_target_": f"{_PLUGIN_PACKAGE}.basic_launcher.BasicLauncher"},
    "sweeper": {"_target_": f"{_PLUGIN_PACKAGE}.basic_sweeper.BasicSweeper", "max_batch_size": None, "params": None},
    "hydra_logging": _SILENT_LOGGING,
    "job_logging": _SILENT_LOGGING,
    "job.env_set": {},
    "job.env_copy": [],
}


def check_config_folder(arguments: Sequence[str]) -> Path | None:
    """The folder of configs that a command line adds, searched for code; ConfigError names what could run some."""
    from hydra._internal.utils import get_args_parser

    options = get_args_parser().parse_args(list(arguments))  # Hydra's own parser takes abbreviations, too
    if options.experimental_rerun is not None:
        raise ConfigError(
            f"--experimental-rerun={options.experimental_rerun}: it would read a pickle, which can run code; the "
            "command in a trial's overrides.txt repeats that trial."
        )
    for flag, value in (("--config-path", options.config_path), ("--config-name", options.config_name)):
        if value is not None:
            raise ConfigError(
                f"{flag}={value}: every study is composed from conf/config.yaml; put what differs into "
                "FOLDER/experiment/NAME.yaml, and say --config-dir FOLDER experiment=NAME."
            )
    for override in options.overrides:
        _check_override(override)
    if options.config_dir is None:
        return None
    folder = Path(options.config_dir).resolve()
    for path in _list_yaml_files(folder):
        _check_file(path, path.relative_to(folder))
    return folder


@contextmanager
def refuse_composed_code() -> Iterator[None]:
    """Check each config that Hydra composes before Hydra acts on it: the last word, however a value got there."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    # Hydra has no hook between composing a config and importing what it names; all of them pass through here.
    load_configuration = ConfigLoaderImpl.load_configuration

    def load_checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        try:
            config = load_configuration(self, *args, **kwargs)
        except (yaml.YAMLError, RecursionError) as error:  # a YAML error names its file
            reason = " ".join(str(error).split())
            raise ConfigError(f"a config cannot be read as YAML ({reason}): mend that file.") from None
        _check_composed(config)
        return config

    ConfigLoaderImpl.load_configuration = load_checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]


def _check_override(override: str) -> None:
    key = override.partition("=")[0]
    if "hydra" in _WORD.findall(key.replace(".", " ")) and not _HARMLESS_OVERRIDE.fullmatch(key):
        raise ConfigError(
            f"{override} (command line): this part of Hydra's own settings can name code, and a config is data; "
            f"expected one of {', '.join(f'hydra.{name}' for name in _HARMLESS_KEYS)}: leave it out."
        )


def _list_yaml_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))  # no groups: .git, .venv
        yield from (Path(place, name) for name in sorted(files) if name.endswith((".yaml", ".yml")))


def _check_file(path: Path, name: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # Hydra says so, where it is asked for
        return
    code = "a folder named hydra" if name.parts[0] == "hydra" else _find_code(text)
    if code:
        raise ConfigError(
            f"{path}: {code} can make Hydra run code, and a config is data; expected settings of a study only: "
            "remove it, or name another folder with --config-dir."
        )


def _find_code(text: str) -> str | None:
    """What in a YAML file could make Hydra run code, in words."""
    if not any(mark in text for mark in ("hydra", "_target_", "()", "\\")):  # an escape can spell any of them
        return None
    if any("hydra" in package for package in _PACKAGE.findall(text)):
        return "a @package of hydra"
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # Hydra's own loader refuses it, too, where it is asked for
        return None
    if isinstance(content, Mapping):
        if "hydra" in content:
            return "the key hydra"
        if "hydra" in str(content.get("defaults", "")):
            return "hydra in the defaults"
    return next((f"the key {key}" for key in _list_keys(content) if key in ("_target_", "()")), None)


def _list_keys(content: Any) -> Iterator[object]:
    """Every key at any depth."""
    visited_ids, stack = set[int](), [content]
    while stack:
        part = stack.pop()
        if not isinstance(part, Mapping | list) or id(part) in visited_ids:  # an alias may lead back to what holds it
            continue
        visited_ids.add(id(part))
        if isinstance(part, Mapping):
            yield from part
        stack += part.values() if isinstance(part, Mapping) else part


def _check_composed(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    from fmnist_sweep.config import refusals

    section: Any = OmegaConf.to_container(config.hydra, resolve=False)
    for name, expected in _EXPECTED_SETTINGS.items():
        value = _get_value(section, name)
        if value != expected:
            raise ConfigError(
                f"hydra.{name}={refusals.format_override_value(value)} (a config file, or the command line): it can name code that "
                f"Hydra runs, and a config is data; expected {refusals.format_override_value(expected)}: leave it out."
            )


def _get_value(section: Any, name: str) -> Any:
    for part in name.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section
