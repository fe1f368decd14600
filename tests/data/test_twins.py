"""Near twins: pictures that are almost the same, found exactly, whatever the short cut."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import DataConfig, load_splits
from fmnist_sweep.data.twins import TWIN_DISTANCE, find_near_twins


def images(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), np.uint8)


def moved(image: NDArray[np.uint8], distance: float) -> NDArray[np.uint8]:
    """The image with its middle pixels changed so that it lies that far away, to within a grey level."""
    changed = image.astype(float).copy()
    flat = changed.reshape(-1)
    pixels = np.arange(300, 364)
    step = distance / np.sqrt(len(pixels))
    flat[pixels] += np.where(flat[pixels] < 128, step, -step)
    return np.round(changed).astype(np.uint8)


@pytest.mark.parametrize(("distance", "expected"), [(0, True), (150, True), (195, True), (210, False), (600, False)])
def test_a_picture_is_a_twin_up_to_the_distance(distance: float, expected: bool) -> None:
    others = images(50, 0)
    assert find_near_twins(moved(others[7], distance)[None], others).tolist() == [expected]


def test_what_is_found_is_what_comparing_all_pixels_of_all_pairs_finds() -> None:
    some, others = images(40, 1), images(60, 2)
    rows, twins = [3, 11, 30], [5, 8, 59]
    for row, twin, distance in zip(rows, twins, (10.0, 120.0, 190.0), strict=True):
        some[row] = moved(others[twin], distance)
    differences = some[:, None].astype(float) - others[None].astype(float)
    smallest = np.sqrt((differences**2).sum(axis=(2, 3, 4))).min(axis=1)
    assert (
        np.flatnonzero(find_near_twins(some, others)).tolist()
        == np.flatnonzero(smallest <= TWIN_DISTANCE).tolist()
        == rows
    )


def test_of_nothing_or_beside_nothing_there_are_no_twins() -> None:
    assert find_near_twins(images(0, 0), images(5, 0)).tolist() == []
    assert find_near_twins(images(3, 0), images(0, 0)).tolist() == [False] * 3


@pytest.mark.skipif(
    not os.environ.get("FMNIST_DATA_DIR"),
    reason="needs Fashion-MNIST: put its four IDX files in a folder and set FMNIST_DATA_DIR to it",
)
def test_five_validation_images_of_the_real_data_have_a_twin_among_the_training_images() -> None:
    data = DataConfig(
        source="fashion_mnist",
        dir=os.environ["FMNIST_DATA_DIR"],
        download=False,
        limit=None,
        validation=0.1,
        include_validation=False,
        split_seed=0,
        fallback=None,
        images=60000,
        drawn_seed=0,
    )
    splits = load_splits(data)
    assert int(find_near_twins(splits.validation.images, splits.train.images).sum()) == 5
