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
_HARMLESS = ("mode", "verbose", "output_subdir", "run.dir", "sweep.dir", "sweep.subdir", "job.name", "job.chdir")
_SETS_HARMLESS = re.compile(rf"\+{{0,2}}hydra\.({'|'.join(map(re.escape, _HARMLESS))})")
_WORD = re.compile(r"[\w$-]+")
_PACKAGE = re.compile(r"^\s*#\s*@package\b(.*)$", re.MULTILINE)
_CORE = "hydra._internal.core_plugins"
_SILENT = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}
# What Hydra imports, calls, or sets for other processes, as conf/config.yaml composes it.
_ACTS: dict[str, Any] = {
    "searchpath": [],
    "callbacks": {},
    "launcher": {"_target_": f"{_CORE}.basic_launcher.BasicLauncher"},
    "sweeper": {"_target_": f"{_CORE}.basic_sweeper.BasicSweeper", "max_batch_size": None, "params": None},
    "hydra_logging": _SILENT,
    "job_logging": _SILENT,
    "job.env_set": {},
    "job.env_copy": [],
}


def checked_folder(arguments: Sequence[str]) -> Path | None:
    """The folder of configs that a command line adds, searched for code; ConfigError names what could run some."""
    from hydra._internal.utils import get_args_parser

    given = get_args_parser().parse_args(list(arguments))  # Hydra's own parser takes abbreviations, too
    if given.experimental_rerun is not None:
        raise ConfigError(
            f"--experimental-rerun={given.experimental_rerun}: it would read a pickle, which can run code; the "
            "command in a trial's overrides.txt repeats that trial."
        )
    for flag, value in (("--config-path", given.config_path), ("--config-name", given.config_name)):
        if value is not None:
            raise ConfigError(
                f"{flag}={value}: every study is composed from conf/config.yaml; put what differs into "
                "FOLDER/experiment/NAME.yaml, and say --config-dir FOLDER experiment=NAME."
            )
    for override in given.overrides:
        _check_override(override)
    if given.config_dir is None:
        return None
    folder = Path(given.config_dir).resolve()
    for path in _yaml_files(folder):
        _check_file(path, path.relative_to(folder))
    return folder


@contextmanager
def only_data() -> Iterator[None]:
    """Check each config that Hydra composes before Hydra acts on it: the last word, however a value got there."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    # Hydra has no hook between composing a config and importing what it names; all of them pass through here.
    compose = ConfigLoaderImpl.load_configuration

    def checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        try:
            composed = compose(self, *args, **kwargs)
        except (yaml.YAMLError, RecursionError) as error:  # a YAML error names its file
            reason = " ".join(str(error).split())
            raise ConfigError(f"a config cannot be read as YAML ({reason}): mend that file.") from None
        _check_composed(composed)
        return composed

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]


def _check_override(override: str) -> None:
    key = override.partition("=")[0]
    if "hydra" in _WORD.findall(key.replace(".", " ")) and not _SETS_HARMLESS.fullmatch(key):
        raise ConfigError(
            f"{override} (command line): this part of Hydra's own settings can name code, and a config is data; "
            f"expected one of {', '.join(f'hydra.{name}' for name in _HARMLESS)}: leave it out."
        )


def _yaml_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))  # no groups: .git, .venv
        yield from (Path(place, name) for name in sorted(files) if name.endswith((".yaml", ".yml")))


def _check_file(path: Path, name: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # Hydra says so, where it is asked for
        return
    found = "a folder named hydra" if name.parts[0] == "hydra" else _names_code(text)
    if found:
        raise ConfigError(
            f"{path}: {found} can make Hydra run code, and a config is data; expected settings of a study only: "
            "remove it, or name another folder with --config-dir."
        )


def _names_code(text: str) -> str | None:
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
    return next((f"the key {key}" for key in _keys(content) if key in ("_target_", "()")), None)


def _keys(content: Any) -> Iterator[object]:
    """Every key at any depth."""
    seen, ahead = set[int](), [content]
    while ahead:
        part = ahead.pop()
        if not isinstance(part, Mapping | list) or id(part) in seen:  # an alias may lead back to what holds it
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            yield from part
        ahead += part.values() if isinstance(part, Mapping) else part


def _check_composed(composed: DictConfig) -> None:
    from omegaconf import OmegaConf

    from fmnist_sweep.config import refusals

    section: Any = OmegaConf.to_container(composed.hydra, resolve=False)
    for name, expected in _ACTS.items():
        found = _at(section, name)
        if found != expected:
            raise ConfigError(
                f"hydra.{name}={refusals.show(found)} (a config file, or the command line): it can name code that "
                f"Hydra runs, and a config is data; expected {refusals.show(expected)}: leave it out."
            )


def _at(section: Any, name: str) -> Any:
    for part in name.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section
