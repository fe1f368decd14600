"""Values -> matplotlib figures: no files, no tracking, and no pyplot, whose state is the whole process's.

Three of these are drawn for every trial, so they are built to be drawn fast: one Axes for a page of images,
one outline for a page of captions, fixed margins instead of a layout that draws everything twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

_DPI = 100  # with figures 9 inches wide: 900 pixels, about what a browser shows without scaling
WIDTH = 900

# Okabe & Ito's palette, told apart with any common colour blindness.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#DDDDDD"

SIDE = 28  # pixels of one image's side
ZOOM = 3  # screen pixels of one image pixel: whole, so that every image pixel is equally large
_COLUMNS = 8
TITLE_HEIGHT = 52
_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE = 118, 56, 640
GREY = "gray_r"  # reversed: clothes on the white of the page, as in a catalogue

Line = tuple[float, float, str]  # x, y of a text's baseline in pixels from the top left; the text


def curves(history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> Figure:
    """Accuracy and loss by epoch, training against validation, with the best epoch marked.

    `history` holds one mapping an epoch with the keys loss, accuracy, val_loss and val_accuracy; NaN and
    infinity leave a gap. `best_epoch` counts from 1; 0 says that there is none. Raises ValueError for an
    empty history and for a best epoch outside it.
    """
    if not history:
        raise ValueError("curves need a history of at least one epoch, but it is empty")
    if not 0 <= best_epoch <= len(history):
        raise ValueError(f"best_epoch must lie in 0..{len(history)}, but is {best_epoch}")
    figure = page(WIDTH, 420, title)
    for left, key in ((0.07, "accuracy"), (0.57, "loss")):
        axes = figure.add_axes((left, 0.12, 0.41, 0.61))
        _panel(axes, key, history, best_epoch)
    # One legend above both panels: inside one it would sooner or later lie on a curve.
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="upper left", bbox_to_anchor=(0.01, 0.915), ncols=3, frameon=False, fontsize=10)
    return figure


def confusion_matrix(confusion: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Figure:
    """Counts of true (down) against predicted (across) labels, coloured by their share of the row.

    `confusion` is square, in the order of `names`. A cell without a number is 0. The colour follows the
    square root of the share: mistakes are a few per cent, and would be as good as white on a linear scale.
    Raises ValueError where `confusion` is not of shape (len(names), len(names)).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"a confusion matrix of {len(names)} labels cannot have the shape {counts.shape}")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = page(WIDTH, 800, title)
    cell = _MATRIX_SIDE / len(names)
    draw(figure, np.sqrt(share), "Blues", 1, (_MATRIX_LEFT, _MATRIX_TOP, _MATRIX_SIDE, _MATRIX_SIDE))
    dark = share > 0.4
    write(figure, _count_lines(counts * ~dark, cell), size=10.5, colour=INK)
    write(figure, _count_lines(counts * dark, cell), size=10.5, colour="white")
    _write_names(figure, names, cell)
    _write_scale(figure)
    return figure


def misclassified(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    predicted: NDArray[Any],
    confidence: NDArray[Any],
    names: Sequence[str],
    title: str,
    most: int = 40,
) -> Figure:
    """The images a model got wrong, the most confident mistakes first, each with true → predicted beneath.

    `images` are (n, 28, 28, 1), 0..255; `labels` and `predicted` are (n,) indices into `names`; `confidence`
    is (n,), the predicted label's probability, 0..1, and sorts them. Images that were labelled rightly are
    passed over, and at most `most` are shown. Raises ValueError for arrays of differing lengths.
    """
    if not len(images) == len(labels) == len(predicted) == len(confidence):
        lengths = f"{len(images)}, {len(labels)}, {len(predicted)} and {len(confidence)}"
        raise ValueError(f"images, labels, predicted and confidence must be equally long, but have lengths {lengths}")
    wrong = np.flatnonzero(labels != predicted)
    # A stable sort, so that equal confidences keep the order of the data and a repeated trial its figure.
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    if not len(shown):
        return note(title, "No misclassified images")
    cell_width, cell_height = 37, 43
    rows = math.ceil(len(shown) / _COLUMNS)
    tiles = np.zeros((rows * _COLUMNS, SIDE, SIDE), np.uint8)
    tiles[: len(shown)] = images[shown].reshape(-1, SIDE, SIDE)
    mosaic = tiled(tiles.reshape(rows, _COLUMNS, SIDE, SIDE), cell_height, cell_width)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = page(WIDTH, height + TITLE_HEIGHT, title)
    left = (WIDTH - width) // 2
    draw(figure, mosaic, GREY, 255, (left, TITLE_HEIGHT, width, height))
    lines: list[Line] = []
    for place, index in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        x = left + (column + 0.5) * cell_width * ZOOM
        y = TITLE_HEIGHT + (row * cell_height + SIDE) * ZOOM
        lines.append((x, y + 13, names[labels[index]]))
        lines.append((x, y + 27, f"→ {names[predicted[index]]} {confidence[index]:.0%}"))
    write(figure, lines, size=7.5, colour=INK)
    return figure


