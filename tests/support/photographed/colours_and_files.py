"""The colours of a picture and how it is stored."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from tests.support.photographed.drawing import (
    Picture,
    Pixels,
    blur,
    enlarge,
    make_grey,
    make_grid,
    raise_black,
    tint,
)


def colours(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A blue garment on beige, or a yellow one on green."""
    values = enlarge(pixels, dark, random)
    ends = ((20, 40, 130), (240, 225, 200)) if dark else ((10, 70, 40), (250, 230, 120))
    return Picture(tint(values, *ends), ".jpg", {"quality": 90})


def warm_light(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = raise_black(enlarge(pixels, dark, random), dark)
    x, _ = make_grid(values)
    light = np.stack([np.ones_like(x), 0.88 - 0.06 * x, 0.65 - 0.1 * x], axis=2)
    return Picture(Image.fromarray((values[:, :, None] * light).round().clip(0, 255).astype(np.uint8)))


def turned(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Stored lying, as a phone held upright stores it, with the EXIF orientation that says so."""
    image = make_grey(enlarge(pixels, dark, random))
    orientation, stored = (
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (3, Image.Transpose.ROTATE_180),
    )[random.integers(3)]
    exif = Image.Exif()
    exif[274] = orientation
    return Picture(image.transpose(stored), ".jpg", {"quality": 90, "exif": exif})


def palette(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A GIF of eight grey values, dithered."""
    return Picture(make_grey(enlarge(pixels, dark, random)).convert("RGB").quantize(8), ".gif")


def cut_out(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The garment alone; all round it is transparent."""
    values = enlarge(pixels, dark, random)
    alpha = (255 - values if dark else values) * 12
    image = make_grey(values).convert("RGBA")
    image.putalpha(make_grey(alpha))
    return Picture(image)


def window(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A window with round corners and a transparent shadow, as a desktop saves it."""
    values = enlarge(pixels, dark, random)
    side, wide = len(values), len(values) // 8
    mask = Image.new("L", (side + 2 * wide,) * 2, 0)
    ImageDraw.Draw(mask).rounded_rectangle((wide, wide, wide + side - 1, wide + side - 1), side / 30, fill=255)
    shadow = blur(np.asarray(mask, np.float64) * 0.4, wide / 3)
    image = Image.fromarray(np.zeros((*shadow.shape, 4), np.uint8))
    image.paste(make_grey(values).convert("RGBA"), (wide, wide))
    image.putalpha(make_grey(np.maximum(shadow, np.asarray(mask))))
    return Picture(image)


def sepia(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(tint(enlarge(pixels, dark, random), (60, 35, 15), (240, 215, 170)), ".jpg", {"quality": 80})


def sixteen_bits(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A scanner's 16-bit grey, with noise beneath 8 bits and a background that is not quite even."""
    values = 256 * (20 + enlarge(pixels, dark, random) * 0.8)
    values = (values + random.normal(0, 300, values.shape)).clip(0, 65535)
    return Picture(Image.fromarray(values.astype(np.uint16)))


def sixteen_bits_of_twelve(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A microscope's or an X-ray's 12 bits in a 16-bit file: all is below 4096."""
    values = enlarge(pixels, dark, random)
    return Picture(Image.fromarray((values * 16).clip(0, 4095).astype(np.uint16)))


def palette_with_transparency(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A logo's PNG: 16 colours, one of which is transparent."""
    image = make_grey(enlarge(pixels, dark, random)).convert("RGB").quantize(16)
    ground = image.getpixel((0, 0))
    return Picture(image, ".png", {"transparency": ground})


def grey_with_alpha(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Cut out by a soft brush: the rim is half transparent."""
    values = enlarge(pixels, dark, random, 0.1)
    strength = 255 - values if dark else values
    image = make_grey(values).convert("LA")
    image.putalpha(make_grey(blur(np.where(strength > 8, 255.0, 0.0), len(values) / 60)))
    return Picture(image)


def saved_often(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Sent on by messenger after messenger: ten times JPEG, each time a little smaller."""
    image = make_grey(enlarge(pixels, dark, random))
    for _ in range(10):
        content = io.BytesIO()
        image.resize((round(image.width * 0.97), round(image.height * 0.97))).save(content, "JPEG", quality=40)
        image = Image.open(content)
    return Picture(image, ".jpg", {"quality": 40})


def alike_in_grey(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A red garment on green: grey differs less than colour."""
    values = enlarge(pixels, dark, random)
    ends = ((170, 20, 20), (120, 190, 110)) if dark else ((20, 70, 30), (235, 120, 110))
    return Picture(tint(values, *ends))
