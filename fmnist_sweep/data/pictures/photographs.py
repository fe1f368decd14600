"""Picture files of any size -> images like those of Fashion-MNIST, with a description of what was done to each.

The steps are those that made Fashion-MNIST from a shop's photographs: trim the edges that have the background's colour,
resize the longest edge to 28, sharpen, extend the shortest edge to 28, negate, convert to grey (Xiao, Rasul, Vollgraf:
Fashion-MNIST, arXiv:1708.07747, 2017, section 2). A step that a picture does not need is left out. This differs:
Pages and frames are cut off first, thin lines across the picture are painted over, and the false colours of a plot
replaced by the values that they show. The background may be lit unevenly: it is a surface that is subtracted, and
contrast is raised where less light falls. Of several things, the garment is the largest. Areas are averaged, where the
authors skipped rows and columns, which turns fine patterns into coarse ones. A picture is negated only if its
background is the brighter part. Contrast is stretched: the paper does not mention this, but the brightest
pixel of each of the 60,000 training images is 254 or 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import IMAGE_SIDE
from fmnist_sweep.data.pictures.backgrounds import Background, find_background
from fmnist_sweep.data.pictures.false_colours import decode_false_colours
from fmnist_sweep.data.pictures.fitting import CutGarment, fit_garment
from fmnist_sweep.data.pictures.frames import find_straight_panel
from fmnist_sweep.data.pictures.guesses import find_nested_picture, warn_of_background
from fmnist_sweep.data.pictures.main_part import keep_main_part
from fmnist_sweep.data.pictures.picture_colours import (
    TOLERANCE,
    has_colour,
    make_image,
    measure_distances,
    measure_luma,
    resize,
)
from fmnist_sweep.data.pictures.picture_files import open_picture
from fmnist_sweep.data.pictures.thin_lines import remove_lines
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
_DARKNESS = 10.0  # grey values: below, noise and not light decides how bright a background is
_MOST_LIGHT = 3.0  # times as much light as in the darkest part
_ABOUT = 6  # coarse pixels about the garment, which show how rough its background is
_ROUGH = 5  # fine pixels, within which noise departs from what is about it, and a shadow does not
_NOISE_FACTOR = 4  # noise rarely departs by more standard deviations


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
    if has_colour(np.asarray(image)):
        assumptions.append("colour converted to grey (ITU-R 601 luma)")
    if black > white:
        return grey
    assumptions.append("bright background (255 of 255): inverted")
    inverted: NDArray[np.uint8] = 255 - grey
    return inverted


def _take_garment(image: Image.Image, name: str, assumptions: list[str], warnings: list[str]) -> NDArray[np.uint8]:
    """Find the garment in a picture, (28, 28), and append what was done and what was guessed."""
    image, panel = find_straight_panel(image, assumptions)
    if panel.layers:
        image = image.crop(panel.box)
        assumptions.append(f"cropped to the {image.width}x{image.height} pixels within a page, a frame or axes")
    found = _find_garment(image, assumptions)
    if found is None:
        raise _make_empty_error(name, f"nothing differs from its background by more than {TOLERANCE / 255:.0%}")
    found = _look_inside(image, found, assumptions)
    warnings += found.warnings
    level = float(np.median(measure_luma(found.background.surface)))
    if found.background.bright:
        assumptions.append(f"bright background (median {level:.0f} of 255): inverted")
    garment = _subtract_background(found.colours, found.background, found.kept)
    if garment is None:
        raise _make_empty_error(name, "the garment is no brighter and no darker than the background")
    return fit_garment(garment, found.size, assumptions)


class _Found(NamedTuple):
    """The garment in a picture: of the foreground what is `kept`, (h, w) like the `coarse` colours.

    size: the picture's, in pixels; colours: finer than `coarse`; warnings: what is a guess.
    """

    size: tuple[int, int]
    colours: Values
    coarse: Values
    background: Background
    kept: Mask
    warnings: list[str]


def _find_garment(image: Image.Image, assumptions: list[str]) -> _Found | None:
    """Find the garment in an RGB picture without frames; None if nothing stands out."""
    warnings = list[str]()
    colours, coarse = _prepare_colours(image, assumptions, warnings)
    background = find_background(coarse)
    kept = keep_main_part(background, measure_distances(coarse, background.surface), warnings)
    if not kept.any():
        return None
    warn_of_background(background, kept, warnings)
    return _Found(image.size, colours, coarse, background, kept, warnings)


def _look_inside(image: Image.Image, found: _Found, assumptions: list[str]) -> _Found:
    """Where the garment itself looks like a picture, find the garment in that."""
    box = find_nested_picture(found.kept, found.coarse)
    if box is None:
        return found
    scales = [size / length for size, length in zip(image.size, found.coarse.shape[1::-1], strict=True)] * 2
    left, top, right, bottom = (round(edge * scale) for edge, scale in zip(box, scales, strict=True))
    inner = _find_garment(image.crop((left, top, right, bottom)), [])
    warning = "What stands out looks like a picture in the picture"
    if inner is None:
        return found._replace(warnings=[f"{warning}, but there is nothing in it.", *found.warnings])
    assumptions.append(f"cropped to the {right - left}x{bottom - top} pixels within what stands out")
    return inner._replace(warnings=[f"{warning}: the garment was sought in that.", *inner.warnings])


def _prepare_colours(image: Image.Image, assumptions: list[str], warnings: list[str]) -> tuple[Values, Values]:
    """The picture's colours, fine and coarse, without lines across it and without false colours."""
    colours, lines = remove_lines(resize(image, _FINE_SIDE))
    if lines:
        assumptions.append(f"{lines} thin lines across it painted over")
        warnings.append("Lines cross it and were painted over, so what they hid of the garment is a guess.")
    decoded = decode_false_colours(colours)
    if decoded is not None:
        assumptions.append(f"the false colours {decoded.name} replaced by the values that they stand for")
        colours = np.repeat(decoded.values[:, :, None], 3, axis=2)
    elif has_colour(colours):
        assumptions.append("colour converted to grey (ITU-R 601 luma)")
    changed = lines or decoded is not None
    return colours, resize(make_image(colours) if changed else image, _COARSE_SIDE)


