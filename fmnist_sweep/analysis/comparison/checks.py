"""What correctness, accuracies and levels must be: ValueError says what was expected and what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]


def check_correctness(correct: Booleans, shape: str) -> Booleans:
    """The array itself, where it is boolean, not empty and has as many dimensions as `shape` names."""
    array: NDArray[Any] = np.asarray(correct)
    if array.dtype != np.bool_:
        raise ValueError(f"correctness must be boolean, one value an image, but is {array.dtype}")
    if array.ndim != len(shape.strip("(),").split(",")) or array.size == 0:
        raise ValueError(f"correctness must have shape {shape} and hold at least one image, but has {array.shape}")
    return array


def check_same_images(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"models are compared on the same images, but one has {one} and the other {other}")


def check_accuracies(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("there must be at least one accuracy, but there is none")
    if not bool(((array >= 0) & (array <= 1)).all()):
        raise ValueError(f"accuracies must lie in 0..1, but lie in {array.min()}..{array.max()}")
    return array


def check_not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number from 0 up, but is {value}")


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, as 0.95 does, but is {level}")


def check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but is {value}")


def check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, but is {value}")
