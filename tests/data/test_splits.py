"""The split into training and validation images: stratified, by its seed, and without copies across it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.data import load_splits
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.errors import DataError
from tests.conftest import data_config as config
from tests.support.caches import clear_splits_cache
from tests.support.idx_files import (
    TRAIN_IMAGES,
    TRAIN_LABELS,
    assert_one_sentence,
    encode_labels,
    replace_files,
    write_file,
)

pytestmark = pytest.mark.usefixtures("fresh_home")


def test_the_split_is_stratified_and_covers_every_image_once(folder: Path) -> None:
    splits = load_splits(config(dir=str(folder), validation=0.25))
    assert np.bincount(splits.validation.labels).tolist() == [5] * 10
    assert np.bincount(splits.train.labels).tolist() == [15] * 10
    together = np.concatenate([splits.train.index, splits.validation.index])
    assert sorted(together.tolist()) == list(range(200))


def test_index_points_at_the_image_in_its_file(folder: Path) -> None:
    images, labels = draw_images(200, 7)
    split = load_splits(config(dir=str(folder))).validation
    assert np.array_equal(images[split.index], split.images)
    assert np.array_equal(labels[split.index], split.labels)


def test_the_same_seed_splits_alike_and_another_seed_differently(folder: Path) -> None:
    first = load_splits(config(dir=str(folder), split_seed=1))
    clear_splits_cache()
    assert load_splits(config(dir=str(folder), split_seed=1)).sha256 == first.sha256
    assert load_splits(config(dir=str(folder), split_seed=2)).sha256 != first.sha256


@pytest.mark.parametrize("limit", [30, 57, 199])
def test_limit_takes_exactly_that_many_images_in_proportion(limit: int, folder: Path) -> None:
    labels = np.array([0] * 65 + [label for label in range(1, 10) for _ in range(15)])
    replace_files(folder, TRAIN_IMAGES, draw_images(200, 7)[0], TRAIN_LABELS, labels)
    splits = load_splits(config(dir=str(folder), limit=limit))
    taken = np.bincount(np.concatenate([splits.train.labels, splits.validation.labels]), minlength=10)
    assert taken.sum() == limit
    assert np.abs(taken - limit * np.bincount(labels) / 200).max() < 1


def test_a_limit_beyond_the_file_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), limit=201))
    assert_one_sentence(error, "data.limit=201", "200 training images")


def test_a_label_with_one_image_cannot_be_split(folder: Path) -> None:
    labels = np.arange(200) % 9
    labels[3] = 9
    write_file(folder / f"{TRAIN_LABELS}.gz", encode_labels(labels))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "found 1 of label 9 (Ankle boot)")


def test_train_images_equal_to_a_validation_image_are_removed_and_counted(folder: Path) -> None:
    images, labels = draw_images(100, 7)
    replace_files(
        folder, TRAIN_IMAGES, np.concatenate([images, images]), TRAIN_LABELS, np.concatenate([labels, labels])
    )
    splits = load_splits(config(dir=str(folder)))
    held_out = {image.tobytes() for image in splits.validation.images}
    assert splits.removed_duplicates > 0
    assert not held_out.intersection(image.tobytes() for image in splits.train.images)
    assert len(splits.train.labels) + len(splits.validation.labels) + splits.removed_duplicates == 200


def test_a_label_whose_images_are_all_alike_cannot_be_split(folder: Path) -> None:
    images, labels = draw_images(200, 7)
    images[labels == 4] = images[labels == 4][0]
    replace_files(folder, TRAIN_IMAGES, images, TRAIN_LABELS, labels)
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "label 4 (Coat)")
