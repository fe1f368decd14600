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
_DIGEST = hashlib.sha256().digest_size
_VALUES = "values"


class Damaged(ValueError):
    """Bytes that are not what was written."""


def pack(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """JSON-able values and named arrays as bytes that begin with their own checksum; no code is in them."""
    if _VALUES in arrays:
        raise ValueError(f"no array may be called {_VALUES}")
    for name, array in arrays.items():
        if array.dtype.kind in "OV":  # pickled, or without their type, in an .npz file
            raise ValueError(f"the array {name} of {array.dtype} would not come back as it is")
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    np.savez(buffer, **{_VALUES: text}, **arrays)  # type: ignore[arg-type]
    content = buffer.getbuffer()
    return b"".join((_MAGIC, hashlib.sha256(content).digest(), content))


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The values and arrays of packed bytes; Damaged when they are torn, altered or something else."""
    start = len(_MAGIC) + _DIGEST
    if not content.startswith(_MAGIC):
        raise Damaged("it does not begin as a file of this project")
    if hashlib.sha256(memoryview(content)[start:]).digest() != content[len(_MAGIC) : start]:
        raise Damaged("its content does not match its checksum")
    try:
        with np.load(io.BytesIO(content[start:]), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise Damaged(str(error)) from None
    return json.loads(arrays.pop(_VALUES).tobytes()), arrays


def write(path: Path, content: bytes) -> None:
    """Write a file aside, bring it to the disk, rename it: after a kill it is the old one, the new one or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)  # it is there only when that failed: a full disk is not made fuller
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