def examples(images: NDArray[np.uint8], labels: NDArray[Any], names: Sequence[str], per_label: int = 8) -> Figure:
    """A row of images for each label: the first `per_label` of it.

    `images` are (n, 28, 28, 1), 0..255; `labels` are (n,) indices into `names`. A label with fewer images has
    a shorter row. Raises ValueError for arrays of differing lengths.
    """
    if len(images) != len(labels):
        raise ValueError(f"there are {len(images)} images but {len(labels)} labels")
    cell, margin = 30, 168
    tiles = np.zeros((len(names), per_label, SIDE, SIDE), np.uint8)
    for label in range(len(names)):
        chosen = np.flatnonzero(labels == label)[:per_label]
        tiles[label, : len(chosen)] = images[chosen].reshape(-1, SIDE, SIDE)
    mosaic = tiled(tiles, cell, cell)
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    figure = page(margin + width, height + TITLE_HEIGHT, "Examples of each label")
    draw(figure, mosaic, GREY, 255, (margin, TITLE_HEIGHT, width, height))
    lines = [
        (margin - 10, TITLE_HEIGHT + (label * cell + SIDE / 2) * ZOOM + 5, name) for label, name in enumerate(names)
    ]
    write(figure, lines, size=11, colour=INK, align=1)
    return figure


def png(figure: Figure, dpi: int = _DPI) -> bytes:
    """The figure as a PNG file's bytes; its size in pixels is the figure's in inches times `dpi`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    buffer = BytesIO()
    # Straight to the canvas: `savefig` would heed a user's own matplotlib settings for files. Compressing
    # harder takes longer than it saves; and without the drawing software's version the same figure gives the
    # same bytes.
    FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
        buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 1}
    )
    return buffer.getvalue()


def page(width: int, height: int, title: str) -> Figure:
    """A white figure of `width` times `height` pixels (at the default dpi), its title at the top left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    # A long title shrinks instead of being cut off.
    size = min(13.0, 13.0 * (width / 11.5) / max(len(title), 1))
    figure.text(
        16 / width,
        1 - 15 / height,
        title,
        ha="left",
        va="top",
        fontsize=size,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )
    return figure


