"""A garment on black, fitted into 28x28 pixels as the authors of Fashion-MNIST did it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import IMAGE_SIDE

Values = NDArray[np.float64]

# With this value, Fashion-MNIST images that are enlarged and read back are about as sharp (mean Laplacian) as before.
_SHARPEN_PERCENT = 50


class CutGarment(NamedTuple):
    """The garment's strength (h, w), 0 where there is background, and its box in that (left, top, right, bottom)."""

    strength: Values
    box: tuple[int, int, int, int]


def fit_garment(garment: CutGarment, size: tuple[int, int], assumptions: list[str]) -> NDArray[np.uint8]:
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
