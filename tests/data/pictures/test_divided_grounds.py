"""Two grounds that meet at a straight edge are told apart from one ground and from a garment at the border."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.divided_grounds import divide_grounds

Values = NDArray[np.float64]
FLAT = [np.full((100, 110, 3), level) for level in (250.0, 150.0, 30.0)]


def _divided(angle: float, shift: float = 0.0) -> tuple[Values, NDArray[np.bool_]]:
    """250 on one side of an edge and 150 on the other."""
    row, column = np.indices((100, 110))
    side = (column - 55) * np.cos(angle) + (row - 50) * np.sin(angle) > shift
    return np.where(side, 150.0, 250.0)[:, :, None].repeat(3, axis=2), side


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 9)[:-1] + 0.1)
@pytest.mark.parametrize("shift", [-20, 0, 15])
def test_the_edge_is_found_at_any_angle_behind_a_garment_too(angle: float, shift: float) -> None:
    colours, _ = _divided(angle, shift)
    expected = colours.copy()
    colours[20:80, 35:75] = 30
    colours[60:, 40:70] = 30  # it touches the lower side, and may hide an end of the edge
    found = divide_grounds(colours, FLAT, 12.0)
    assert found is not None
    assert np.mean(np.abs(found.sharp - expected).max(axis=2) > 12) < 0.08


def test_a_slope_and_noise_on_both_grounds_are_followed() -> None:
    colours, _ = _divided(0.3)
    colours += np.linspace(-8, 8, 110)[None, :, None] + np.random.default_rng(0).normal(0, 2, colours.shape)
    found = divide_grounds(colours, FLAT, 12.0)
    assert found is not None and np.mean(np.abs(found.sharp - colours).max(axis=2) > 12) < 0.02


def test_one_ground_is_not_divided() -> None:
    assert divide_grounds(FLAT[0], FLAT, 12.0) is None
    touching = FLAT[0].copy()
    touching[70:, 20:90] = 30  # a garment at one side, without a corner
    assert divide_grounds(touching, FLAT, 12.0) is None


def test_colours_that_hardly_differ_are_one_ground() -> None:
    colours, _ = _divided(0.0)
    colours[colours == 150] = 240
    assert divide_grounds(colours, [FLAT[0], np.full_like(FLAT[0], 240.0)], 12.0) is None
