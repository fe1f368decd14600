"""Options that several verbs of fmnist-sweep have, and the checks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.tracking.names import DEFAULT_EXPERIMENT

URI = click.option("--uri", default=None, help="The store. Default: mlruns/mlflow.db below the working directory.")
EXPERIMENT = click.option("--experiment", default=DEFAULT_EXPERIMENT, show_default=True, help="The store's experiment.")


def _check_folder(_context: click.Context, _option: click.Parameter, folder: str | None) -> str | None:
    """The folder of --data-dir. Raises ConfigError for an empty one, as of a variable that is unset."""
    if folder == "":
        raise ConfigError("--data-dir: the folder is missing; write --data-dir FOLDER, or leave the option out.")
    return folder


PLUGINS = click.option(
    "--plugins",
    multiple=True,
    metavar="FILE.py",
    help="Own code that the model or its images need. May be given several times.",
)
DATA_DIR = click.option(
    "--data-dir",
    default=None,
    callback=_check_folder,
    help="Folder of the images. Default: FMNIST_DATA_DIR, or where the trial's own were read.",
)
# For verbs that take overrides of data, whose data.dir reads FMNIST_DATA_DIR: add_data_dir makes one of it.
DATA_DIR_OVERRIDE = click.option(
    "--data-dir", default=None, callback=_check_folder, help="Folder of the data files. Default: FMNIST_DATA_DIR."
)


def refuse_together(**ids: str | None) -> None:
    """Raise ConfigError if more than one of these options is given."""
    if sum(value is not None for value in ids.values()) > 1:
        *others, last = [f"--{name}" for name in ids]
        raise ConfigError(f"{', '.join(others)} and {last} exclude each other: give one of them, or none.")


def refuse_replaced(overrides: Iterable[str], options: Mapping[str, str]) -> None:
    """Raise ConfigError if an override sets a key that an option of the verb is for; options: by key."""
    for override in overrides:
        option = options.get(parse_override_key(override))
        if option is not None:
            raise ConfigError(f"{override}: use {option} instead.")


def add_data_dir(overrides: Iterable[str], data_dir: str | None) -> list[str]:
    """The overrides, and the one that --data-dir stands for. Raises ConfigError if both name a folder."""
    if data_dir is None:
        return list(overrides)
    overrides = list(overrides)
    refuse_replaced(overrides, {"data.dir": "--data-dir"})
    return [*overrides, f"data.dir={data_dir}"]


def check_new_file(option: str, path: Path | None, *, force: bool | None = None) -> None:
    """Raise ConfigError if a file to write exists already. force: whether it may be replaced; None: it never may."""
    if path is not None and path.exists() and not force:
        hint = "" if force is None else ", or say --force"
        raise ConfigError(f"{option}={path}: there is a file already; name a new one{hint}.")


def check_new_picture(path: Path | None, *, force: bool | None = None) -> None:
    """Raise ConfigError unless the path of --picture is one for a new PNG file."""
    if path is not None and (path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"--picture={path}: expected a name that ends in .png, in a folder that exists.")
    check_new_file("--picture", path, force=force)
