"""What grows over the epochs of a training: the side of its images, and its batches.

Both follow from the number of the epoch alone, so that a training continues exactly, wherever it was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import IMAGE_SIDE
from fmnist_sweep.training.poolings import count_poolings

MIN_SIDE = 2 ** count_poolings(IMAGE_SIDE)  # of images that are shrunk: the last pooling must leave a pixel of them
MAX_BATCH = 65536

_CHUNK = 4096  # images shrunk at once: as numbers they take four times the memory


def compute_side(train: Mapping[str, Any], epoch: int, full_side: int) -> int:
    """The shorter side, in pixels, of the images of an epoch (from 1) by a resolved `train` section.

    full_side: that of the images as they are.
    """
    resolution = train.get("resolution")
    if resolution is None:
        return full_side
    return min(full_side, int(resolution["start"] + resolution["step"] * ((epoch - 1) // resolution["every"])))


def compute_batch_size(train: Mapping[str, Any], epoch: int) -> int:
    """The images in a batch of an epoch (from 1) by a resolved `train` section; at most MAX_BATCH."""
    first, growth = int(train["batch_size"]), train.get("batch_growth")
    if growth is None:
        return first
    factor, times = float(growth["factor"]), (epoch - 1) // int(growth["every"])
    if math.log(first) + times * math.log(factor) > math.log(MAX_BATCH):  # the power may be beyond all numbers
        return MAX_BATCH
    size: int = round(first * factor**times)
    return min(MAX_BATCH, size)


def shrink_images(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Make images (n, height, width, channels) smaller, so that their shorter side has `side` pixels.

    A pixel is the mean of the area that it covers, rounded half up: computed in whole numbers, so that it is the same
    on every machine. Images of that side are returned as they are.
    """
    n, height, width, channels = images.shape
    shorter = min(height, width)
    if side >= shorter:
        return images
    new_height, new_width = (_round_half_up(length * side, shorter) for length in (height, width))
    shrunk = np.empty((n, new_height, new_width, channels), np.uint8)
    rows, columns = _count_overlaps(height, new_height), _count_overlaps(width, new_width)
    for start in range(0, n, _CHUNK):
        sums = np.tensordot(images[start : start + _CHUNK].astype(rows.dtype), rows, (1, 1))  # (n, width, channels, h)
        sums = np.tensordot(sums, columns, (1, 1)).astype(np.int64)  # (n, channels, new height, new width)
        shrunk[start : start + _CHUNK] = np.moveaxis(_round_half_up(sums, height * width), 1, -1)
    return shrunk


def _round_half_up(dividend: Any, divisor: int) -> Any:
    return (2 * dividend + divisor) // (2 * divisor)


def _count_overlaps(length: int, new_length: int) -> NDArray[np.float64]:
    """How much of each old pixel each new one covers, in parts of an old one: (new_length, length), rows sum to length.

    They are whole numbers, and so are the sums made of them, which float64 holds exactly: at most 255 * 512**2.
    """
    edges = np.arange(length + 1) * new_length
    new_edges = np.arange(new_length + 1) * length
    ends = np.minimum(edges[None, 1:], new_edges[1:, None])
    starts = np.maximum(edges[None, :-1], new_edges[:-1, None])
    overlaps: NDArray[np.float64] = np.maximum(0, ends - starts).astype(np.float64)
    return overlaps
