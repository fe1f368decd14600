"""The figures of an error analysis: values of `analysis` -> matplotlib Figure.

`images` are (n, 28, 28, 1) uint8, the images that the values were computed from. Where there is nothing to draw, a
figure says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import Calibration
from fmnist_sweep.analysis.labelling import Suspects
from fmnist_sweep.analysis.mistakes import ConfusedPair
from fmnist_sweep.report.figures.canvas import (
    BLUE,
    GALLERY_COLUMNS,
    MUTED,
    PAGE_WIDTH,
    GalleryRow,
    cut_rows,
    draw_gallery,
    draw_message,
    draw_texts,
    make_page,
    select_images,
    style_axes,
)
from fmnist_sweep.report.wording import describe_calibration_error, describe_suspects

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_confused_pairs(pairs: Sequence[ConfusedPair], images: NDArray[np.uint8], title: str) -> Figure:
    """Draw a row of up to eight examples for each pair, under a heading with the labels and the count.

    The share is of the true label's images. Raises ValueError where a pair's rows are not in `images`.
    """
    if not pairs:
        return draw_message(title, "No mistakes")
    rows = [
        GalleryRow(
            select_images(images, pair.examples[:GALLERY_COLUMNS]),
            heading=f"{pair.true} taken for {pair.predicted}: {pair.count:,} ({pair.share:.1%})",
            remark=f"the other way: {pair.reverse:,}",
        )
        for pair in pairs
    ]
    return draw_gallery(rows, 11, title)


def draw_suspects(suspects: Suspects, images: NDArray[np.uint8], title: str, limit: int = 32) -> Figure:
    """Draw images whose label the trials doubt: given → agreed label, how many agree, their mean confidence.

    In the order of `suspects`, at most `limit`. Raises ValueError where a row is not in `images`.
    """
    selection = suspects.label_suspects[:limit]
    if not suspects.can_tell:
        return draw_message(title, describe_suspects(suspects))
    if not selection:
        return draw_message(title, f"No image on which {suspects.trials} trials agree against its label")
    rows = [
        GalleryRow(
            select_images(images, [suspect.row for suspect in row]),
            [
                (
                    suspect.label,
                    f"→ {suspect.alternative}",
                    f"{suspect.agreement}/{suspects.trials}, {suspect.confidence:.0%}",
                )
                for suspect in row
            ],
        )
        for row in cut_rows(selection)
    ]
    return draw_gallery(rows, 18, title)


def draw_reliability(calibration: Calibration, title: str) -> Figure:
    """Draw accuracy against confidence, and below it the number of images in each bin of confidence.

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


def _format_calibration(calibration: Calibration) -> tuple[str, str]:
    lean = "over" if calibration.overconfidence > 0 else "under"
    return (
        describe_calibration_error(calibration),
        f"Mean confidence {calibration.confidence:.4f}, accuracy {calibration.accuracy}: {lean}confident by "
        f"{abs(calibration.overconfidence):.4f}. Brier {calibration.brier:.4f}, NLL {calibration.nll:.4f}.",
    )


def _draw_reliability_panel(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.bins
    confidence = [b.confidence for b in bins]
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--", label="calibrated")
    axes.vlines(confidence, [b.accuracy.low for b in bins], [b.accuracy.high for b in bins], color=BLUE, lw=2)
    axes.plot(confidence, [b.accuracy.value for b in bins], color=BLUE, marker="o", ms=6, ls="", label="this model")
    style_axes(axes)
    axes.set_axisbelow(True)
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
    style_axes(axes)
    axes.set_axisbelow(True)
    axes.set_xlim(0, 1.005)
    # Most images are in the last bin: on a linear scale the others would be invisible.
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")  # by itself it writes powers as formulas
    axes.set_ylim(0.7, 10 ** math.ceil(math.log10(max(b.count for b in bins)) + 0.3))
    axes.set_xlabel("confidence in the predicted label", fontsize=10, color=MUTED)
    axes.set_ylabel("images (log)", fontsize=10, color=MUTED)
