"""Arrays and plain values in one checksummed block of bytes, files written whole or not at all, and lock files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.reading import RefusedFile, load_arrays, parse_json, read_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"fmnist_sweep 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size
_VALUES_NAME = "values"
_MAX_PACKED_BYTES = 8 * 2**30  # a checkpoint of the largest network has its weights and an optimizer's state, 3 GB


class DamagedContent(ValueError):
    """Packed bytes that are not what was written."""


def pack_arrays(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Pack JSON values and named arrays into bytes that begin with their own checksum and hold no code."""
    import numpy as np

    if _VALUES_NAME in arrays:
        raise ValueError(f"no array may be called {_VALUES_NAME}")
    for name, array in arrays.items():
        if array.dtype.kind in "OV":  # pickled, or without their type, in an .npz file
            raise ValueError(f"the array {name} of {array.dtype} would not come back as it is")
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    np.savez(buffer, **{_VALUES_NAME: text}, **arrays)  # type: ignore[arg-type]
    content = buffer.getbuffer()
    return b"".join((_MAGIC, hashlib.sha256(content).digest(), content))


def unpack_arrays(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The values and arrays of packed bytes. Raises DamagedContent if they are torn, altered or something else."""
    start = len(_MAGIC) + _DIGEST_SIZE
    if not content.startswith(_MAGIC):
        raise DamagedContent("it does not begin as a file of this project")
    if hashlib.sha256(memoryview(content)[start:]).digest() != content[len(_MAGIC) : start]:
        raise DamagedContent("its content does not match its checksum")
    try:
        arrays = load_arrays(content[start:], len(content))  # nothing in it is packed smaller
        return parse_json(arrays.pop(_VALUES_NAME).tobytes()), arrays
    except (ValueError, KeyError) as error:
        raise DamagedContent(str(error)) from None


def read_packed_file(path: Path) -> bytes:
    """The bytes of a file of packed arrays. Raises DamagedContent if it is no regular file, or larger than any."""
    try:
        return read_file(path, _MAX_PACKED_BYTES)
    except RefusedFile as error:
        raise DamagedContent(error.strerror) from None


def write_file_atomically(path: Path, content: bytes) -> None:
    """Write a file and its folders. After a kill it is the old file, the new one or absent, never a part of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give the block a name beside `path` to write a file under; then bring that file to the disk and rename it.

    The folder is brought to the disk last: after a power cut, too, the new file is under its name.
    If the block raises, its file is removed and `path` stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # only there after a failure: a full disk is not made fuller
    _sync(path.parent)


def is_same_path(a: Path, b: Path) -> bool:
    """Whether two paths lead to one file or folder, whatever links, mounts, `..` and slashes they go through."""
    try:
        return a == b or os.path.realpath(a) == os.path.realpath(b) or a.samefile(b)
    except (OSError, ValueError):  # one of them does not exist
        return False


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; one that this user may not see counts as none."""
    try:
        return path.is_dir()
    except OSError:
        return False


class LockHeld(Exception):
    """A lock file that another process holds."""


@contextmanager
def hold_lock_file(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold a lock file while the block runs; the lock ends with the process at the latest.

    patience: seconds to wait for another process that holds it, after which LockHeld is raised; None: no limit.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if patience is None else patience)
    except Timeout:
        raise LockHeld(str(path)) from None
    try:
        yield
    finally:
        lock.release()


def _sync(path: Path) -> None:
    """Bring the content of a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
