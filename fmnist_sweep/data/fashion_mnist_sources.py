"""The sources of Fashion-MNIST, and the drawn images that stand in for it, as they are registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmnist_sweep.data import download, drawn, idx, kaggle_csv
from fmnist_sweep.data.idx import Part
from fmnist_sweep.data.own.parts import RawPart
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import data_source

# A drawn test set has this fraction of the training images, as in Fashion-MNIST.
TRAIN_PER_TEST = 6


class UnavailableError(DataError):
    """Fashion-MNIST cannot be had on this machine, through no damage of files the user named."""


@data_source(name="fashion_mnist")
def read_fashion_mnist(path: Path | None, part: Part, *, may_download: bool) -> RawPart:
    """Read the IDX files of a folder; without one those of the Keras cache, which are downloaded if that is allowed."""
    folder = download.get_cache_folder() if path is None else path
    if path is None and not download.is_cached(part):
        _fetch_idx(part, may_download)
    files = idx.read_idx_part(folder, part)
    return RawPart(files.table.images, files.table.labels, files.canonical, str(folder))


def _fetch_idx(part: Part, may_download: bool) -> None:
    if not may_download:
        raise UnavailableError(
            f"{download.get_cache_folder()} does not have the Fashion-MNIST {part} files whole, data.dir names "
            "no other folder and data.download is false; set data.dir (or FMNIST_DATA_DIR) to a folder "
            "with the four IDX files, or data.download=true where there is internet."
        )
    try:
        download.download_part(part)
    except DataError as error:
        raise UnavailableError(str(error)) from error


@data_source(name="kaggle_csv")
def read_kaggle_csv(path: Path | None, part: Part, *, may_download: bool) -> RawPart:
    """Read Kaggle's CSV files of a folder; without one they are fetched through kagglehub if that is allowed."""
    folder = _fetch_csv(may_download) if path is None else path
    table = kaggle_csv.read_csv_part(folder, part)
    # `canonical` is said of the training file, the only one an origin is made for.
    canonical = part == "train" and kaggle_csv.is_canonical_table(table, part)
    return RawPart(table.images, table.labels, canonical, str(folder))


def _fetch_csv(may_download: bool) -> Path:
    if not may_download:
        raise UnavailableError(
            "data.dir names no folder with Kaggle's Fashion-MNIST CSV files and data.download is false: "
            f"{kaggle_csv.HOW_TO_GET}."
        )
    try:
        return kaggle_csv.download_csv_files()
    except DataError as error:
        raise UnavailableError(str(error)) from error


@data_source(name="drawn")
def read_drawn(path: Path | None, part: Part, *, drawn_count: int, drawn_seed: int) -> RawPart:
    """Draw `drawn_count` training images, or the test images that belong to them; the path does not matter."""
    del path
    count = drawn_count if part == "train" else drawn_count // TRAIN_PER_TEST
    images, labels = drawn.draw_images(count, drawn_seed, stream=part)
    location = f"drawn by fmnist_sweep, seed {drawn_seed}, version {drawn.VERSION}"
    return RawPart(images, labels.astype(np.int64), location=location)
