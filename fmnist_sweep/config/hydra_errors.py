"""Hydra's and OmegaConf's errors in one sentence: what is wrong, and what is allowed instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fmnist_sweep.config.folders import find_conf_folder, read_option
from fmnist_sweep.config.keys import find_value
from fmnist_sweep.config.refusals import suggest_closest


def describe_hydra_error(error: BaseException) -> str:
    """Describe an error of Hydra or OmegaConf: what is wrong, and what is allowed instead."""
    text = str(error).partition("Config search path")[0]
    override = getattr(error, "override", None)
    if override is not None:
        return _describe_unreadable(str(override), text)
    key_match = re.search(r"Could not override '([^']+)'", text)
    if key_match:
        addition = re.search(r"use \+(.*)", text, re.DOTALL)
        full_key = getattr(error.__cause__, "full_key", None) or key_match.group(1)
        return _describe_unknown_key(
            key_match.group(1), str(full_key), addition.group(1) if addition else key_match.group(1)
        )
    option_match = re.search(r"In '([^']+)': Could not find '([^']+)/([^'/]*)'", text)
    if option_match:
        source, group, name = option_match.groups()
        return _describe_unknown_option(source, group, name, allowed=re.findall(r"\n\t(\S+)", text))
    merge_match = re.search(r"Error merging override ([^=]+)=(.*)", text)
    if merge_match:
        return _describe_other_kind(*merge_match.groups())
    deletion_match = re.search(r"Could not delete from config\. '([^']+)'", text)
    if deletion_match:
        return f"~{deletion_match.group(1)} (command line): there is no such key to delete, or it is null already."
    duplicate_match = re.search(r"An item is already at '([^']+)'", text)
    if duplicate_match:
        return f"+{duplicate_match.group(1)} (command line): there is such a key already; leave out the +."
    if "override must be a string" in text:
        return "a config group cannot be null: name one of its options, as in model=cnn."
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return f"{'; '.join(lines[:2])}." if lines else f"{type(error).__name__}."


def _describe_unreadable(override: str, text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("See ", "Error parsing"))]
    reason = f" ({lines[0].strip()})" if lines else ""
    return (
        f"{override} (command line): cannot be read{reason}; expected KEY=VALUE, in single quotes where it has "
        "spaces, brackets or braces, each of them closed."
    )


def _describe_unknown_option(source: str, group: str, option: str, allowed: Sequence[str]) -> str:
    place = "command line" if source == "config" else f"{source}.yaml"
    hint = suggest_closest(option, allowed, f"{group}=")
    return f"{group}={option} ({place}): no such option; {hint}allowed: {', '.join(allowed)}."


def _describe_unknown_key(key: str, full_key: str, override: str) -> str:
    """The message for an override of a key that the composed config does not have.

    key: as typed. full_key: the missing one, which is below `key` if a mapping was typed. override: as typed.
    """
    if full_key.startswith(f"{key}."):
        return _describe_other_kind(key, override.partition("=")[2])
    group, _, name = key.rpartition(".")
    allowed = _list_keys(group)
    if not allowed:
        return (
            f"{override} (command line): {group} holds no keys here; give it whole, as in "
            f"'{group}={{{name}: ..., ...}}'."
        )
    if group and name in allowed:
        top = group.split(".")[0]
        options = ", ".join(f"{top}={option}" for option in _list_options_with(key))
        return f"{override} (command line): the chosen {top} has no such key; it belongs to {options}."
    hint = suggest_closest(name, allowed, f"{group}." if group else "")
    return f"{override} (command line): unknown key; {hint}allowed: {', '.join(allowed)}."


def _describe_other_kind(key: str, value: str) -> str:
    """The message for a value that does not fit into the mapping that it would change."""
    return (
        f"{key}={value} (command line): {key} is a mapping of another kind; to replace it whole, "
        f"give '~{key}' '+{key}={value}'."
    )


def _list_keys(group: str) -> list[str]:
    """The keys below a dotted key, over all options of its group."""
    if not group:
        groups = sorted(path.name for path in find_conf_folder().iterdir() if path.is_dir() and path.name != "hydra")
        return [*groups, "experiment", "seed", "plan", "fresh"]
    keys: dict[str, None] = {}
    for _, content in _read_options(group.split(".")[0]):
        value = find_value(content, group)
        keys |= dict.fromkeys(value if isinstance(value, Mapping) else {})
    return [key for key in keys if key != "defaults"]


def _list_options_with(key: str) -> list[str]:
    group, _, name = key.rpartition(".")
    options = []
    for option, content in _read_options(key.split(".")[0]):
        value = find_value(content, group)
        if isinstance(value, Mapping) and name in value:
            options.append(option)
    return options


def _read_options(group: str) -> Iterator[tuple[str, Any]]:
    """Each option of a group, and what it sets, by section of the config."""
    for path in sorted((find_conf_folder() / group).glob("*.yaml")):
        yield path.stem, read_option(path)
