"""The light on a picture: vignettes, lamps, shadows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.support.photographed.drawing import (
    Make,
    Picture,
    Pixels,
    blur,
    enlarge,
    make_grey,
    make_grid,
    raise_black,
)


def plain(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(Image.fromarray(255 - pixels if dark else pixels))


def enlarged(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(make_grey(enlarge(pixels, dark, random)))


def enlarged_to_the_edge(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(Image.fromarray(255 - pixels if dark else pixels).resize((280, 280), Image.Resampling.NEAREST))


def vignette(by: float) -> Make:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = raise_black(enlarge(pixels, dark, random), dark)
        x, y = make_grid(values)
        return Picture(make_grey(values * (1 - by * (x**2 + y**2) / 2)))

    return make


def lens_vignette(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """cos^4 of the angle to the lens' axis, which does not go through the middle."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, y = make_grid(values)
    dx, dy = random.uniform(-0.3, 0.3, 2)
    return Picture(make_grey(values / (1 + 0.25 * ((x - dx) ** 2 + (y - dy) ** 2)) ** 2), ".jpg", {"quality": 90})


def light_from_a_side(by: float) -> Make:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = raise_black(enlarge(pixels, dark, random), dark)
        x, y = make_grid(values)
        angle = random.uniform(0, 2 * np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        return Picture(make_grey(values * (1 - by * (along - along.min()) / np.ptp(along))))

    return make


def lamp(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A bright spot behind the garment, anywhere."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, y = make_grid(values)
    centre = random.uniform(-0.8, 0.8, 2)
    spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.8)
    return Picture(make_grey(values * (0.65 + 0.35 * spot)))


def soft_shadow(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The garment's own shadow, moved and blurred."""
    values = enlarge(pixels, True, random, 0.2)
    side = len(values)
    shadow = blur((values < 230).astype(np.float64), side / 25)
    shifts = [round(side * by) for by in random.uniform(0.01, 0.05, 2)]
    shadow = np.roll(shadow, shifts, (0, 1))
    return Picture(make_grey(np.minimum(values, 255 - 70 * shadow)))


def edge_of_a_shadow(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Half of the picture lies in a shadow."""
    values = raise_black(enlarge(pixels, dark, random, 0.2), dark)
    x, y = make_grid(values)
    angle = random.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle) - random.uniform(-0.4, 0.4)
    return Picture(make_grey(values * (1 - 0.2 / (1 + np.exp(along / 0.08)))))


def hard_shadow(by: float) -> Make:
    """Half of the picture lies in a shadow with a sharp edge."""

    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = raise_black(enlarge(pixels, dark, random), dark)
        x, y = make_grid(values)
        angle = random.uniform(0, 2 * np.pi)
        shaded = x * np.cos(angle) + y * np.sin(angle) > random.uniform(-0.4, 0.4)
        return Picture(make_grey(values * np.where(shaded, 1 - by, 1)))

    return make


def window_bars(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Sun through a window: slanting stripes of shadow."""
    values = raise_black(enlarge(pixels, dark, random, 0.1), dark)
    x, y = make_grid(values)
    stripes = np.sin(2 * np.pi * (1.5 * (x + 0.6 * y) + random.uniform(0, 1)))
    return Picture(make_grey(values * (1 - 0.25 / (1 + np.exp(-stripes / 0.1)))), ".jpg", {"quality": 90})


def two_lamps(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A red lamp on the left, a blue one on the right."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, _ = make_grid(values)
    light = np.stack([0.8 - 0.2 * x, np.full_like(x, 0.7), 0.8 + 0.2 * x], axis=2)
    return Picture(Image.fromarray((values[:, :, None] * light).round().clip(0, 255).astype(np.uint8)))


def glare(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A lamp mirrored in a glossy print: a white spot somewhere."""
    values = raise_black(enlarge(pixels, dark, random, 0.1), dark)
    x, y = make_grid(values)
    centre = random.uniform(-0.7, 0.7, 2)
    spot = np.exp(-((((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.03) ** 2))
    return Picture(make_grey(values + (255 - values) * spot))


def dusk(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Little light from a side, and the noise of a small sensor."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, y = make_grid(values)
    values = 90 * (values / 255) ** 1.4 * (1 + 0.3 * (x * random.choice([-1, 1]) + y * random.choice([-1, 1])))
    return Picture(make_grey(12 + values + random.normal(0, 4, values.shape)), ".jpg", {"quality": 75})


def overexposed(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(make_grey(raise_black(enlarge(pixels, dark, random), dark) * 1.5))
