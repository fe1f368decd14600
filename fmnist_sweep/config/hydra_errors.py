"""What Hydra refuses to compose, in one sentence: what is wrong, and what there is instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from fmnist_sweep.config.folders import conf_folder


def sentence(error: BaseException) -> str:
    """A Hydra or OmegaConf error as one sentence: what is wrong, and what there is instead."""
    text = str(error).partition("Config search path")[0]
    typed = getattr(error, "override", None)
    if typed is not None:
        return _unreadable(str(typed), text)
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        written = re.search(r"use \+(.*)", text, re.DOTALL)
        full_key = getattr(error.__cause__, "full_key", None) or unknown.group(1)
        return _unknown_key(unknown.group(1), str(full_key), written.group(1) if written else unknown.group(1))
    option = re.search(r"In '([^']+)': Could not find '([^']+)/([^'/]*)'", text)
    if option:
        written_in, group, name = option.groups()
        return _unknown_option(written_in, group, name, allowed=re.findall(r"\n\t(\S+)", text))
    merged = re.search(r"Error merging override ([^=]+)=(.*)", text)
    if merged:
        return _another_kind(*merged.groups())
    deleted = re.search(r"Could not delete from config\. '([^']+)'", text)
    if deleted:
        return f"~{deleted.group(1)} (command line): there is no such key to delete, or it is null already."
    added = re.search(r"An item is already at '([^']+)'", text)
    if added:
        return f"+{added.group(1)} (command line): there is such a key already; leave out the +."
    if "override must be a string" in text:
        return "a config group cannot be null: name one of its options, as in model=cnn."
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return f"{'; '.join(lines[:2])}." if lines else f"{type(error).__name__}."


def _unreadable(override: str, text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("See ", "Error parsing"))]
    reason = f" ({lines[0].strip()})" if lines else ""
    return (
        f"{override} (command line): cannot be read{reason}; expected KEY=VALUE, in single quotes where it has "
        "spaces, brackets or braces, each of them closed."
    )


def _unknown_option(written_in: str, group: str, option: str, allowed: Sequence[str]) -> str:
    place = "command line" if written_in == "config" else f"{written_in}.yaml"
    close = difflib.get_close_matches(option, allowed, n=1)
    hint = f"did you mean {group}={close[0]}? " if close else ""
    return f"{group}={option} ({place}): no such option; {hint}allowed: {', '.join(allowed)}."


def _unknown_key(key: str, full_key: str, written: str) -> str:
    """The message for an override of a key that the composed config does not have.

    key: as typed; full_key: the one that is missing, below `key` where a mapping was typed; written: with its value.
    """
    if full_key.startswith(f"{key}."):
        return _another_kind(key, written.partition("=")[2])
    group, _, name = key.rpartition(".")
    allowed = _keys(group)
    if not allowed:
        return (
            f"{written} (command line): {group} holds no keys here; give it whole, as in "
            f"'{group}={{{name}: ..., ...}}'."
        )
    if group and name in allowed:
        top = group.split(".")[0]
        options = ", ".join(f"{top}={option}" for option in _options_with(key))
        return f"{written} (command line): the chosen {top} has no such key; it belongs to {options}."
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {f'{group}.' if group else ''}{close[0]}? " if close else ""
    return f"{written} (command line): unknown key; {hint}allowed: {', '.join(allowed)}."


def _another_kind(key: str, value: str) -> str:
    """The message for a value that does not fit into the mapping it is to change."""
    return (
        f"{key}={value} (command line): {key} is a mapping of another kind; to replace it whole, "
        f"give '~{key}' '+{key}={value}'."
    )


def _keys(group: str) -> list[str]:
    """What stands below a dotted key in the configs, over all options of its group."""
    if not group:
        groups = sorted(path.name for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra")
        return [*groups, "experiment", "seed", "plan", "fresh"]
    found: dict[str, None] = {}
    for _, content in _contents(group.split(".")[0]):
        below = _below(content, group)
        found |= dict.fromkeys(below if isinstance(below, Mapping) else {})
    return [key for key in found if key != "defaults"]


def _options_with(key: str) -> list[str]:
    group, _, name = key.rpartition(".")
    found = []
    for option, content in _contents(key.split(".")[0]):
        below = _below(content, group)
        if isinstance(below, Mapping) and name in below:
            found.append(option)
    return found


def _contents(top: str) -> Iterator[tuple[str, Any]]:
    """Each option of a group, and what it sets in it."""
    for file in sorted((conf_folder() / top).glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        yield file.stem, content.get(top, {}) if "@package _global_" in file.read_text(encoding="utf-8") else content


def _below(content: Any, key: str) -> Any:
    for part in key.split(".")[1:]:
        content = content.get(part) if isinstance(content, Mapping) else None
    return content
