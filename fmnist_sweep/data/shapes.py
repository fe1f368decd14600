"""What silhouettes are drawn with: seeded dice, a pixel grid, and soft-edged shapes for a whole batch.

Only operations whose result IEEE 754 fixes to the last bit are used here and by what draws with it (+ - * /
sqrt, comparisons; no exp, sin or matrix product): the same seed gives the same bytes, and data hash, on every
machine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.splits import IMAGE_SIDE

# One value an image: (m, 1, 1). A map: broadcasts to (m, SIDE, SIDE). Both are float32; NumPy's stubs lose
# that in arithmetic with Python numbers.
Values = NDArray[np.floating[Any]]
Map = NDArray[np.floating[Any]]


class Dice:
    """Random values for a batch of m images, in the order they are asked for."""

    def __init__(self, generator: np.random.Generator, count: int) -> None:
        self.generator = generator
        self.count = count

    def draw_uniform(self, low: float, high: float) -> Values:
        """Uniform values."""
        draw = self.generator.random((self.count, 1, 1), dtype=np.float32)
        return draw * np.float32(high - low) + np.float32(low)

    def draw_bell(self, middle: float, spread: float) -> Values:
        """Bell-shaped values within two spreads of the middle: the mean of three uniform ones."""
        draw = self.generator.random((self.count, 1, 1, 3), dtype=np.float32)
        mean = (draw[..., 0] + draw[..., 1] + draw[..., 2]) / np.float32(3)
        return (mean * np.float32(2) - np.float32(1)) * np.float32(2 * spread) + np.float32(middle)

    def draw_indicator(self, probability: float) -> Values:
        """1 with this probability, else 0."""
        return (self.generator.random((self.count, 1, 1), dtype=np.float32) < probability).astype(np.float32)

    def choose(self, probability: float, first: Values, second: Values) -> Values:
        """The first value with this probability, else the second."""
        return select_values(self.draw_indicator(probability), first, second)

    def draw_noise(self, cells: int) -> Map:
        """Smooth noise in -1..1 of cells x cells random values, or of single pixels with cells=SIDE."""
        noise = self.generator.random((self.count, cells, cells), dtype=np.float32) * np.float32(2) - np.float32(1)
        if cells == IMAGE_SIDE:
            return noise
        low, weight = _interpolate_cells(cells)
        rows = noise[:, low] * (1 - weight[:, None]) + noise[:, low + 1] * weight[:, None]
        return rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight


def select_values(which: Values, first: Values, second: Values) -> Values:
    """The first value where `which` is 1, the second where it is 0."""
    values: Values = np.where(which > 0, first, second).astype(np.float32, copy=False)
    return values


def _interpolate_cells(cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each pixel: the cell before it, and how far it is towards the next."""
    position = np.arange(IMAGE_SIDE) * (cells - 1) / (IMAGE_SIDE - 1)
    low = np.minimum(position.astype(np.int64), cells - 2)
    return low, (position - low).astype(np.float32)


class Grid(NamedTuple):
    """Pixel positions from the garment's centre, in pixels, jittered for each image.

    x: (m, 28, 28), rightwards; y: (m, 28, 1), downwards.
    """

    x: Map
    y: Map


def make_grid(dice: Dice, *, shift: float, stretch: float, shear: float) -> Grid:
    """A grid for each image, moved, scaled and slanted by a little."""
    positions = np.arange(IMAGE_SIDE, dtype=np.float32) - np.float32((IMAGE_SIDE - 1) / 2)
    y = (positions[None, :, None] - dice.draw_bell(0, shift)) / dice.draw_bell(1, stretch)
    x = (positions[None, None, :] - dice.draw_bell(0, shift)) / dice.draw_bell(1, stretch)
    return Grid(x + y * dice.draw_bell(0, shear), y)


def cover_inside(distance: Map) -> Map:
    """Coverage 0..1 of a pixel this far inside an edge (negative: outside)."""
    coverage: Map = np.clip(distance + np.float32(0.5), 0, 1)
    return coverage


def unite_coverages(first: Map, second: Map) -> Map:
    """The union of two coverages."""
    return np.maximum(first, second)


def draw_profile(positions: Map, knots: list[float | Values], values: list[float | Values]) -> Map:
    """A smooth curve through (knot, value) pairs, flat beyond both ends; evaluated at `at`."""
    curve = np.zeros_like(positions) + values[0]
    for k in range(len(knots) - 1):
        t = np.clip((positions - knots[k]) / (knots[k + 1] - knots[k]), 0, 1)
        curve = curve + (values[k + 1] - values[k]) * (t * t * (np.float32(3) - np.float32(2) * t))
    return curve


def draw_limb(
    x: Map, y: Map, start: tuple[Values, Values], extent: tuple[Values, Values], radii: tuple[Values, Values]
) -> Map:
    """Coverage of a straight limb from `start` by `reach`, tapering from the first radius to the second."""
    (x0, y0), (dx, dy), (thick, thin) = start, extent, radii
    px, py = x - x0, y - y0
    fraction = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
    ox, oy = px - fraction * dx, py - fraction * dy
    distance: Map = np.sqrt(ox * ox + oy * oy)
    return cover_inside(thick + (thin - thick) * fraction - distance)


def draw_wave(positions: Map, period: Values, phase: Values) -> Map:
    """A triangle wave 0..1."""
    turns = positions / period + phase
    triangle: Map = np.abs((turns - np.floor(turns)) * np.float32(2) - np.float32(1))
    return triangle


def draw_line(distance: Map, width: float | Values) -> Map:
    """Coverage of a line of this half-width, where `distance` is that from its middle."""
    offset: Map = np.abs(distance)
    return cover_inside(width - offset)


class Garment(NamedTuple):
    """Coverage 0..1 and brightness factor (about 1) of each pixel."""

    cover: Map
    shade: Map
