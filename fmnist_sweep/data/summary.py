"""What the data is, as figures to check: shapes, ranges, counts and duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import sources
from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.description import DataDescription
from fmnist_sweep.data.loading import load_splits, open_test
from fmnist_sweep.data.splits import Origin, hash_images

REASON = "fmnist-sweep data"
MISSING_NOTES = {
    "fashion_mnist": "none by construction: an IDX file has a byte for every pixel and label",
    "kaggle_csv": "every cell was checked: a file with an empty one is refused",
    "drawn": "none by construction: every pixel is drawn",
    "idx": "none by construction: an IDX file has a byte for every pixel and label",
    "npz": "none by construction: an array has a number for every pixel and label",
    "folder": "every picture was read: one that cannot be is refused",
}


@dataclass(frozen=True)
class DataSummary:
    """The data behind a config. Tables are (rows, columns) in the CSV form: a label and the pixels of an image.

    images: images per label of the training file, the train and validation split, and the test file.
    train_duplicates, test_duplicates: images equal to an earlier one of the same file; test_in_train: test
    images that equal some image of the training file; validation_in_train: as the splits are, after removal.
    """

    origin: Origin
    description: DataDescription
    tag: str
    sha256: str
    train_table: tuple[int, int]
    test_table: tuple[int, int]
    missing: int
    missing_note: str
    pixel_range: tuple[int, int]
    images: dict[str, tuple[int, ...]]
    train_duplicates: int
    test_duplicates: int
    test_in_train: int
    validation_in_train: int
    removed_duplicates: int


def summarize_data(data: DataConfig, ledger: Path) -> DataSummary:
    """Read all images and count; the test split is opened once, which the ledger records.

    Errors: DataError as for `load_splits` and `open_test`.
    """
    splits = load_splits(data)
    table = sources.reread_train(data, splits.origin)
    test = open_test(data, reason=REASON, ledger=ledger)
    file_keys, test_keys = hash_images(table.images), hash_images(test.images)
    unique_file_keys, train_keys = set(file_keys), set(hash_images(splits.train.images))
    labels = {
        "train file": table.labels,
        "train split": splits.train.labels,
        "validation split": splits.validation.labels,
        "test file": test.labels,
    }
    return DataSummary(
        origin=splits.origin,
        description=splits.description,
        tag=splits.tag,
        sha256=splits.sha256,
        train_table=_measure_table(table.images),
        test_table=_measure_table(test.images),
        missing=0,
        missing_note=MISSING_NOTES.get(splits.origin.source, "as the function of a plugin gives them"),
        pixel_range=(
            int(min(table.images.min(), test.images.min())),
            int(max(table.images.max(), test.images.max())),
        ),
        images={name: _count_per_label(values, len(splits.description.labels)) for name, values in labels.items()},
        train_duplicates=len(file_keys) - len(unique_file_keys),
        test_duplicates=len(test_keys) - len(set(test_keys)),
        test_in_train=sum(key in unique_file_keys for key in test_keys),
        validation_in_train=sum(key in train_keys for key in hash_images(splits.validation.images)),
        removed_duplicates=splits.removed_duplicates,
    )


def format_fallback_banner(origin: Origin) -> str:
    """What a person must know about drawn images: what they are, why they are used, and how to get real ones."""
    reason = origin.fallback_reason or "data=drawn was asked for."
    return "\n".join(
        [
            "DRAWN STAND-IN: these images are NOT Fashion-MNIST.",
            f"They were {origin.location}; figures made from them say nothing about Fashion-MNIST.",
            f"Why: {reason}",
            "To get the real data: put the four IDX files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz,",
            "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz) in a folder and set FMNIST_DATA_DIR or",
            "data.dir=THAT_FOLDER with data=fashion_mnist, or run where there is internet.",
            "data.fallback=null makes this an error. Nothing made from drawn images can be promoted.",
        ]
    )


def _measure_table(images: NDArray[np.uint8]) -> tuple[int, int]:
    return len(images), 1 + int(np.prod(images.shape[1:]))


def _count_per_label(labels: NDArray[np.int64], label_count: int) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=label_count))
