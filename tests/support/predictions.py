"""Labels and what a model says of them: ten cases that can be counted by hand, and drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS

TEE, TROUSER, PULLOVER, SHIRT, BAG = (LABELS.index(n) for n in ("T-shirt/top", "Trouser", "Pullover", "Shirt", "Bag"))
# One pullover taken for a shirt, one shirt for a T-shirt, one shirt for a bag, one bag for a shirt.
TRUE = np.array([TEE, TEE, PULLOVER, PULLOVER, SHIRT, SHIRT, SHIRT, BAG, BAG, TROUSER])
SAID = np.array([TEE, TEE, PULLOVER, SHIRT, TEE, BAG, SHIRT, BAG, SHIRT, TROUSER])


def make_probabilities(
    predicted: NDArray[Any], names: int = 10, confidence: float | NDArray[Any] = 0.91
) -> NDArray[np.float32]:
    """Probabilities that give the predicted label `confidence` and the others the rest in equal parts."""
    share = np.broadcast_to(np.asarray(confidence), predicted.shape)[..., None]
    one = np.eye(names)[predicted]
    return np.asarray(one * share + (1 - one) * (1 - share) / (names - 1), np.float32)


def draw_cases(n: int, names: int = 10, sharp: float = 1.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels drawn from probabilities, and these raised to the power `sharp`: 1 is perfectly calibrated."""
    random = np.random.default_rng(1)
    chance = random.dirichlet(np.full(names, 0.25), n)
    labels = (chance.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    said = chance**sharp
    return labels, said / said.sum(axis=1, keepdims=True)
