"""Picture files of common formats -> upright RGB images without transparency, within limits."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import DataError
from fmnist_sweep.reading import open_regular_file
from fmnist_sweep.text import quote_text

if TYPE_CHECKING:
    from PIL import Image

# Only a few common ones: each decoder must be trusted with files from strangers.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MAX_BYTES = 256 * 2**20  # of a file; Pillow reads some formats whole
_FORMAT_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow's decoders raise


def open_picture(path: Path, name: str) -> tuple[Image.Image, list[str]]:
    """Open a picture as an upright RGB image without transparency, and describe the steps that were needed."""
    from PIL import Image, UnidentifiedImageError

    with _open_file(path, name) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about oddities in EXIF data
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                return _turn_upright(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
            raise DataError(
                f"{name}: expected a picture of at most {limit}, found more: make it smaller; 1000x1000 is ample."
            ) from None
        except UnidentifiedImageError:
            raise DataError(
                f"{name}: expected a {_FORMAT_NAMES} picture, found something else: save it in one of these formats."
            ) from None
        except _DECODER_ERRORS as error:
            reason = quote_text((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
            raise DataError(f"{name}: the picture is damaged or incomplete ({reason}): save it again.") from None


@contextmanager
def _open_file(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open a picture's file, or say what is there instead; nothing that could keep the reader waiting is opened."""
    with ExitStack() as stack:
        try:
            if path.is_dir():
                raise DataError(f"{name}: expected a picture file, found a folder: name the files in it.")
            file = stack.enter_context(open_regular_file(path))
            size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise DataError(f"{name}: expected a picture, found no such file: correct the name.") from None
        except OSError as error:
            raise DataError(
                f"{name}: the picture cannot be read ({error.strerror}): fix that, or name another file."
            ) from None
        if not size:
            raise DataError(f"{name}: expected a {_FORMAT_NAMES} picture, found an empty file: save it again.")
        if size > _MAX_BYTES:
            raise DataError(
                f"{name}: expected a picture of at most {_MAX_BYTES // 2**20} MiB, found {size // 2**20}: make it "
                "smaller; 1000x1000 is ample."
            )
        yield file


def _turn_upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    from PIL import ExifTags, Image, ImageOps

    assumptions = []
    if getattr(image, "is_animated", False):
        assumptions.append("only its first frame used")
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        assumptions.append("rotated as its EXIF orientation says")
    ImageOps.exif_transpose(image, in_place=True)  # in place, because a copy might be large
    if image.mode.startswith("I"):
        values = np.asarray(image).clip(0, 65535).astype(np.uint16)
        # Of 10 or 12 bits, the upper ones are empty. The upper byte of those that are used is exact for 8-bit values
        # that were multiplied by 256 or by 257.
        bits = max(8, int(values.max()).bit_length())
        assumptions.append(f"{bits}-bit grey scaled to 8 bits")
        image = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if image.has_transparency_data:
        image = _fill_transparency(image.convert("RGBA"), assumptions)
    return image.convert("RGB"), assumptions


def _fill_transparency(image: Image.Image, assumptions: list[str]) -> Image.Image:
    """Put the picture on black or white, whichever its visible part stands out from."""
    from PIL import Image

    alpha = np.asarray(image.getchannel("A"))
    if alpha.min() == 255:
        return image
    solid = alpha >= 250
    if _is_box(solid):  # a window on a screen; round it is no more than its shadow
        alpha = np.where(solid, 255, 0).astype(np.uint8)
        image.putalpha(Image.fromarray(alpha))
    visible = np.asarray(image.convert("L"))[alpha > 127]
    colour = "black" if len(visible) and np.median(visible) > 127 else "white"
    assumptions.append(f"transparent parts filled with {colour}")
    background = Image.new("RGBA", image.size, colour)
    background.alpha_composite(image)
    return background


def _is_box(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask is a rectangle, but for round corners."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return bool(len(rows)) and bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.97)
