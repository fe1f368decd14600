"""Values -> matplotlib figures: no files, no tracking, and no pyplot, whose state is the whole process's.

Three of these are drawn for every trial, so they are built to be drawn fast: one Axes for a page of images,
one outline for a page of captions, fixed margins instead of a layout that draws everything twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.proportions import compute_row_shares
from fmnist_sweep.report.figures.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PAGE_WIDTH,
    VERMILLION,
    GalleryRow,
    TextLine,
    cut_rows,
    draw_gallery,
    draw_image,
    draw_message,
    draw_texts,
    make_page,
    style_axes,
)
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib
from fmnist_sweep.training.array_checks import check_confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE = 118, 56, 640
_LEAST_CELL = 24  # pixels: in smaller ones counts are not written, and names are smaller


def draw_curves(history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> Figure:
    """Accuracy and loss by epoch, training against validation, with the best epoch marked.

    `history` holds one mapping an epoch with the keys loss, accuracy, val_loss and val_accuracy; NaN and
    infinity leave a gap. `best_epoch` counts from 1; 0 says that there is none. Raises ValueError for an
    empty history and for a best epoch outside it.
    """
    if not history:
        raise ValueError("curves need a history of at least one epoch, but it is empty")
    if not 0 <= best_epoch <= len(history):
        raise ValueError(f"best_epoch must lie in 0..{len(history)}, but is {best_epoch}")
    figure = make_page(PAGE_WIDTH, 420, title)
    for left, key in ((0.07, "accuracy"), (0.57, "loss")):
        axes = figure.add_axes((left, 0.12, 0.41, 0.61))
        _draw_panel(axes, key, history, best_epoch)
    # One legend above both panels: inside one it would sooner or later lie on a curve.
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="upper left", bbox_to_anchor=(0.01, 0.915), ncols=3, frameon=False, fontsize=10)
    return figure


def draw_confusion_matrix(confusion: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Figure:
    """Counts of true (down) against predicted (across) labels, coloured by their share of the row.

    `confusion` is square, in the order of `names`. A cell without a number is 0. The colour follows the
    square root of the share: mistakes are a few per cent, and would be as good as white on a linear scale.
    Raises ValueError where `confusion` is not of shape (len(names), len(names)).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    check_confusion(counts, names)
    share = compute_row_shares(counts)
    figure = make_page(PAGE_WIDTH, 800, title)
    cell = _MATRIX_SIDE / len(names)
    draw_image(figure, np.sqrt(share), "Blues", 1, (_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE, _MATRIX_SIDE))
    dark = share > 0.4
    if cell >= _LEAST_CELL:
        draw_texts(figure, _place_counts(counts * ~dark, cell), size=10.5, colour=INK)
        draw_texts(figure, _place_counts(counts * dark, cell), size=10.5, colour="white")
    _write_names(figure, names, cell)
    _write_scale(figure)
    return figure


def draw_misclassified(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    predicted: NDArray[Any],
    confidence: NDArray[Any],
    names: Sequence[str],
    title: str,
    limit: int = 40,
) -> Figure:
    """The images a model got wrong, the most confident mistakes first, each with true → predicted beneath.

    `images` are (n, 28, 28, 1), 0..255; `labels` and `predicted` are (n,) indices into `names`; `confidence`
    is (n,), the predicted label's probability, 0..1, and sorts them. Images that were labelled rightly are
    passed over, and at most `limit` are shown. Raises ValueError for arrays of differing lengths.
    """
    if not len(images) == len(labels) == len(predicted) == len(confidence):
        lengths = f"{len(images)}, {len(labels)}, {len(predicted)} and {len(confidence)}"
        raise ValueError(f"images, labels, predicted and confidence must be equally long, but have lengths {lengths}")
    wrong = np.flatnonzero(labels != predicted)
    # A stable sort, so that equal confidences keep the order of the data and a repeated trial its figure.
    selection = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    if not len(selection):
        return draw_message(title, "No misclassified images")
    rows = [
        GalleryRow(images[list(row)], [(names[labels[i]], f"→ {names[predicted[i]]} {confidence[i]:.0%}") for i in row])
        for row in cut_rows(selection.tolist())
    ]
    return draw_gallery(rows, 15, title)


