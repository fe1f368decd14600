"""The colours of a picture as numbers: (h, w, 3), 0..255, and how far they are from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Values = NDArray[np.float64]

TOLERANCE = 0.05 * 255  # colours that differ by no more in red, green and blue count as the same
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601


def resize(image: Image.Image, side: int) -> Values:
    """The colours (h, w, 3) of a picture, averaged down to at most so many pixels a side."""
    from PIL import Image

    longest = max(image.size)
    if longest > side:
        width, height = (max(1, round(edge * side / longest)) for edge in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float64)


def make_image(colours: Values) -> Image.Image:
    """The picture (RGB) that has these colours."""
    from PIL import Image

    return Image.fromarray(colours.round().clip(0, 255).astype(np.uint8))


def take_median(colours: Values, size: int) -> Values:
    """The median of each channel in a square of so many pixels about each pixel; colours are rounded."""
    from PIL import ImageFilter

    image = make_image(colours)
    if has_colour(colours):
        return np.asarray(image.filter(ImageFilter.MedianFilter(size)), np.float64)
    grey = np.asarray(image.getchannel(0).filter(ImageFilter.MedianFilter(size)), np.float64)
    return np.repeat(grey[:, :, None], 3, axis=2)


def measure_luma(colours: Values) -> Values:
    """Grey values (...) of colours (..., 3)."""
    return np.asarray(np.einsum("...c,c->...", colours, _LUMA), np.float64)


def measure_distances(colours: Values, others: Values) -> Values:
    """The greatest difference (...) in red, green and blue between colours (..., 3)."""
    apart = np.abs(colours - others)
    # Many times as fast as a maximum over the last axis.
    return np.asarray(np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2]), np.float64)


def has_colour(colours: Values) -> bool:
    """Whether red, green and blue differ anywhere."""
    return bool((colours[..., 0] != colours[..., 1]).any() or (colours[..., 1] != colours[..., 2]).any())
