"""How the training images of an epoch are changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fmnist_sweep.training.augmentation import augment_images, draw_epoch_order
from tests.support.small import TINY, finished, spec, splits

IMAGES = np.random.default_rng(0).integers(1, 256, (40, 28, 28, 1)).astype(np.uint8)


def augmented(flip: bool, shift: int, seed: int = 1, epoch: int = 1) -> Any:
    return augment_images({"flip": flip, "shift": shift}, IMAGES, seed=seed, epoch=epoch)


def test_without_augmentation_the_images_are_the_same_object() -> None:
    assert augmented(False, 0) is IMAGES


def test_about_half_of_the_images_are_mirrored_and_the_others_left() -> None:
    found = augmented(True, 0)
    mirrored = [np.array_equal(image, original[:, ::-1]) for image, original in zip(found, IMAGES, strict=True)]
    left = [np.array_equal(image, original) for image, original in zip(found, IMAGES, strict=True)]
    assert all(one != other for one, other in zip(mirrored, left, strict=True))
    assert 8 < sum(mirrored) < 32


@pytest.mark.parametrize("shift", [1, 3])
def test_images_are_moved_by_at_most_the_shift_and_filled_with_black(shift: int) -> None:
    found = augmented(False, shift)
    moves = set()
    for image, original in zip(found, IMAGES, strict=True):
        padded = np.pad(original[..., 0], shift)
        fits = [
            (row, column)
            for row in range(2 * shift + 1)
            for column in range(2 * shift + 1)
            if np.array_equal(padded[row : row + 28, column : column + 28], image[..., 0])
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert max(row for row, _ in moves) == 2 * shift
    assert min(column for _, column in moves) == 0
    assert found.shape == IMAGES.shape
    assert found.dtype == np.uint8


def test_augmentation_is_drawn_from_seed_and_epoch_alone() -> None:
    assert np.array_equal(augmented(True, 2), augmented(True, 2))
    assert not np.array_equal(augmented(True, 2), augmented(True, 2, epoch=2))
    assert not np.array_equal(augmented(True, 2), augmented(True, 2, seed=2))


def test_the_original_images_are_left_alone() -> None:
    before = IMAGES.copy()
    augmented(True, 4)
    assert np.array_equal(IMAGES, before)


def erased(erase: int, shift: int = 0, seed: int = 1, epoch: int = 1) -> Any:
    section = {"name": "alternate_and_erase", "shift": shift, "erase": erase}
    return augment_images(section, IMAGES, seed=seed, epoch=epoch)


def find_mirrored(epoch: int) -> dict[int, bool]:
    """Of each image, by its place in the training images, whether an epoch shows it mirrored."""
    order = draw_epoch_order(len(IMAGES), 1, epoch)
    section = {"name": "alternate_and_erase", "shift": 0, "erase": 0}
    shown = augment_images(section, IMAGES[order], seed=1, epoch=epoch)
    mirrored = [np.array_equal(image, IMAGES[index, :, ::-1]) for index, image in zip(order, shown, strict=True)]
    return dict(zip(order.tolist(), mirrored, strict=True))


def test_two_epochs_in_a_row_show_each_image_both_ways_round() -> None:
    first, second, third = map(find_mirrored, (1, 2, 3))
    assert all(first[index] != second[index] for index in range(len(IMAGES)))
    assert first == third
    assert 8 < sum(first.values()) < 32


def test_a_square_of_each_image_is_black() -> None:
    black = erased(9)[..., 0] == 0  # no pixel was before
    heights = black.any(axis=2).sum(axis=1)
    widths = black.any(axis=1).sum(axis=1)
    assert np.array_equal(black.sum(axis=(1, 2)), heights * widths)  # a rectangle each
    assert heights.max() == widths.max() == 9
    assert min(heights.min(), widths.min()) >= 5  # its centre is within the image
    assert len({tuple(np.argwhere(each)[0]) for each in black}) > 20


def test_colours_are_moved_and_erased_as_grey_is() -> None:
    colours = np.concatenate([IMAGES, IMAGES, IMAGES], axis=-1)
    section = {"name": "alternate_and_erase", "shift": 2, "erase": 6}
    changed = augment_images(section, colours, seed=1, epoch=3)
    assert changed.shape == colours.shape
    assert np.array_equal(changed[..., 1:2], erased(6, 2, epoch=3))


def test_erasing_is_drawn_from_seed_and_epoch_alone() -> None:
    assert np.array_equal(erased(6, 2), erased(6, 2))
    assert not np.array_equal(erased(6, 2), erased(6, 2, epoch=3))
    assert not np.array_equal(erased(6, 2), erased(6, 2, seed=2))


def test_a_trial_is_trained_on_what_its_options_make_of_the_images() -> None:
    pinned = [override for override in TINY if not override.startswith("train.augmentation")]
    settings: tuple[list[str], ...] = ([], ["train.augmentation.erase=0"], ["train.augmentation.shift=0"])
    results = [finished(spec([*pinned, "train=alternating", *own]), splits()).probabilities for own in settings]
    assert len({result.tobytes() for result in results}) == 3
