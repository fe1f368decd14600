"""The figures of an error analysis: values of `analysis` -> pages.

`images` are (n, 28, 28, 1) uint8, the images that the values were computed from. Where there is nothing to draw, a
figure says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import Calibration
from fmnist_sweep.analysis.labelling import Suspects
from fmnist_sweep.analysis.mistakes import ConfusedPair
from fmnist_sweep.report.figures.canvas import (
    GALLERY_COLUMNS,
    PAGE_WIDTH,
    GalleryRow,
    cut_rows,
    draw_gallery,
    draw_message,
    select_images,
)
from fmnist_sweep.report.figures.pages import Page
from fmnist_sweep.report.figures.palette import BLUE, MUTED
from fmnist_sweep.report.figures.panels import Legend, PanelBar, PanelLine, PlotPanel, choose_ticks
from fmnist_sweep.report.wording import describe_calibration_error, describe_suspects

_CONFIDENCE_RANGE = (0.0, 1.005)


def draw_confused_pairs(pairs: Sequence[ConfusedPair], images: NDArray[np.uint8], title: str) -> Page:
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


def draw_suspects(suspects: Suspects, images: NDArray[np.uint8], title: str, limit: int = 32) -> Page:
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


def draw_reliability(calibration: Calibration, title: str) -> Page:
    """Draw accuracy against confidence, and below it the number of images in each bin of confidence.

    Bars are 95 % Wilson intervals; points below the diagonal mean overconfidence.
    """
    if not calibration.bins:
        return draw_message(title, "No predictions")
    page = Page(PAGE_WIDTH, 640, title)
    lines = [(16.0, 51.0 + 18 * place, words) for place, words in enumerate(_format_calibration(calibration))]
    page.write(lines, size=9.5, colour=MUTED, align=0)
    upper = _make_reliability_panel((72, 90, 801, 333), calibration)
    page.panels += [upper, _make_confidence_panel((72, 461, 801, 122), calibration)]
    page.legends.append(Legend(82, 98, [line for line in upper.lines if line.label], is_column=True))
    return page


def _format_calibration(calibration: Calibration) -> tuple[str, str]:
    lean = "over" if calibration.overconfidence > 0 else "under"
    return (
        describe_calibration_error(calibration),
        f"Mean confidence {calibration.confidence:.4f}, accuracy {calibration.accuracy}: {lean}confident by "
        f"{abs(calibration.overconfidence):.4f}. Brier {calibration.brier:.4f}, NLL {calibration.nll:.4f}.",
    )


def _make_reliability_panel(box: tuple[int, int, int, int], calibration: Calibration) -> PlotPanel:
    bins, ticks = calibration.bins, choose_ticks(0, 1)
    intervals = [
        PanelLine([each.confidence] * 2, [each.accuracy.low, each.accuracy.high], BLUE, width=2) for each in bins
    ]
    accuracies = [each.accuracy.value for each in bins]
    return PlotPanel(
        box,
        _CONFIDENCE_RANGE,
        (-0.01, 1.02),
        ticks,
        ticks,
        y_label="accuracy",
        lines=[
            PanelLine([0, 1], [0, 1], MUTED, width=1, dashes="dashed", label="calibrated"),
            *intervals,
            PanelLine([each.confidence for each in bins], accuracies, BLUE, width=0, mark=7, label="this model"),
        ],
    )


def _make_confidence_panel(box: tuple[int, int, int, int], calibration: Calibration) -> PlotPanel:
    bins = calibration.bins
    top = math.ceil(math.log10(max(each.count for each in bins)) + 0.3)
    return PlotPanel(
        box,
        _CONFIDENCE_RANGE,
        # Most images are in the last bin: on a linear scale the others would be invisible.
        (0.7, 10.0**top),
        choose_ticks(0, 1),
        [(10.0**power, f"{10**power:,}") for power in range(top + 1)],
        x_label="confidence in the predicted label",
        y_label="images (log)",
        has_log_scale=True,
        bars=[PanelBar(each.low, each.high, each.count, BLUE) for each in bins],
    )
