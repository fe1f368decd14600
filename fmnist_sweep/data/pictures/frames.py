"""What stands round a picture within a picture: a page, a frame, the axes of a plot, the bars of a phone's screen.

A panel is found from outside inwards, one layer at a time: the outermost line has one colour; where that colour ends in
four straight sides, or in two that cross the whole picture, a panel begins. It is one only if it shows a garment on a
background of its own: else the rectangle is a garment, as some bags are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.backgrounds import Background, find_background
from fmnist_sweep.data.pictures.picture_colours import TOLERANCE, make_image, measure_distances, resize, take_median
from fmnist_sweep.data.pictures.thin_lines import remove_lines

if TYPE_CHECKING:
    from PIL import Image

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
Box = tuple[int, int, int, int]

_SIDE = 400  # panels are sought in a copy of at most so many pixels a side
_COARSE_SIDE = 84  # and judged in one of so many
_MOST_LAYERS = 12
_SMALLEST = 0.2  # of the picture's longer side: a smaller rectangle is no panel
_LEAST_SIDE = 48  # pixels: in a smaller picture, a garment's side is as straight as a frame's
_LEAST_ANGLE, _MOST_ANGLE = 0.4, 20  # degrees
_LINE_SHARE = 0.85  # of the outermost line that has the layer's colour
_PLAIN_SHARE = 0.55  # of a panel's border that is its background


class Panel(NamedTuple):
    """The innermost picture: its box (left, top, right, bottom) in pixels, and how many layers stand round it."""

    box: Box
    layers: int


def find_panel(image: Image.Image) -> Panel:
    """Find the picture within an RGB picture of any size; all of it where nothing stands round it."""
    colours, _ = remove_lines(resize(image, _SIDE))
    return _find_panel(image, colours, _fill_largest_part(colours))


def find_straight_panel(image: Image.Image, assumptions: list[str]) -> tuple[Image.Image, Panel]:
    """Find the panel, and turn a picture whose panel lies a little askew on its page."""
    from PIL import Image

    colours, _ = remove_lines(resize(image, _SIDE))
    filled = _fill_largest_part(colours)
    angle = None if filled is None else _measure_angle(filled)
    if angle is not None and _LEAST_ANGLE < abs(angle) < _MOST_ANGLE:
        page = tuple(int(value) for value in np.median(_take_outermost(colours), axis=0))
        turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=page)
        panel = find_panel(turned)
        if panel.layers:
            assumptions.append(f"turned by {angle:.1f} degrees")
            return turned, panel
    return image, _find_panel(image, colours, filled)


def _find_panel(image: Image.Image, colours: Values, filled: Mask | None) -> Panel:
    """Peel off one layer after the other; filled: the largest part of what is in the first."""
    scale = max(1.0, max(image.size) / _SIDE)
    height, width = colours.shape[:2]
    left, top = 0, 0
    layers, found = 0, (0, 0, width, height)
    for depth in range(1, _MOST_LAYERS + 1):
        inner = _find_layer(colours, filled)
        if inner is None:
            break
        # A plot's grid, whose cells would be layers, ends where its axes do.
        colours, _ = remove_lines(colours[inner[1] : inner[3], inner[0] : inner[2]])
        left, top = left + inner[0], top + inner[1]
        # A layer that shades from one colour to another is peeled in several steps, which show no garment yet.
        if _shows_garment(colours):
            layers, found = depth, (left, top, left + colours.shape[1], top + colours.shape[0])
        filled = _fill_largest_part(colours)
    if not layers:
        return Panel((0, 0, *image.size), 0)
    left, top, right, bottom = found
    starts = [min(size, round((edge + 1) * scale)) for edge, size in zip((left, top), image.size, strict=True)]
    ends = [max(1, round((edge - 1) * scale)) for edge in (right, bottom)]
    return Panel((starts[0], starts[1], ends[0], ends[1]), layers)


def _measure_angle(filled: Mask) -> float | None:
    """By how many degrees a rectangle is turned clockwise; None for another shape."""
    y, x = np.nonzero(filled)
    places = [int(np.argmin(x + y)), int(np.argmax(x - y)), int(np.argmax(x + y)), int(np.argmin(x - y))]
    corners = np.stack([x[places], y[places]], axis=1).astype(np.float64)
    following = np.roll(corners, -1, axis=0)
    area = abs(float(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]))) / 2
    if area < _SMALLEST**2 * filled.size or not 0.9 < filled.sum() / area < 1.1:
        return None
    sides = following - corners
    angles = np.degrees(np.arctan2(sides[:, 1], sides[:, 0])) - np.array([0, 90, 180, -90])
    angles = (angles + 180) % 360 - 180
    return float(np.median(angles)) if np.ptp(angles) < 2 else None


def _take_outermost(colours: Values) -> Values:
    """The colours (n, 3) of the outermost line."""
    return np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])


def _find_layer(colours: Values, filled: Mask | None) -> Box | None:
    """The box inside the outermost layer; None if there is none."""
    if min(colours.shape[:2]) < _LEAST_SIDE:
        return None
    return _find_rectangle(filled) or _find_bars(colours) or _find_bars(colours.swapaxes(0, 1), swapped=True)


def _find_rectangle(filled: Mask | None) -> Box | None:
    """Four straight sides, round which the colour of the outermost line reaches the border."""
    if filled is None:
        return None
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    whole = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    # Of a garment that has the page's colour where it touches the edge, the page seems to go on inside.
    for box, full in ((whole, 0.5), (_trim_box(filled), 0.85)):
        if box is not None and min(box[2] - box[0], box[3] - box[1]) >= 16 and _is_rectangle(filled, box, full):
            return _cut_round_corners(filled, box)
    return None


def _fill_largest_part(colours: Values) -> Mask | None:
    """The largest part that is not of the outermost line's colour, without holes; None if there is none."""
    from scipy.ndimage import find_objects, label

    outermost = _take_outermost(colours)
    page = np.median(outermost, axis=0)
    differs = measure_distances(colours, page) > TOLERANCE
    if np.mean(measure_distances(outermost, page) <= TOLERANCE) < _LINE_SHARE:
        differs = _find_uneven_page(colours)
    parts, count = label(differs)
    if not count:
        return None
    # A thin frame's own line is the largest part only once it is filled, so what counts is the box.
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in find_objects(parts)]
    return _fill_holes(parts == int(np.argmax(areas)) + 1)


