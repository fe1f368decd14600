"""Labels that a champion gives mostly to images of others, so that its recall of them is no merit to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of the images that are called so. Below it the answer is wrong more often than right.
_MIN_PRECISION = 0.5


@dataclass(frozen=True)
class OverusedLabel:
    """A label that a configuration gives mostly to images of other labels.

    share: fraction of all images that it gives the label. precision: fraction of these that have it. recall: fraction
    of the label's images that it gives the label. Each is over all seeds.
    """

    label: str
    share: float
    precision: float
    recall: float


def find_overused_labels(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], label_names: Sequence[str]
) -> tuple[OverusedLabel, ...]:
    """The labels that are given to images of other labels more often than to their own.

    predicted: (seeds, images), indices into `label_names`. labels: (images,), the true ones. A model that calls every
    image Shirt has a recall of 1 for Shirt, which a good model cannot keep.
    """
    overused = []
    for index, name in enumerate(label_names):
        given, own = predicted == index, labels == index
        if given.any() and own.any():
            right = int((given & own).sum())
            found = OverusedLabel(name, given.mean(), right / given.sum(), right / (own.sum() * len(predicted)))
            overused += [found] if found.precision < _MIN_PRECISION else []
    return tuple(overused)
