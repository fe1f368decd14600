"""What a reader of images gives: one part of a source, before its labels are numbered and its test part is cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.description import MAX_SIDE
from fmnist_sweep.errors import DataError

MAX_BYTES = 2**31  # of the pixels of a part, so that neither a header nor many pictures fill the memory

Values = NDArray[np.int64] | NDArray[np.str_]


@dataclass(frozen=True)
class RawPart:
    """Images (n, height, width, channels) uint8 and the label of each, (n,): a number or a name, as in the source.

    canonical: whether they are by checksum those of the canonical Fashion-MNIST. location: where they are from, if that
    is not the path that was read.
    """

    images: NDArray[np.uint8]
    values: Values
    canonical: bool = False
    location: str = ""


def refuse_shape(location: str, shape: tuple[int, ...]) -> None:
    """Raise DataError for a shape (height, width, channels) that images cannot have here."""
    *sides, channels = shape
    if channels not in (1, 3) or not all(1 <= side <= MAX_SIDE for side in sides):
        raise DataError(
            f"{location} has images of the shape {'x'.join(map(str, shape))}: expected 1 to {MAX_SIDE} pixels down and "
            "across, and 1 channel (grey) or 3 (red, green, blue)."
        )


def choose_test_mask(keys: list[bytes], values: Values, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask (n,) of the images that are sealed as the test part: about `share` of each label's, by hash.

    keys: what an image is known by, the same for equal ones, which so are all on one side. An image stays on its side
    when others come or go. Of each label at least one image is sealed if it has three different ones.
    """
    salt = seed.to_bytes(8, "little")
    places = np.array(
        [int.from_bytes(hashlib.blake2b(key, digest_size=8, key=salt).digest(), "little") for key in keys], np.uint64
    )
    mask = places < np.uint64(int(share * 2**64))
    for value in np.unique(values):
        members = values == value
        if not (mask & members).any() and len(np.unique(places[members])) >= 3:
            mask |= members & (places == places[members].min())
    return np.asarray(mask, np.bool_)
