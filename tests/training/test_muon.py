"""Muon: orthogonal steps for kernels, and AdamW for the rest."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.training.layers import OUTPUT_LAYER
from fmnist_sweep.training.optimization import build_optimizer

RATE = 0.01


def take_step(optimizer: keras.Optimizer, shape: tuple[int, ...], layer: str) -> NDArray[Any]:
    """The change of a layer's kernel by one step along a random gradient."""
    kernel = keras.Variable(np.zeros(shape, np.float32), name="kernel")
    kernel._path = f"{layer}/kernel"
    optimizer.build([kernel])
    optimizer.apply([np.random.default_rng(0).normal(size=shape).astype(np.float32)])
    return np.asarray(kernel)


def build(**settings: float) -> keras.Optimizer:
    section = {"learning_rate": RATE, "weight_decay": 0.0, "other_rate": 0.5}
    return build_optimizer({"name": "muon", **section, **settings})


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (40, 12)], ids=["convolution", "dense"])
def test_the_step_of_a_kernel_has_nearly_equal_singular_values(shape: tuple[int, ...]) -> None:
    step = take_step(build(), shape, "hidden").reshape(-1, shape[-1])
    values = np.linalg.svd(step, compute_uv=False)
    assert values.min() > 0.5 * values.max()  # five Newton-Schulz steps bring them between 0.7 and 1.2
    # Adam's steps have about the size of the rate; the greater side's root times 0.2 brings these there.
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * RATE, rel=0.3)


@pytest.mark.parametrize(
    ("shape", "layer"), [((40, 10), OUTPUT_LAYER), ((16,), "hidden")], ids=["the output", "offsets"]
)
def test_all_else_takes_the_first_step_of_adam_with_its_own_rate(shape: tuple[int, ...], layer: str) -> None:
    assert np.abs(take_step(build(other_rate=0.5), shape, layer)) == pytest.approx(0.5 * RATE, rel=1e-3)


def test_weights_decay_without_a_gradient() -> None:
    kernel = keras.Variable(np.ones((4, 4), np.float32), name="kernel")
    optimizer = build(weight_decay=0.5)
    optimizer.build([kernel])
    optimizer.apply([np.zeros((4, 4), np.float32)])
    assert np.asarray(kernel) == pytest.approx(1 - 0.5 * RATE, rel=1e-5)
