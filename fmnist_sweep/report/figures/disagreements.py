"""The images on which two trials disagree, and those that both get wrong, as a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.pair import EXAMPLES, Disagreement, Example
from fmnist_sweep.data import IMAGE_SIDE
from fmnist_sweep.report.figures.canvas import (
    IMAGE_COLORMAP,
    INK,
    PAGE_WIDTH,
    TITLE_HEIGHT,
    ZOOM,
    TextLine,
    draw_image,
    draw_texts,
    make_page,
    tile_images,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_WIDTH, _CELL_HEIGHT = 37, 55  # image pixels from one image to the next
_HEADING_HEIGHT = 24  # screen pixels for the first row's heading; the others stand in the room beneath a row
_LEFT = (PAGE_WIDTH - EXAMPLES * _CELL_WIDTH * ZOOM) // 2


def draw_disagreements(disagreement: Disagreement, images: NDArray[np.uint8], title: str) -> Figure:
    """Three rows of images, the most confident mistakes first, each with its label and what A and B say.

    images: (n, 28, 28, 1), the validation images in the order of the predictions. Raises ValueError where an example is
    not among them.
    """
    rows: list[tuple[str, int, tuple[Example, ...]]] = [
        ("only A is right", disagreement.only_a, disagreement.only_a_examples),
        ("only B is right", disagreement.only_b, disagreement.only_b_examples),
        ("both are wrong", disagreement.both_wrong, disagreement.both_wrong_examples),
    ]
    last_row = max((example.row for _, _, examples in rows for example in examples), default=-1)
    if last_row >= len(images):
        raise ValueError(f"the examples reach to row {last_row}, but there are {len(images)} images")
    tiles = np.zeros((len(rows), EXAMPLES, IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    for place, (_, _, examples) in enumerate(rows):
        if examples:
            tiles[place, : len(examples)] = images[[mistake.row for mistake in examples]].reshape(
                -1, IMAGE_SIDE, IMAGE_SIDE
            )
    mosaic = tile_images(tiles, _CELL_HEIGHT, _CELL_WIDTH)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = make_page(PAGE_WIDTH, TITLE_HEIGHT + _HEADING_HEIGHT + height, title)
    draw_image(figure, mosaic, IMAGE_COLORMAP, 255, (_LEFT, TITLE_HEIGHT + _HEADING_HEIGHT, width, height))
    headings: list[TextLine] = []
    captions: list[TextLine] = []
    for place, (heading, count, examples) in enumerate(rows):
        top = TITLE_HEIGHT + _HEADING_HEIGHT + place * _CELL_HEIGHT * ZOOM
        headings.append((_LEFT + 14.0, top - 7, f"{heading}: {count:,} images"))
        for column, mistake in enumerate(examples):
            x, y = _LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM, top + IMAGE_SIDE * ZOOM
            captions.append((x, y + 13, mistake.label))
            captions.append((x, y + 27, f"A: {mistake.a} {mistake.a_confidence:.0%}"))
            captions.append((x, y + 41, f"B: {mistake.b} {mistake.b_confidence:.0%}"))
    draw_texts(figure, headings, size=11, colour=INK, align=0)
    draw_texts(figure, captions, size=7.5, colour=INK)
    return figure
