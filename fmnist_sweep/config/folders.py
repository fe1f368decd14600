"""Where the config groups and the recipes are: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[1]


def find_conf_folder() -> Path:
    """The folder of the config groups."""
    return _find_folder("conf")


def find_experiments_folder() -> Path:
    """The folder of the recipes."""
    return _find_folder("experiments")


def _find_folder(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def list_groups() -> list[str]:
    """The config groups, that of the recipes included."""
    groups = (path.name for path in find_conf_folder().iterdir() if path.is_dir() and path.name != "hydra")
    return [*sorted(groups), "experiment"]


def has_file(path: Path) -> bool:
    """Whether a file exists; never where its name is too long for one."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_recipes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each recipe's name and content."""
    for path in sorted(find_experiments_folder().glob("*.yaml")):
        yield path.stem, deepcopy(_parse_yaml(path.read_text(encoding="utf-8")))


def read_option(path: Path) -> Any:
    """What one option of a config group sets, by section of the config."""
    text = path.read_text(encoding="utf-8")
    content = deepcopy(_parse_yaml(text))
    return content if "@package _global_" in text else {path.parent.name: content}


@lru_cache(maxsize=256)  # more than there are files; they are asked for with each config that is composed
def _parse_yaml(text: str) -> Any:
    import yaml  # late: whoever only asks for folders does without

    return yaml.safe_load(text)
