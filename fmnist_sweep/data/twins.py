"""Images that are nearly the same picture: the canonical files repeat none byte for byte, but some almost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Euclidean distance in grey levels: 7 a pixel, as another compression of one photograph leaves them. Of the canonical
# files' 10,000 test images, 10 lie that near to a training image. Of images of another size: as much a number.
TWIN_DISTANCE, _TWIN_NUMBERS = 202.0, 784
_BLOCK_SIDE = 7  # pixels a side of the blocks that are compared first: 16 numbers an image
_PAIRS_PER_BATCH = 20_000  # pairs compared pixel by pixel


def find_near_twins(
    images: NDArray[np.uint8], reference: NDArray[np.uint8], distance: float | None = None
) -> NDArray[np.bool_]:
    """Mask (n,) of the images that lie within `distance` of some image of `reference`.

    images: (n, height, width, channels), reference: (m, ...) of the same, both 0..255; distance: Euclidean, in grey
    levels over all pixels; None: TWIN_DISTANCE, in proportion to the root of their number.
    Exact: sums over blocks of pixels, divided by the block's side, lie no further apart than the images do (Cauchy and
    Schwarz), so only pairs that are near in these are compared pixel by pixel. About 1 s of processor time for 6,000
    images against 54,000.
    """
    from scipy.spatial import cKDTree

    has_twin = np.zeros(len(images), bool)
    if not len(images) or not len(reference):
        return has_twin
    if distance is None:
        distance = TWIN_DISTANCE * math.sqrt(math.prod(images.shape[1:]) / _TWIN_NUMBERS)
    # The margin is for float32, which rounds sums of this size by far less.
    candidates = cKDTree(_sum_blocks(reference)).query_ball_point(_sum_blocks(images), distance + 0.1)
    rows = np.repeat(np.arange(len(images)), [len(indices) for indices in candidates])
    columns = np.concatenate([np.asarray(indices, np.int64) for indices in candidates])
    for start in range(0, len(rows), _PAIRS_PER_BATCH):
        batch = slice(start, start + _PAIRS_PER_BATCH)
        is_close = _square_distances(images[rows[batch]], reference[columns[batch]]) <= distance**2
        has_twin[rows[batch][is_close]] = True
    return has_twin


def _sum_blocks(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sums over blocks, divided by a block's side."""
    height, width, channels = images.shape[1:]
    down, across = -height % _BLOCK_SIDE, -width % _BLOCK_SIDE
    if down or across:  # zeros at the edge of both change no distance
        images = np.pad(images, ((0, 0), (0, down), (0, across), (0, 0)))
    rows, columns = images.shape[1] // _BLOCK_SIDE, images.shape[2] // _BLOCK_SIDE
    blocks = images.reshape(len(images), rows, _BLOCK_SIDE, columns, _BLOCK_SIDE, channels)
    sums: NDArray[Any] = blocks.sum(axis=(2, 4), dtype=np.float32)
    return np.asarray(sums.reshape(len(images), -1) / _BLOCK_SIDE, np.float32)


def _square_distances(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Squared distances of pairs of images."""
    difference = (one.astype(np.int32) - other.astype(np.int32)).reshape(len(one), -1)
    return np.asarray(np.einsum("ij,ij->i", difference, difference, dtype=np.int64))
