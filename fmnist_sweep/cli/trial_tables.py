"""The options of `compare` that concern tables of trials: --where, --sort, --columns and --export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.analysis.table import Condition, TableError, filter_rows, parse_condition
from fmnist_sweep.analysis.table_encoding import TABLE_ENDINGS, encode_table
from fmnist_sweep.cli.options import check_new_file
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.files import write_file_atomically

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def name_option(option: str) -> Iterator[None]:
    """Raise a TableError of the block as a ConfigError that names the option it came from, as the user typed it."""
    try:
        yield
    except TableError as error:
        raise ConfigError(f"{option}: {error}") from None


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """The conditions of --where. Raises ConfigError for one that cannot be read."""
    conditions = []
    for text in texts:
        with name_option(f"--where {text!r}"):
            conditions.append(parse_condition(text))
    return conditions


def filter_by_conditions(frame: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows that meet all conditions. Raises ConfigError for one that does not fit the table."""
    for condition in conditions:
        with name_option(f"--where {condition}"):
            frame = filter_rows(frame, condition)
    return frame


def export_table(frame: pd.DataFrame, path: Path, *, force: bool) -> None:
    """Write a table to the file of --export: .csv, .json (a list of rows) or .parquet, as its ending says.

    An existing file is replaced only with `force`; the new one is there whole or not at all. Raises ConfigError if it
    cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in TABLE_ENDINGS:
        raise ConfigError(f"--export={path}: expected a name that ends in {', '.join(TABLE_ENDINGS)}.")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--export={path}: expected a file in a folder that exists.")
    check_new_file("--export", path, force=force)
    try:
        write_file_atomically(path, encode_table(frame, ending))
    except OSError as error:
        raise ConfigError(f"--export={path}: cannot be written ({error.strerror}).") from None
