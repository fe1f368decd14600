"""What comes from a store or a file is drawn as it is: matplotlib reads text between dollars as a formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from fmnist_sweep.data import LABELS
from fmnist_sweep.data.pictures.photographs import Photograph
from fmnist_sweep.report.figures.canvas import draw_message, encode_png
from fmnist_sweep.report.figures.plots import draw_confusion_matrix, draw_curves
from fmnist_sweep.report.figures.predictions import draw_predictions
from fmnist_sweep.report.figures.test_scores import draw_test_accuracies, draw_test_recalls

FORMULAS = [r"a_$\frac{$ b", "costs $5 or $6", "$$", r"\$a$", "_a", "a\n$b$"]
ROW = dict.fromkeys(["loss", "accuracy", "val_loss", "val_accuracy"], 0.5)


def draw_photograph(name: str) -> Figure:
    photograph = Photograph(name, np.zeros((28, 28, 1), np.uint8), np.zeros((28, 28, 3), np.uint8), [name], [name])
    return draw_predictions([photograph], np.full((1, 10), 0.1), name)


DRAWERS: dict[str, Callable[[str], Figure]] = {
    "message": lambda name: draw_message(name, name),
    "curves": lambda name: draw_curves([ROW, ROW], 1, name),
    "matrix": lambda name: draw_confusion_matrix([[1]], [name], name),
    "accuracies": lambda name: draw_test_accuracies([(name, [0.9, 0.8])]),
    "recalls": lambda name: draw_test_recalls([(name, {**dict.fromkeys(LABELS, 0.9), name: 0.9})]),
    "photograph": draw_photograph,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("draw", DRAWERS.values(), ids=list(DRAWERS))
def test_a_text_is_never_read_as_a_formula(draw: Callable[[str], Figure], name: str) -> None:
    figure = draw(name)
    assert encode_png(figure).startswith(b"\x89PNG")
    assert not [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_parse_math()]


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend() -> None:
    names = ["_a", "b"]
    figure = draw_test_recalls([(name, dict.fromkeys(LABELS, 0.9)) for name in names])
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == names
