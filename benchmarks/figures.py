"""What a trial's figures cost: ours against matplotlib's, the same content drawn in turn, in milliseconds of CPU time.

Curves of 20 epochs, a confusion matrix with its counts, and two pages of 40 wrongly labelled images with captions, all
as PNG files. With matplotlib: one Axes for a page of images, fixed margins, and the fastest compression.

    python benchmarks/figures.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures import plots
from fmnist_sweep.report.figures.canvas import encode_png

EPOCHS, IMAGES = 20, 200
Mistakes = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # images, labels, predictions, confidences


def content() -> tuple[list[dict[str, float]], NDArray[Any], Mistakes]:
    """The history of a trial, its confusion matrix, and its mistakes."""
    random = np.random.default_rng(0)
    keys = (("loss", 1.0), ("accuracy", 0.7), ("val_loss", 1.1), ("val_accuracy", 0.68))
    history = [{key: start / (1 + 0.1 * epoch) for key, start in keys} for epoch in range(EPOCHS)]
    confusion = np.eye(10, dtype=int) * 500 + random.integers(0, 30, (10, 10))
    labels = random.integers(0, 10, IMAGES)
    images = random.integers(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    mistakes = (images, labels, (labels + random.integers(1, 10, IMAGES)) % 10, random.uniform(0.3, 1.0, IMAGES))
    return history, confusion, mistakes


def ours() -> None:
    """Draw the four figures as a sweep does."""
    history, confusion, mistakes = content()
    encode_png(plots.draw_curves(history, EPOCHS // 2, "a trial"))
    encode_png(plots.draw_confusion_matrix(confusion.tolist(), LABELS, "a trial"))
    for _ in range(2):
        encode_png(plots.draw_misclassified(*mistakes, LABELS, "a trial"))


def theirs() -> None:
    """Draw the four figures with matplotlib."""
    history, confusion, (images, labels, predicted, confidence) = content()
    curves = Figure((9, 4.2), dpi=100)
    for place, key in enumerate(("accuracy", "loss"), 1):
        axes = curves.add_subplot(1, 2, place)
        for name in (key, f"val_{key}"):
            axes.plot(range(1, EPOCHS + 1), [row[name] for row in history], marker="o", label=name)
        axes.legend()
        axes.grid()
    _encode(curves)
    matrix = Figure((9, 8), dpi=100)
    axes = matrix.add_axes((0.12, 0.1, 0.8, 0.8))
    shown = axes.imshow(np.sqrt(confusion / confusion.sum(axis=1, keepdims=True)), cmap="Blues")
    matrix.colorbar(shown)
    axes.set_xticks(range(10), LABELS, rotation=35)
    axes.set_yticks(range(10), LABELS)
    for (row, column), count in np.ndenumerate(confusion):
        axes.text(column, row, str(count), ha="center", va="center")
    _encode(matrix)
    for _ in range(2):
        gallery = Figure((9, 7), dpi=100)
        axes = gallery.add_axes((0, 0, 1, 0.92))
        axes.set_axis_off()
        mosaic = np.zeros((5 * 43, 8 * 37), np.uint8)
        for place, index in enumerate(np.argsort(-confidence)[:40].tolist()):
            row, column = divmod(place, 8)
            mosaic[43 * row : 43 * row + 28, 37 * column : 37 * column + 28] = images[index, :, :, 0]
            caption = f"{LABELS[labels[index]]}\n→ {LABELS[predicted[index]]} {confidence[index]:.0%}"
            axes.text(37 * column + 14, 43 * row + 30, caption, ha="center", va="top", size=7.5)
        axes.imshow(mosaic, cmap="gray_r", interpolation="nearest")
        _encode(gallery)


def _encode(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": 1})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def measure(draw: Callable[[], None]) -> float:
    """Milliseconds of CPU time of one call."""
    began = time.process_time()
    draw()
    return 1000 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    first = measure(ours), measure(theirs)
    pairs = [(measure(ours), measure(theirs)) for _ in range(rounds)]
    for place, name in enumerate(("ours", "matplotlib")):
        values = [pair[place] for pair in pairs]
        print(
            f"{name}: median {statistics.median(values):.0f} ms CPU for the four figures "
            f"(min {min(values):.0f}, max {max(values):.0f}, n={rounds}); the first time {first[place]:.0f} ms"
        )
    ratios = [after / before for before, after in pairs]
    print(f"ratio: median {statistics.median(ratios):.1f} (min {min(ratios):.1f}, max {max(ratios):.1f})")


if __name__ == "__main__":
    main()
