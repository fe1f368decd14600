"""The figures of an error analysis: values of `analysis` -> matplotlib Figure, drawn as in `plots`.

`images` are (n, 28, 28, 1) uint8 and those the values were made from: their rows are looked up in it. Where there
is nothing to draw, a figure says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import Calibration, ConfusedPair, Suspects
from fmnist_sweep.data import IMAGE_SIDE
from fmnist_sweep.report.figures.canvas import (
    BLUE,
    FAINT,
    IMAGE_COLORMAP,
    INK,
    MUTED,
    PAGE_WIDTH,
    TITLE_HEIGHT,
    ZOOM,
    TextLine,
    draw_image,
    draw_message,
    draw_texts,
    make_page,
    tile_images,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 8
_CELL_WIDTH = 37  # image pixels from one image to the next
_LEFT = (PAGE_WIDTH - _COLUMNS * _CELL_WIDTH * ZOOM) // 2


def draw_confused_pairs(pairs: Sequence[ConfusedPair], images: NDArray[np.uint8], title: str) -> Figure:
    """A row of examples for each pair, up to eight, and above it what was taken for what, and how often.

    The share is of the true label's images. Raises ValueError where a pair's rows are not in `images`.
    """
    if not pairs:
        return draw_message(title, "No mistakes")
    rows = [pair.examples[:_COLUMNS] for pair in pairs]
    cell_height, caption = IMAGE_SIDE + 11, 24
    figure = _draw_gallery(rows, images, cell_height, title, top_margin=caption)
    headings, reverse_counts = [], []
    for place, pair in enumerate(pairs):
        y = TITLE_HEIGHT + caption - 7 + place * cell_height * ZOOM
        headings.append((_LEFT + 14.0, y, _format_pair(pair)))
        reverse_counts.append((PAGE_WIDTH - 20.0, y, f"the other way: {pair.reverse:,}"))
    draw_texts(figure, headings, size=11, colour=INK, align=0)
    draw_texts(figure, reverse_counts, size=9.5, colour=MUTED, align=1)
    return figure


def draw_suspects(suspects: Suspects, images: NDArray[np.uint8], title: str, limit: int = 32) -> Figure:
    """Images whose label the trials doubt: given → agreed label, how many agree, their mean confidence.

    In the order of `suspects`, at most `most`. Raises ValueError where a row is not in `images`.
    """
    selection = suspects.label_suspects[:limit]
    if not suspects.can_tell:
        return draw_message(title, str(suspects))
    if not selection:
        return draw_message(title, f"No image on which {suspects.trials} trials agree against its label")
    cell_height = IMAGE_SIDE + 18
    rows = [[s.row for s in selection[start : start + _COLUMNS]] for start in range(0, len(selection), _COLUMNS)]
    figure = _draw_gallery(rows, images, cell_height, title)
    lines: list[TextLine] = []
    for place, suspect in enumerate(selection):
        row, column = divmod(place, _COLUMNS)
        x = _LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM
        y = TITLE_HEIGHT + (row * cell_height + IMAGE_SIDE) * ZOOM
        lines.append((x, y + 13, suspect.label))
        lines.append((x, y + 27, f"→ {suspect.alternative}"))
        lines.append((x, y + 41, f"{suspect.agreement}/{suspects.trials}, {suspect.confidence:.0%}"))
    draw_texts(figure, lines, size=7.5, colour=INK)
    return figure


def draw_reliability(calibration: Calibration, title: str) -> Figure:
    """How often the model is right against how confident it is, and below it how many images are so confident.

    Bars are 95 % Wilson intervals; points below the diagonal mean overconfidence.
    """
    if not calibration.bins:
        return draw_message(title, "No predictions")
    figure = make_page(PAGE_WIDTH, 640, title)
    lines = [(16.0, 51.0 + 18 * place, words) for place, words in enumerate(_format_calibration(calibration))]
    draw_texts(figure, lines, size=9.5, colour=MUTED, align=0)
    upper_axes = figure.add_axes((0.08, 0.34, 0.89, 0.52))
    lower_axes = figure.add_axes((0.08, 0.09, 0.89, 0.19))
    _draw_reliability_panel(upper_axes, calibration)
    _draw_confidence_panel(lower_axes, calibration)
    return figure


def _draw_gallery(
    rows: Sequence[Sequence[int]], images: NDArray[np.uint8], cell_height: int, title: str, top_margin: int = 0
) -> Figure:
    """The images at these rows, a line each, in cells that leave room beneath; `above`: pixels before the first."""
    if images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE, 1):
        raise ValueError(f"images must have shape (n, {IMAGE_SIDE}, {IMAGE_SIDE}, 1), but have {images.shape}")
    last_row = max((row for line in rows for row in line), default=-1)
    if last_row >= len(images):
        raise ValueError(f"the examples reach to row {last_row}, but there are {len(images)} images")
    tiles = np.zeros((len(rows), _COLUMNS, IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    for place, line in enumerate(rows):
        tiles[place, : len(line)] = images[list(line)].reshape(-1, IMAGE_SIDE, IMAGE_SIDE)
    mosaic = tile_images(tiles, cell_height, _CELL_WIDTH)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = make_page(PAGE_WIDTH, TITLE_HEIGHT + top_margin + height, title)
    draw_image(figure, mosaic, IMAGE_COLORMAP, 255, (_LEFT, TITLE_HEIGHT + top_margin, width, height))
    return figure


def _format_pair(pair: ConfusedPair) -> str:
    return f"{pair.true} taken for {pair.predicted}: {pair.count:,} ({pair.share:.1%})"


def _format_calibration(calibration: Calibration) -> tuple[str, str]:
    chance = f"{calibration.ece_if_calibrated:.4f} ± {calibration.ece_if_calibrated_sd:.4f}"
    lean = "over" if calibration.overconfidence > 0 else "under"
    return (
        f"Expected calibration error {calibration.ece:.4f}, where a perfectly calibrated model would show {chance}.",
        f"Mean confidence {calibration.confidence:.4f}, accuracy {calibration.accuracy}: {lean}confident by "
        f"{abs(calibration.overconfidence):.4f}. Brier {calibration.brier:.4f}, NLL {calibration.nll:.4f}.",
    )


def _draw_reliability_panel(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.bins
    confidence = [b.confidence for b in bins]
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--", label="calibrated")
    axes.vlines(confidence, [b.accuracy.low for b in bins], [b.accuracy.high for b in bins], color=BLUE, lw=2)
    axes.plot(confidence, [b.accuracy.value for b in bins], color=BLUE, marker="o", ms=6, ls="", label="this model")
    _style_axes(axes)
    axes.set_xlim(0, 1.005)
    axes.set_ylim(-0.01, 1.02)
    axes.set_ylabel("accuracy", fontsize=10, color=MUTED)
    axes.legend(loc="upper left", frameon=False, fontsize=9.5)


def _draw_confidence_panel(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.bins
    axes.bar(
        [b.low for b in bins],
        [b.count for b in bins],
        [b.high - b.low for b in bins],
        align="edge",
        color=BLUE,
        ec="white",
    )
    _style_axes(axes)
    axes.set_xlim(0, 1.005)
    # Most images are in the last bin: on a linear scale the others would not be seen.
    axes.set_yscale("log")
    axes.set_ylim(0.7, 10 ** math.ceil(math.log10(max(b.count for b in bins)) + 0.3))
    axes.set_xlabel("confidence in the predicted label", fontsize=10, color=MUTED)
    axes.set_ylabel("images (log)", fontsize=10, color=MUTED)


def _style_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.grid(color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
