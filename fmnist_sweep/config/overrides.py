"""Overrides in Hydra's grammar: their keys, their values as typed, and tunables, which replace what they override."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

_MAX_DEPTH, _MAX_DIGITS = 20, 300
_LONG_NUMBER = re.compile(rf"\d{{{_MAX_DIGITS + 1},}}")
_FORCE_PREFIX = "++"
# A tunable, or a schedule with its own settings.
_REPLACING_OVERRIDE = re.compile(r"^([A-Za-z_][\w.]*)=\s*\{\s*(?:tune|name)\s*:")


def parse_override_key(override: str) -> str:
    """The key of an override, without its prefix (+, ++ or ~); a group's may have a package: `model@other`."""
    return override.lstrip("+~").partition("=")[0]


def is_override_of(override: str, keys: Sequence[str]) -> bool:
    """Whether an override sets one of these keys, or a key below one of them."""
    name = parse_override_key(override)
    return any(name == key or name.startswith((f"{key}.", f"{key}@")) for key in keys)


def drop_overrides(overrides: Sequence[str], *keys: str) -> list[str]:
    """The overrides that set none of these keys, and no key below one of them."""
    return [override for override in overrides if not is_override_of(override, keys)]


def format_override_value(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {format_override_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(format_override_value, value))}]"
    return str(value)


def quote_override_value(value: Any) -> str:
    """A value as it is typed, as a message quotes it: its beginning, if it is long."""
    return quote_text(format_override_value(value))


def refuse_unbounded_override(override: str) -> None:
    """Raise ConfigError for an override that Hydra's reader cannot hold: nested too deeply, or a number too long."""
    depth = deepest = 0
    for character in override:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        problem = f"expected brackets at most {_MAX_DEPTH} deep, found {deepest}"
    elif _LONG_NUMBER.search(override):
        problem = f"expected numbers of at most {_MAX_DIGITS} digits"
    else:
        return
    raise ConfigError(f"{quote_text(override)} (command line): {problem}; shorten it.")


def replace_tunables(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which a tunable, or a schedule, replaces the value that it overrides.

    Hydra would merge its mapping into the tunable that stands there, so that a choice could not become a range. An
    override before it therefore clears the value.
    """
    overrides: list[str] = []
    for argument in arguments:
        # Forced, because in a multirun the last override with the same prefix and key takes the place of all others.
        overrides += [*_build_clearing_override(argument), argument]
    return overrides


def drop_clearing_overrides(overrides: Sequence[str], typed: Iterable[str]) -> tuple[str, ...]:
    """The overrides of a job without those that `replace_tunables` added to the typed ones."""
    added = {clearing for override in typed for clearing in _build_clearing_override(override)}
    return tuple(override for override in overrides if override not in added)


def _build_clearing_override(override: str) -> list[str]:
    """The override that clears what this one sets if it sets a tunable or a schedule; else none."""
    match = _REPLACING_OVERRIDE.match(override)
    if match and match.group(1) in list_groups():  # its options are searched, see `options`
        return []
    return [f"{_FORCE_PREFIX}{match.group(1)}=null"] if match else []
