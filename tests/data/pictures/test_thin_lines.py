"""Lines that cross a whole picture are painted over, over the garment too, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.thin_lines import remove_lines
from tests.support.shirts import draw_shirt


def _shirt(garment: int = 30, ground: int = 250) -> NDArray[np.float64]:
    return np.asarray(draw_shirt((300, 300), 10, (garment,) * 3, (ground,) * 3), np.float64)


@pytest.mark.parametrize("thickness", [1, 2, 3])
@pytest.mark.parametrize("ink", [(170, 170, 170), (150, 190, 240), (200, 30, 30)])
@pytest.mark.parametrize(("garment", "ground"), [(30, 250), (235, 20)])
def test_a_grid_over_the_picture_is_painted_over(
    garment: int, ground: int, ink: tuple[int, ...], thickness: int
) -> None:
    plain, grid = _shirt(garment, ground), _shirt(garment, ground)
    for place in range(20, 300, 60):
        grid[place : place + thickness] = ink
        grid[:, place : place + thickness] = ink
    cleaned, count = remove_lines(grid)
    assert count == 10
    assert np.mean(np.abs(cleaned - plain).max(axis=2) > 20) < 0.015  # at the shirt's slanting edges


def test_lines_behind_the_garment_do_not_cut_it() -> None:
    plain, paper = _shirt(), _shirt()
    ground = plain[:, :, 0] > 200
    for place in range(20, 300, 30):
        paper[place][ground[place]] = 160
        paper[:, place][ground[:, place]] = 160
    cleaned, count = remove_lines(paper)
    assert count >= 16  # of 20: some are hidden but for their ends, and may as well be parts of the garment
    assert np.mean(np.abs(cleaned - plain).max(axis=2) > 20) < 0.015


def test_what_does_not_cross_the_picture_or_is_thick_or_a_pattern_stays() -> None:
    belt, bar, weave = _shirt(), _shirt(), _shirt()
    belt[150:152, 110:190] = 250
    bar[150:170] = 120
    weave[::4] = 120
    for picture in (_shirt(), belt, bar, weave):
        cleaned, count = remove_lines(picture)
        assert count == 0 and np.array_equal(cleaned, picture)


@pytest.mark.parametrize("scale", [1, 2, 6, 10])
def test_the_pixels_of_an_enlarged_image_are_no_lines(scale: int) -> None:
    small = np.full((28, 28, 3), 255.0)
    small[14] = small[:, 5] = 90
    picture = small.repeat(scale, axis=0).repeat(scale, axis=1)
    cleaned, count = remove_lines(picture)
    assert count == 0 and np.array_equal(cleaned, picture)
