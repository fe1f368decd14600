"""Picture files of any size -> images like those of Fashion-MNIST, with a description of what was done to each.

The steps are those that made Fashion-MNIST from a shop's photographs: trim the edges that have the colour of the
corners, resize the longest edge to 28, sharpen, extend the shortest edge to 28, negate, convert to grey (Xiao, Rasul,
Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017, section 2). A step that a picture does not need is left out. Three
steps differ. Areas are averaged, where the authors skipped rows and columns, which turns fine patterns into coarse
ones. A picture is negated only if its background is the brighter part. Contrast is stretched: the paper does not
mention this, but the brightest pixel of each of the 60,000 training images is 254 or 255.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.splits import IMAGE_SIDE
from fmnist_sweep.errors import DataError
from fmnist_sweep.reading import open_regular_file
from fmnist_sweep.text import quote_text

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL = 168  # pixels of a thumbnail's longest edge
# Only a few common ones: each decoder must be trusted with files from strangers.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MAX_BYTES = 256 * 2**20  # of a file; Pillow reads some formats whole
_FORMAT_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow's decoders raise
_COLOUR_TOLERANCE = 0.05 * 255  # colours that differ by no more in red, green and blue count as the same
_STRAY_SHARE = 1 / 200  # a row or column with no more other pixels (dust, noise) is still background
_COARSE_PIXELS = 1000  # the background is sought in a copy averaged down to about so many pixels a side
# With this value, Fashion-MNIST images that are enlarged and read back are about as sharp (mean Laplacian) as before.
_SHARPEN_PERCENT = 50


@dataclass(frozen=True)
class Photograph:
    """A picture in the form that a model of Fashion-MNIST takes.

    name: the file's path as given; pixels: (28, 28, 1) uint8, bright garment on black; thumbnail: (h, w, 3) uint8, the
    picture itself, at most 168 pixels wide and high; assumptions: the steps that were applied to it, in order.
    """

    name: str
    pixels: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]
    assumptions: list[str]


class _Background(NamedTuple):
    """A picture's background, judged by its corners, and the box of the garment in front of it."""

    level: float  # grey value of the background
    bright: bool  # whether it is brighter than the garment
    even: bool  # whether all four corners have the same colour
    coloured: bool  # whether any pixel of the picture is coloured
    garment: tuple[int, int, int, int] | None  # left, top, right, bottom of what is not background


def read_photograph(path: Path) -> Photograph:
    """Read a picture file as 28x28 pixels like those of Fashion-MNIST.

    A picture that is already in that form is returned unchanged, bit for bit. Formats: PNG, JPEG, BMP, GIF, WEBP.
    Raises DataError if the file is missing, a folder, empty, of another format, damaged, no regular file, over Pillow's
    limit of pixels, or of one colour.
    """
    name = "".join(character if character.isprintable() else "?" for character in str(path))
    image, assumptions = _open_picture(path, name)
    grey, background = image.convert("L"), _find_background(image)
    if background.garment is None:
        raise _make_empty_error(name, "nothing differs from its corners by more than 5 %")
    if background.coloured:
        assumptions.append("colour converted to grey (ITU-R 601 luma)")
    if background.bright:
        assumptions.append(f"bright background (median of its corners {background.level:.0f} of 255): inverted")
    if image.size == (IMAGE_SIDE, IMAGE_SIDE):
        pixels = 255 - np.asarray(grey) if background.bright else np.array(grey)
    else:
        pixels = _fit_garment(grey, background, assumptions)
    if not np.ptp(np.asarray(grey)) or not pixels.any():
        raise _make_empty_error(name, "the garment is no brighter and no darker than the background")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Photograph(name, pixels[:, :, None], np.array(image), assumptions)


def _make_empty_error(name: str, reason: str) -> DataError:
    return DataError(f"{name}: expected a garment on a plain background, but {reason}: give another picture.")


def _open_picture(path: Path, name: str) -> tuple[Image.Image, list[str]]:
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
        assumptions.append("16-bit grey scaled to 8 bits")
        # The upper byte is exact for 8-bit values that were multiplied by 256 or by 257.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.has_transparency_data:
        image = _fill_transparency(image.convert("RGBA"), assumptions)
    return image.convert("RGB"), assumptions


def _fill_transparency(image: Image.Image, assumptions: list[str]) -> Image.Image:
    """Put the picture on black or white, whichever its visible part stands out from."""
    from PIL import Image

    alpha = np.asarray(image.getchannel("A"))
    if alpha.min() == 255:
        return image
    visible = np.asarray(image.convert("L"))[alpha > 127]
    colour = "black" if len(visible) and np.median(visible) > 127 else "white"
    assumptions.append(f"transparent parts filled with {colour}")
    background = Image.new("RGBA", image.size, colour)
    background.alpha_composite(image)
    return background


