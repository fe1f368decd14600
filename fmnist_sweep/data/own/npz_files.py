"""An .npz file of images and labels, under the names that Keras' data sets, MedMNIST and others use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import MAX_IMAGES
from fmnist_sweep.data.folder import describe_folder, report_unreadable
from fmnist_sweep.data.own.parts import MAX_BYTES, RawPart, Values, refuse_shape
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import data_source
from fmnist_sweep.reading import list_arrays, load_arrays, read_file
from fmnist_sweep.text import quote_text

_NAMES = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"), ("images", "labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


def find_npz_file(path: Path) -> Path:
    """The .npz file that is named, or the only one in a folder. Errors: DataError."""
    with report_unreadable(path):
        if not path.is_dir():
            if path.is_file():
                return path
            raise DataError(f"{path} does not exist: expected an .npz file, or a folder with one; correct data.dir.")
        files = sorted(each for each in path.iterdir() if each.suffix == ".npz")
    if len(files) != 1:
        found = f"{len(files)} of them" if files else describe_folder(path)
        raise DataError(f"{path} holds not one .npz file: found {found}; name the file as data.dir.")
    return files[0]


def has_test_arrays(path: Path) -> bool:
    """Whether a file has arrays of test images; none is read."""
    return _choose_names(find_npz_file(path), "test") is not None


@data_source(name="npz", has_test=has_test_arrays)
def read_npz_file(path: Path, part: Literal["train", "test"]) -> RawPart:
    """Read the images and labels of one part. Errors: DataError for arrays that are missing, or none of images."""
    file = find_npz_file(path)
    names = _choose_names(file, part)
    if names is None:
        pairs = " or ".join(" and ".join(pair) for pair in _NAMES[part])
        raise DataError(
            f"{file} has no images and labels to learn from: expected the arrays {pairs}, found "
            f"{quote_text(', '.join(_list_names(file)), 120) or 'none'}."
        )
    try:
        arrays = load_arrays(_read(file), MAX_BYTES, names)
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {quote_text(error, 200)}.") from None
    return RawPart(_check_images(file, names[0], arrays[names[0]]), _check_values(file, names, arrays))


def _read(file: Path) -> bytes:
    with report_unreadable(file):
        return read_file(file, MAX_BYTES)


def _list_names(file: Path) -> list[str]:
    try:
        return list_arrays(_read(file))
    except ValueError as error:
        raise DataError(f"{file} is no .npz file of NumPy: {quote_text(error, 200)}.") from None


def _choose_names(file: Path, part: Literal["train", "test"]) -> tuple[str, str] | None:
    present = _list_names(file)
    return next((pair for pair in _NAMES[part] if set(pair) <= set(present)), None)


def _check_images(file: Path, name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    if images.dtype.kind not in "iu" or images.ndim not in (3, 4) or not len(images):
        raise DataError(
            f"{file}: {name} has the type {images.dtype} and the shape {images.shape}: expected whole numbers from 0 "
            "to 255 of the shape (images, height, width) or (images, height, width, channels)."
        )
    images = images if images.ndim == 4 else images[..., None]
    refuse_shape(f"{file}: {name}", images.shape[1:])
    if len(images) > MAX_IMAGES or images.min() < 0 or images.max() > 255:
        raise DataError(
            f"{file}: {name} has {len(images):,} images with values from {images.min()} to {images.max()}: expected at "
            f"most {MAX_IMAGES:,}, from 0 to 255."
        )
    return np.asarray(images, np.uint8)


def _check_values(file: Path, names: tuple[str, str], arrays: dict[str, NDArray[Any]]) -> Values:
    images, values = arrays[names[0]], arrays[names[1]]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (len(images),) or values.dtype.kind not in "iuU":
        raise DataError(
            f"{file}: {names[1]} has the type {values.dtype} and the shape {values.shape}: expected a whole number or "
            f"a name for each of the {len(images)} images."
        )
    return np.asarray(values, np.str_) if values.dtype.kind == "U" else np.asarray(values, np.int64)
