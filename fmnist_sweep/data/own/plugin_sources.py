"""Images that a function of a plugin reads: all of them, or a part at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmnist_sweep.data.own.parts import MAX_BYTES, RawPart, refuse_shape
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import DATA_SOURCES
from fmnist_sweep.text import quote_text


def has_test_part(source: str) -> bool:
    """Whether a source has test images of its own; nothing is read."""
    registration = DATA_SOURCES.find_registration(source)
    return registration is not None and registration.positional is None


def read_plugin_part(source: str, path: Path, part: Literal["train", "test"]) -> RawPart:
    """Read one part of a source, or all of one that has no parts. Errors: DataError for what are no labelled images."""
    shown = f"data.source={source}"
    try:
        given = DATA_SOURCES[source](path, part) if has_test_part(source) else DATA_SOURCES[source](path)
    except DataError:
        raise
    except Exception as error:
        reason = quote_text(f"{type(error).__name__}: {error}".strip().splitlines()[0], 300)
        raise DataError(f"{shown}: it raised an error with {path} ({reason}); mend it, or correct data.dir.") from error
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError(f"{shown}: it returned a {type(given).__name__}; expected a pair, images and labels.")
    return _check_part(shown, np.asarray(given[0]), np.asarray(given[1]))


def _check_part(shown: str, images: Any, labels: Any) -> RawPart:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.nbytes > MAX_BYTES or not len(images):
        raise DataError(
            f"{shown}: it returned images of the shape {images.shape} and the type {images.dtype}; expected "
            f"(n, height, width, channels) uint8, at most {MAX_BYTES:,} bytes."
        )
    images = images[..., None] if images.ndim == 3 else images
    refuse_shape(shown, images.shape[1:])
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{shown}: it returned labels of the shape {labels.shape} and the type {labels.dtype}; expected a whole "
            f"number or a name for each of {len(images)} images."
        )
    return RawPart(images, labels if labels.dtype.kind == "U" else labels.astype(np.int64))
