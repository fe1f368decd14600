"""The drawing tools of the silhouettes: seeded dice, a pixel grid, and soft-edged shapes for a whole batch.

This module and those that draw with it use only operations whose result IEEE 754 fixes to the last bit (+ - * / sqrt
and comparisons; no exp, sin or matrix product). The same seed therefore gives the same bytes, and the same data hash,
on every machine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import IMAGE_SIDE

# Values: one for each image, (m, 1, 1). Map: broadcasts to (m, 28, 28). Both are float32, but NumPy's stubs lose that
# in arithmetic with Python numbers.
Values = NDArray[np.floating[Any]]
Map = NDArray[np.floating[Any]]


class Dice:
    """Random values for a batch of m images; the order of the calls decides which values come."""

    def __init__(self, generator: np.random.Generator, count: int) -> None:
        self.generator = generator
        self.count = count

    def draw_uniform(self, low: float, high: float) -> Values:
        """Draw uniform values from low to high."""
        draw = self.generator.random((self.count, 1, 1), dtype=np.float32)
        return draw * np.float32(high - low) + np.float32(low)

    def draw_bell(self, middle: float, spread: float) -> Values:
        """Draw bell-shaped values within two spreads of the middle: means of three uniform values."""
        draw = self.generator.random((self.count, 1, 1, 3), dtype=np.float32)
        mean = (draw[..., 0] + draw[..., 1] + draw[..., 2]) / np.float32(3)
        return (mean * np.float32(2) - np.float32(1)) * np.float32(2 * spread) + np.float32(middle)

    def draw_indicator(self, probability: float) -> Values:
        """Draw 1 with this probability, else 0."""
        return (self.generator.random((self.count, 1, 1), dtype=np.float32) < probability).astype(np.float32)

    def choose(self, probability: float, first: Values, second: Values) -> Values:
        """Choose the first value with this probability, else the second."""
        return select_values(self.draw_indicator(probability), first, second)

    def draw_noise(self, cells: int) -> Map:
        """Draw smooth noise in -1..1, interpolated from cells x cells values; with cells=28, one value a pixel."""
        noise = self.generator.random((self.count, cells, cells), dtype=np.float32) * np.float32(2) - np.float32(1)
        if cells == IMAGE_SIDE:
            return noise
        low, weight = _interpolate_cells(cells)
        rows = noise[:, low] * (1 - weight[:, None]) + noise[:, low + 1] * weight[:, None]
        return rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight


def select_values(which: Values, first: Values, second: Values) -> Values:
    """Select the first value where `which` is 1, the second where it is 0."""
    values: Values = np.where(which > 0, first, second).astype(np.float32, copy=False)
    return values


def _interpolate_cells(cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find, for each pixel, the cell before it and the weight (0..1) of the cell after it."""
    position = np.arange(IMAGE_SIDE) * (cells - 1) / (IMAGE_SIDE - 1)
    low = np.minimum(position.astype(np.int64), cells - 2)
    return low, (position - low).astype(np.float32)


class Grid(NamedTuple):
    """Positions of the pixels relative to the garment's centre, in pixels, jittered for each image.

    x: (m, 28, 28), rightwards; y: (m, 28, 1), downwards.
    """

    x: Map
    y: Map


def make_grid(dice: Dice, *, shift: float, stretch: float, shear: float) -> Grid:
    """Make a grid for each image, slightly moved, scaled and slanted."""
    positions = np.arange(IMAGE_SIDE, dtype=np.float32) - np.float32((IMAGE_SIDE - 1) / 2)
    y = (positions[None, :, None] - dice.draw_bell(0, shift)) / dice.draw_bell(1, stretch)
    x = (positions[None, None, :] - dice.draw_bell(0, shift)) / dice.draw_bell(1, stretch)
    return Grid(x + y * dice.draw_bell(0, shear), y)


def cover_inside(distance: Map) -> Map:
    """Compute the coverage, 0..1, of a pixel this far inside an edge (negative: outside)."""
    coverage: Map = np.clip(distance + np.float32(0.5), 0, 1)
    return coverage


def unite_coverages(first: Map, second: Map) -> Map:
    """Unite two coverages."""
    return np.maximum(first, second)


def draw_profile(positions: Map, knots: list[float | Values], values: list[float | Values]) -> Map:
    """Evaluate, at `positions`, a smooth curve through (knot, value) pairs that is flat beyond both ends."""
    curve = np.zeros_like(positions) + values[0]
    for k in range(len(knots) - 1):
        t = np.clip((positions - knots[k]) / (knots[k + 1] - knots[k]), 0, 1)
        curve = curve + (values[k + 1] - values[k]) * (t * t * (np.float32(3) - np.float32(2) * t))
    return curve


def draw_limb(
    x: Map, y: Map, start: tuple[Values, Values], extent: tuple[Values, Values], radii: tuple[Values, Values]
) -> Map:
    """Draw a straight limb that extends from `start` by `extent` and tapers from the first radius to the second."""
    (x0, y0), (dx, dy), (thick, thin) = start, extent, radii
    px, py = x - x0, y - y0
    fraction = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
    ox, oy = px - fraction * dx, py - fraction * dy
    distance: Map = np.sqrt(ox * ox + oy * oy)
    return cover_inside(thick + (thin - thick) * fraction - distance)


def draw_wave(positions: Map, period: Values, phase: Values) -> Map:
    """Evaluate a triangle wave, 0..1."""
    turns = positions / period + phase
    triangle: Map = np.abs((turns - np.floor(turns)) * np.float32(2) - np.float32(1))
    return triangle


def draw_line(distance: Map, width: float | Values) -> Map:
    """Draw a line of half-width `width`; `distance` is each pixel's distance from its middle."""
    offset: Map = np.abs(distance)
    return cover_inside(width - offset)


class Garment(NamedTuple):
    """Garments of a batch: each pixel's coverage (0..1) and brightness factor (about 1)."""

    cover: Map
    shade: Map
