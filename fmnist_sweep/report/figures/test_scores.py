"""Two pictures of a decision: test accuracies seed by seed, and recalls label by label. Values in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fmnist_sweep.report.figures.canvas import BLUE, FAINT, GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib
from fmnist_sweep.text import shorten_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, VERMILLION, GREEN, INK, MUTED)
_MAX_NAME_LENGTH = 60


def draw_test_accuracies(configurations: Sequence[tuple[str, Sequence[float]]]) -> Figure:
    """A row for each configuration: a dot per seed, a line at the mean. ValueError for none."""
    if not configurations:
        raise ValueError("there must be at least one configuration, but there is none")
    figure, axes = _make_axes(9, 1.2 + 0.7 * len(configurations))
    for row, (name, values) in enumerate(configurations):
        place = -row
        axes.plot(values, np.full(len(values), place), "o", color=_COLOURS[row % len(_COLOURS)], alpha=0.6, ms=7)
        mean = float(np.mean(values))
        axes.plot([mean, mean], [place - 0.25, place + 0.25], color=INK, lw=2)
        label = f"{shorten_text(name, _MAX_NAME_LENGTH)}: {mean:.4f} (n={len(values)})"
        axes.text(mean, place + 0.3, label, ha="center", va="bottom", size=9)
    axes.set_ylim(-len(configurations) + 0.4, 0.9)
    axes.set_yticks([])
    axes.set_xlabel("test accuracy: one dot per training seed, a line at their mean")
    return figure


def draw_test_recalls(configurations: Sequence[tuple[str, Mapping[str, float | None]]]) -> Figure:
    """A point for each label and configuration, means over seeds. ValueError for none."""
    if not configurations:
        raise ValueError("there must be at least one configuration, but there is none")
    labels = list(configurations[0][1])
    figure, axes = _make_axes(9, 4.4)
    for number, (_, scores) in enumerate(configurations):
        places = np.arange(len(labels)) + 0.12 * (number - (len(configurations) - 1) / 2)
        values = [np.nan if scores[label] is None else scores[label] for label in labels]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(places, np.array(values, dtype=float), "o", color=colour, ms=6)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_ylabel("recall on the test images")
    # Named here: a line whose own label begins with an underscore is left out.
    names = [shorten_text(name, _MAX_NAME_LENGTH) for name, _ in configurations]
    axes.legend(axes.get_lines(), names, loc="lower left", frameon=False, fontsize=8)
    return figure


def _make_axes(width: float, height: float) -> tuple[Figure, Axes]:
    prepare_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="x", color=FAINT)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes
