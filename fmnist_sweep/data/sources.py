"""From a data config to the images of one part: which source, from which place, and what stands in for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmnist_sweep.data import download, drawn, idx, kaggle_csv
from fmnist_sweep.data.data_config import DataConfig, OwnDataConfig
from fmnist_sweep.data.description import FASHION_MNIST, DataDescription
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.data.idx import Part
from fmnist_sweep.data.splits import ImageTable, Origin
from fmnist_sweep.errors import DataError

# A drawn test set has this fraction of the training images, as in Fashion-MNIST.
TRAIN_PER_TEST = 6


class UnavailableError(DataError):
    """Fashion-MNIST cannot be had on this machine, through no damage of files the user named."""


def read_train(data: DataConfig) -> tuple[ImageTable, Origin, DataDescription]:
    """All training images of the source, or of what stands in for it, and what they are; no test file is opened.

    Errors: DataError where files the user named are missing or damaged (never a fallback), or where the
    source cannot be had and `data.fallback` is null.
    """
    if isinstance(data, OwnDataConfig):
        from fmnist_sweep.data.own.reading import read_own_train

        return read_own_train(data)
    if data.source == "drawn":
        return _draw_table(data, "train"), _make_drawn_origin(data, None), FASHION_MNIST
    try:
        return *_read_part(data, "train"), FASHION_MNIST
    except UnavailableError as error:
        if data.fallback is None:
            raise
        return _draw_table(data, "train"), _make_drawn_origin(data, str(error)), FASHION_MNIST


def reread_train(data: DataConfig, origin: Origin) -> ImageTable:
    """The training images that `read_train` found, without another try for what was missing then."""
    if isinstance(data, OwnDataConfig):
        return read_train(data)[0]
    return _read_from_origin(data, "train", origin)


def read_test(data: DataConfig, origin: Origin, description: DataDescription) -> ImageTable:
    """All test images, from the same source as the training images turned out to be.

    description: of the training images.

    Errors: DataError where they cannot be had; drawn test images never join real training images.
    """
    if isinstance(data, OwnDataConfig):
        from fmnist_sweep.data.own.reading import read_own_test

        return read_own_test(data, description)
    return _read_from_origin(data, "test", origin)


def _read_from_origin(data: DataConfig, part: Part, origin: Origin) -> ImageTable:
    if origin.is_drawn:
        return _draw_table(data, part)
    return _read_part(data, part)[0]


def _read_part(data: DataConfig, part: Part) -> tuple[ImageTable, Origin]:
    return _read_fashion_mnist(data, part) if data.source == "fashion_mnist" else _read_kaggle_csv(data, part)


def _read_fashion_mnist(data: DataConfig, part: Part) -> tuple[ImageTable, Origin]:
    folder = download.get_cache_folder() if data.dir is None else resolve_folder(data.dir)
    if data.dir is None and not download.is_cached(part):
        _fetch_idx(data, part)
    files = idx.read_idx_part(folder, part)
    return files.table, Origin("fashion_mnist", str(folder), files.canonical, None)


def _fetch_idx(data: DataConfig, part: Part) -> None:
    if not data.download:
        raise UnavailableError(
            f"{download.get_cache_folder()} does not have the Fashion-MNIST {part} files whole, data.dir names "
            "no other folder and data.download is false; set data.dir (or FMNIST_DATA_DIR) to a folder "
            "with the four IDX files, or data.download=true where there is internet."
        )
    try:
        download.download_part(part)
    except DataError as error:
        raise UnavailableError(str(error)) from error


def _read_kaggle_csv(data: DataConfig, part: Part) -> tuple[ImageTable, Origin]:
    folder = _fetch_csv(data) if data.dir is None else resolve_folder(data.dir)
    table = kaggle_csv.read_csv_part(folder, part)
    # `canonical` is said of the training file, the only one an origin is made for.
    canonical = part == "train" and kaggle_csv.is_canonical_table(table, part)
    return table, Origin("kaggle_csv", str(folder), canonical, None)


def _fetch_csv(data: DataConfig) -> Path:
    if not data.download:
        raise UnavailableError(
            "data.dir names no folder with Kaggle's Fashion-MNIST CSV files and data.download is false: "
            f"{kaggle_csv.HOW_TO_GET}."
        )
    try:
        return kaggle_csv.download_csv_files()
    except DataError as error:
        raise UnavailableError(str(error)) from error


def _draw_table(data: DataConfig, part: Part) -> ImageTable:
    count = data.images if part == "train" else data.images // TRAIN_PER_TEST
    images, labels = drawn.draw_images(count, data.drawn_seed, stream=part)
    return ImageTable(images, labels.astype(np.int64))


def _make_drawn_origin(data: DataConfig, reason: str | None) -> Origin:
    location = f"drawn by fmnist_sweep, seed {data.drawn_seed}, version {drawn.VERSION}"
    return Origin("drawn", location, canonical=False, fallback_reason=reason)
