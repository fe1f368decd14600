"""What grows over the epochs: the side of the images, and the batches."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.training import trial
from fmnist_sweep.training.growth import compute_batch_size, compute_side, shrink_images
from tests.support.small import TINY, spec, splits


def test_the_side_grows_by_a_step_every_so_many_epochs_up_to_that_of_the_images() -> None:
    train = {"resolution": {"start": 20, "step": 5, "every": 2}}
    assert [compute_side(train, epoch, 28) for epoch in range(1, 8)] == [20, 20, 25, 25, 28, 28, 28]
    assert compute_side({"resolution": None}, 1, 28) == compute_side({}, 1, 28) == 28


@pytest.mark.parametrize(
    ("factor", "sizes"), [(2, [50, 50, 100, 100, 200, 200, 400]), (1.5, [50, 50, 75, 75, 112, 112, 169])]
)
def test_batches_grow_by_a_factor_every_so_many_epochs(factor: float, sizes: list[int]) -> None:
    train = {"batch_size": 50, "batch_growth": {"factor": factor, "every": 2}}
    assert [compute_batch_size(train, epoch) for epoch in range(1, 8)] == sizes
    assert compute_batch_size(train, 1_000_000) == 65536
    assert compute_batch_size({"batch_size": 50}, 9) == 50


def shrink_slowly(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """By the definition, in exact numbers: the mean of the area that a pixel covers, rounded half up."""
    shrunk = np.empty((height, width, image.shape[2]), np.uint8)
    down, across = Fraction(image.shape[0], height), Fraction(image.shape[1], width)

    def cover(index: int, size: Fraction) -> dict[int, Fraction]:
        first, last = index * size, (index + 1) * size
        olds = range(math.floor(first), math.ceil(last))
        return {old: min(last, Fraction(old + 1)) - max(first, Fraction(old)) for old in olds}

    for row, column, channel in np.ndindex(*shrunk.shape):
        total = sum(
            (
                part * other * int(image[y, x, channel])
                for y, part in cover(row, down).items()
                for x, other in cover(column, across).items()
            ),
            Fraction(0),
        )
        shrunk[row, column, channel] = math.floor(total / (down * across) + Fraction(1, 2))
    return shrunk


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [
        ((28, 28, 1), 20, (20, 20)),
        ((28, 28, 1), 14, (14, 14)),
        ((24, 33, 3), 16, (16, 22)),
        ((40, 17, 1), 16, (38, 16)),
    ],
    ids=str,
)
def test_a_shrunk_pixel_is_the_mean_of_the_area_it_covers(
    shape: tuple[int, int, int], side: int, size: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    images[0] = 255
    shrunk = shrink_images(images, side)
    assert shrunk.shape == (3, *size, shape[2]) and shrunk.dtype == np.uint8
    assert (shrunk[0] == 255).all()
    for image, small in zip(images, shrunk, strict=True):
        assert np.array_equal(small, shrink_slowly(image, *size))


def test_images_of_their_full_side_are_left_as_they_are() -> None:
    images = np.zeros((2, 28, 30, 1), np.uint8)
    assert shrink_images(images, 28) is images


def test_an_epoch_has_fewer_steps_and_rates_when_its_batches_have_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [*TINY, "train=one_cycle", "train.batch_size=16", "train.epochs=3", "model.head=global_average"]
    growing = ["train.batch_growth={factor: 2, every: 1}", "train.resolution={start: 20, step: 4, every: 1}"]
    fit = trial._Fit(spec([*overrides, *growing]), splits())
    trained = list[tuple[int, ...]]()
    train = fit._compiled.fit

    def note_shape(images: NDArray[np.uint8], targets: NDArray[Any], batch_size: int) -> dict[str, float]:
        trained.append(images.shape)
        return train(images, targets, batch_size)

    monkeypatch.setattr(fit._compiled, "fit", note_shape)
    history: list[dict[str, float]] = []
    steps, rates, optimizer = [0], [], fit._trainer.optimizer
    while not fit.is_finished(history):
        history.append(fit.train_epoch(history))
        rates += [float(optimizer._learning_rate(step)) for step in range(steps[-1], int(optimizer.iterations))]
        steps.append(int(optimizer.iterations))
    assert steps == [0, 4, 6, 7]  # 64 images in batches of 16, 32 and 64
    assert trained == [(64, 20, 20, 1), (64, 24, 24, 1), (64, 28, 28, 1)]
    passed = [0, 0.25, 0.5, 0.75, 1, 1.5, 2]  # epochs before each step, of three

    def compute_rate(progress: float) -> float:
        if progress < 0.25:
            return 0.1 + 0.9 * progress / 0.25
        return 0.5 * (1 + math.cos(math.pi * (progress - 0.25) / 0.75))

    assert rates == pytest.approx([0.001 * compute_rate(epochs / 3) for epochs in passed], rel=1e-5)
    assert fit._model.input_shape == (None, 28, 28, 1), "what is saved takes the images as they are"
