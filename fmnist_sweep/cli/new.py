"""The verb `new`: write a small project with a plugin, its config and a test."""

from __future__ import annotations

import shlex
from importlib.resources import as_file, files
from pathlib import Path

import click

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import echo, quote_text

_SWEEP = "python -m fmnist_sweep --config-dir conf plugins=my_models.py model=separable"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Write a project of one's own into FOLDER: a plugin with a model, its config, a test, and the commands."""
    write_project(folder)
    echo(f"{folder}: my_models.py (a model with a layer of its own), conf/ (its settings), a test, README.md; try:")
    for line in (
        f"cd {shlex.quote(str(folder))}",
        f"{_SWEEP} data.limit=5000 search.max_trials=2 train.epochs=1",
        f"{_SWEEP} plan=true",
    ):
        echo(f"  {line}")


def write_project(folder: Path) -> None:
    """Write the files of the template. Raises ConfigError if the folder holds anything, or cannot be written.

    The folder is made; the one that it is in must be there.
    """
    shown = quote_text(folder, 200)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{shown}: there is something already; name a folder that is new or empty.")
        folder.mkdir(exist_ok=True)
        with as_file(files("fmnist_sweep") / "assets" / "project") as template:
            for source in sorted(template.rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    target = folder / source.relative_to(template)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read_bytes())
    except OSError as error:
        raise ConfigError(f"{shown}: it cannot be written ({error.strerror or error}); name another.") from None
