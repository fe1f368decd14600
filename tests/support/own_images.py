"""Tiny labelled images that tests make: bars that stand or lie, and crosses, in files of every kind a user may have."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("cross", "lying", "standing")


def draw_shapes(
    count: int, size: tuple[int, int] = (12, 16), channels: int = 1, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw images (count, height, width, channels) and their labels, indices into SHAPES, as many of each."""
    generator = np.random.default_rng(seed)
    height, width = size
    images = generator.integers(0, 60, (count, height, width, channels)).astype(np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(SHAPES)
    for image, label in zip(images, labels, strict=True):
        row, column = generator.integers(2, height - 2), generator.integers(2, width - 2)
        if label != 2:
            image[row] = 220
        if label != 1:
            image[:, column] = 220
    return images, labels


def write_idx(
    folder: Path, train: int = 90, test: int = 30, size: tuple[int, int] = (12, 16), packed: bool = True
) -> None:
    """Write the four files of an MNIST-like set of shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 0), ("t10k", test, 1)):
        if count:
            images, labels = draw_shapes(count, size, seed=seed)
            for name, values in ((f"{part}-images-idx3-ubyte", images[..., 0]), (f"{part}-labels-idx1-ubyte", labels)):
                content = encode_idx(values.astype(np.uint8))
                path = folder / (f"{name}.gz" if packed else name)
                path.write_bytes(gzip.compress(content) if packed else content)


def encode_idx(values: NDArray[np.uint8]) -> bytes:
    """The content of an IDX file of bytes."""
    sizes = b"".join(length.to_bytes(4, "big") for length in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes()


def write_npz(path: Path, train: int = 90, test: int = 30, channels: int = 3) -> None:
    """Write an .npz file of shapes, with labels that are names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array(SHAPES)
    arrays = dict[str, NDArray[Any]]()
    for part, count, seed in (("train", train, 0), ("test", test, 1)):
        if count:
            images, labels = draw_shapes(count, (10, 10), channels, seed)
            arrays |= {f"x_{part}": images, f"y_{part}": names[labels]}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def write_pictures(folder: Path, count: int = 90, seed: int = 0, suffix: str = "png", channels: int = 3) -> None:
    """Write pictures of shapes, a folder a label; every third is larger than the others."""
    images, labels = draw_shapes(count, (12, 16), channels, seed)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / SHAPES[label] / f"{place:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image.squeeze())
        (picture.resize((32, 24)) if place % 3 == 0 else picture).save(path)
