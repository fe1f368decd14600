"""Images as a registered function reads them: all of them, or a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.own.parts import MAX_BYTES, RawPart, Values, refuse_shape
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import DATA_SOURCES, RegisteredFunction
from fmnist_sweep.text import quote_text

# Takes a key and the label of each image; masks those that are wanted.
Choose = Callable[[list[bytes], Values], NDArray[np.bool_]]


def has_test_part(source: str, path: Path) -> bool:
    """Whether a source has test images of its own at a path; none is read."""
    registration = _find_source(source)
    if registration.positional is not None:
        return False
    with _name_source(registration, path):
        return registration.has_test is None or bool(registration.has_test(path))


def chooses_itself(source: str) -> bool:
    """Whether a source without a test part is told which of its images to read."""
    return DATA_SOURCES.takes(source, "choose")


def read_registered_part(
    data: DataConfig,
    path: Path | None,
    part: Literal["train", "test"],
    *,
    source: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    choose: Choose | None = None,
) -> RawPart:
    """Read one part of a source, or all of one that has no parts. Errors: DataError for what are no labelled images.

    source: another than the config's. image_shape, choose: see `plugins.data_source`.
    """
    registration = _find_source(source or data.source)
    filled = {
        "image_shape": image_shape,
        "choose": choose,
        "may_download": data.download,
        "drawn_count": data.images,
        "drawn_seed": data.drawn_seed,
    }
    filled = {key: value for key, value in filled.items() if DATA_SOURCES.takes(registration.name, key)}
    positional = (path, part) if registration.positional is None else (path,)
    with _name_source(registration, path):
        given = registration.function(*positional, **data.settings, **filled)
    if isinstance(given, RawPart):
        return given
    shown = f"data.source={registration.name}"
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError(f"{shown}: it returned a {type(given).__name__}; expected a pair, images and labels.")
    return _check_part(shown, np.asarray(given[0]), np.asarray(given[1]))


def _find_source(source: str) -> RegisteredFunction:
    registration = DATA_SOURCES.find_registration(source)
    if registration is None:  # the plugin that registered it is no longer active
        raise DataError(f"data.source={quote_text(source)}: no plugin that is named registers it; name its file.")
    return registration


@contextmanager
def _name_source(registration: RegisteredFunction, path: Path | None) -> Iterator[None]:
    """Turn what a plugin's function raises into one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if registration.plugin is None:
            raise
        reason = quote_text(f"{type(error).__name__}: {error}".strip().splitlines()[0], 300)
        raise DataError(
            f"data.source={registration.name}: it raised an error with {path} ({reason}); mend it, or correct data.dir."
        ) from error


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
