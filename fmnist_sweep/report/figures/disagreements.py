"""The images on which two trials disagree, and those that both get wrong, as a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.pair import Disagreement, Example
from fmnist_sweep.report.figures.canvas import GalleryRow, draw_gallery, select_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_disagreements(disagreement: Disagreement, images: NDArray[np.uint8], title: str) -> Figure:
    """Draw three rows of images, the most confident mistakes first, each with its label and both trials' answers.

    images: (n, 28, 28, 1), the validation images in the order of the predictions. Raises ValueError where an example is
    not among them.
    """
    kinds = [
        ("only A is right", disagreement.only_a, disagreement.only_a_examples),
        ("only B is right", disagreement.only_b, disagreement.only_b_examples),
        ("both are wrong", disagreement.both_wrong, disagreement.both_wrong_examples),
    ]
    rows = [
        GalleryRow(
            select_images(images, [example.row for example in examples]),
            [_list_caption_lines(example) for example in examples],
            heading=f"{heading}: {count:,} images",
        )
        for heading, count, examples in kinds
    ]
    return draw_gallery(rows, 27, title)


def _list_caption_lines(example: Example) -> tuple[str, str, str]:
    return (
        example.label,
        f"A: {example.a} {example.a_confidence:.0%}",
        f"B: {example.b} {example.b_confidence:.0%}",
    )
