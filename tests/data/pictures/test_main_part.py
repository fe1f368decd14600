"""Of the things in front of a background, the garment is kept with its parts, and words, labels and dust are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.support.shirts import draw_shirt, measure_agreement, take


def _page_of_words() -> Image.Image:
    page = Image.new("L", (600, 700), 255)
    for row in range(0, 700, 30):
        ImageDraw.Draw(page).text((5, row), "lorem ipsum dolor sit amet " * 3, 30, font_size=20)
    page.paste(draw_shirt((220, 220), 7, 30, 255, "L"), (190, 200))
    return page


def _label_in_a_corner() -> Image.Image:
    image = draw_shirt((300, 300), 9, 60, 255, "L")
    ImageDraw.Draw(image).ellipse((235, 5, 295, 65), fill=0)
    return image


@pytest.mark.parametrize("picture", [_page_of_words(), _label_in_a_corner()], ids=["words", "label"])
def test_what_lies_apart_from_the_garment_is_left_out(tmp_path: Path, picture: Image.Image) -> None:
    expected = take(draw_shirt((220, 220), 7, 30, 255, "L"), tmp_path).pixels
    assert measure_agreement(take(picture, tmp_path), expected) > 0.9


def _sandal() -> NDArray[np.uint8]:
    """A sole, a strap over it that does not touch it, and a buckle."""
    image = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 200, 260, 230), fill=40)
    draw.line((60, 190, 150, 120, 240, 190), fill=40, width=12)
    draw.rectangle((140, 150, 160, 165), fill=40)
    return np.asarray(image)


def test_parts_within_the_garments_box_or_next_to_it_are_kept(tmp_path: Path) -> None:
    photograph = take(Image.fromarray(_sandal()), tmp_path)
    rows = np.flatnonzero(photograph.pixels[:, :, 0].max(axis=1) > 128)
    assert len(rows) > 13 and photograph.pixels[:, :, 0].max(axis=0).min() > 128  # the straps are as wide and high
