"""Dotted keys, such as `model.filters`, of nested mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MISSING = object()


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested config by dotted key; lists stay whole."""
    flat_values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat_values.update(flatten_config(value, f"{prefix}{key}."))
        else:
            flat_values[f"{prefix}{key}"] = value
    return flat_values


def find_value(config: Any, key: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default` if there is none."""
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return default
        config = config[part]
    return config


def has_key(config: Any, key: str) -> bool:
    """Whether a value, None included, stands at a dotted key."""
    return find_value(config, key, _MISSING) is not _MISSING
