"""Pictures under uneven light, on pages, in frames, with noise are read as the garment in them, or with a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fmnist_sweep.data.pictures.photographs import Photograph, read_photograph
from tests.conftest import needs_fashion_mnist
from tests.support.photographed import DISTURBANCES, Disturbance, Picture, enlarged, enlarged_to_the_edge
from tests.support.shirts import (
    draw_shirt,
    load_real,
    measure_agreement,
    take,
)


def _read(picture: Picture, folder: Path) -> Photograph:
    return read_photograph(picture.save(folder))


@needs_fashion_mnist
@pytest.mark.parametrize("dark", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["on white", "on black"])
@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=[disturbance.name for disturbance in DISTURBANCES])
def test_a_disturbed_picture_is_read_about_as_the_original_or_with_a_warning(
    tmp_path: Path, disturbance: Disturbance, dark: bool
) -> None:
    if dark not in disturbance.grounds:
        return
    image = load_real(40).images[0]
    photograph = _read(disturbance.make(image[:, :, 0], dark, np.random.default_rng(0)), tmp_path)
    assert measure_agreement(photograph, image) > 0.7 or photograph.warnings


@pytest.mark.slow
@needs_fashion_mnist
@pytest.mark.parametrize("make", [enlarged, enlarged_to_the_edge])
def test_an_undisturbed_picture_has_no_warnings(
    tmp_path: Path, make: Callable[[NDArray[np.uint8], bool, np.random.Generator], Picture]
) -> None:
    warned = 0
    for seed, image in enumerate(load_real(40).images):
        warned += bool(_read(make(image[:, :, 0], seed % 2 == 0, np.random.default_rng(seed)), tmp_path).warnings)
    assert warned <= 2  # bags and coats that fill the corners, too


def _grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return y, x


LIGHTS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "even": lambda y, x: np.ones_like(x),
    "corners 5% darker": lambda y, x: 1 - 0.025 * (x * x + y * y),
    "corners 50% darker": lambda y, x: 1 - 0.25 * (x * x + y * y),
    "corners 20% brighter": lambda y, x: 0.8 + 0.1 * (x * x + y * y),
    "cos^4": lambda y, x: 1 / (1 + 0.3 * (x * x + y * y)) ** 2,
    "from the left": lambda y, x: 0.8 - 0.2 * x,
    "from below": lambda y, x: 0.7 + 0.3 * y,
    "from a corner": lambda y, x: 0.75 + 0.12 * (x - y),
    "a spot at the top": lambda y, x: 0.7 + 0.3 * np.exp(-(x * x + (y + 1) ** 2)),
}


SIZES = ((90, 90), (300, 300), (640, 480), (600, 900))
PAIRS = ((40, 250), (235, 60), (90, 180), (200, 110))  # grey values of a garment and of its background


@pytest.fixture(scope="module")
def shirt(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """What is read of a shirt without any disturbance."""
    return take(draw_shirt((280, 280), 10, 0, 255, "L"), tmp_path_factory.mktemp("shirt")).pixels


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("pair", [PAIRS[0], *(pytest.param(pair, marks=pytest.mark.slow) for pair in PAIRS[1:])])
def test_the_light_on_a_plain_background_does_not_decide_what_is_garment(
    tmp_path: Path, light: str, pair: tuple[int, int], shirt: NDArray[np.uint8]
) -> None:
    size = SIZES[(list(LIGHTS).index(light) + PAIRS.index(pair)) % len(SIZES)]
    picture = np.asarray(draw_shirt(size, min(size) / 28, *pair, "L"), np.float64)
    picture = picture * LIGHTS[light](*_grid(*picture.shape)) + np.random.default_rng(0).normal(0, 2, picture.shape)
    photograph = take(Image.fromarray(picture.round().clip(0, 255).astype(np.uint8)), tmp_path)
    assert measure_agreement(photograph, shirt) > 0.85 or photograph.warnings
    assert photograph.warnings == [] or light in ("cos^4", "a spot at the top")  # further from a quadratic


UNFRAMED = {
    dark: draw_shirt((300, 260), 9, *colours)
    for dark, colours in ((True, ("navy", (240, 240, 235))), (False, ("khaki", (20, 25, 20))))
}


@pytest.fixture(scope="module")
def unframed(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, NDArray[np.uint8]]:
    """What is read of the pictures that are framed below."""
    folder = tmp_path_factory.mktemp("unframed")
    return {dark: take(picture, folder).pixels for dark, picture in UNFRAMED.items()}


@pytest.mark.parametrize("thickness", [1, 4, 25, 60])
@pytest.mark.parametrize("colour", ["black", "white", "grey", "red"])
@pytest.mark.parametrize("dark", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_frame_or_page_of_any_thickness_is_cut_off(
    tmp_path: Path, thickness: int, colour: str, dark: bool, unframed: dict[bool, NDArray[np.uint8]]
) -> None:
    framed = Image.new("RGB", (300 + 2 * thickness, 260 + 3 * thickness), colour)
    framed.paste(UNFRAMED[dark], (thickness, thickness))
    photograph = take(framed, tmp_path)
    assert measure_agreement(photograph, unframed[dark]) > 0.9 and photograph.warnings == []


def test_frames_within_frames_and_bars_are_cut_off_one_after_the_other(tmp_path: Path) -> None:
    picture = draw_shirt((200, 200), 7, "navy", "white")
    plain = take(picture, tmp_path).pixels
    for colours in (("black", "white", "grey"), ("white", "black"), ("grey", "white", "black", "grey")):
        framed = picture
        for place, colour in enumerate(colours):
            wider = Image.new("RGB", (framed.width + 20 * (place != 1), framed.height + 30), colour)
            wider.paste(framed, (10 * (place != 1), 15))
            framed = wider
        assert measure_agreement(take(framed, tmp_path), plain) > 0.9


def _round_picture() -> Image.Image:
    picture, mask = draw_shirt((300, 300), 7, "navy", "white"), Image.new("L", (300, 300), 0)
    ImageDraw.Draw(mask).ellipse((5, 5, 294, 294), fill=255)
    return Image.composite(picture, Image.new("RGB", (300, 300), "black"), mask)


def _two_shirts() -> Image.Image:
    picture = Image.new("RGB", (600, 300), "white")
    for left in (0, 300):
        picture.paste(draw_shirt((300, 300), 8, "navy", "white"), (left, 0))
    return picture


def _striped_shirt() -> Image.Image:
    picture = np.array(draw_shirt((300, 300), 10, 255, 128, "L"))
    picture[(picture == 255) & (np.arange(300) % 40 < 20)[:, None]] = 0
    return Image.fromarray(picture)


def _coloured_corner() -> Image.Image:
    picture = draw_shirt((300, 300), 8, (20, 60, 140), "white")
    picture.paste((120, 60, 0), (0, 0, 40, 40))
    return picture


def _coarse_noise() -> Image.Image:
    cells = np.random.default_rng(0).integers(0, 256, (15, 15), np.uint8)
    return Image.fromarray(cells.repeat(20, axis=0).repeat(20, axis=1))


def _graph_paper() -> Image.Image:
    picture = draw_shirt((300, 300), 8, "navy", "white")
    for place in range(15, 300, 30):
        ImageDraw.Draw(picture).line((place, 0, place, 300), fill=(150, 190, 240))
    return picture


def _wall_and_table() -> Image.Image:
    picture = np.array(draw_shirt((300, 300), 8, 30, 250, "L"))
    picture[200:][picture[200:] == 250] = 180
    return Image.fromarray(picture)


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (_round_picture(), "looks like a picture in the picture"),
        (_two_shirts(), "several things apart from each other"),
        (_striped_shirt(), "parts that are brighter and parts that are darker than the background"),
        (_coloured_corner(), "Only 3 of its four corners show the same background"),
        (_wall_and_table(), "Its background has several colours"),
        (_coarse_noise(), "is a guess"),
        (_graph_paper(), "Lines cross it and were painted over"),
    ],
)
def test_a_guess_is_a_warning_of_one_sentence_each(tmp_path: Path, picture: Image.Image, sentence: str) -> None:
    warnings = take(picture, tmp_path).warnings
    assert any(sentence in warning for warning in warnings)
    assert all(warning.endswith(".") and "\n" not in warning for warning in warnings)
