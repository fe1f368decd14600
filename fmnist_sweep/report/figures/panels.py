"""Panels of a page: lines, points and bars over two axes with ticks and a grid, and what their lines mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fmnist_sweep.report.figures.page_text import PageText
from fmnist_sweep.report.figures.palette import FAINT, INK, MUTED, POINT
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

_SUPERSAMPLING = 4  # lines are drawn this much larger, and then reduced: their edges are smooth
_TICK_LENGTH = 4  # pixels
_SAMPLE_WIDTH, _SAMPLE_HEIGHT = 28, 20  # pixels of a line beside its label
_DASHES = {"solid": (), "dashed": (3.7, 1.6), "dotted": (1.0, 1.65)}  # in widths of the line: drawn, left out

Tick = tuple[float, str]
Points = NDArray[np.float64]  # (n, 2), x and y; a row that is not finite interrupts a line


@dataclass(frozen=True)
class PanelLine:
    """A line through points in the units of its panel's axes, and marks at them.

    In points: width, of the line, 0 for marks alone; mark, the diameter of a dot at each point of it, 0 for none; ring,
    that of a ring, likewise.
    """

    x: Sequence[float] | NDArray[np.float64]
    y: Sequence[float] | NDArray[np.float64]
    colour: str
    width: float = 1.8
    dashes: Literal["solid", "dashed", "dotted"] = "solid"
    mark: float = 0.0
    ring: float = 0.0
    label: str = ""

    @property
    def points(self) -> Points:
        """Its points, (n, 2)."""
        return np.column_stack([np.asarray(self.x, np.float64), np.asarray(self.y, np.float64)])


@dataclass(frozen=True)
class PanelBar:
    """A bar from the bottom of a panel up to a height, in the units of the panel's axes."""

    left: float
    right: float
    height: float
    colour: str


@dataclass
class PlotPanel:
    """Lines and bars in a box (left, top, width, height) of a page, in pixels.

    Bars lie below lines, and what is listed first below what follows. has_log_scale: whether y is on a logarithmic one.
    """

    box: tuple[int, int, int, int]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    heading: str = ""
    x_label: str = ""
    y_label: str = ""
    has_log_scale: bool = False
    lines: list[PanelLine] = field(default_factory=list)
    bars: list[PanelBar] = field(default_factory=list)

    def draw(self, image: Image.Image) -> None:
        """Draw it on an RGB image."""
        left, top, width, height = self.box
        image.paste(self._draw_content(), (left, top))
        pen = ImageDraw.Draw(image)
        bottom = top + height
        pen.line((left, top, left, bottom), MUTED)
        pen.line((left, bottom, left + width, bottom), MUTED)
        for x, _ in self.x_ticks:
            place = round(left + self._place_x(x))
            pen.line((place, bottom, place, bottom + _TICK_LENGTH), MUTED)
        for y, _ in self.y_ticks:
            place = round(top + self._place_y(y))
            pen.line((left - _TICK_LENGTH, place, left, place), MUTED)
        for text in self.list_texts():
            text.draw(image)

    def list_texts(self) -> list[PageText]:
        """All that is written about it: heading, labels of the axes and of their ticks."""
        left, top, width, height = self.box
        bottom, middle = top + height, top + height / 2
        texts = [PageText(left + self._place_x(x), bottom + 18, text, 9, MUTED, 0.5) for x, text in self.x_ticks]
        texts += [PageText(left - 9, top + self._place_y(y) + 4, text, 9, MUTED, 1.0) for y, text in self.y_ticks]
        widest = max((left - text.measure()[0] for text in texts[len(self.x_ticks) :]), default=0.0)
        texts += [
            PageText(left, top - 9, self.heading, 10.5, INK),
            PageText(left + width / 2, bottom + 37, self.x_label, 10, MUTED, 0.5),
            PageText(left - widest - 9, middle, self.y_label, 10, MUTED, 0.5, 90),
        ]
        return [text for text in texts if text.text]

    def _draw_content(self) -> Image.Image:
        """What lies within the axes."""
        _, _, width, height = self.box
        scale = _SUPERSAMPLING
        layer = Image.new("RGB", (width * scale, height * scale), "white")
        pen = ImageDraw.Draw(layer)
        for x, _ in self.x_ticks:
            place = round(self._place_x(x)) * scale
            pen.rectangle((place, 0, place + scale - 1, height * scale), FAINT)
        for y, _ in self.y_ticks:
            place = round(self._place_y(y)) * scale
            pen.rectangle((0, place, width * scale, place + scale - 1), FAINT)
        for bar in self.bars:
            self._draw_bar(pen, bar)
        for line in self.lines:
            places = [(self._place_x(x), self._place_y(y)) for x, y in line.points.tolist()]
            _draw_line(pen, line, np.array(places))
        return layer.reduce(scale)

    def _draw_bar(self, pen: ImageDraw.ImageDraw, bar: PanelBar) -> None:
        left, right = (round(self._place_x(x)) * _SUPERSAMPLING for x in (bar.left, bar.right))
        top = self._place_y(bar.height) * _SUPERSAMPLING
        pen.rectangle((left, top, right, self.box[3] * _SUPERSAMPLING), bar.colour, "white", _SUPERSAMPLING)

    def _place_x(self, x: float) -> float:
        """Pixels from the left of the box."""
        low, high = self.x_range
        return (x - low) / (high - low) * self.box[2]

    def _place_y(self, y: float) -> float:
        """Pixels from the top of the box."""
        low, high = self.y_range
        if self.has_log_scale:
            y, low, high = (math.log10(value) for value in (max(y, low), low, high))
        return (1 - (y - low) / (high - low)) * self.box[3]