def _fill_holes(mask: Mask) -> Mask:
    """The mask and all that it surrounds: what is not reached from outside."""
    from scipy.ndimage import label

    outside, _ = label(np.pad(~mask, 1, constant_values=True))
    filled: Mask = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def _find_uneven_page(colours: Values) -> Mask:
    """What differs from a page that is lit unevenly, or is rough."""
    from PIL import Image

    page = find_background(resize(make_image(colours), _COARSE_SIDE))
    size = (colours.shape[1], colours.shape[0])
    surface = [Image.fromarray(page.surface[:, :, each].astype(np.float32)).resize(size) for each in range(3)]
    stretched = np.stack([np.asarray(each) for each in surface], axis=2)
    return measure_distances(take_median(colours, 5), stretched) > page.tolerance


def _trim_box(filled: Mask) -> Box | None:
    """The box of a mask without what sticks out of it, as ticks do."""
    rows, columns = filled.sum(axis=1), filled.sum(axis=0)
    high, wide = np.flatnonzero(rows > 0.4 * rows.max()), np.flatnonzero(columns > 0.4 * columns.max())
    left, top, right, bottom = int(wide[0]), int(high[0]), int(wide[-1]) + 1, int(high[-1]) + 1
    if max(right - left, bottom - top) < _SMALLEST * max(filled.shape) or min(right - left, bottom - top) < 16:
        return None
    return left, top, right, bottom


def _cut_round_corners(filled: Mask, box: Box) -> Box:
    """A box so much smaller that round corners do not show in it."""
    left, top, right, bottom = box
    inside = filled[top:bottom, left:right]
    most = max(1, min(inside.shape) // 20)
    diagonals = (np.diagonal(corner)[:most] for corner in (inside, inside[::-1], inside[:, ::-1], inside[::-1, ::-1]))
    cut = max(int(np.argmax(diagonal)) for diagonal in diagonals)
    return left + cut, top + cut, right - cut, bottom - cut


def _is_rectangle(filled: Mask, box: Box, full: float) -> bool:
    left, top, right, bottom = box
    inside = filled[top:bottom, left:right]
    if inside.mean() < full:
        return False
    # Each side is straight: most of it, and both its ends, begin at the same pixel.
    for side in (inside, inside[::-1], inside.T, inside.T[::-1]):
        first = np.atleast_1d(side[:2].any(axis=0))
        end = max(2, len(first) // 8)
        if first.mean() < 0.6 or first[:end].mean() < 0.6 or first[-end:].mean() < 0.6:
            return False
    return True


def _find_bars(colours: Values, swapped: bool = False) -> Box | None:
    """Edges that cross the whole picture: bars above or below, or both (left and right if swapped)."""
    height = len(colours)
    steps = measure_distances(colours[1:], colours[:-1]) > TOLERANCE
    straight = [int(row) + 1 for row in np.flatnonzero(steps.mean(axis=1) > 0.6)]
    ends = max(2, colours.shape[1] // 28)

    def is_plain(line: Values) -> bool:
        return bool(np.mean(np.abs(line - np.median(line, axis=0)).max(axis=1) <= TOLERANCE) > 0.97)

    def has_ends(edge: int) -> bool:
        return bool(steps[edge - 1, :ends].mean() > 0.5 and steps[edge - 1, -ends:].mean() > 0.5)

    tops = [e for e in straight if is_plain(colours[e - 1]) and has_ends(e) and e < 0.6 * height]
    bottoms = [e for e in straight if is_plain(colours[e]) and has_ends(e) and e > 0.4 * height]
    top, bottom = max(tops, default=0), min((e for e in bottoms if e > max(tops, default=0)), default=height)
    if (top, bottom) == (0, height) or bottom - top < max(16, _SMALLEST * height):
        return None
    return (top, 0, bottom, colours.shape[1]) if swapped else (0, top, colours.shape[1], bottom)


def _shows_garment(colours: Values) -> bool:
    """Whether what is within a layer is a picture of its own: a garment on a plain background."""
    inner = colours[1:-1, 1:-1]
    if min(inner.shape[:2]) < 12:
        return False
    background: Background = find_background(resize(make_image(inner), _COARSE_SIDE))
    share = background.foreground.mean()
    return background.border_share > _PLAIN_SHARE and not background.bands and 0.02 < share < 0.95
