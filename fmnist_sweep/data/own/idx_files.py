"""IDX files of any size and number of labels, as MNIST, KMNIST and EMNIST have them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import MAX_IMAGES
from fmnist_sweep.data.folder import describe_folder, report_unreadable
from fmnist_sweep.data.own.parts import MAX_BYTES, RawPart, refuse_shape
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import data_source
from fmnist_sweep.reading import UNPACKING_ERRORS, RefusedFile, describe_content, open_unpacked_file, read_stream

_PART_WORDS = {"train": ("train",), "test": ("t10k", "test")}
_BYTE = 8  # the third byte of a header: what follows are bytes
_PACKED = (".gz", ".zip")
Kind = Literal["images", "labels"]


def has_test_files(folder: Path) -> bool:
    """Whether a folder has IDX files of test images; none is opened."""
    return bool(_list_files(folder, "test", "images"))


@data_source(name="idx", has_test=has_test_files)
def read_idx_files(folder: Path, part: Literal["train", "test"]) -> RawPart:
    """Read the images and labels of one part. Errors: DataError for files that are missing, several or damaged."""
    image_path, label_path = _find_file(folder, part, "images"), _find_file(folder, part, "labels")
    images = _read_values(image_path, (3, 4))
    images = images if images.ndim == 4 else images[..., None]
    labels = _read_values(label_path, (1,))
    if len(images) != len(labels):
        raise DataError(
            f"{label_path} does not belong to {image_path}: expected a label for each of the {len(images)} images, "
            f"found {len(labels)} labels; take both files from the same place."
        )
    return RawPart(images, labels.astype(np.int64))


def _list_files(folder: Path, part: str, kind: Kind) -> list[Path]:
    """The files that by their names hold this, an unpacked one before its packed twin."""
    with report_unreadable(folder):
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        path
        for path in paths
        if kind in path.name.lower()
        and any(word in path.name.lower() for word in _PART_WORDS[part])
        and ("idx" in path.name.lower() or "ubyte" in path.name.lower())
    ]


def _find_file(folder: Path, part: str, kind: Kind) -> Path:
    paths = _list_files(folder, part, kind)
    names = {path.name.removesuffix(".gz").removesuffix(".zip") for path in paths}
    if len(names) > 1:
        raise DataError(
            f"{folder} has several files of {part} {kind} ({', '.join(sorted(names)[:3])}): put the files of one set "
            "into a folder of their own."
        )
    if not paths:
        word = _PART_WORDS[part][0]
        digit = 3 if kind == "images" else 1
        raise DataError(
            f"{folder} has no IDX file of {part} {kind}: expected a name such as {word}-{kind}-idx{digit}-ubyte.gz, "
            f"found {describe_folder(folder)}; correct data.dir."
        )
    return min(paths, key=lambda path: path.suffix in _PACKED)


def _read_values(path: Path, dimensions: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of an IDX file of bytes with so many dimensions."""
    with report_unreadable(path):
        try:
            with open_unpacked_file(path) as file:
                return _parse(path, file, dimensions)
        except UNPACKING_ERRORS as error:
            raise DataError(
                f"{path} is damaged: expected a whole gzip or zip file, found that it cannot be unpacked ({error}); "
                "download it again."
            ) from error


def _parse(path: Path, file: IO[bytes], dimensions: tuple[int, ...]) -> NDArray[np.uint8]:
    head = file.read(4)
    if len(head) < 4 or head[:3] != bytes((0, 0, _BYTE)) or head[3] not in dimensions:
        found = describe_content(head) or (f"first bytes {head.hex()}" if head else "an empty file")
        raise DataError(
            f"{path} is no IDX file of bytes with {' or '.join(map(str, dimensions))} dimensions: found {found}; check "
            "that the files are not swapped."
        )
    sizes = file.read(4 * head[3])
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    if len(shape) < head[3] or shape[0] > MAX_IMAGES or math.prod(shape) > MAX_BYTES:
        raise DataError(f"{path} announces {shape}: expected at most {MAX_IMAGES:,} images and {MAX_BYTES:,} bytes.")
    if len(shape) > 1:
        refuse_shape(str(path), (*shape[1:], 1) if len(shape) == 3 else shape[1:])
    expected = math.prod(shape)
    try:
        values = read_stream(file, expected)
    except RefusedFile:
        values = b""
    if len(values) != expected:
        raise DataError(
            f"{path} is not as long as its header says: expected {expected:,} bytes after it, found "
            f"{len(values) or 'more'}; download it again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