def _subtract_background(colours: Values, background: Background, kept: Mask) -> CutGarment | None:
    from scipy.ndimage import binary_dilation

    shape = colours.shape[:2]
    surface = _stretch_grid(measure_luma(background.surface), shape)
    grown = binary_dilation(kept, iterations=2)
    mask = _stretch_grid(grown.astype(np.float64), shape) > 0.5
    difference = measure_luma(colours) - surface
    strength = np.where(mask, np.clip(-difference if background.bright else difference, 0, None), 0)
    strength = strength * _measure_gain(surface)
    about = _stretch_grid(binary_dilation(grown, iterations=_ABOUT).astype(np.float64), shape) > 0.5
    if _measure_roughness(difference, about & ~mask) > TOLERANCE / _NOISE_FACTOR:
        present = _stretch_grid(kept.astype(np.float64), shape) > 0.5  # the averaged copy shows better what is garment
    else:
        present = strength > min(TOLERANCE, 0.5 * float(strength.max()))
    if strength.max() < _LEAST_CONTRAST:
        return None
    columns = np.flatnonzero(present.mean(axis=0) > _STRAY_SHARE)
    rows = np.flatnonzero(present.mean(axis=1) > _STRAY_SHARE)
    if not len(columns) or not len(rows):
        return None
    return CutGarment(strength, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def _measure_roughness(difference: Values, ground: Mask) -> float:
    """About the standard deviation of noise on the background: what a shadow, which is smooth, does not add to."""
    from scipy.ndimage import uniform_filter

    # The mean, not the median: of a newspaper's dots few pixels are in one, and those depart much.
    rough = np.abs(difference - uniform_filter(difference, _ROUGH))[ground]
    return 1.25 * float(rough.mean()) if len(rough) else 0.0


def _measure_gain(surface: Values) -> Values:
    """By how much contrast is to be raised where less light falls, (h, w): light multiplies."""
    light = surface.clip(0, None) + _DARKNESS
    low, high = np.percentile(light, [2, 98])
    if high > _MOST_LIGHT * low:  # rather two grounds than one in two lights
        return np.ones_like(light)
    gain: Values = float(np.median(light)) / light
    return gain


def _stretch_grid(values: Values, shape: tuple[int, ...]) -> Values:
    """Values (h, w) between the pixels of a coarse copy, for a picture of another shape."""
    from PIL import Image

    if values.shape == shape:
        return values
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float64)
