"""Picture files of any size -> images like those of Fashion-MNIST, with a description of what was done to each.

The steps are those that made Fashion-MNIST from a shop's photographs: trim the edges that have the background's colour,
resize the longest edge to 28, sharpen, extend the shortest edge to 28, negate, convert to grey (Xiao, Rasul, Vollgraf:
Fashion-MNIST, arXiv:1708.07747, 2017, section 2). A step that a picture does not need is left out. Five steps differ.
Pages and frames are cut off first. The background may be lit unevenly: it is a surface that is subtracted. Areas are
averaged, where the authors skipped rows and columns, which turns fine patterns into coarse ones. A picture is negated
only if its background is the brighter part. Contrast is stretched: the paper does not mention this, but the brightest
pixel of each of the 60,000 training images is 254 or 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.backgrounds import TOLERANCE, Background, count_corners, find_background, measure_luma
from fmnist_sweep.data.frames import find_panel, resize, straighten_panel
from fmnist_sweep.data.picture_files import open_picture
from fmnist_sweep.data.splits import IMAGE_SIDE
from fmnist_sweep.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

THUMBNAIL = 168  # pixels of a thumbnail's longest edge
_COARSE_SIDE = 112  # the background is sought in a copy averaged down to so many pixels a side
_FINE_SIDE = 448  # and the garment measured in one of so many
_STRAY_SHARE = 1 / 200  # a row or column with no more other pixels (dust, noise) is still background
_LEAST_CONTRAST = 2
_GAP = 14  # of the garment's longer side: what is farther from it than one such part is another thing
_OTHERS_SHARE = 0.3  # of the garment's contrast in other things, which is worth a word
_FULL_SHARE = 0.7  # of its box that a picture in the picture fills
_NOISE_FACTOR = 4  # noise rarely departs by more standard deviations
# With this value, Fashion-MNIST images that are enlarged and read back are about as sharp (mean Laplacian) as before.
_SHARPEN_PERCENT = 50


@dataclass(frozen=True)
class Photograph:
    """A picture in the form that a model of Fashion-MNIST takes.

    name: the file's path as given; pixels: (28, 28, 1) uint8, bright garment on black; thumbnail: (h, w, 3) uint8, the
    picture itself, at most 168 pixels wide and high; assumptions: the steps that were applied to it, in order;
    warnings: a sentence for each of them that was a guess.
    """

    name: str
    pixels: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]
    assumptions: list[str]
    warnings: list[str]


def read_photograph(path: Path) -> Photograph:
    """Read a picture file as 28x28 pixels like those of Fashion-MNIST.

    A picture that is already in that form is returned unchanged, bit for bit. Formats: PNG, JPEG, BMP, GIF, WEBP.
    Raises DataError if the file is missing, a folder, empty, of another format, damaged, no regular file, over Pillow's
    limit of pixels, or of one colour.
    """
    name = "".join(character if character.isprintable() else "?" for character in str(path))
    image, assumptions = open_picture(path, name)
    warnings = list[str]()
    pixels = _take_as_it_is(image, assumptions) if image.size == (IMAGE_SIDE, IMAGE_SIDE) else None
    if pixels is None:
        pixels = _take_garment(image, name, assumptions, warnings)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Photograph(name, pixels[:, :, None], np.array(image), assumptions, warnings)


def _make_empty_error(name: str, reason: str) -> DataError:
    return DataError(f"{name}: expected a garment on a plain background, but {reason}: give another picture.")


def _take_as_it_is(image: Image.Image, assumptions: list[str]) -> NDArray[np.uint8] | None:
    """The pixels of a picture that has Fashion-MNIST's size and its plain background, (28, 28); else None."""
    grey = np.array(image.convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    black, white = (float(np.mean(np.abs(border.astype(int) - level) <= 3)) for level in (0, 255))
    # Of some of the 70,000 originals, the garment covers most of the border; none is without black there.
    plain = max(black, white) >= 0.5 or (black > white and np.mean(border == 0) > 0.05)
    if not plain or not grey.any() or grey.min() == 255:
        return None
    if np.ptp(np.asarray(image), axis=2).any():
        assumptions.append("colour converted to grey (ITU-R 601 luma)")
    if black > white:
        return grey
    assumptions.append("bright background (255 of 255): inverted")
    inverted: NDArray[np.uint8] = 255 - grey
    return inverted


class _Garment(NamedTuple):
    """The garment's strength (h, w), 0 where there is background, and its box in that (left, top, right, bottom)."""

    strength: Values
    box: tuple[int, int, int, int]


def _take_garment(image: Image.Image, name: str, assumptions: list[str], warnings: list[str]) -> NDArray[np.uint8]:
    """Find the garment in a picture, (28, 28), and append what was done and what was guessed."""
    image = straighten_panel(image, assumptions)
    panel = find_panel(image)
    if panel.layers:
        image = image.crop(panel.box)
        assumptions.append(f"cropped to the {image.width}x{image.height} pixels within a page, a frame or axes")
    colours = resize(image, _FINE_SIDE)
    if np.ptp(colours, axis=2).any():
        assumptions.append("colour converted to grey (ITU-R 601 luma)")
    coarse = resize(image, _COARSE_SIDE)
    background = find_background(coarse)
    kept = _keep_main_part(background, np.abs(coarse - background.surface).max(axis=2), warnings)
    if not kept.any():
        raise _make_empty_error(name, f"nothing differs from its background by more than {TOLERANCE / 255:.0%}")
    level = float(np.median(measure_luma(background.surface)))
    if background.bright:
        assumptions.append(f"bright background (median {level:.0f} of 255): inverted")
    _warn_of_guesses(background, kept, warnings)
    _warn_of_nested_picture(background, kept, coarse, warnings)
    garment = _subtract_background(colours, background, kept)
    if garment is None:
        raise _make_empty_error(name, "the garment is no brighter and no darker than the background")
    return _fit_garment(garment, image.size, assumptions)


def _warn_of_guesses(background: Background, kept: Mask, warnings: list[str]) -> None:
    # A garment may reach into one corner; what is there apart from it is something else.
    strange = count_corners(kept | ~background.foreground) < 4 or background.corners < 3
    if background.border_share < 0.58 or background.rival_share > 0.8 * background.border_share:
        warnings.append(
            f"Only {background.border_share:.0%} of its border is a plain background, so what is garment is a guess."
        )
    elif strange:
        warnings.append(
            f"Only {background.corners} of its four corners show the same background, so what is garment is a guess."
        )
    if background.bands:
        warnings.append("Its background has several colours, as wall and table have, so what is garment is a guess.")
    if background.certainty < 0.7:
        warnings.append(
            "The garment has parts that are brighter and parts that are darker than the background, so which of the "
            "two is to be bright is a guess."
        )


def _keep_main_part(background: Background, contrast: Values, warnings: list[str]) -> Mask:
    """The part with most contrast and those about it, without words, dust and other things; (h, w)."""
    from scipy.ndimage import binary_dilation, find_objects, label

    foreground = background.foreground
    if not foreground.any():
        return foreground
    parts, count = label(binary_dilation(foreground))
    weights = np.bincount(parts[foreground], contrast[foreground] ** 2, minlength=count + 1)
    main = int(weights.argmax())
    boxes = find_objects(parts)
    rows, columns = boxes[main - 1]
    gap = max(rows.stop - rows.start, columns.stop - columns.start) / _GAP
    kept, dropped = [main], 0.0
    for part, (other_rows, other_columns) in enumerate(boxes, start=1):
        apart = max(_measure_gap(rows, other_rows), _measure_gap(columns, other_columns))
        large = weights[part] > 0.1 * weights[main]
        if part == main or apart <= 0 or (large and apart <= gap):
            kept.append(part)
        else:
            dropped += float(weights[part])
    if dropped > _OTHERS_SHARE * weights[main]:
        warnings.append("It shows several things apart from each other: the largest was taken for the garment.")
    return foreground & np.isin(parts, kept)


def _measure_gap(one: slice, other: slice) -> int:
    """How many pixels lie between two ranges; negative where they overlap."""
    return int(max(one.start, other.start) - min(one.stop, other.stop))


def _warn_of_nested_picture(background: Background, kept: Mask, colours: Values, warnings: list[str]) -> None:
    """Warn where the garment itself looks like a picture: a full shape with an even rim and something else in it."""
    from scipy.ndimage import binary_erosion, binary_fill_holes

    filled = np.asarray(binary_fill_holes(kept))
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows) or filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() < _FULL_SHARE:
        return
    outer = binary_erosion(filled, iterations=3, border_value=1)
    inner = binary_erosion(outer, iterations=3, border_value=1)
    rim = outer & ~inner
    if rim.sum() < 50 or inner.sum() < 50:
        return
    level = np.median(colours[rim], axis=0)
    even = float(np.mean(np.abs(colours[rim] - level).max(axis=1) <= TOLERANCE))
    other = float(np.mean(np.abs(colours[inner] - level).max(axis=1) > 3 * TOLERANCE))
    # Of garments enlarged, hardly one is as convex as a page and has so even a rim round something else.
    if _measure_convexity(filled) > 0.96 and even > 0.6 and other > 0.08:
        warnings.append("What was taken for the garment looks like a picture in the picture: crop it to the garment.")


