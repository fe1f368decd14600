"""From a config of own images to numbered labels: which part of the source, cut where it has no test part."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import OwnDataConfig
from fmnist_sweep.data.description import DataDescription, find_label_problem
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.data.own import idx_files, npz_files, picture_folders  # noqa: F401 - they register their sources
from fmnist_sweep.data.own.parts import RawPart, Values, choose_test_mask
from fmnist_sweep.data.registered_sources import chooses_itself, has_test_part, read_registered_part
from fmnist_sweep.data.splits import ImageTable, Origin, hash_images
from fmnist_sweep.errors import DataError
from fmnist_sweep.text import quote_text

Part = Literal["train", "test"]


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


def _read_part(data: OwnDataConfig, folder: Path, part: Part, train: DataDescription | None = None) -> RawPart:
    """One part of a source. train: what its training images are, which pictures of the test part are made like."""
    read = partial(read_registered_part, data, folder, image_shape=None if train is None else train.image_shape)
    if has_test_part(data.source, folder):
        return read(part)
    choose = partial(_choose_part, data, folder, part)
    if chooses_itself(data.source):
        return read(part, choose=choose)
    everything = read("train")
    wanted = choose(hash_images(everything.images), everything.values)
    return RawPart(everything.images[wanted], everything.values[wanted])


def _choose_part(data: OwnDataConfig, folder: Path, part: Part, keys: list[bytes], values: Values) -> NDArray[np.bool_]:
    """Mask of the images of one part of a source that has no test part. keys: what each image is known by."""
    is_test = choose_test_mask(keys, values, data.test, data.test_seed)
    wanted = is_test if part == "test" else ~is_test
    _refuse_nothing(folder, part, wanted)
    return wanted


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