def _find_background(image: Image.Image) -> _Background:
    """Judge the background by the corners, each as large in the picture as one of 28x28 pixels."""
    factor = max(1, max(image.size) // _COARSE_PIXELS)
    coarse = image.reduce(factor)
    colours, luma = np.asarray(coarse).astype(np.int16), np.asarray(coarse.convert("L"))
    side = max(1, min(coarse.size) // IMAGE_SIDE)
    corners = [(rows, columns) for rows in _slice_ends(side) for columns in _slice_ends(side)]
    colour = np.median(np.concatenate([colours[corner].reshape(-1, 3) for corner in corners]), axis=0)
    level = float(np.median(np.concatenate([luma[corner].ravel() for corner in corners])))
    corner_colours = np.array([np.median(colours[corner], axis=(0, 1)) for corner in corners])
    foreground = (np.abs(colours - colour) > _COLOUR_TOLERANCE).any(axis=2)
    return _Background(
        level=level,
        bright=bool(foreground.any()) and float(np.median(luma[foreground])) < level,
        even=bool((np.abs(corner_colours - colour) <= _COLOUR_TOLERANCE).all()),
        coloured=bool(np.ptp(colours, axis=2).any()),
        garment=_find_bounds(foreground, factor, image.size),
    )


def _slice_ends(side: int) -> tuple[slice, slice]:
    return slice(None, side), slice(-side, None)


def _find_bounds(foreground: NDArray[np.bool_], factor: int, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Find the garment's box, in the picture's own pixels; None if all of it is background."""
    columns = np.flatnonzero(foreground.mean(axis=0) > _STRAY_SHARE)
    rows = np.flatnonzero(foreground.mean(axis=1) > _STRAY_SHARE)
    if not len(columns) or not len(rows):
        return None
    left, top = factor * int(columns[0]), factor * int(rows[0])
    return left, top, min(size[0], factor * (int(columns[-1]) + 1)), min(size[1], factor * (int(rows[-1]) + 1))


def _fit_garment(grey: Image.Image, background: _Background, assumptions: list[str]) -> NDArray[np.uint8]:
    """Fit the garment into a black image, (28, 28), and append the steps to `assumptions`."""
    from PIL import Image, ImageFilter

    if not background.even:
        assumptions.append("its corners differ in colour, so the background is a guess")
    if background.garment != (0, 0, *grey.size):
        grey = grey.crop(background.garment)
        assumptions.append("cropped to the garment")
    width, height = grey.size
    longest = max(width, height)
    if longest != IMAGE_SIDE:
        size = (max(1, round(width * IMAGE_SIDE / longest)), max(1, round(height * IMAGE_SIDE / longest)))
        grey = grey.resize(size, Image.Resampling.BOX if longest > IMAGE_SIDE else Image.Resampling.BICUBIC)
    if longest > IMAGE_SIDE:
        grey = grey.filter(ImageFilter.UnsharpMask(radius=1, percent=_SHARPEN_PERCENT, threshold=0))
        assumptions.append(
            f"shrunk from {width}x{height} keeping its proportions, sharpened, centred on {IMAGE_SIDE}x{IMAGE_SIDE}"
        )
    elif longest < IMAGE_SIDE:
        assumptions.append(
            f"enlarged from {width}x{height} keeping its proportions, centred on {IMAGE_SIDE}x{IMAGE_SIDE}"
        )
    elif width != height:
        assumptions.append(f"its {width}x{height} pixels centred on {IMAGE_SIDE}x{IMAGE_SIDE}")
    return _centre_pixels(_stretch_contrast(np.asarray(grey), background, assumptions))


def _stretch_contrast(grey: NDArray[np.uint8], background: _Background, assumptions: list[str]) -> NDArray[np.uint8]:
    """Map the background's level to 0, and the grey value farthest from it on the garment's side to 255."""
    extreme = int(grey.min() if background.bright else grey.max())
    contrast = abs(extreme - background.level)
    if contrast < 254:
        low, high = sorted((round(background.level), extreme))
        assumptions.append(f"grey {low}..{high} stretched to 0..255, the background black")
    distances = background.level - grey if background.bright else grey - background.level
    pixels: NDArray[np.uint8] = np.clip(np.rint(distances * (255 / max(contrast, 1))), 0, 255).astype(np.uint8)
    return pixels


def _centre_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # If the margin is odd, its extra pixel is on the left and at the top, as in Fashion-MNIST.
    canvas = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    height, width = pixels.shape
    top, left = (IMAGE_SIDE - height + 1) // 2, (IMAGE_SIDE - width + 1) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas
