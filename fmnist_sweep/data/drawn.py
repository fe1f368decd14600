"""The stand-in this project draws itself: ten kinds of garments that look like Fashion-MNIST and are not.

It exists so that everything runs, and a better model scores better, on a machine that cannot have the real
data.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import IMAGE_SIDE
from fmnist_sweep.data.shapes import Dice, make_grid
from fmnist_sweep.data.silhouettes import GARMENTS

# Raised with every change that changes a pixel.
VERSION = 1
# Few enough that the maps of a chunk stay in the processor's cache.
CHUNK = 128
STREAMS = ("train", "test")


def draw_images(
    n: int, seed: int, stream: Literal["train", "test"] = "train"
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw n garments: images (n, 28, 28, 1) uint8 and labels (n,), balanced within one and shuffled.

    The same n, seed and stream give the same bytes on every machine; the streams share no image.
    """
    number = STREAMS.index(stream)
    labels = np.arange(n, dtype=np.int64) % len(GARMENTS)
    np.random.default_rng([VERSION, seed, number]).shuffle(labels)
    images = np.empty((n, IMAGE_SIDE, IMAGE_SIDE, 1), dtype=np.uint8)
    for label in range(len(GARMENTS)):
        places = np.flatnonzero(labels == label)
        for chunk, start in enumerate(range(0, len(places), CHUNK)):
            generator = np.random.default_rng([VERSION, seed, number, label, chunk])
            chunk_places = places[start : start + CHUNK]
            images[chunk_places, :, :, 0] = _draw_chunk(label, Dice(generator, len(chunk_places)))
    return images, labels


def _draw_chunk(label: int, dice: Dice) -> NDArray[np.uint8]:
    """A chunk of images of one label, (m, 28, 28): the garment in a tone, with folds and grain."""
    grid = make_grid(dice, shift=0.7, stretch=0.08, shear=0.07)
    garment = GARMENTS[label](grid, dice)
    # Most garments are photographed pale on black; a few are dark.
    tone = dice.choose(0.65, dice.draw_uniform(0.5, 1.0), dice.draw_uniform(0.1, 0.5))
    folds = 1 + dice.draw_noise(6) * dice.draw_uniform(0.05, 0.3)
    noise = dice.draw_noise(IMAGE_SIDE) * dice.draw_uniform(0.0, 0.06)
    value = garment.cover * np.clip(tone * garment.shade * folds + noise, 0.02, 1)
    # Adding a half and cutting off rounds to the nearest.
    pixels: NDArray[np.uint8] = (value * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return pixels
