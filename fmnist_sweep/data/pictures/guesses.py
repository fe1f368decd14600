"""What in the reading of a picture was a guess: a sentence each, of which a plain picture has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.backgrounds import Background, count_corners
from fmnist_sweep.data.pictures.picture_colours import TOLERANCE, measure_distances

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

_LEAST_SIDE = 60  # pixels: in a smaller picture, a rim is no more than a garment's blurred edge
_FULL_SHARE = 0.7  # of its box that a picture in the picture fills


def warn_of_background(background: Background, kept: Mask, warnings: list[str]) -> None:
    # A garment may reach into one corner; what is there apart from it is something else.
    strange = count_corners(kept | ~background.foreground) < 4 or background.corners < 3
    if background.border_share < 0.58 or background.rival_share > 0.8 * background.border_share:
        warnings.append(
            f"Only {background.border_share:.0%} of its border is a plain background, so what is garment is a guess."
        )
    elif strange:
        warnings.append(
            f"Only {background.corners} of its four corners show the same background, so what is garment is a guess."
        )
    if background.bands:
        warnings.append("Its background has several colours, as wall and table have, so what is garment is a guess.")
    if background.certainty < 0.7:
        warnings.append(
            "The garment has parts that are brighter and parts that are darker than the background, so which of the "
            "two is to be bright is a guess."
        )


def find_nested_picture(kept: Mask, colours: Values) -> tuple[int, int, int, int] | None:
    """The inside (left, top, right, bottom) of a garment that itself looks like a picture; None if it does not.

    Such a thing has a full shape, and an even rim with something else in it.
    """
    from scipy.ndimage import binary_erosion, binary_fill_holes

    if min(kept.shape) < _LEAST_SIDE:
        return None
    filled = np.asarray(binary_fill_holes(kept))
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows) or filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() < _FULL_SHARE:
        return None
    outer = binary_erosion(filled, iterations=3, border_value=1)
    inner = binary_erosion(outer, iterations=3, border_value=1)
    rim = outer & ~inner
    if rim.sum() < 50 or inner.sum() < 50:
        return None
    level = np.median(colours[rim], axis=0)
    even = float(np.mean(measure_distances(colours[rim], level) <= TOLERANCE))
    other = float(np.mean(measure_distances(colours[inner], level) > 3 * TOLERANCE))
    # Of garments enlarged, hardly one is as convex as a page and has so even a rim round something else.
    if _measure_convexity(filled) <= 0.96 or even <= 0.6 or other <= 0.08:
        return None
    return _find_inner_box(outer)


def _find_inner_box(mask: Mask) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) that lies in a convex shape: the sides that stick out most are moved inwards."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    while right - left > 2 and bottom - top > 2:
        inside = mask[top:bottom, left:right]
        missing = [1 - float(side.mean()) for side in (inside[:, 0], inside[0], inside[:, -1], inside[-1])]
        worst = int(np.argmax(missing))
        if not missing[worst]:
            break
        left, top, right, bottom = left + (worst == 0), top + (worst == 1), right - (worst == 2), bottom - (worst == 3)
    return left, top, right, bottom


def _measure_convexity(mask: Mask) -> float:
    """The share of its convex hull that a mask fills."""
    from scipy.spatial import ConvexHull

    y, x = np.nonzero(mask)
    corners = np.concatenate([np.stack([y + dy, x + dx], axis=1) for dy in (0, 1) for dx in (0, 1)])
    return float(mask.sum() / ConvexHull(corners).volume)
