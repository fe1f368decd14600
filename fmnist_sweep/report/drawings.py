"""Small drawings in the cells of tables: where each of their marks lies, in pixels; templates/drawings.html draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.report.charts import GREY
from fmnist_sweep.report.figures.canvas import BLUE, GREEN

_WIDTH = 120
_MARGIN = 4

Scale = tuple[float, float]  # the values at the left and the right end of a drawing


@dataclass(frozen=True)
class IntervalDrawing:
    """An interval as a line with a dot at its value.

    mark: x of a value that is drawn behind all intervals of a table, or None. is_below: the value lies left of the
    scale, so that an arrow points there.
    """

    kind: ClassVar[str] = "interval"
    low: float
    value: float
    high: float
    colour: str
    mark: float | None = None
    is_below: bool = False


@dataclass(frozen=True)
class DotsDrawing:
    """Values as dots, with a line at their mean."""

    kind: ClassVar[str] = "dots"
    dots: tuple[float, ...]
    mean: float


Drawing = IntervalDrawing | DotsDrawing


def draw_interval(
    interval: tuple[float, float, float], scale: Scale, colour: str, mark: float | None = None
) -> IntervalDrawing:
    """Draw an interval (low, value, high) on a scale."""
    low, value, high = (_place_value(number, scale) for number in interval)
    mark_x = None if mark is None else _place_value(mark, scale)
    return IntervalDrawing(low, value, high, colour, mark_x, is_below=interval[1] < scale[0])


def draw_dots(values: Sequence[float], mean: float, scale: Scale) -> DotsDrawing:
    """Draw values and their mean on a scale."""
    return DotsDrawing(tuple(_place_value(value, scale) for value in values), _place_value(mean, scale))


def make_interval_drawer(findings: Findings, row_count: int) -> Callable[[int], IntervalDrawing | None]:
    """A function that draws the interval of the trial at a place among the first `row_count`.

    All are drawn on the scale of the better ones; an interval below it ends at its edge.
    """
    rows = [row for row in findings.rows[:row_count] if row.low is not None]
    accuracies = [trial.accuracy for trial in findings.trials[:row_count] if trial.accuracy is not None]
    if not rows or not accuracies:
        return lambda place: None
    best = rows[0]
    width = (best.high or 1.0) - (best.low or 0.0)
    low = max(float(np.quantile(accuracies, 0.2)) - width, (best.low or 0.0) - 3 * width)
    scale = (min(low, best.low or 0.0), max(row.high or 0.0 for row in rows))

    def draw(place: int) -> IntervalDrawing | None:
        row, accuracy = findings.rows[place], findings.trials[place].accuracy
        if row.low is None or row.high is None or accuracy is None:
            return None
        colour = GREEN if place == 0 else BLUE if row.tied else GREY
        return draw_interval((row.low, accuracy, row.high), scale, colour, mark=accuracies[0])

    return draw


def _place_value(value: float, scale: Scale) -> float:
    low, high = scale
    share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    return round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1)
