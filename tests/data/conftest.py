"""What several of the tests of images share: a folder of small files, and nothing that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.data.drawn import draw_images
from tests.support.caches import clear_splits_cache
from tests.support.idx_files import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    encode_images,
    encode_labels,
    write_file,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four well-formed small files: 200 train and 33 test images."""
    folder = tmp_path / "idx"
    for stream, count, names in (
        ("train", 200, (TRAIN_IMAGES, TRAIN_LABELS)),
        ("test", 33, (TEST_IMAGES, TEST_LABELS)),
    ):
        images, labels = draw_images(count, 7, stream="train" if stream == "train" else "test")
        write_file(folder / f"{names[0]}.gz", encode_images(images))
        write_file(folder / f"{names[1]}.gz", encode_labels(labels))
    return folder


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without downloaded images, and a process that has read none."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    clear_splits_cache()


@pytest.fixture
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom Kaggle does not know, and a process that has read no images."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no-kaggle"))
    clear_splits_cache()
