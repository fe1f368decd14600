"""Splits that worker processes read from one memory-mapped file: the images are in memory once, whoever reads them.

The file has no name: it is passed on as an open descriptor and is gone with the last process that holds it, so that no
kill leaves it behind.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import Origin, Split, Splits

_FIELDS = ("images", "labels", "index")


@dataclass(frozen=True)
class Layout:
    """What stands where in the file: of each array its first byte, type and shape; and what goes with the arrays."""

    arrays: tuple[tuple[int, str, tuple[int, ...]], ...]
    origin: Origin
    sha256: str
    removed_duplicates: int


class SharedImages:
    """`with SharedImages(splits) as shared`: its layout and descriptor are all that another process needs."""

    def __init__(self, splits: Splits) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        arrays = []
        for array in _list_arrays(splits):
            start = self._file.tell()
            self._file.write(np.ascontiguousarray(array).tobytes())
            self._file.write(bytes(-self._file.tell() % 64))  # each array begins where a cache line does
            arrays.append((start, array.dtype.str, array.shape))
        self._file.flush()
        self.layout = Layout(tuple(arrays), splits.origin, splits.sha256, splits.removed_duplicates)

    def fileno(self) -> int:
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _list_arrays(splits: Splits) -> Iterator[NDArray[Any]]:
    for split in (splits.train, splits.validation):
        yield from (getattr(split, field) for field in _FIELDS)


def attach_images(layout: Layout, descriptor: int) -> Splits:
    """The splits of such a file; the arrays are read-only, and read from it when they are used."""
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)  # keeps the file open by itself
    arrays = [
        np.frombuffer(memory, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
        for start, dtype, shape in layout.arrays
    ]
    train, validation = Split(*arrays[: len(_FIELDS)]), Split(*arrays[len(_FIELDS) :])
    return Splits(train, validation, layout.origin, layout.sha256, layout.removed_duplicates)
