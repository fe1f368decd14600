"""Where the garment is in a picture, and on what: small, askew, over the edge, on two grounds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.support.photographed.drawing import Make, Picture, Pixels, enlarge, make_grey, make_grid, raise_black


def tiny(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = Image.fromarray(255 - pixels if dark else pixels).resize((40, 40), Image.Resampling.BICUBIC)
    return Picture(values)


def table_edge(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A wall above, a table below: two grounds."""
    values = enlarge(pixels, dark, random, 0.2)
    _, y = make_grid(values)
    lower = y > random.uniform(0.2, 0.6)
    return Picture(
        make_grey(np.where(lower, values * 0.8, values) if dark else np.where(lower, 60 + values * 0.75, values))
    )


def two_grounds(across: str) -> Make:
    """A ground of one brightness and one of another, side by side or corner to corner."""

    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = enlarge(pixels, dark, random, 0.2)
        x, y = make_grid(values)
        place = {"sides": x, "corners": x + y}[across] > random.uniform(-0.3, 0.3)
        other = values * 0.75 if dark else 65 + values * 0.7
        return Picture(make_grey(np.where(place, other, values)))

    return make


def small_in_a_large_picture(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A twelfth of the width, somewhere."""
    canvas = np.full((1200, 1600), 250.0 if dark else 12.0)
    garment = np.asarray(Image.fromarray(pixels).resize((140, 140), Image.Resampling.BICUBIC), np.float64)
    top, left = random.integers(50, 1000), random.integers(50, 1400)
    place = canvas[top : top + 140, left : left + 140]
    place[:] = place - garment * 230 / 255 if dark else place + garment * 230 / 255
    return Picture(make_grey(canvas + random.normal(0, 3, canvas.shape)), ".jpg", {"quality": 85})


def cropped_tight(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """No background beyond the garment's own box."""
    rows, columns = np.flatnonzero(pixels.max(axis=1) > 12), np.flatnonzero(pixels.max(axis=0) > 12)
    cut = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = (cut.shape[1] * 12, cut.shape[0] * 12)
    image = Image.fromarray(255 - cut if dark else cut).resize(size, Image.Resampling.BICUBIC)
    return Picture(image, ".jpg", {"quality": 90})


def over_the_edge(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A side of the garment, up to a tenth, is outside."""
    image = make_grey(raise_black(enlarge(pixels, dark, random, 0.1), dark))
    cut = round(image.width * random.uniform(0.12, 0.18))
    side = random.integers(4)
    box = [0, 0, image.width, image.height]
    box[side] += cut if side < 2 else -cut
    return Picture(image.crop((box[0], box[1], box[2], box[3])))


def askew(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Turned by three degrees, the background going on."""
    values = enlarge(pixels, dark, random, 0.1)
    ground = 255 if dark else 0
    return Picture(make_grey(values).rotate(random.choice([-3, 3]), Image.Resampling.BICUBIC, fillcolor=ground))


def askew_with_black_corners(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Straightened by a tool that leaves the corners black."""
    image = make_grey(raise_black(enlarge(pixels, dark, random, 0.15), dark))
    return Picture(image.rotate(random.choice([-3, 3]), Image.Resampling.BICUBIC, fillcolor=0, expand=True))


def wide(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A picture of 16:9, the garment at one side."""
    values = enlarge(pixels, dark, random, 0.05)
    room = round(len(values) * 0.78)
    left = int(random.integers(0, room))
    return Picture(make_grey(np.pad(values, ((0, 0), (left, room - left)), constant_values=255 if dark else 0)))
