"""Pictures in matplotlib's colour maps become the values they show; pictures in other colours stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.false_colours import decode_false_colours
from tests.support.shirts import draw_shirt

MAPS = ("jet", "turbo", "rainbow", "gist_rainbow", "nipy_spectral", "terrain", "coolwarm", "bwr", "seismic")
DIVERGING = ("RdBu", "RdYlBu", "RdYlGn", "Spectral", "PiYG", "PRGn", "BrBG", "PuOr")


def _shade() -> NDArray[np.float64]:
    """A shirt of all values from 60 to 255 on black."""
    shirt = np.asarray(draw_shirt((150, 150), 6, 255, 0, "L"), np.float64)
    return shirt * np.linspace(60 / 255, 1, 150)


@pytest.mark.parametrize("name", [*MAPS, *DIVERGING])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_map_of_several_hues_is_undone(name: str, reverse: bool) -> None:
    values = 255 - _shade() if reverse else _shade()
    decoded = decode_false_colours(colormaps[name](values / 255)[:, :, :3] * 255)
    assert decoded is not None and decoded.name == name
    assert np.abs(decoded.values - values).max() < 14


def test_noise_and_a_few_other_colours_do_not_hide_a_map() -> None:
    colours = colormaps["jet"](_shade() / 255)[:, :, :3] * 255
    colours[::40, :] = 170  # a grid
    colours += np.random.default_rng(0).normal(0, 6, colours.shape)
    decoded = decode_false_colours(colours.clip(0, 255))
    assert decoded is not None and decoded.name == "jet"


@pytest.mark.parametrize(
    ("ground", "garment"),
    [((255, 255, 255), (20, 40, 130)), ((30, 30, 30), (250, 230, 120)), ((240, 225, 200), (120, 0, 0))],
)
def test_shades_of_one_colour_are_no_false_colours(ground: tuple[int, ...], garment: tuple[int, ...]) -> None:
    share = _shade()[:, :, None] / 255
    assert decode_false_colours(np.array(ground) * (1 - share) + np.array(garment) * share) is None


def test_a_garment_of_two_colours_on_white_is_no_diverging_map() -> None:
    colours = np.asarray(draw_shirt((150, 150), 6, (0, 0, 255), "white"), np.float64)
    other = np.asarray(draw_shirt((150, 150), 6, (255, 0, 0), "white"), np.float64)
    colours[:, 75:] = other[:, 75:]
    assert decode_false_colours(colours) is None


def test_many_colours_are_no_map() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (15, 15, 3)).astype(np.float64)
    assert decode_false_colours(cells.repeat(10, axis=0).repeat(10, axis=1)) is None
    assert decode_false_colours(np.full((50, 50, 3), 90.0)) is None
