"""What a model makes of pictures, as a figure: each picture, the pixels that the model saw, its ten probabilities."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.data.pictures.photographs import THUMBNAIL, Photograph
from fmnist_sweep.report.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    PAGE_WIDTH,
    TITLE_HEIGHT,
    TextLine,
    add_axes,
    draw_message,
    draw_texts,
    make_page,
)
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURES = 100  # rows: more would be a page that no viewer shows well
_LEFT, _PIXELS_LEFT = 16, 204  # of the picture and of the 28x28 pixels
_BARS_LEFT, _BARS_WIDTH = 478, 350
_CAPTION_HEIGHT, _ROW_HEIGHT = 50, 240  # of a picture without warnings, or with one
_LINE_HEIGHT, _LINE_LENGTH = 13, 145
MAX_BARS = 12  # more would not fit beside a picture


def draw_predictions(
    photographs: Sequence[Photograph],
    probabilities: NDArray[np.float64],
    title: str,
    label_names: Sequence[str] = LABELS,
) -> Figure:
    """A row for each picture: itself, the pixels that the model saw, a bar for each label's probability.

    `probabilities` are (n, number of labels), 0..1, a row for each picture; of more than MAX_BARS labels the likeliest
    are drawn. Raises ValueError for another shape, and for more than 100 pictures.
    """
    if probabilities.shape != (len(photographs), len(label_names)):
        raise ValueError(f"{len(photographs)} pictures cannot have probabilities of shape {probabilities.shape}")
    if len(photographs) > MAX_PICTURES:
        raise ValueError(f"at most {MAX_PICTURES} pictures can be drawn, but there are {len(photographs)}")
    if not photographs:
        return draw_message(title, "No pictures")
    captions = [_format_remarks(photograph) for photograph in photographs]
    further = _LINE_HEIGHT * max(0, max(len(lines) for lines in captions) - 2)  # beyond the two that each row has
    figure = make_page(PAGE_WIDTH, TITLE_HEIGHT + (_ROW_HEIGHT + further) * len(photographs), title)
    names, remarks, labels, shares = list[TextLine](), list[TextLine](), list[TextLine](), list[TextLine]()
    for place, (photograph, row) in enumerate(zip(photographs, probabilities, strict=True)):
        row_top = TITLE_HEIGHT + place * (_ROW_HEIGHT + further)
        top = row_top + _CAPTION_HEIGHT + further
        names.append((_LEFT, row_top + 11, _truncate_start(photograph.name)))
        remarks += [(_LEFT, row_top + 27 + _LINE_HEIGHT * line, text) for line, text in enumerate(captions[place])]
        _draw_thumbnail(figure, photograph.thumbnail, top)
        # As the model saw them: bright on black, unlike the other figures.
        _draw_pixels(figure, photograph.pixels.squeeze(), _fit_box(photograph.pixels, _PIXELS_LEFT, top))
        shown = np.arange(len(row)) if len(row) <= MAX_BARS else np.argsort(-row, kind="stable")[:MAX_BARS]
        _draw_bars(figure, row[shown], top)
        for bar, label in enumerate(shown.tolist()):
            share = row[label]
            middle = top + (bar + 0.5) * THUMBNAIL / len(shown) + 4
            labels.append((_BARS_LEFT - 8, middle, label_names[label]))
            shares.append((_BARS_LEFT + float(share) * _BARS_WIDTH + 6, middle, f"{share:.1%}"))
    draw_texts(figure, names, size=9.5, colour=INK, align=0)
    draw_texts(figure, remarks, size=7.5, colour=MUTED, align=0)
    draw_texts(figure, labels, size=8, colour=INK, align=1)
    draw_texts(figure, shares, size=8, colour=MUTED, align=0)
    return figure


def _draw_thumbnail(figure: Figure, thumbnail: NDArray[np.uint8], top: int) -> None:
    _draw_pixels(figure, thumbnail, _fit_box(thumbnail, _LEFT, top))
    _draw_frame(figure)


def _fit_box(pixels: NDArray[np.uint8], left: int, top: int) -> tuple[float, float, float, float]:
    """The box in which pixels keep their proportions, in the middle of a square of THUMBNAIL pixels."""
    height, width = (side * THUMBNAIL / max(pixels.shape[:2]) for side in pixels.shape[:2])
    return left + (THUMBNAIL - width) / 2, top + (THUMBNAIL - height) / 2, width, height


def _draw_pixels(figure: Figure, pixels: NDArray[np.uint8], box: tuple[float, float, float, float]) -> None:
    """Draw pixels in a box of (left, top, width, height) in pixels, in axes that can have a frame."""
    add_axes(figure, box).imshow(pixels, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")


def _draw_frame(figure: Figure) -> None:
    prepare_matplotlib()
    from matplotlib.patches import Rectangle

    # Else a picture on white ends nowhere on the page's white.
    axes = figure.axes[-1]
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=FAINT, clip_on=False))


def _draw_bars(figure: Figure, row: NDArray[Any], top: int) -> None:
    axes = add_axes(figure, (_BARS_LEFT, top, _BARS_WIDTH, THUMBNAIL))
    axes.set_xlim(0, 1)
    axes.set_ylim(len(row) - 0.5, -0.5)  # the first label at the top
    axes.barh(np.arange(len(row)), row, height=0.7, color=BLUE)
    axes.axvline(0, color=MUTED, lw=1)


def _format_remarks(photograph: Photograph) -> list[str]:
    """Each warning, whole, then what was done to a picture, cut off after two lines."""
    warnings = [line for each in photograph.warnings for line in textwrap.wrap(f"Warning: {each}", _LINE_LENGTH)]
    steps = textwrap.wrap("; ".join(photograph.assumptions) or "taken as it is", _LINE_LENGTH)
    return [*warnings, *(steps if len(steps) <= 2 else [steps[0], f"{steps[1]} …"])]


def _truncate_start(name: str, max_length: int = 100) -> str:
    return name if len(name) <= max_length else f"…{name[1 - max_length :]}"
