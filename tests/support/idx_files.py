"""Small IDX files: written well-formed, and the one sentence that says what is wrong with them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.errors import DataError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def encode_images(images: NDArray[np.uint8], side: int = 28) -> bytes:
    """An IDX file of images, whose header says this side."""
    header = b"".join(number.to_bytes(4, "big") for number in (2051, len(images), side, side))
    return header + images.tobytes()


def encode_labels(labels: NDArray[np.int64]) -> bytes:
    """An IDX file of labels."""
    return (2049).to_bytes(4, "big") + len(labels).to_bytes(4, "big") + labels.astype(np.uint8).tobytes()


def write_file(path: Path, content: bytes) -> None:
    """Write a file, compressed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def replace_files(
    folder: Path, name: str, images: NDArray[np.uint8], labels_name: str, labels: NDArray[np.int64]
) -> None:
    """Put other images and labels in the place of a folder's."""
    write_file(folder / f"{name}.gz", encode_images(images))
    write_file(folder / f"{labels_name}.gz", encode_labels(labels))


def assert_one_sentence(error: pytest.ExceptionInfo[DataError], *words: str) -> None:
    """Check that an error is one sentence, and has these words."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    for word in words:
        assert word in text
