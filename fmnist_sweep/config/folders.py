"""Where the config groups and the recipes are: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).resolve().parents[1]


def find_conf_folder() -> Path:
    """The config groups: beside the package in a checkout, inside it when installed."""
    return _find_folder("conf")


def find_experiments_folder() -> Path:
    """The recipes of the documented models."""
    return _find_folder("experiments")


def _find_folder(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def read_recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each experiment recipe by name."""
    for path in sorted(find_experiments_folder().glob("*.yaml")):
        yield path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))
