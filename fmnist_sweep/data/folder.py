"""The folder of data that a user names: which of its files is read, and what it holds instead of what was expected."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fmnist_sweep.errors import DataError
from fmnist_sweep.masking import mask_address
from fmnist_sweep.text import echo, quote_text

_Content = TypeVar("_Content")
_LISTED = 8  # names in a message
# What each source calls its training files, in part and in lower case, and what these are called in a message.
_FILES_OF_SOURCE = {"fashion_mnist": ("-ubyte", "IDX files"), "kaggle_csv": (".csv", "CSV files, as Kaggle's are")}


def resolve_folder(folder: str) -> Path:
    """The folder a user named, absolute and with ~ expanded.

    Errors: DataError for the ~ of an unknown user, and for an address, which as a path would lose its form, so that
    nothing would mask its password.
    """
    if "://" in folder:
        raise DataError(
            f"data.dir={quote_text(mask_address(folder), 200)}: expected a folder of this machine, found an address; "
            "download its files into a folder, and name that."
        )
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError:
        raise DataError(
            f"data.dir={quote_text(folder)}: there is no user of that name here; give the folder's whole path."
        ) from None


def read_first_whole(folder: Path, names: Sequence[str], read: Callable[[Path], _Content]) -> _Content | None:
    """What `read` makes of the first whole file of these names; None if there is no such file.

    A damaged file before a whole one is warned about. Errors: DataError where all are damaged: that of the first.
    """
    errors: list[DataError] = []
    for path in _list_present(folder, names):
        try:
            content = read(path)
        except DataError as error:
            errors.append(error)
            continue
        for damage in errors:
            echo(f"{path} is used instead of a damaged file beside it: {damage}", err=True)
        return content
    if errors:
        raise errors[0]
    return None


def _list_present(folder: Path, names: Sequence[str]) -> list[Path]:
    with report_unreadable(folder):
        return [folder / name for name in names if (folder / name).exists()]


def refuse_folder_of_another_source(folder: Path, source: str) -> None:
    """Raise DataError if a folder has no file of this source but has files of another; none of them is opened."""
    with report_unreadable(folder):
        names = [path.name.lower() for path in _list_first(folder)] if folder.is_dir() else []
    present = [each for each, (mark, _) in _FILES_OF_SOURCE.items() if any(mark in name for name in names)]
    if present and source not in present:
        raise DataError(
            f"{folder} holds {_FILES_OF_SOURCE[present[0]][1]}, and data={source} reads {_FILES_OF_SOURCE[source][1]}: "
            f"add data={present[0]}, or correct data.dir (or FMNIST_DATA_DIR)."
        )


def holds_other_source_only(folder: Path, source: str) -> bool:
    """Whether a folder has files of other sources and none of this one; none of them is opened."""
    try:
        refuse_folder_of_another_source(folder, source)
    except DataError:
        return True
    return False


def describe_folder(folder: Path) -> str:
    """What is at the place of a folder that lacks an expected file, in words."""
    with report_unreadable(folder):
        if not folder.is_dir():
            return "a file in place of the folder" if folder.exists() else "no such folder"
        names = [quote_text(path.name) for path in _list_first(folder)]
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "") if names else "an empty folder"


def _list_first(folder: Path) -> list[Path]:
    """The first of a folder's files by name: a folder may hold millions."""
    return heapq.nsmallest(100, folder.iterdir())


@contextmanager
def report_unreadable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file or folder that cannot be read into one sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{quote_text(path, 200)} cannot be read ({error.strerror or error}): expected files of "
            "Fashion-MNIST; correct its permissions, or data.dir (or FMNIST_DATA_DIR)."
        ) from error