def _draw_panel(axes: Axes, key: str, history: Sequence[Mapping[str, float]], best_epoch: int) -> None:
    prepare_matplotlib()
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(history) + 1)
    training, validation = _extract_series(history, key), _extract_series(history, f"val_{key}")
    marker = "o" if len(history) <= 30 else ""  # beyond that the markers would run together
    axes.plot(epochs, training, color=BLUE, marker=marker, ms=4, lw=1.8, ls="--", label="training")
    axes.plot(epochs, validation, color=VERMILLION, marker=marker, ms=4, lw=1.8, label="validation")
    heading = key.capitalize()
    if best_epoch:
        best = validation[best_epoch - 1]
        axes.axvline(best_epoch, color=GREEN, lw=1.2, ls=":", zorder=1)
        axes.plot(
            [best_epoch],
            [best],
            label=f"best epoch: {best_epoch}",
            ls="",
            marker="o",
            ms=11,
            mfc="none",
            mec=GREEN,
            mew=2,
        )
        if np.isfinite(best):
            heading += f" (validation {best:.4g} at the best epoch)"
    axes.set_title(heading, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=10, color=MUTED)
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    style_axes(axes)


def _extract_series(history: Sequence[Mapping[str, float]], key: str) -> NDArray[np.float64]:
    values = np.array([epoch[key] for epoch in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _place_counts(cells: NDArray[np.int64], cell: float) -> list[TextLine]:
    """The counts above zero, each in the middle of its cell of `cell` pixels."""
    left, top = _MATRIX_LEFT, _MATRIX_TOP + 5  # 5: half a digit's height
    return [
        (left + (column + 0.5) * cell, top + (row + 0.5) * cell, str(cells[row, column]))
        for row, column in np.argwhere(cells)
    ]


def _write_names(figure: Figure, names: Sequence[str], cell: float) -> None:
    bottom = _MATRIX_TOP + _MATRIX_SIDE
    middles = [(place + 0.5) * cell for place in range(len(names))]
    down = [(_MATRIX_LEFT - 6, _MATRIX_TOP + y + 5, name) for y, name in zip(middles, names, strict=True)]
    across = [(_MATRIX_LEFT + x + 5, bottom + 14, name) for x, name in zip(middles, names, strict=True)]
    size, angle = (10.0, 35) if cell >= _LEAST_CELL else (max(3.0, 0.6 * cell), 90)
    draw_texts(figure, down, size=size, colour=INK, align=1)
    draw_texts(figure, across, size=size, colour=INK, align=1, angle=angle)
    draw_texts(figure, [(24, _MATRIX_TOP + _MATRIX_SIDE / 2, "true")], size=11, colour=MUTED, angle=90)
    draw_texts(figure, [(_MATRIX_LEFT + _MATRIX_SIDE / 2, bottom + 88, "predicted")], size=11, colour=MUTED)


def _write_scale(figure: Figure) -> None:
    """What the matrix's colours mean: a ramp beside it, with a few shares written next to it."""
    left, width, bottom = _MATRIX_LEFT + _MATRIX_SIDE + 24, 22, _MATRIX_TOP + _MATRIX_SIDE
    ramp = np.linspace(1, 0, 256)[:, None]
    draw_image(figure, ramp, "Blues", 1, (left, _MATRIX_TOP, width, _MATRIX_SIDE))
    shares = [
        (left + width + 6, bottom - math.sqrt(percent / 100) * _MATRIX_SIDE + 4, f"{percent} %")
        for percent in (0, 1, 5, 20, 50, 100)
    ]
    draw_texts(figure, shares, size=9, colour=MUTED, align=0)
    heading = [(left + width + 60, _MATRIX_TOP + _MATRIX_SIDE / 2, "share of the true label's images")]
    draw_texts(figure, heading, size=10, colour=MUTED, angle=90)
