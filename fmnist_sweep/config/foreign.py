"""Configs from elsewhere are data: what could make Hydra import or call code is refused before Hydra acts on it.

There are two checks. The first looks at the overrides and at each file that Hydra takes from a folder given with
--config-dir, chosen by name or through a defaults list, and names the culprit. The second looks at the composed config,
however a value got there. Composing itself imports nothing that a config names, but for packages in hydra.searchpath,
which no override may set. Hydra would act on the rest when it runs jobs; this project runs them itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.plugins.completion_plugin import CompletionPlugin

from fmnist_sweep.config.arguments import Arguments, parse_arguments
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.overrides import parse_override_key, quote_override_value, refuse_unbounded_override
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

# What a command may set in Hydra's own section: none of these is imported, called or handed to another process.
_USED_KEYS = ("hydra.mode", "hydra.verbose")
_UNUSED_KEYS = tuple(  # without effect: they are for what Hydra writes, and here it only composes
    f"hydra.{name}" for name in ("output_subdir", "run.dir", "sweep.dir", "sweep.subdir", "job.name", "job.chdir")
)
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


def check_arguments(arguments: Arguments) -> Path | None:
    """Check the options and overrides of a command line; return the folder that it adds, if any.

    Raises ConfigError, which names the culprit, if any of it could make Hydra run code.
    """
    options = arguments.options
    if options.experimental_rerun is not None:
        raise ConfigError(
            f"--experimental-rerun={options.experimental_rerun}: Hydra would read a pickle, which can run code; to "
            "repeat a trial, run the command in its overrides.txt."
        )
    for flag, value in (("--config-path", options.config_path), ("--config-name", options.config_name)):
        if value is not None:
            raise ConfigError(
                f"{flag}={value}: every study is composed from conf/config.yaml; write what differs into "
                "FOLDER/experiment/NAME.yaml, and run with --config-dir FOLDER experiment=NAME."
            )
    check_overrides(arguments.overrides)
    if options.config_dir is None:
        return None
    try:
        folder = Path(options.config_dir).expanduser().resolve()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError):  # a name that is too long, a link to itself, ~nobody
        is_folder = False
    if not is_folder:
        raise ConfigError(f"--config-dir={quote_text(options.config_dir, 200)}: there is no such folder.")
    return folder


def check_completed_line(line: str) -> None:
    """Check a command line that is being typed: a shell's completion lets Hydra compose its words.

    Raises ConfigError like `check_arguments`, also if Hydra cannot read its options.
    """
    try:
        arguments = CompletionPlugin.strip_python_or_app_name(line).split()
    except RuntimeError:
        raise ConfigError(f"COMP_LINE={line}: expected a command line that begins with a program.") from None
    overrides = parse_arguments(arguments).overrides
    check_overrides([word for word in overrides if "=" in word])  # the others are only begun, such as hydra.mo


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError if one of these overrides sets what could name code in Hydra's own section."""
    for override in overrides:
        refuse_unbounded_override(override)
        key = parse_override_key(override)
        if "hydra" not in _WORD.findall(key.replace(".", " ")):
            continue
        if key not in (*_USED_KEYS, *_UNUSED_KEYS) or override.startswith("~"):
            raise ConfigError(
                f"{override} (command line): this part of Hydra's own settings can name code, and a config is data; "
                f"expected {' or '.join(_USED_KEYS)}: leave it out."
            )


def check_hydra_section(section: Mapping[str, Any]) -> None:
    """Check the section `hydra` of a composed config, as plain values. Raises ConfigError if it could name code."""
    for name, expected in _EXPECTED_SETTINGS.items():
        value = find_value(section, name)
        if value != expected:
            raise ConfigError(
                f"hydra.{name}={quote_override_value(value)} (a config file, or the command line): this can name code "
                f"that Hydra runs, and a config is data; expected {quote_override_value(expected)}: leave it out."
            )


def check_config_file(path: Path, name: str, text: str) -> None:
    """Raise ConfigError if a file of the folder of --config-dir could make Hydra run code. name: below the folder."""
    code = "a folder named hydra" if Path(os.path.normpath(name)).parts[0] == "hydra" else _find_code(text)
    if code:
        raise ConfigError(
            f"{path}: {code} can make Hydra run code, and a config is data; expected settings of a study only: "
            "remove it, or choose another file."
        )


def _find_code(text: str) -> str | None:
    """What in a YAML file could make Hydra run code, in words, or None."""
    if not any(mark in text for mark in ("hydra", "_target_", "()", "\\")):  # an escape can spell any of them
        return None
    if any("hydra" in package for package in _PACKAGE.findall(text)):
        return "a @package of hydra"
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # Hydra refuses it as well if the file is asked for
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
