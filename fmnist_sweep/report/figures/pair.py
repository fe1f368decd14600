"""The images on which two trials disagree, and those that both get wrong, as a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.pair import EXAMPLES, Disagreement, Example
from fmnist_sweep.report.figures.canvas import (
    GREY,
    INK,
    SIDE,
    TITLE_HEIGHT,
    WIDTH,
    ZOOM,
    Line,
    draw,
    page,
    tiled,
    write,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_WIDTH, _CELL_HEIGHT = 37, 55  # image pixels from one image to the next
_ABOVE = 24  # screen pixels for the first row's heading; the others stand in the room beneath a row
_LEFT = (WIDTH - EXAMPLES * _CELL_WIDTH * ZOOM) // 2


def disagreements(found: Disagreement, images: NDArray[np.uint8], title: str) -> Figure:
    """Three rows of images, the most confident mistakes first, each with its label and what A and B say.

    images: (n, 28, 28, 1), the validation images in the order of the predictions. Raises ValueError where an example is
    not among them.
    """
    rows: list[tuple[str, int, tuple[Example, ...]]] = [
        ("only A is right", found.only_a, found.only_a_examples),
        ("only B is right", found.only_b, found.only_b_examples),
        ("both are wrong", found.both_wrong, found.both_wrong_examples),
    ]
    greatest = max((example.row for _, _, examples in rows for example in examples), default=-1)
    if greatest >= len(images):
        raise ValueError(f"the examples reach to row {greatest}, but there are {len(images)} images")
    tiles = np.zeros((len(rows), EXAMPLES, SIDE, SIDE), np.uint8)
    for place, (_, _, examples) in enumerate(rows):
        if examples:
            tiles[place, : len(examples)] = images[[each.row for each in examples]].reshape(-1, SIDE, SIDE)
    mosaic = tiled(tiles, _CELL_HEIGHT, _CELL_WIDTH)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = page(WIDTH, TITLE_HEIGHT + _ABOVE + height, title)
    draw(figure, mosaic, GREY, 255, (_LEFT, TITLE_HEIGHT + _ABOVE, width, height))
    heads: list[Line] = []
    captions: list[Line] = []
    for place, (words, count, examples) in enumerate(rows):
        top = TITLE_HEIGHT + _ABOVE + place * _CELL_HEIGHT * ZOOM
        heads.append((_LEFT + 14.0, top - 7, f"{words}: {count:,} images"))
        for column, each in enumerate(examples):
            x, y = _LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM, top + SIDE * ZOOM
            captions.append((x, y + 13, each.label))
            captions.append((x, y + 27, f"A: {each.a} {each.a_confidence:.0%}"))
            captions.append((x, y + 41, f"B: {each.b} {each.b_confidence:.0%}"))
    write(figure, heads, size=11, colour=INK, align=0)
    write(figure, captions, size=7.5, colour=INK)
    return figure
