"""Splits in a memory-mapped file that worker processes share: the images are in memory once, whoever reads them.

The file has no name. It is passed on as an open descriptor and vanishes with the last process that holds it, so that no
kill leaves it behind.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import DataDescription, Origin, Split, Splits

_FIELDS = ("images", "labels", "index")


@dataclass(frozen=True)
class Layout:
    """The layout of the file: first byte, type and shape of each array; and what belongs to the splits besides."""

    arrays: tuple[tuple[int, str, tuple[int, ...]], ...]
    origin: Origin
    sha256: str
    removed_duplicates: int
    description: DataDescription


@dataclass(frozen=True)
class SharedImages:
    """A file of splits. Its layout and its descriptor are all that another process needs."""

    layout: Layout
    file: IO[bytes]

    def fileno(self) -> int:
        return self.file.fileno()


@contextmanager
def share_images(splits: Splits) -> Iterator[SharedImages]:
    """Write splits to a file without a name; it is closed here when the block ends."""
    with tempfile.TemporaryFile() as file:
        arrays = []
        for array in _list_arrays(splits):
            start = file.tell()
            file.write(np.ascontiguousarray(array).tobytes())
            file.write(bytes(-file.tell() % 64))  # so that each array begins where a cache line does
            arrays.append((start, array.dtype.str, array.shape))
        file.flush()
        about = (splits.origin, splits.sha256, splits.removed_duplicates, splits.description)
        yield SharedImages(Layout(tuple(arrays), *about), file)


def _list_arrays(splits: Splits) -> Iterator[NDArray[Any]]:
    for split in (splits.train, splits.validation):
        yield from (getattr(split, field) for field in _FIELDS)


def attach_images(layout: Layout, descriptor: int) -> Splits:
    """The splits of a shared file. The arrays are read-only, and are read from the file when they are used."""
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)  # keeps the file open by itself
    arrays = [
        np.frombuffer(memory, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
        for start, dtype, shape in layout.arrays
    ]
    train, validation = Split(*arrays[: len(_FIELDS)]), Split(*arrays[len(_FIELDS) :])
    return Splits(train, validation, layout.origin, layout.sha256, layout.removed_duplicates, layout.description)
