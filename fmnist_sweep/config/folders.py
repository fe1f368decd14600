"""Where the config groups and the recipes are: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_folder() -> Path:
    """The config groups: beside the package in a checkout, inside it when installed."""
    return _folder("conf")


def experiments_folder() -> Path:
    """The recipes of the documented models."""
    return _folder("experiments")


def _folder(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each experiment recipe by name."""
    for path in sorted(experiments_folder().glob("*.yaml")):
        yield path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))
