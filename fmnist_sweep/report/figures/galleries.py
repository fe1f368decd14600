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

from fmnist_sweep.analysis import Calibration, Pair, Suspects
from fmnist_sweep.report.figures.canvas import (
    BLUE,
    FAINT,
    GREY,
    INK,
    MUTED,
    SIDE,
    TITLE_HEIGHT,
    WIDTH,
    ZOOM,
    Line,
    draw,
    note,
    page,
    tiled,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 8
_CELL_WIDTH = 37  # image pixels from one image to the next
_LEFT = (WIDTH - _COLUMNS * _CELL_WIDTH * ZOOM) // 2


def confused(pairs: Sequence[Pair], images: NDArray[np.uint8], title: str) -> Figure:
    """A row of examples for each pair, up to eight, and above it what was taken for what, and how often.

    The share is of the true label's images. Raises ValueError where a pair's rows are not in `images`.
    """
    if not pairs:
        return note(title, "No mistakes")
    rows = [pair.examples[:_COLUMNS] for pair in pairs]
    cell_height, caption = SIDE + 11, 24
    figure = _gallery(rows, images, cell_height, title, above=caption)
    heads, others = [], []
    for place, pair in enumerate(pairs):
        y = TITLE_HEIGHT + caption - 7 + place * cell_height * ZOOM
        heads.append((_LEFT + 14.0, y, _words(pair)))
        others.append((WIDTH - 20.0, y, f"the other way: {pair.reverse:,}"))
    write(figure, heads, size=11, colour=INK, align=0)
    write(figure, others, size=9.5, colour=MUTED, align=1)
    return figure


def suspected(suspects: Suspects, images: NDArray[np.uint8], title: str, most: int = 32) -> Figure:
    """Images whose label the trials doubt: given → agreed label, how many agree, their mean confidence.

    In the order of `suspects`, at most `most`. Raises ValueError where a row is not in `images`.
    """
    shown = suspects.suspected[:most]
    if not suspects.can_tell:
        return note(title, str(suspects))
    if not shown:
        return note(title, f"No image on which {suspects.trials} trials agree against its label")
    cell_height = SIDE + 18
    rows = [[s.row for s in shown[start : start + _COLUMNS]] for start in range(0, len(shown), _COLUMNS)]
    figure = _gallery(rows, images, cell_height, title)
    lines: list[Line] = []
    for place, suspect in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        x = _LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM
        y = TITLE_HEIGHT + (row * cell_height + SIDE) * ZOOM
        lines.append((x, y + 13, suspect.given))
        lines.append((x, y + 27, f"→ {suspect.agreed}"))
        lines.append((x, y + 41, f"{suspect.agreement}/{suspects.trials}, {suspect.confidence:.0%}"))
    write(figure, lines, size=7.5, colour=INK)
    return figure


def reliability(calibration: Calibration, title: str) -> Figure:
    """How often the model is right against how confident it is, and below it how many images are so confident.

    Bars are 95 % Wilson intervals; points below the diagonal mean overconfidence.
    """
    if not calibration.bins:
        return note(title, "No predictions")
    figure = page(WIDTH, 640, title)
    lines = [(16.0, 51.0 + 18 * place, words) for place, words in enumerate(_calibration_words(calibration))]
    write(figure, lines, size=9.5, colour=MUTED, align=0)
    upper = figure.add_axes((0.08, 0.34, 0.89, 0.52))
    lower = figure.add_axes((0.08, 0.09, 0.89, 0.19))
    _reliability_panel(upper, calibration)
    _confidence_panel(lower, calibration)
    return figure


def _gallery(
    rows: Sequence[Sequence[int]], images: NDArray[np.uint8], cell_height: int, title: str, above: int = 0
) -> Figure:
    """The images at these rows, a line each, in cells that leave room beneath; `above`: pixels before the first."""
    if images.shape[1:] != (SIDE, SIDE, 1):
        raise ValueError(f"images must have shape (n, {SIDE}, {SIDE}, 1), but have {images.shape}")
    greatest = max((row for line in rows for row in line), default=-1)
    if greatest >= len(images):
        raise ValueError(f"the examples reach to row {greatest}, but there are {len(images)} images")
    tiles = np.zeros((len(rows), _COLUMNS, SIDE, SIDE), np.uint8)
    for place, line in enumerate(rows):
        tiles[place, : len(line)] = images[list(line)].reshape(-1, SIDE, SIDE)
    mosaic = tiled(tiles, cell_height, _CELL_WIDTH)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = page(WIDTH, TITLE_HEIGHT + above + height, title)
    draw(figure, mosaic, GREY, 255, (_LEFT, TITLE_HEIGHT + above, width, height))
    return figure


def _words(pair: Pair) -> str:
    return f"{pair.true} taken for {pair.predicted}: {pair.count:,} ({pair.share:.1%})"


def _calibration_words(calibration: Calibration) -> tuple[str, str]:
    chance = f"{calibration.ece_if_calibrated:.4f} ± {calibration.ece_if_calibrated_sd:.4f}"
    lean = "over" if calibration.overconfidence > 0 else "under"
    return (
        f"Expected calibration error {calibration.ece:.4f}, where a perfectly calibrated model would show {chance}.",
        f"Mean confidence {calibration.confidence:.4f}, accuracy {calibration.accuracy}: {lean}confident by "
        f"{abs(calibration.overconfidence):.4f}. Brier {calibration.brier:.4f}, NLL {calibration.nll:.4f}.",
    )


def _reliability_panel(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.bins
    confidence = [b.confidence for b in bins]
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--", label="calibrated")
    axes.vlines(confidence, [b.accuracy.low for b in bins], [b.accuracy.high for b in bins], color=BLUE, lw=2)
    axes.plot(confidence, [b.accuracy.value for b in bins], color=BLUE, marker="o", ms=6, ls="", label="this model")
    _style(axes)
    axes.set_xlim(0, 1.005)
    axes.set_ylim(-0.01, 1.02)
    axes.set_ylabel("accuracy", fontsize=10, color=MUTED)
    axes.legend(loc="upper left", frameon=False, fontsize=9.5)


def _confidence_panel(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.bins
    axes.bar(
        [b.low for b in bins],
        [b.count for b in bins],
        [b.high - b.low for b in bins],
        align="edge",
        color=BLUE,
        ec="white",
    )
    _style(axes)
    axes.set_xlim(0, 1.005)
    # Most images are in the last bin: on a linear scale the others would not be seen.
    axes.set_yscale("log")
    axes.set_ylim(0.7, 10 ** math.ceil(math.log10(max(b.count for b in bins)) + 0.3))
    axes.set_xlabel("confidence in the predicted label", fontsize=10, color=MUTED)
    axes.set_ylabel("images (log)", fontsize=10, color=MUTED)


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.grid(color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