def note(title: str, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = page(WIDTH, 160, title)
    figure.text(0.5, 0.4, text, ha="center", va="center", fontsize=13, color=MUTED)
    return figure


def _panel(axes: Axes, key: str, history: Sequence[Mapping[str, float]], best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(history) + 1)
    training, validation = _series(history, key), _series(history, f"val_{key}")
    marker = "o" if len(history) <= 30 else ""  # beyond that the markers would run together
    axes.plot(epochs, training, color=BLUE, marker=marker, ms=4, lw=1.8, ls="--", label="training")
    axes.plot(epochs, validation, color=VERMILLION, marker=marker, ms=4, lw=1.8, label="validation")
    heading = key.capitalize()
    if best_epoch:
        best = validation[best_epoch - 1]
        axes.axvline(best_epoch, color=GREEN, lw=1.2, ls=":", zorder=1)
        axes.plot(
            [best_epoch],
            [best],
            label=f"best epoch: {best_epoch}",
            ls="",
            marker="o",
            ms=11,
            mfc="none",
            mec=GREEN,
            mew=2,
        )
        if np.isfinite(best):
            heading += f" (validation {best:.4g} at the best epoch)"
    axes.set_title(heading, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=10, color=MUTED)
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.grid(color=FAINT, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def _series(history: Sequence[Mapping[str, float]], key: str) -> NDArray[np.float64]:
    values = np.array([epoch[key] for epoch in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _count_lines(cells: NDArray[np.int64], cell: float) -> list[Line]:
    """The counts above zero, each in the middle of its cell of `cell` pixels."""
    left, top = _MATRIX_LEFT, _MATRIX_TOP + 5  # 5: half a digit's height
    return [
        (left + (column + 0.5) * cell, top + (row + 0.5) * cell, str(cells[row, column]))
        for row, column in np.argwhere(cells)
    ]


def _write_names(figure: Figure, names: Sequence[str], cell: float) -> None:
    bottom = _MATRIX_TOP + _MATRIX_SIDE
    middles = [(place + 0.5) * cell for place in range(len(names))]
    down = [(_MATRIX_LEFT - 6, _MATRIX_TOP + y + 5, name) for y, name in zip(middles, names, strict=True)]
    across = [(_MATRIX_LEFT + x + 5, bottom + 14, name) for x, name in zip(middles, names, strict=True)]
    write(figure, down, size=10, colour=INK, align=1)
    write(figure, across, size=10, colour=INK, align=1, angle=35)
    write(figure, [(24, _MATRIX_TOP + _MATRIX_SIDE / 2, "true")], size=11, colour=MUTED, angle=90)
    write(figure, [(_MATRIX_LEFT + _MATRIX_SIDE / 2, bottom + 88, "predicted")], size=11, colour=MUTED)


def _write_scale(figure: Figure) -> None:
    """What the matrix's colours mean: a ramp beside it, with a few shares written next to it."""
    left, width, bottom = _MATRIX_LEFT + _MATRIX_SIDE + 24, 22, _MATRIX_TOP + _MATRIX_SIDE
    ramp = np.linspace(1, 0, 256)[:, None]
    draw(figure, ramp, "Blues", 1, (left, _MATRIX_TOP, width, _MATRIX_SIDE))
    shares = [
        (left + width + 6, bottom - math.sqrt(percent / 100) * _MATRIX_SIDE + 4, f"{percent} %")
        for percent in (0, 1, 5, 20, 50, 100)
    ]
    write(figure, shares, size=9, colour=MUTED, align=0)
    heading = [(left + width + 60, _MATRIX_TOP + _MATRIX_SIDE / 2, "share of the true label's images")]
    write(figure, heading, size=10, colour=MUTED, angle=90)


def draw(
    figure: Figure, values: NDArray[Any], cmap: str, greatest: float, box: tuple[float, float, float, float]
) -> None:
    """Draw `values`, 0..`greatest`, in a box of (left, top, width, height) in pixels."""
    left, top, width, height = box
    across, down = figure.get_size_inches() * _DPI
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.set_axis_off()
    axes.imshow(values, cmap=cmap, vmin=0, vmax=greatest, aspect="auto", interpolation="nearest")


def write(
    figure: Figure, lines: Sequence[Line], size: float, colour: str, align: float = 0.5, angle: float = 0
) -> None:
    """Write many short texts as one filled outline, many times faster than as one text artist each.

    `align` says which point of a text lies at its x: 0 its start, 0.5 its middle, 1 its end; `angle`, in
    degrees, turns it about that point.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    lines = [line for line in lines if line[2].strip()]
    if not lines:
        return
    height = figure.get_figheight() * _DPI
    turned = Affine2D().rotate_deg(angle)
    paths = [_outline(text, size, align).transformed(turned.frozen().translate(x, height - y)) for x, y, text in lines]
    # An outline no longer knows what it says, so its label does.
    label = "\n".join(text for _, _, text in lines)
    patch = PathPatch(Path.make_compound_path(*paths), facecolor=colour, linewidth=0, snap=False, label=label)
    patch.set_transform(Affine2D().scale(1 / _DPI) + figure.dpi_scale_trans)
    figure.add_artist(patch)


@lru_cache(maxsize=4096)
def _outline(text: str, size: float, align: float) -> Path:
    """The text's outline in pixels, its baseline at y = 0 and its point `align` at x = 0."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    # Dollar signs are escaped, or the text between two would be read as a formula.
    outline = TextPath((0, 0), text.replace("$", r"\$"), size=size * _DPI / 72, prop=FontProperties())
    vertices = np.asarray(outline.vertices)
    start, end = vertices[:, 0].min(), vertices[:, 0].max()
    return Path(vertices - (start + align * (end - start), 0), outline.codes)


def tiled(tiles: NDArray[np.uint8], cell_height: int, cell_width: int) -> NDArray[np.uint8]:
    """One image of `tiles`, (rows, columns, 28, 28): one Axes draws many times faster than one each."""
    rows, columns = tiles.shape[:2]
    left = (cell_width - SIDE) // 2
    mosaic = np.zeros((rows, cell_height, columns, cell_width), np.uint8)
    mosaic[:, :SIDE, :, left : left + SIDE] = tiles.swapaxes(1, 2)
    return mosaic.reshape(rows * cell_height, columns * cell_width)
