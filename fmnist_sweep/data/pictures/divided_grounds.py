"""A background of two grounds that meet at a straight edge: wall and table, or light and a hard shadow.

The edge goes through two points of the border. Between them, one way round, the border shows one ground, and the other
way round the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.picture_colours import measure_distances

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
Values = NDArray[np.float64]

_LEAST_GAIN = 0.1  # of the border, that a second ground explains
_LEAST_STEP = 2.0  # tolerances, by which the grounds differ at their edge
_SHIFTS = (-4, -2, -1, 0, 1, 2, 4)  # pixels of the border, by which each end of the edge is tried elsewhere
_BESIDE = np.array([3, 4, 5])  # pixels from the edge, where a sharp one has ended
_MOST_BLUR = 0.35  # of the cost of another colour
_EDGE = 2.0  # pixels on either side of the edge, where a colour between the two grounds' is background


class DividedGrounds(NamedTuple):
    """Two grounds' surface (h, w, 3), blurred at their edge as the picture is; sharp: the same with a sharp edge."""

    surface: Values
    sharp: Values


def divide_grounds(colours: Values, surfaces: Sequence[Values], tolerance: float) -> DividedGrounds | None:
    """Find two of the surfaces (h, w, 3) that meet at an edge and explain more of the border than any one of them.

    colours: (h, w, 3). None if there is no such edge.
    """
    loop = _walk_border(*colours.shape[:2])
    costs = [_measure_costs(_take(colours, loop), _take(surface, loop), tolerance) for surface in surfaces]
    best, least = None, min(float(cost.mean()) for cost in costs) - _LEAST_GAIN
    for pair in combinations(range(len(surfaces)), 2):
        cut, cost = _cut_loop(costs[pair[0]], costs[pair[1]])
        if cost < least and _share_corners(cut, colours.shape[:2]):
            best, least = (pair, cut), cost
    if best is None:
        return None
    pair, cut = best
    others = _mark_between(np.arange(len(loop)), cut)
    one, other = (
        _fit_slope(colours, loop[side & (costs[place] < 1)], surfaces[place])
        for place, side in zip(pair, (~others, others), strict=True)
    )
    cut = _shift_edge(colours, one, other, loop, cut, tolerance)
    ends = loop[np.array(cut)]
    if measure_distances(_take(one, ends), _take(other, ends)).min() < _LEAST_STEP * tolerance:
        return None
    if not _is_sharp(colours, one, other, loop, cut, tolerance):
        return None
    return _join_surfaces(colours, one, other, loop, cut)


def _walk_border(height: int, width: int) -> Places:
    """The pixels (n, 2) of the outermost line, row and column, clockwise from the top left."""
    top = [(0, column) for column in range(width - 1)]
    right = [(row, width - 1) for row in range(height - 1)]
    bottom = [(height - 1, column) for column in range(width - 1, 0, -1)]
    left = [(row, 0) for row in range(height - 1, 0, -1)]
    return np.array(top + right + bottom + left)


def _take(values: Values, places: Places) -> Values:
    """The values (n, ...) at places (n, 2)."""
    taken: Values = values[places[:, 0], places[:, 1]]
    return taken


def _measure_costs(colours: Values, surface: Values, tolerance: float) -> Values:
    costs: Values = np.minimum(measure_distances(colours, surface) / (2 * tolerance), 1)
    return costs


def _cut_loop(one: Values, other: Values) -> tuple[tuple[int, int], float]:
    """The two places between which the other ground begins and ends, and the mean cost; it may go round the start."""
    sums = np.concatenate([[0], np.cumsum(other - one)])
    start, stop, change = _find_fall(sums)
    end, begin, back = _find_fall(-sums)
    inside, outside = float(one.sum()) + change, float(other.sum()) + back
    cut = (start, stop) if inside <= outside else (begin, end)
    return (cut[0] % len(one), cut[1] % len(one)), min(inside, outside) / len(one)


