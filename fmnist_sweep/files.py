"""Arrays and plain values in one checked block of bytes; files that are whole or not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"fmnist_sweep 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size
_VALUES_NAME = "values"


class DamagedContent(ValueError):
    """Bytes that are not what was written."""


def pack_arrays(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """JSON-able values and named arrays as bytes that begin with their own checksum; no code is in them."""
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
    """The values and arrays of packed bytes; Damaged when they are torn, altered or something else."""
    start = len(_MAGIC) + _DIGEST_SIZE
    if not content.startswith(_MAGIC):
        raise DamagedContent("it does not begin as a file of this project")
    if hashlib.sha256(memoryview(content)[start:]).digest() != content[len(_MAGIC) : start]:
        raise DamagedContent("its content does not match its checksum")
    try:
        with np.load(io.BytesIO(content[start:]), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DamagedContent(str(error)) from None
    return json.loads(arrays.pop(_VALUES_NAME).tobytes()), arrays


def write_file_atomically(path: Path, content: bytes) -> None:
    """Write a file aside, bring it to the disk, rename it: after a kill it is the old one, the new one or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # it is there only when that failed: a full disk is not made fuller
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
