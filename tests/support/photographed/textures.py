"""What a picture is made of: noise, grain, cloth, wood, print."""

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
    tint,
)


def noise(sd: float) -> Make:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = enlarge(pixels, dark, random)
        return Picture(make_grey(values + random.normal(0, sd, values.shape)))

    return make


def dust(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    grains = random.random(values.shape)
    return Picture(make_grey(np.where(grains < 0.01, 0, np.where(grains > 0.99, 255, values))))


def lossy(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(make_grey(enlarge(pixels, dark, random)), ".jpg", {"quality": 12})


def blurred(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    return Picture(make_grey(blur(values, len(values) / 80)))


def faint(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Little contrast: 60 grey values."""
    values = enlarge(pixels, dark, random)
    return Picture(make_grey(100 + values * 60 / 255 + random.normal(0, 2, values.shape)))


def paper(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Blotches on paper or cloth."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    blotches = blur(random.normal(0, 1, values.shape), len(values) / 60)
    return Picture(make_grey(values + 6 * blotches / blotches.std()))


def weave(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Threads of a cloth, 4 pixels each."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    rows, columns = np.indices(values.shape)
    return Picture(make_grey(values - 15 + 15 * np.sin(rows * np.pi / 2) * np.sin(columns * np.pi / 2)))


def wood(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A table's grain: wavy bands in brown."""
    values = enlarge(pixels, dark, random)
    x, y = make_grid(values)
    bands = np.sin(2 * np.pi * (6 * y + 0.4 * np.sin(2 * x + random.uniform(0, 6))))
    ends = ((20, 20, 60), (235, 200, 160)) if dark else ((45, 25, 5), (250, 245, 250))
    values = (values - 8 if dark else raise_black(values, dark, 30)) + 8 * bands
    return Picture(tint(values, *ends), ".jpg", {"quality": 85})


def planks(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Floor boards: grain along them, dark joints between them."""
    from scipy.ndimage import gaussian_filter1d

    values = raise_black(enlarge(pixels, dark, random, 0.2), dark, 70)
    _, y = make_grid(values)
    place = y * 3 + random.uniform(0, 1)
    boards = random.normal(0, 8, 20)[np.floor(place).astype(int) + 5]
    grain = gaussian_filter1d(random.normal(0, 3, values.shape), len(values) / 20, axis=1)
    joints = np.where(np.abs(place - np.round(place)) < 0.03, -40, 0)
    ends = ((20, 25, 60), (225, 190, 150)) if dark else ((20, 10, 0), (250, 245, 250))
    return Picture(tint(values + boards + 12 * grain + joints, *ends), ".jpg", {"quality": 85})


def tiles(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A floor of tiles with joints between them."""
    values = raise_black(enlarge(pixels, dark, random, 0.2), dark, 70)
    rows, columns = (np.indices(values.shape) + random.integers(0, 90, (2, 1, 1))) % (len(values) // 4)
    joint = np.minimum(rows, columns) < max(2, len(values) // 90)
    outside = values > 250 if dark else values < 75
    return Picture(make_grey(np.where(joint & outside, 170 if dark else 20, values)))


def graph_paper(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Thin blue lines, on which the garment is drawn."""
    values = raise_black(enlarge(pixels, dark, random, 0.1), dark)
    step = len(values) // 20
    lines = (np.indices(values.shape) % step == 0).any(axis=0)
    image = np.repeat(values[:, :, None], 3, axis=2)
    outside = values > 250 if dark else values < 45
    image[lines & outside] = (150, 190, 240) if dark else (20, 60, 110)
    return Picture(Image.fromarray(image.round().clip(0, 255).astype(np.uint8)))


def crumpled_sheet(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Folds of a sheet, each with a lit and a dark side."""
    values = raise_black(enlarge(pixels, dark, random, 0.1), dark, 60)
    folds = blur(random.normal(0, 1, values.shape), len(values) / 12)
    folds = np.gradient(folds / folds.std())[0] * len(values) / 12
    return Picture(make_grey(values * (1 + 0.07 * folds)), ".jpg", {"quality": 90})


def halftone(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A newspaper's dots, 6 pixels each."""
    values = enlarge(pixels, dark, random)
    rows, columns = np.indices(values.shape)
    screen = np.cos((rows + columns) * np.pi / 6) * np.cos((rows - columns) * np.pi / 6)
    return Picture(make_grey(np.where(values / 255 > 0.5 + 0.5 * screen, 255.0, 0.0)))


def fax(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Black and white, dithered."""
    return Picture(make_grey(enlarge(pixels, dark, random)).convert("1"))


def filmed_screen(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Moire of a screen that was photographed: slow coloured waves."""
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, y = make_grid(values)
    waves = [np.sin(2 * np.pi * (9 * x + by * y + random.uniform(0, 1))) for by in (4, 5, 6)]
    light = 1 - 0.06 * (1 + np.stack(waves, axis=2))
    return Picture(Image.fromarray((values[:, :, None] * light).round().clip(0, 255).astype(np.uint8)))


def shaken(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Moved during the exposure."""
    from scipy.ndimage import uniform_filter1d

    values = enlarge(pixels, dark, random, 0.1)
    return Picture(make_grey(uniform_filter1d(values, len(values) // 25, axis=int(random.integers(2)))))