def _find_fall(sums: Values) -> tuple[int, int, float]:
    """The two places between which a curve falls most, and by how much, negative."""
    falls = sums - np.maximum.accumulate(sums)
    stop = int(falls.argmin())
    return int(sums[: stop + 1].argmax()), stop, float(falls[stop])


def _share_corners(cut: tuple[int, int], shape: tuple[int, ...]) -> bool:
    """Whether either ground has a corner of the picture; a garment that touches one side has none."""
    height, width = shape[0] - 1, shape[1] - 1
    corners = np.array([0, width, width + height, 2 * width + height])
    return 0 < int(_mark_between(corners, cut).sum()) < len(corners)


def _mark_between(places: Places, cut: tuple[int, int]) -> Mask:
    start, stop = cut
    if start <= stop:
        return (start <= places) & (places < stop)
    return (start <= places) | (places < stop)


def _fit_slope(colours: Values, places: Places, surface: Values) -> Values:
    """A slope (h, w, 3) through the colours at places (n, 2); the surface itself if they are few."""
    if len(places) < 10:
        return surface
    row, column = np.indices(colours.shape[:2])
    size = max(colours.shape[:2])
    terms = np.stack([np.ones(row.shape), (row / size) - 0.5, (column / size) - 0.5], axis=2)
    chosen = _take(terms, places)
    normal = np.einsum("nk,nl->kl", chosen, chosen) + np.diag([0, 0.02, 0.02]) * len(places)
    coefficients = np.linalg.solve(normal, np.einsum("nk,nc->kc", chosen, _take(colours, places)))
    return np.asarray(np.einsum("hwk,kc->hwc", terms, coefficients), np.float64)


def _shift_edge(
    colours: Values, one: Values, other: Values, loop: Places, cut: tuple[int, int], tolerance: float
) -> tuple[int, int]:
    """Move the ends of the edge a little, to where it lies inside the picture."""
    change = _measure_costs(colours, other, tolerance) - _measure_costs(colours, one, tolerance)
    best, least = cut, np.inf
    for first, second in product(_SHIFTS, _SHIFTS):
        shifted = ((cut[0] + first) % len(loop), (cut[1] + second) % len(loop))
        cost = float(change[_measure_sides(loop, shifted, colours.shape) > 0].sum())
        if cost < least:
            best, least = shifted, cost
    return best


def _is_sharp(
    colours: Values, one: Values, other: Values, loop: Places, cut: tuple[int, int], tolerance: float
) -> bool:
    """Whether close to an end of the edge, of which a garment may hide one, either side has its ground's colour."""
    costs = []
    for end, before, after in ((cut[0], one, other), (cut[1], other, one)):
        places = [loop[(end + shifts) % len(loop)] for shifts in (-_BESIDE, _BESIDE)]
        sides = zip(places, (before, after), strict=True)
        found = [_measure_costs(_take(colours, place), _take(side, place), tolerance) for place, side in sides]
        costs.append(float(np.mean(found)))
    return min(costs) < _MOST_BLUR


def _measure_sides(loop: Places, cut: tuple[int, int], shape: tuple[int, ...]) -> Values:
    """The distance (h, w) of each pixel to the edge, in pixels, positive on the other ground's side."""
    (top, left), (bottom, right) = loop[cut[0]], loop[cut[1]]
    row, column = np.ogrid[: shape[0], : shape[1]]
    length = max(1.0, float(np.hypot(bottom - top, right - left)))
    # Clockwise from the first end to the second lies the other ground: to the left of the way there, as rows go down.
    distances: Values = ((right - left) * (row - top) - (bottom - top) * (column - left)) / -length
    return distances


def _join_surfaces(colours: Values, one: Values, other: Values, loop: Places, cut: tuple[int, int]) -> DividedGrounds:
    sides = _measure_sides(loop, cut, colours.shape)[:, :, None]
    sharp = np.where(sides > 0, other, one)
    between = np.clip(colours, np.minimum(one, other), np.maximum(one, other))
    return DividedGrounds(np.where(np.abs(sides) <= _EDGE, between, sharp), sharp)
