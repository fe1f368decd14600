"""The write-ups that this project started from: what each states, concludes and leaves open, read from YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fmnist_sweep.config.folders import find_experiments_folder
from fmnist_sweep.errors import ConfigError

SEEDS = "1,2,3"


@dataclass(frozen=True)
class StatedFigure:
    """A figure as a write-up states it: its digits, with a > before them where the write-up says "above"."""

    text: str

    @property
    def is_lower_bound(self) -> bool:
        return self.text.startswith(">")

    @property
    def value(self) -> float:
        return float(self.text.lstrip("> "))

    @property
    def half_unit(self) -> float:
        """Half a unit of the last digit, the most by which it may have been rounded."""
        return float(0.5 * 10.0 ** -len(self.text.partition(".")[2]))


@dataclass(frozen=True)
class Omission:
    """Something that a write-up does not say. keys: of the settings that fill it; why: the reason for their values."""

    what: str
    keys: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class WriteUp:
    """One write-up.

    name: of its file. figures: of each recipe, by kind, in order. A figure is of the last epoch (loss, accuracy,
    val_loss, val_accuracy, epochs) or `unlabelled`: an accuracy of which the write-up does not say on which images.
    conclusions: each with a `claim`, the `check` that judges it (see rules.py) and that check's arguments.
    """

    name: str
    title: str
    about: str
    figures: Mapping[str, Mapping[str, StatedFigure]]
    conclusions: Sequence[Mapping[str, Any]]
    omissions: Sequence[Omission]
    remarks: Sequence[str]

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]


def read_write_ups(names: Sequence[str] = ()) -> list[WriteUp]:
    """Read the write-ups with these names or numbers, in order; all where none is named. Errors: ConfigError."""
    paths = {path.stem: path for path in sorted((find_experiments_folder() / "documented").glob("*.yaml"))}
    for name in names:
        if not any(name in (stem, stem.partition("_")[0]) for stem in paths):
            raise ConfigError(f"{name}: no such write-up; allowed: {', '.join(paths)}, or their numbers.")
    stems = [stem for stem in paths if not names or stem in names or stem.partition("_")[0] in names]
    return [_read_write_up(paths[stem]) for stem in stems]


def _read_write_up(path: Path) -> WriteUp:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    figures_by_recipe = {
        recipe: {kind: StatedFigure(text) for kind, text in figures.items()}
        for recipe, figures in content["recipes"].items()
    }
    omissions = [Omission(entry["what"], tuple(entry["keys"]), entry["why"]) for entry in content["left_open"]]
    return WriteUp(
        path.stem,
        content["title"],
        content["about"],
        figures_by_recipe,
        content["conclusions"],
        omissions,
        content["remarks"],
    )
