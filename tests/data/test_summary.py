"""What is summed up of images: their number, repetitions and origin, and the banner of a stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data import DataConfig, format_fallback_banner, load_splits, summarize_data
from fmnist_sweep.data.drawn import draw_images
from tests.conftest import data_config as config
from tests.conftest import needs_fashion_mnist
from tests.support.idx_files import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, replace_files

pytestmark = pytest.mark.usefixtures("fresh_home")


def real(**given: Any) -> DataConfig:
    return config(dir=os.environ["FMNIST_DATA_DIR"], **given)


def test_the_summary_counts_duplicates_within_and_across_files(folder: Path, tmp_path: Path) -> None:
    images, labels = draw_images(100, 7)
    replace_files(
        folder,
        TRAIN_IMAGES,
        np.concatenate([images, images[:3]]),
        TRAIN_LABELS,
        np.append(labels, labels[:3]),
    )
    test, test_labels = draw_images(30, 7, stream="test")
    test[5], test[6], test[7] = images[0], images[1], test[8]
    replace_files(folder, TEST_IMAGES, test, TEST_LABELS, test_labels)
    summary = summarize_data(config(dir=str(folder)), tmp_path / "ledger")
    assert (summary.train_duplicates, summary.test_duplicates, summary.test_in_train) == (3, 1, 2)
    assert summary.validation_in_train == 0
    assert summary.train_table == (103, 785)
    assert summary.missing == 0
    assert "fmnist-sweep data" in (tmp_path / "ledger").read_text()


def test_the_banner_says_what_why_and_how_to_get_the_real_data() -> None:
    banner = format_fallback_banner(load_splits(config(fallback="drawn")).origin)
    for words in ("NOT Fashion-MNIST", "data.download is false", "FMNIST_DATA_DIR", "data.dir", "promoted"):
        assert words in banner


@needs_fashion_mnist
def test_the_real_fashion_mnist_is_canonical_balanced_and_repeats_no_image(tmp_path: Path) -> None:
    summary = summarize_data(real(validation=0.1), tmp_path / "ledger")
    assert summary.origin.canonical
    assert summary.train_table == (60_000, 785)
    assert summary.test_table == (10_000, 785)
    assert summary.images["train file"] == (6000,) * 10
    assert summary.images["validation split"] == (600,) * 10
    assert summary.images["test file"] == (1000,) * 10
    assert summary.pixel_range == (0, 255)
    # Measured, byte for byte: the canonical files repeat no image, within or across them.
    assert (summary.train_duplicates, summary.test_duplicates, summary.test_in_train) == (0, 0, 0)
    assert summary.removed_duplicates == 0