@dataclass(frozen=True)
class Legend:
    """The labels of lines, each beside a sample, from x, y on, in pixels: in a row, or below one another."""

    x: int
    y: int
    lines: Sequence[PanelLine]
    is_column: bool = False

    def draw(self, image: Image.Image) -> None:
        """Draw it on an RGB image."""
        for (x, y), text, line in zip(self._place_samples(), self.list_texts(), self.lines, strict=True):
            box = (x, y, x + _SAMPLE_WIDTH, y + _SAMPLE_HEIGHT)
            size = (_SAMPLE_WIDTH * _SUPERSAMPLING, _SAMPLE_HEIGHT * _SUPERSAMPLING)
            sample = image.crop(box).resize(size, Image.Resampling.NEAREST)
            middle = _SAMPLE_HEIGHT / 2
            pen = ImageDraw.Draw(sample)
            _draw_line(pen, replace(line, mark=0.0, ring=0.0), np.array([(0, middle), (_SAMPLE_WIDTH, middle)]))
            _draw_line(pen, replace(line, width=0.0), np.array([(_SAMPLE_WIDTH / 2, middle)]))
            image.paste(sample.reduce(_SUPERSAMPLING), (x, y))
            text.draw(image)

    def list_texts(self) -> list[PageText]:
        """The labels at their places."""
        return [
            PageText(x + _SAMPLE_WIDTH + 11, y + _SAMPLE_HEIGHT - 5, line.label, 10, INK)
            for (x, y), line in zip(self._place_samples(), self.lines, strict=True)
        ]

    def _place_samples(self) -> list[tuple[int, int]]:
        places, x, y = list[tuple[int, int]](), self.x, self.y
        for line in self.lines:
            places.append((x, y))
            if self.is_column:
                y += _SAMPLE_HEIGHT
            else:
                x += _SAMPLE_WIDTH + 39 + round(PageText(0, 0, line.label, 10, INK).measure()[2])
        return places


def _draw_line(pen: ImageDraw.ImageDraw, line: PanelLine, places: Points) -> None:
    """Draw a line and its marks. places: its points in pixels, before they are enlarged."""
    points, unit = _SUPERSAMPLING * places.reshape(-1, 2), _SUPERSAMPLING * POINT
    if line.width:
        width = max(1, round(line.width * unit))
        for part in _split_line(points):
            for piece in _cut_dashes(part, [width * share for share in _DASHES[line.dashes]]):
                pen.line([(x, y) for x, y in piece.tolist()], line.colour, width, "curve")
    for x, y in points[np.isfinite(points).all(axis=1)].tolist():
        if line.mark:
            pen.circle((x, y), line.mark / 2 * unit, line.colour)
        if line.ring:
            pen.circle((x, y), (line.ring / 2 + 1) * unit, None, line.colour, round(2 * unit))


def _split_line(points: Points) -> Iterator[Points]:
    """The parts of a line between points that are not finite, each of two points at least."""
    finite = np.isfinite(points).all(axis=1)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(int)))
    for start, end in borders.reshape(-1, 2).tolist():
        if end - start > 1:
            yield points[start:end]


def _cut_dashes(points: Points, pattern: Sequence[float]) -> Iterator[Points]:
    """Cut a line into dashes. pattern: the lengths that are drawn and left out in turn, or nothing for a whole line."""
    if not pattern:
        yield points
        return
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    period, end = sum(pattern), float(lengths[-1])
    for start in np.arange(0.0, end, period).tolist():
        stop = min(start + pattern[0], end)
        inner = (lengths > start) & (lengths < stop)
        ends = np.array([[np.interp(place, lengths, axis) for axis in points.T] for place in (start, stop)])
        yield np.concatenate([ends[:1], points[inner], ends[1:]])


def choose_ticks(low: float, high: float, max_intervals: int = 6, *, whole: bool = False) -> list[Tick]:
    """Round values in a range, and how they are written; at most `max_intervals` apart from each other.

    whole: only whole numbers.
    """
    prepare_matplotlib()
    from matplotlib.ticker import MaxNLocator

    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    locator = MaxNLocator(nbins=max_intervals, steps=steps, integer=whole, min_n_ticks=1)
    values = [value for value in np.asarray(locator.tick_values(low, high)).tolist() if low <= value <= high]
    return [(value, text) for value, text in zip(values, _format_ticks(values), strict=True)]


def _format_ticks(values: Sequence[float]) -> list[str]:
    """Write ticks with as many decimals as set them apart, very large and very small ones with an exponent."""
    largest = max(map(abs, values), default=0.0)
    step = min((after - before for before, after in pairwise(values)), default=largest)
    has_exponent = largest >= 1e5 or 0 < largest < 1e-3
    unit = 10.0 ** math.floor(math.log10(largest)) if has_exponent else 1.0
    decimals = next((count for count in range(16) if math.isclose(round(step / unit, count), step / unit)), 16)
    texts = [f"{value:.{decimals}{'e' if has_exponent else 'f'}}" for value in values]
    return [text.replace("-", "−") for text in texts]


def choose_range(values: NDArray[Any]) -> tuple[float, float]:
    """The range of an axis that shows all finite values, with a margin."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    return low - margin, high + margin
