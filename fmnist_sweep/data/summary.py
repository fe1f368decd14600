"""What the data is, in figures to check: `summarize` computes, `render` and `example_figure` show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import sources
from fmnist_sweep.data.config import DataConfig
from fmnist_sweep.data.loading import load, open_test
from fmnist_sweep.data.splits import LABELS, Origin, Split, Splits, image_keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

REASON = "fmnist-sweep data"
EXAMPLES = 8
MISSING = {
    "fashion_mnist": "none by construction: an IDX file has a byte for every pixel and label",
    "kaggle_csv": "every cell was checked: a file with an empty one is refused",
    "drawn": "none by construction: every pixel is drawn",
}


@dataclass(frozen=True)
class Summary:
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


def summarize(data: DataConfig, ledger: Path) -> Summary:
    """Read everything and count; the test split is opened once, and the ledger says so.

    Errors: DataError as `load` and `open_test`.
    """
    splits = load(data)
    file = sources.read_train_again(data, splits.origin)
    test = open_test(data, reason=REASON, ledger=ledger)
    file_keys, test_keys = image_keys(file.images), image_keys(test.images)
    in_file, in_train = set(file_keys), set(image_keys(splits.train.images))
    labels = {
        "train file": file.labels,
        "train split": splits.train.labels,
        "validation split": splits.validation.labels,
        "test file": test.labels,
    }
    return Summary(
        origin=splits.origin,
        tag=splits.tag,
        sha256=splits.sha256,
        train_table=_table_shape(file.images),
        test_table=_table_shape(test.images),
        missing=0,
        missing_note=MISSING[splits.origin.source],
        pixel_range=(
            int(min(file.images.min(), test.images.min())),
            int(max(file.images.max(), test.images.max())),
        ),
        images={name: _per_label(found) for name, found in labels.items()},
        train_duplicates=len(file_keys) - len(in_file),
        test_duplicates=len(test_keys) - len(set(test_keys)),
        test_in_train=sum(key in in_file for key in test_keys),
        validation_in_train=sum(key in in_train for key in image_keys(splits.validation.images)),
        removed_duplicates=splits.removed_duplicates,
    )


def render(summary: Summary) -> RenderableType:
    """The summary as tables for a terminal; loud where drawn images stand in for Fashion-MNIST."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [_facts(summary), _labels(summary)]
    if summary.origin.source == "drawn":
        banner = Text(fallback_banner(summary.origin), style="bold")
        parts.insert(0, Panel(banner, border_style="red"))
    return Group(*parts)


def example_figure(splits: Splits) -> Figure:
    """Training images of the ten labels, a row a label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(EXAMPLES + 1.5, len(LABELS)), layout="constrained")
    axes = figure.subplots(len(LABELS), EXAMPLES, squeeze=False)
    for label, row in enumerate(axes):
        examples = _examples(splits.train, label)
        for place, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if place < len(examples):
                axis.imshow(examples[place, :, :, 0], cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(LABELS[label], rotation=0, ha="right", va="center")
    figure.suptitle(f"{splits.tag}: training examples")
    return figure


def fallback_banner(origin: Origin) -> str:
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


def _table_shape(images: NDArray[np.uint8]) -> tuple[int, int]:
    return len(images), 1 + int(np.prod(images.shape[1:]))


def _per_label(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(LABELS)))


def _examples(split: Split, label: int) -> NDArray[np.uint8]:
    return split.images[np.flatnonzero(split.labels == label)[:EXAMPLES]]


def _facts(summary: Summary) -> RenderableType:
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
        "train table": _shape_words(summary.train_table),
        "test table": _shape_words(summary.test_table),
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


def _shape_words(shape: tuple[int, int]) -> str:
    return f"{shape[0]:,} x {shape[1]} (a label and {shape[1] - 1} pixels)"


def _labels(summary: Summary) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(title="Images per label")
    grid.add_column("label")
    for name in summary.images:
        grid.add_column(name, justify="right")
    for label, words in enumerate(LABELS):
        grid.add_row(f"{label} {words}", *(f"{counts[label]:,}" for counts in summary.images.values()))
    grid.add_row("all", *(f"{sum(counts):,}" for counts in summary.images.values()))
    return grid
