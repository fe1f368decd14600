"""Images that are nearly the same picture: the canonical files repeat none byte for byte, but some almost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Euclidean distance in grey levels: 7 a pixel, as another compression of one photograph leaves them. Of the canonical
# files' 10,000 test images, 10 lie that near to a training image.
NEAR = 202.0
_BLOCK = 7  # pixels a side of the blocks that are compared first: 16 numbers an image
_AT_ONCE = 20_000  # pairs compared pixel by pixel


def near(images: NDArray[np.uint8], beside: NDArray[np.uint8], distance: float = NEAR) -> NDArray[np.bool_]:
    """Which images have a twin in `beside`: one at most `distance` away; (n,) booleans.

    images: (n, 28, 28, 1), beside: (m, 28, 28, 1), both 0..255; distance: Euclidean, in grey levels over all pixels.
    Exact: sums over blocks of pixels, divided by the block's side, lie no further apart than the images do (Cauchy and
    Schwarz), so only pairs that are near in these are compared pixel by pixel. About 1 s of processor time for 6,000
    images beside 54,000.
    """
    from scipy.spatial import cKDTree

    found = np.zeros(len(images), bool)
    if not len(images) or not len(beside):
        return found
    # The margin is for float32, which rounds sums of this size by far less.
    candidates = cKDTree(_coarse(beside)).query_ball_point(_coarse(images), distance + 0.1)
    rows = np.repeat(np.arange(len(images)), [len(places) for places in candidates])
    columns = np.concatenate([np.asarray(places, np.int64) for places in candidates])
    for first in range(0, len(rows), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        twins = _apart(images[rows[part]], beside[columns[part]]) <= distance**2
        found[rows[part][twins]] = True
    return found


def _coarse(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sums over blocks, divided by a block's side."""
    side = images.shape[1] // _BLOCK
    blocks = images.reshape(len(images), side, _BLOCK, side, _BLOCK)
    sums: NDArray[Any] = blocks.sum(axis=(2, 4), dtype=np.float32)
    return np.asarray(sums.reshape(len(images), -1) / _BLOCK, np.float32)


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Squared distances of pairs of images."""
    difference = (one.astype(np.int32) - other.astype(np.int32)).reshape(len(one), -1)
    return np.asarray(np.einsum("ij,ij->i", difference, difference, dtype=np.int64))
