"""Parts of reports that take long to compute, kept beside the reports: a page of the same trials is made anew at once.

A part's file is named by a checksum of all that decides the part: the values and images that it is computed from, this
project's code, and the versions of the libraries. So a part that is there is the one that would be computed. The files
may be deleted at any time; damaged ones are computed anew.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fmnist_sweep
from fmnist_sweep.analysis.importance import Importance, SettingImportance, measure_importance
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.files import DamagedContent, pack_arrays, read_packed_file, unpack_arrays
from fmnist_sweep.report.figures.canvas import encode_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmnist_sweep.analysis.settings import VariedSetting

FOLDER = "report_parts"
MAX_FILES = 100  # about ten reports, less than 10 MB
_LIBRARIES = ("matplotlib", "numpy", "pillow", "scikit-learn", "scipy")

_Part = tuple[dict[str, Any], dict[str, NDArray[Any]]]  # plain values, and arrays by their name


@dataclass(frozen=True)
class KeptParts:
    """The parts in a folder, which is made when the first is kept. folder: None keeps nothing."""

    folder: Path | None = None

    def draw_picture(self, draw: Callable[..., Figure], *inputs: Any) -> bytes:
        """Draw a figure as a PNG file. draw: a function that draws it from these inputs alone."""
        _, arrays = self._compute(
            (_name(draw), *inputs),
            lambda: ({}, {"png": np.frombuffer(encode_png(draw(*inputs)), np.uint8)}),
        )
        return arrays["png"].tobytes()

    def pack(self, content: bytes) -> bytes:
        """Pack content with gzip. What is kept is unpacked and compared, as a page runs what is packed here."""
        _, arrays = self._compute(("gzip", content), lambda: _pack(content))
        packed = arrays["gzip"].tobytes()
        with suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(packed) == content:
                return packed
        return _pack(content)[1]["gzip"].tobytes()

    def compute_numbers(self, compute: Callable[..., Sequence[float]], *inputs: Any) -> list[float]:
        """Compute numbers. compute: a function that computes them from these inputs alone."""
        _, arrays = self._compute(
            (_name(compute), *inputs), lambda: ({}, {"numbers": np.array(compute(*inputs), np.float64)})
        )
        numbers: list[float] = arrays["numbers"].tolist()
        return numbers

    def measure_importance(
        self, settings: Sequence[VariedSetting], accuracies: Sequence[float | None], groups: Sequence[int]
    ) -> Importance:
        """Rank settings: see analysis.importance."""
        inputs = (settings, accuracies, groups)
        values, _ = self._compute(("importance", *inputs), lambda: (asdict(measure_importance(*inputs)), {}))
        ranking = [SettingImportance(**{**each, "same_as": tuple(each["same_as"])}) for each in values["settings"]]
        return Importance(**{**values, "settings": tuple(ranking)})

    def find_near_twins(self, images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Mask (n,) of the images with a near twin among the reference: see data.twins."""
        _, arrays = self._compute(
            ("twins", images, reference), lambda: ({}, {"twins": find_near_twins(images, reference)})
        )
        return arrays["twins"]

    def _compute(self, inputs: Sequence[Any], compute: Callable[[], _Part]) -> _Part:
        if self.folder is None:
            return compute()
        digest = hashlib.sha256(_digest_code())
        _feed(digest, inputs)
        path = self.folder / digest.hexdigest()
        with suppress(OSError, DamagedContent):
            return unpack_arrays(read_packed_file(path))
        part = compute()
        with suppress(OSError):  # the report needs no file
            _write(path, pack_arrays(*part))
        return part


def _pack(content: bytes) -> _Part:
    return {}, {"gzip": np.frombuffer(gzip.compress(content, 6, mtime=0), np.uint8)}


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _write(path: Path, content: bytes) -> None:
    """Write a file and delete the oldest beside it. It need not be on the disk: what is torn is computed anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # only there after a failure: a full disk is not made fuller
    oldest_first = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    for file in oldest_first[:-MAX_FILES]:
        file.unlink(missing_ok=True)


def _feed(digest: Any, value: Any) -> None:
    """Put a value into a digest, so that different values leave different marks."""
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif is_dataclass(value):
        digest.update(type(value).__name__.encode())
        _feed(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Mapping):
        _feed(digest, list(value.items()))
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}".encode())
        for each in value:
            _feed(digest, each)
    elif isinstance(value, bytes):
        digest.update(f"bytes {len(value)}".encode())
        digest.update(value)
    elif value is None or isinstance(value, str | int | float | np.generic):
        text = repr(value)
        digest.update(f"{len(text)} {text}".encode())
    else:
        raise TypeError(f"nothing says when two values of {type(value)} are the same")


@cache
def _digest_code() -> bytes:
    """A checksum of this project's code and of the versions that it runs with."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in _LIBRARIES:
        digest.update(f"{name} {version(name)}".encode())
    package = Path(fmnist_sweep.__file__).parent
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}".encode())
        digest.update(content)
    return digest.digest()
