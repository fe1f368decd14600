"""A drawn T-shirt as a picture file, and how near to an image it is read back."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fmnist_sweep.data import Split, load_splits
from fmnist_sweep.data.pictures.photographs import Photograph, read_photograph
from tests.conftest import data_config


def draw_shirt(size: tuple[int, int], scale: float, fill: Any, ground: Any, mode: str = "RGB") -> Image.Image:
    """A T-shirt in the middle of a picture, 20 by 24 times `scale` pixels."""
    image = Image.new(mode, size, ground)
    outline = [(-4, -12), (4, -12), (10, -8), (8, -4), (5, -5), (5, 12), (-5, 12), (-5, -5), (-8, -4), (-10, -8)]
    ImageDraw.Draw(image).polygon([(size[0] / 2 + x * scale, size[1] / 2 + y * scale) for x, y in outline], fill=fill)
    return image


def draw_small_shirt() -> Image.Image:
    """A 28x28 picture as Fashion-MNIST has them, brighter on the right."""
    shirt = np.asarray(draw_shirt((28, 28), 1, 255, 0, "L"))
    return Image.fromarray((shirt * np.linspace(0.6, 1, 28)).round().astype(np.uint8))


def take(image: Image.Image, folder: Path, name: str = "picture.png", **saving: Any) -> Photograph:
    image.save(folder / name, **saving)
    return read_photograph(folder / name)


def get_pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)[:, :, None]


def measure_difference(photograph: Photograph, original: NDArray[np.uint8]) -> float:
    return float(np.abs(photograph.pixels.astype(int) - original).mean())


@cache
def load_real(count: int) -> Split:
    """Validation images of the training file, the labels mixed."""
    return load_splits(data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=count * 5)).validation


def measure_agreement(photograph: Photograph, original: NDArray[np.uint8]) -> float:
    """The correlation of two images' pixels: about -0.5 if the polarity is wrong."""
    return float(np.corrcoef(photograph.pixels.ravel(), original.ravel())[0, 1])