def _measure_convexity(mask: Mask) -> float:
    """The share of its convex hull that a mask fills."""
    from scipy.spatial import ConvexHull

    y, x = np.nonzero(mask)
    corners = np.concatenate([np.stack([y + dy, x + dx], axis=1) for dy in (0, 1) for dx in (0, 1)])
    return float(mask.sum() / ConvexHull(corners).volume)


def _subtract_background(colours: Values, background: Background, kept: Mask) -> _Garment | None:
    from scipy.ndimage import binary_dilation

    shape = colours.shape[:2]
    surface = _stretch_grid(measure_luma(background.surface), shape)
    grown = binary_dilation(kept, iterations=2)
    mask = _stretch_grid(grown.astype(np.float64), shape) > 0.5
    difference = measure_luma(colours) - surface
    strength = np.where(mask, np.clip(-difference if background.bright else difference, 0, None), 0)
    noise = 1.5 * float(np.median(np.abs(difference[~mask]))) if not mask.all() else 0.0
    if noise > TOLERANCE / _NOISE_FACTOR:  # then the averaged copy shows better what is garment
        present = _stretch_grid(kept.astype(np.float64), shape) > 0.5
    else:
        present = strength > min(TOLERANCE, 0.5 * float(strength.max()))
    if strength.max() < _LEAST_CONTRAST:
        return None
    columns = np.flatnonzero(present.mean(axis=0) > _STRAY_SHARE)
    rows = np.flatnonzero(present.mean(axis=1) > _STRAY_SHARE)
    if not len(columns) or not len(rows):
        return None
    return _Garment(strength, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def _stretch_grid(values: Values, shape: tuple[int, ...]) -> Values:
    """Values (h, w) between the pixels of a coarse copy, for a picture of another shape."""
    from PIL import Image

    if values.shape == shape:
        return values
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float64)


