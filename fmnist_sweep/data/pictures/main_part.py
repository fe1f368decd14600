"""Which of the things in front of a background is the garment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.backgrounds import Background

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
Slices = tuple[slice, slice]

_GAP = 28  # of the garment's longer side, a pixel of the result: what is farther from it is another thing
_DILATED = 2  # pixels: parts are nearer by so much than before they were dilated
_STACKED = 0.7  # of the width of a part that is above or below the garment, where twice the gap is none
_WITHIN = 0.5  # of the box of a part that lies in the garment's: such as a strap of a sandal
_DEEPEST = 4  # pixels: letters and lines are less thick than a garment, however many they are
_OTHERS_SHARE = 0.1  # of the garment's contrast in other things, which is worth a word


def keep_main_part(background: Background, contrast: Values, warnings: list[str]) -> Mask:
    """The part (h, w) with most contrast and depth, and those about it, without words, dust and other things.

    contrast: (h, w), of the picture to the background's surface. A warning is appended if much was left out.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt, label

    foreground = background.foreground
    if not foreground.any():
        return foreground
    parts, count = label(binary_dilation(foreground))
    depths = np.minimum(distance_transform_edt(foreground)[foreground], _DEEPEST)
    squares = contrast[foreground] ** 2
    weights = np.bincount(parts[foreground], squares, minlength=count + 1)
    main = int(np.bincount(parts[foreground], squares * depths**2, minlength=count + 1).argmax())
    kept = _gather_parts(parts, main, count)
    if weights.sum() - weights[kept].sum() > _OTHERS_SHARE * weights[main]:
        warnings.append("It shows several things apart from each other: the largest was taken for the garment.")
    return foreground & np.isin(parts, kept)


def _gather_parts(parts: NDArray[np.int32], main: int, count: int) -> list[int]:
    """The main part, those in its box or next to it, and those above or below it, as the stripes of a shirt are."""
    from scipy.ndimage import distance_transform_edt, find_objects

    boxes = find_objects(parts)
    box = boxes[main - 1]
    gap = max(side.stop - side.start for side in box) / _GAP
    distances = distance_transform_edt(parts != main)

    def belongs(part: int) -> bool:
        other = boxes[part - 1]
        high, wide = _measure_shares(other, box, gap)
        if part == main or high * wide >= _WITHIN:
            return True
        stacked = _measure_shares(other, box, 0)[1] >= _STACKED
        least = float(distances[other][parts[other] == part].min())
        return bool(least <= gap * (2 if stacked else 1) - _DILATED)

    return [part for part in range(1, count + 1) if belongs(part)]


def _measure_shares(box: Slices, main: Slices, gap: float) -> list[float]:
    """How much of a box's height and of its width lies in another box that is larger by a gap."""
    return [
        max(0.0, min(own.stop, other.stop + gap) - max(own.start, other.start - gap)) / (own.stop - own.start)
        for own, other in zip(box, main, strict=True)
    ]
