"""From a data config to the images of one part: which source, from which place, and what stands in for it."""

from __future__ import annotations

from fmnist_sweep.data.data_config import DataConfig, OwnDataConfig
from fmnist_sweep.data.description import FASHION_MNIST, DataDescription
from fmnist_sweep.data.fashion_mnist_sources import UnavailableError
from fmnist_sweep.data.folder import resolve_folder
from fmnist_sweep.data.idx import Part
from fmnist_sweep.data.own.reading import read_own_test, read_own_train
from fmnist_sweep.data.registered_sources import read_registered_part
from fmnist_sweep.data.splits import ImageTable, Origin


def read_train(data: DataConfig) -> tuple[ImageTable, Origin, DataDescription]:
    """All training images of the source, or of what stands in for it, and what they are; no test file is opened.

    Errors: DataError where files the user named are missing or damaged (never a fallback), or where the
    source cannot be had and `data.fallback` is null.
    """
    if isinstance(data, OwnDataConfig):
        return read_own_train(data)
    try:
        return *_read_part(data, "train", data.source), FASHION_MNIST
    except UnavailableError as error:
        if data.fallback is None:
            raise
        return *_read_part(data, "train", data.fallback, str(error)), FASHION_MNIST


def reread_train(data: DataConfig, origin: Origin) -> ImageTable:
    """The training images that `read_train` found, without another try for what was missing then."""
    if isinstance(data, OwnDataConfig):
        return read_train(data)[0]
    return _read_part(data, "train", origin.source)[0]


def read_test(data: DataConfig, origin: Origin, description: DataDescription) -> ImageTable:
    """All test images, from the same source as the training images turned out to be.

    description: of the training images.

    Errors: DataError where they cannot be had; drawn test images never join real training images.
    """
    if isinstance(data, OwnDataConfig):
        return read_own_test(data, description)
    return _read_part(data, "test", origin.source)[0]


def _read_part(
    data: DataConfig, part: Part, source: str, fallback_reason: str | None = None
) -> tuple[ImageTable, Origin]:
    """One part of Fashion-MNIST from this source, or of what stands in for it."""
    path = None if data.dir is None or source == "drawn" else resolve_folder(data.dir)
    raw = read_registered_part(data, path, part, source=source)
    table = ImageTable(raw.images, raw.values.astype("int64", copy=False))
    return table, Origin(source, raw.location, raw.canonical, fallback_reason)