def _fit_garment(garment: _Garment, size: tuple[int, int], assumptions: list[str]) -> NDArray[np.uint8]:
    """Fit the garment into a black image, (28, 28), and append the steps to `assumptions`."""
    from PIL import Image, ImageFilter

    strength, (left, top, right, bottom) = garment
    if garment.box != (0, 0, strength.shape[1], strength.shape[0]):
        assumptions.append("cropped to the garment")
    scale = size[0] / strength.shape[1]
    width, height = (max(1, round(edge * scale)) for edge in (right - left, bottom - top))
    cut = Image.fromarray(strength[top:bottom, left:right].astype(np.float32))
    longest = max(cut.size)
    if longest != IMAGE_SIDE:
        fitted = (max(1, round(cut.width * IMAGE_SIDE / longest)), max(1, round(cut.height * IMAGE_SIDE / longest)))
        cut = cut.resize(fitted, Image.Resampling.BOX if longest > IMAGE_SIDE else Image.Resampling.BICUBIC)
    values = np.asarray(cut, np.float64).clip(0, None)
    contrast = float(values.max())
    pixels = np.rint(values * (255 / contrast)).clip(0, 255).astype(np.uint8)
    if longest > IMAGE_SIDE:
        sharp = Image.fromarray(pixels).filter(ImageFilter.UnsharpMask(radius=1, percent=_SHARPEN_PERCENT, threshold=0))
        pixels = np.asarray(sharp)
        pixels = np.rint(pixels * (255 / max(1, int(pixels.max())))).astype(np.uint8)
    place = f"centred on {IMAGE_SIDE}x{IMAGE_SIDE}"
    if max(width, height) > IMAGE_SIDE:
        assumptions.append(f"shrunk from {width}x{height} keeping its proportions, sharpened, {place}")
    elif max(width, height) < IMAGE_SIDE:
        assumptions.append(f"enlarged from {width}x{height} keeping its proportions, {place}")
    elif width != height:
        assumptions.append(f"its {width}x{height} pixels {place}")
    if contrast < 254:
        assumptions.append(f"contrast of {contrast:.0f} of 255 stretched, the background black")
    return _centre_pixels(pixels)


def _centre_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # If the margin is odd, its extra pixel is on the left and at the top, as in Fashion-MNIST.
    canvas = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    height, width = pixels.shape
    top, left = (IMAGE_SIDE - height + 1) // 2, (IMAGE_SIDE - width + 1) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas
