"""Training images of each label, as a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import Split, Splits
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES_PER_LABEL = 8


def draw_examples(splits: Splits) -> Figure:
    """Draw training images of each label, a row a label."""
    prepare_matplotlib()
    from matplotlib.figure import Figure

    names = splits.description.labels
    figure = Figure(figsize=(_EXAMPLES_PER_LABEL + 1.5, len(names)), layout="constrained")
    axes = figure.subplots(len(names), _EXAMPLES_PER_LABEL, squeeze=False)
    for label, row in enumerate(axes):
        examples = _select_examples(splits.train, label)
        for place, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if place < len(examples):
                axis.imshow(examples[place].squeeze(), cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(names[label], rotation=0, ha="right", va="center")
    figure.suptitle(f"{splits.tag}: training examples")
    return figure


def _select_examples(split: Split, label: int) -> NDArray[np.uint8]:
    return split.images[np.flatnonzero(split.labels == label)[:_EXAMPLES_PER_LABEL]]
