"""Thin straight lines that cross a whole picture, as a plot's grid and graph paper have them, are painted over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.picture_colours import TOLERANCE, measure_distances

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

# Of the longer side, and no less than a pixel. One of a 28x28 picture that was enlarged, with a margin, has 1/42.
_THICKNESS = 1 / 80
_ENDS = 1 / 14  # of the side: a line shows at both of its ends
_LEAST_SHARE = 0.2  # of a line that is not hidden by the garment
_MOST_LINES = 1 / 8  # of all rows: more are a pattern


def remove_lines(colours: Values) -> tuple[Values, int]:
    """Paint over the lines in a picture (h, w, 3), 0..255; returns it, and how many lines there were."""
    horizontal, rows = _remove_rows(colours)
    vertical, columns = _remove_rows(horizontal.swapaxes(0, 1))
    return vertical.swapaxes(0, 1), rows + columns


def _remove_rows(colours: Values) -> tuple[Values, int]:
    height, width = colours.shape[:2]
    reach = max(2, round(max(height, width) * _THICKNESS))
    if max(height, width) * _THICKNESS < 1 or min(height, width) < 8 * reach:
        return colours, 0
    wide = max(2, round(width * _ENDS))
    ends = np.stack([np.median(colours[:, :wide], axis=1), np.median(colours[:, -wide:], axis=1)], axis=1)
    departures = ends - _take_running_median(ends, reach)
    found = (np.abs(departures).max(axis=2) > TOLERANCE).all(axis=1)
    # Both ends are brighter than what is about them, or both are darker.
    found &= (departures[:, 0] * departures[:, 1]).sum(axis=1) > 0
    if not found.any() or found.mean() > _MOST_LINES:
        return colours, 0
    cleaned, count = colours.copy(), 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], found, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start <= reach and start > 1 and stop < height - 1:
            count += _paint_over(colours, cleaned, int(start), int(stop))
    return cleaned, count


def _take_running_median(values: Values, reach: int) -> Values:
    """The median of the rows about each row of (h, 2, 3)."""
    padded = np.pad(values, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return np.asarray(np.median(windows, axis=-1), np.float64)


def _paint_over(colours: Values, cleaned: Values, start: int, stop: int) -> bool:
    """Paint over the rows of one line, and their blurred neighbours; whether it is one."""
    before, after = colours[start - 2], colours[stop + 1]
    lines = colours[start:stop]
    wide = max(2, round(lines.shape[1] * _ENDS))
    ink = np.median(np.concatenate([lines[:, :wide], lines[:, -wide:]], axis=1), axis=1, keepdims=True)
    hidden = (measure_distances(lines, ink) > 2 * TOLERANCE).any(axis=0)
    if hidden.mean() > 1 - _LEAST_SHARE:
        return False
    height = stop + 1 - (start - 1)
    for step in range(height):
        share = (step + 1) / (height + 1)
        between = before * (1 - share) + after * share
        row = start - 1 + step
        cleaned[row, ~hidden] = between[~hidden]
    return True
