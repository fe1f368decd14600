"""The figures that are drawn for every trial: values -> pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.report.figures.canvas import PAGE_WIDTH, GalleryRow, cut_rows, draw_gallery, draw_message
from fmnist_sweep.report.figures.pages import Page, PagePicture, TextLine, map_colours
from fmnist_sweep.report.figures.palette import BLUE, GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.report.figures.panels import Legend, PanelLine, PlotPanel, choose_range, choose_ticks
from fmnist_sweep.training.array_checks import check_confusion
from fmnist_sweep.training.evaluation import compute_row_shares

_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE = 118, 56, 640
# ColorBrewer's Blues, from white to dark.
_BLUES = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")


def draw_curves(history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> Page:
    """Accuracy and loss by epoch, training against validation, with the best epoch marked.

    `history` holds one mapping an epoch with the keys loss, accuracy, val_loss and val_accuracy; NaN and
    infinity leave a gap. `best_epoch` counts from 1; 0 says that there is none. Raises ValueError for an
    empty history and for a best epoch outside it.
    """
    if not history:
        raise ValueError("curves need a history of at least one epoch, but it is empty")
    if not 0 <= best_epoch <= len(history):
        raise ValueError(f"best_epoch must lie in 0..{len(history)}, but is {best_epoch}")
    page = Page(PAGE_WIDTH, 420, title)
    page.panels += [
        _make_panel((left, 113, 369, 256), key, history, best_epoch) for left, key in ((63, "accuracy"), (513, "loss"))
    ]
    # One legend above both panels: inside one it would sooner or later lie on a curve.
    page.legends.append(Legend(23, 45, [line for line in page.panels[0].lines if line.label]))
    return page


def draw_confusion_matrix(confusion: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Page:
    """Counts of true (down) against predicted (across) labels, coloured by their share of the row.

    `confusion` is square, in the order of `names`. A cell without a number is 0. The colour follows the
    square root of the share: mistakes are a few per cent, and would be as good as white on a linear scale.
    Raises ValueError where `confusion` is not of shape (len(names), len(names)).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    check_confusion(counts, names)
    share = compute_row_shares(counts)
    page = Page(PAGE_WIDTH, 800, title)
    cell = _MATRIX_SIDE / len(names)
    box = (_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE, _MATRIX_SIDE)
    page.pictures.append(PagePicture(map_colours(np.sqrt(share), _BLUES), box))
    dark = share > 0.4
    page.write(_place_counts(counts * ~dark, cell), size=10.5, colour=INK)
    page.write(_place_counts(counts * dark, cell), size=10.5, colour="white")
    _write_names(page, names, cell)
    _write_scale(page)
    return page


def draw_misclassified(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    predicted: NDArray[Any],
    confidence: NDArray[Any],
    names: Sequence[str],
    title: str,
    limit: int = 40,
) -> Page:
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


def _make_panel(
    box: tuple[int, int, int, int], key: str, history: Sequence[Mapping[str, float]], best_epoch: int
) -> PlotPanel:
    epochs = list(range(1, len(history) + 1))
    training, validation = _extract_series(history, key), _extract_series(history, f"val_{key}")
    x_range, y_range = (0.5, len(history) + 0.5), choose_range(np.concatenate([training, validation]))
    mark = 5.0 if len(history) <= 30 else 0.0  # beyond that the marks would run together
    lines = [
        PanelLine(epochs, training, BLUE, dashes="dashed", mark=mark, label="training"),
        PanelLine(epochs, validation, VERMILLION, mark=mark, label="validation"),
    ]
    heading = key.capitalize()
    if best_epoch:
        best = validation[best_epoch - 1]
        lines.insert(0, PanelLine([best_epoch] * 2, y_range, GREEN, width=1.2, dashes="dotted"))
        lines.append(PanelLine([best_epoch], [best], GREEN, width=0.0, ring=11.0, label=f"best epoch: {best_epoch}"))
        if np.isfinite(best):
            heading += f" (validation {best:.4g} at the best epoch)"
    return PlotPanel(
        box,
        x_range,
        y_range,
        x_ticks=choose_ticks(*x_range, whole=True),
        y_ticks=choose_ticks(*y_range),
        heading=heading,
        x_label="epoch",
        lines=lines,
    )


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


def _write_names(page: Page, names: Sequence[str], cell: float) -> None:
    bottom = _MATRIX_TOP + _MATRIX_SIDE
    middles = [(place + 0.5) * cell for place in range(len(names))]
    down = [(_MATRIX_LEFT - 6, _MATRIX_TOP + y + 5, name) for y, name in zip(middles, names, strict=True)]
    across = [(_MATRIX_LEFT + x + 5, bottom + 14, name) for x, name in zip(middles, names, strict=True)]
    page.write(down, size=10, colour=INK, align=1)
    page.write(across, size=10, colour=INK, align=1, angle=35)
    page.write([(24, _MATRIX_TOP + _MATRIX_SIDE / 2, "true")], size=11, colour=MUTED, angle=90)
    page.write([(_MATRIX_LEFT + _MATRIX_SIDE / 2, bottom + 88, "predicted")], size=11, colour=MUTED)


def _write_scale(page: Page) -> None:
    """What the matrix's colours mean: a ramp beside it, with a few shares written next to it."""
    left, width, bottom = _MATRIX_LEFT + _MATRIX_SIDE + 24, 22, _MATRIX_TOP + _MATRIX_SIDE
    ramp = np.linspace(1, 0, 256)[:, None]
    page.pictures.append(PagePicture(map_colours(ramp, _BLUES), (left, _MATRIX_TOP, width, _MATRIX_SIDE)))
    shares = [
        (left + width + 6, bottom - math.sqrt(percent / 100) * _MATRIX_SIDE + 4, f"{percent} %")
        for percent in (0, 1, 5, 20, 50, 100)
    ]
    page.write(shares, size=9, colour=MUTED, align=0)
    heading = [(left + width + 60, _MATRIX_TOP + _MATRIX_SIDE / 2, "share of the true label's images")]
    page.write(heading, size=10, colour=MUTED, angle=90)
