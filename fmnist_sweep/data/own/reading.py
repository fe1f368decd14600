"""From a config of own images to numbered labels: which part of the source, cut where it has no test part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import FolderDataConfig, OwnDataConfig
from fmnist_sweep.data.description import DataDescription, find_label_problem
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.data.own import idx_files, npz_files, picture_folders, plugin_sources
from fmnist_sweep.data.own.parts import RawPart, Values, choose_test_mask
from fmnist_sweep.data.splits import ImageTable, Origin, hash_images
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import DATA_SOURCES
from fmnist_sweep.reading import read_file
from fmnist_sweep.text import echo, quote_text

Part = Literal["train", "test"]
_MAX_PICTURE_BYTES = 256 * 2**20


def read_own_train(data: OwnDataConfig) -> tuple[ImageTable, Origin, DataDescription]:
    """All training images, and what they are. No test file is opened; of a test part that is cut, none is decoded.

    Errors: DataError where files are missing or damaged, or their labels are none to learn.
    """
    folder = _locate(data)
    raw = _read_part(data, folder, "train")
    numbers, names = _number_labels(data, folder, raw.values)
    height, width, channels = raw.images.shape[1:]
    description = DataDescription(str(data.name), (height, width, channels), names)
    return ImageTable(raw.images, numbers), Origin(data.source, str(folder), False, None), description


def read_own_test(data: OwnDataConfig, description: DataDescription) -> ImageTable:
    """All test images. description: of the training images, which they have to fit. Errors: DataError."""
    folder = _locate(data)
    raw = _read_part(data, folder, "test", description)
    if raw.images.shape[1:] != description.image_shape:
        raise DataError(
            f"the test images of {folder} have the shape {_format_shape(raw.images.shape[1:])} and the training images "
            f"{_format_shape(description.image_shape)}: expected the same."
        )
    values = raw.values
    if data.labels is not None and values.dtype.kind != "U":  # the numbers in the order of the names
        names_of_numbers = dict(zip(_list_train_numbers(data, folder), description.labels, strict=True))
    else:
        names_of_numbers = {value: str(value) for value in np.unique(values).tolist()}
    places = {name: place for place, name in enumerate(description.labels)}
    numbers = np.empty(len(values), np.int64)
    for value in np.unique(values).tolist():
        name = names_of_numbers.get(value)
        if name not in places:
            raise DataError(
                f"the test images of {folder} have the label {quote_text(value)}, which no training image has: remove "
                "them or give training images of it."
            )
        numbers[values == value] = places[name]
    return ImageTable(raw.images, numbers)


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _locate(data: OwnDataConfig) -> Path:
    if data.dir is None:
        raise DataError(f"data={data.source} needs the folder of the images: add data.dir=FOLDER.")
    return resolve_folder(data.dir)


_PartReader = Callable[[Path, Part], RawPart]


def _read_part(data: OwnDataConfig, folder: Path, part: Part, train: DataDescription | None = None) -> RawPart:
    """One part of a source. train: what its training images are, which pictures of the test part are made like."""
    if isinstance(data, FolderDataConfig):
        return _read_pictures(data, folder, part, train)
    read: _PartReader
    if data.source in DATA_SOURCES:
        has_test, read = (
            plugin_sources.has_test_part(data.source),
            partial(plugin_sources.read_plugin_part, data.source),
        )
    elif data.source == "idx":
        has_test, read = idx_files.has_test_files(folder), idx_files.read_idx_files
    else:
        has_test, read = npz_files.has_test_arrays(folder), npz_files.read_npz_file
    if has_test:
        return read(folder, part)
    everything = read(folder, "train")
    is_test = choose_test_mask(hash_images(everything.images), everything.values, data.test, data.test_seed)
    wanted = is_test if part == "test" else ~is_test
    _refuse_nothing(folder, part, wanted)
    return RawPart(everything.images[wanted], everything.values[wanted])


def _read_pictures(data: FolderDataConfig, folder: Path, part: Part, train: DataDescription | None) -> RawPart:
    pictures = picture_folders.list_pictures(folder, part)
    if not picture_folders.has_test_folder(folder):
        is_test = _choose_test_pictures(pictures, data.test, data.test_seed)
        wanted = is_test if part == "test" else ~is_test
        _refuse_nothing(folder, part, wanted)
        pictures = [picture for picture, takes in zip(pictures, wanted, strict=True) if takes]
    size, channels = (data.size, data.channels) if train is None else (train.image_shape[:2], train.image_shape[2])
    raw, note = picture_folders.read_pictures(pictures, size, channels)
    if note is not None:
        echo(f"{folder}: {note}", err=True)
    return raw


def _choose_test_pictures(
    pictures: Sequence[picture_folders.PictureFile], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which pictures are sealed, by the bytes of their files: none of them is decoded."""
    keys = [_hash_file(picture.path) for picture in pictures]
    return choose_test_mask(keys, np.array([picture.label for picture in pictures]), share, seed)


def _hash_file(path: Path) -> bytes:
    try:
        return hashlib.blake2b(read_file(path, _MAX_PICTURE_BYTES), digest_size=16).digest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): mend or remove it.") from None


def _refuse_nothing(folder: Path, part: Part, mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        raise DataError(f"{folder} has too few images to cut a {part} part of them: give more, or another data.test.")


def _number_labels(data: OwnDataConfig, folder: Path, values: Values) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers from 0, and their names in this order. Errors: DataError."""
    distinct = np.unique(values)
    names = tuple(map(str, distinct.tolist()))
    if len(names) < 2:
        raise DataError(
            f"{folder} has images of one label only ({quote_text(names[0])}): expected at least two to tell apart."
        )
    if data.labels is not None and len(data.labels) != len(names):
        raise DataError(
            f"data.labels names {len(data.labels)} labels, and the images of {folder} have {len(names)} "
            f"({quote_text(', '.join(names), 100)}): give a name for each, in this order."
        )
    problem = find_label_problem(names)
    if data.labels is None:
        if problem is not None:
            raise DataError(f"the labels of {folder} cannot be used: {problem}; rename them, or give data.labels.")
        return np.searchsorted(distinct, values).astype(np.int64), names
    if distinct.dtype.kind != "U":
        return np.searchsorted(distinct, values).astype(np.int64), data.labels
    if set(data.labels) != set(names):
        raise DataError(
            f"data.labels ({quote_text(', '.join(data.labels), 100)}) are others than those of {folder} "
            f"({quote_text(', '.join(names), 100)}): give the same names in the order that you want."
        )
    places = {name: place for place, name in enumerate(data.labels)}
    return np.array([places[name] for name in values.tolist()], np.int64), data.labels


def _list_train_numbers(data: OwnDataConfig, folder: Path) -> list[int]:
    """The different numbers of the training images' labels, in order."""
    return [int(value) for value in np.unique(_read_part(data, folder, "train").values)]
