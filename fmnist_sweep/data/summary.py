"""What the data is, in figures to check: `summarize` computes, `render` and `example_figure` show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import sources
from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.loading import load_splits, open_test
from fmnist_sweep.data.splits import LABELS, Origin, Split, Splits, hash_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

REASON = "fmnist-sweep data"
EXAMPLES_PER_LABEL = 8
MISSING_NOTES = {
    "fashion_mnist": "none by construction: an IDX file has a byte for every pixel and label",
    "kaggle_csv": "every cell was checked: a file with an empty one is refused",
    "drawn": "none by construction: every pixel is drawn",
}


@dataclass(frozen=True)
class DataSummary:
    """The data behind a config. Tables are (rows, columns) in the CSV form: a label and 784 pixels an image.

    images: images per label of the training file, the train and validation split, and the test file.
    train_duplicates, test_duplicates: images equal to an earlier one of the same file; test_in_train: test
    images that equal some image of the training file; validation_in_train: as the splits are, after removal.
    """

    origin: Origin
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
    """Read everything and count; the test split is opened once, and the ledger says so.

    Errors: DataError as `load` and `open_test`.
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
        tag=splits.tag,
        sha256=splits.sha256,
        train_table=_measure_table(table.images),
        test_table=_measure_table(test.images),
        missing=0,
        missing_note=MISSING_NOTES[splits.origin.source],
        pixel_range=(
            int(min(table.images.min(), test.images.min())),
            int(max(table.images.max(), test.images.max())),
        ),
        images={name: _count_per_label(values) for name, values in labels.items()},
        train_duplicates=len(file_keys) - len(unique_file_keys),
        test_duplicates=len(test_keys) - len(set(test_keys)),
        test_in_train=sum(key in unique_file_keys for key in test_keys),
        validation_in_train=sum(key in train_keys for key in hash_images(splits.validation.images)),
        removed_duplicates=splits.removed_duplicates,
    )


def render_summary(summary: DataSummary) -> RenderableType:
    """The summary as tables for a terminal; loud where drawn images stand in for Fashion-MNIST."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [_build_facts_table(summary), _build_labels_table(summary)]
    if summary.origin.is_drawn:
        banner = Text(format_fallback_banner(summary.origin), style="bold")
        parts.insert(0, Panel(banner, border_style="red"))
    return Group(*parts)


def draw_examples(splits: Splits) -> Figure:
    """Training images of the ten labels, a row a label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(EXAMPLES_PER_LABEL + 1.5, len(LABELS)), layout="constrained")
    axes = figure.subplots(len(LABELS), EXAMPLES_PER_LABEL, squeeze=False)
    for label, row in enumerate(axes):
        examples = _select_examples(splits.train, label)
        for place, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if place < len(examples):
                axis.imshow(examples[place, :, :, 0], cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(LABELS[label], rotation=0, ha="right", va="center")
    figure.suptitle(f"{splits.tag}: training examples")
    return figure


def format_fallback_banner(origin: Origin) -> str:
    """What a person must know of drawn images: what they are, why, how to get real ones, what is barred."""
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


def _count_per_label(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(LABELS)))


def _select_examples(split: Split, label: int) -> NDArray[np.uint8]:
    return split.images[np.flatnonzero(split.labels == label)[:EXAMPLES_PER_LABEL]]


def _build_facts_table(summary: DataSummary) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(title="Data", show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    origin = summary.origin
    for name, value in {
        "source": origin.source,
        "canonical Fashion-MNIST, by checksum": "yes" if origin.canonical else "no",
        "from": origin.location,
        "train and validation sha256": summary.sha256,
        "tag": summary.tag,
        "train table": _format_shape(summary.train_table),
        "test table": _format_shape(summary.test_table),
        "missing values": f"{summary.missing} ({summary.missing_note})",
        "pixel values": f"{summary.pixel_range[0]} to {summary.pixel_range[1]}",
        "repeated within the train file": str(summary.train_duplicates),
        "repeated within the test file": str(summary.test_duplicates),
        "test images also in the train file": str(summary.test_in_train),
        "validation images also in the train split": str(summary.validation_in_train),
        "train images removed for that": str(summary.removed_duplicates),
    }.items():
        grid.add_row(name, value)
    return grid


def _format_shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]:,} x {shape[1]} (a label and {shape[1] - 1} pixels)"


def _build_labels_table(summary: DataSummary) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(title="Images per label")
    grid.add_column("label")
    for name in summary.images:
        grid.add_column(name, justify="right")
    for label, words in enumerate(LABELS):
        grid.add_row(f"{label} {words}", *(f"{counts[label]:,}" for counts in summary.images.values()))
    grid.add_row("all", *(f"{sum(counts):,}" for counts in summary.images.values()))
    return grid
