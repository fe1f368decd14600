"""What the disturbances share: a picture and how it is saved, the garment enlarged, and tools to draw on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


class Picture(NamedTuple):
    """A picture and how it is saved."""

    image: Image.Image
    suffix: str = ".png"
    options: Mapping[str, Any] = MappingProxyType({})

    def save(self, folder: Path, name: str = "picture") -> Path:
        path = folder / f"{name}{self.suffix}"
        self.image.save(path, **self.options)
        return path


Make = Callable[[Pixels, bool, np.random.Generator], Picture]


class Disturbance(NamedTuple):
    """What happens to a picture: `make(pixels, dark, random)`; dark: a dark garment on white, else bright on black."""

    name: str
    make: Make
    grounds: tuple[bool, ...] = (True, False)


def enlarge(pixels: Pixels, dark: bool, random: np.random.Generator, margin: float | None = None) -> Values:
    """A shop's picture of the garment: 168 to 420 pixels and a margin, grey values 0..255, (h, w)."""
    side = int(random.choice([168, 280, 420]))
    how = random.choice([Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling(how))
    share = float(random.choice([0, 0.1, 0.25])) if margin is None else margin
    values = np.pad(np.asarray(image, np.float64), round(share * side))
    return 255 - values if dark else values


def make_grid(values: Values) -> tuple[Values, Values]:
    """Coordinates of the pixels, -1 at the left and top to 1 at the right and bottom."""
    height, width = values.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x, y


def blur(values: Values, radius: float) -> Values:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(values, radius, mode="nearest"), np.float64)


def make_grey(values: Values) -> Image.Image:
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def tint(values: Values, dark_colour: tuple[float, ...], bright_colour: tuple[float, ...]) -> Image.Image:
    """Black becomes one colour, white another."""
    share = values.clip(0, 255)[:, :, None] / 255
    colours = np.array(dark_colour) * (1 - share) + np.array(bright_colour) * share
    return Image.fromarray(colours.round().clip(0, 255).astype(np.uint8))


def raise_black(values: Values, dark: bool, by: float = 40) -> Values:
    """Black is never quite black in a photograph: without this, light leaves no trace on it."""
    return values if dark else by + values * (255 - by) / 255
