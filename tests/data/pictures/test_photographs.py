"""Picture files become pixels as Fashion-MNIST has them; every test writes and reads a real file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fmnist_sweep.data import load_splits
from tests.conftest import data_config, needs_fashion_mnist
from tests.support.shirts import (
    draw_shirt,
    draw_small_shirt,
    get_pixels,
    load_real,
    measure_difference,
    take,
)

GREY = "colour converted to grey (ITU-R 601 luma)"
INVERTED = "bright background (median 255 of 255): inverted"
T = Image.Transpose


def _enlarged(pixels: NDArray[np.uint8], side: int, border: int, how: Image.Resampling) -> Image.Image:
    """As in a shop: black became white, dark became blue, and there is white around it."""
    grey = np.asarray(Image.fromarray(255 - pixels[:, :, 0]).resize((side, side), how)).astype(float)
    tint = np.array([-0.5, -0.1, 1.8]) * 0.25  # without a brightness of its own
    coloured = grey[:, :, None] + (grey * (255 - grey) / 255)[:, :, None] * tint
    canvas = Image.new("RGB", (side + 2 * border, side + border), "white")
    canvas.paste(Image.fromarray(coloured.round().clip(0, 255).astype(np.uint8)), (border, border // 2))
    return canvas


@needs_fashion_mnist
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_a_real_image_comes_back_bit_for_bit(tmp_path: Path, mode: str) -> None:
    for pixels in load_real(40).images:
        photograph = take(Image.fromarray(pixels[:, :, 0]).convert(mode), tmp_path)
        assert np.array_equal(photograph.pixels, pixels) and photograph.assumptions == []


@needs_fashion_mnist
def test_a_real_image_that_was_inverted_is_inverted_again_and_nothing_else(tmp_path: Path) -> None:
    for pixels in load_real(200).images:
        photograph = take(Image.fromarray(255 - pixels[:, :, 0]), tmp_path)
        assert np.array_equal(photograph.pixels, pixels)
        assert len(photograph.assumptions) == 1 and photograph.assumptions[0].endswith("inverted")


@pytest.mark.slow
@needs_fashion_mnist
def test_a_real_image_enlarged_in_colour_on_white_comes_back_close_to_itself(tmp_path: Path) -> None:
    for how, side, bound in ((Image.Resampling.NEAREST, 280, 10), (Image.Resampling.BICUBIC, 200, 15)):
        differences = [
            measure_difference(take(_enlarged(pixels, side, 30, how), tmp_path), pixels)
            for pixels in load_real(60).images
        ]
        # Of 255. What is lost: edges that are nearly background are trimmed, which changes the scale a little.
        assert np.mean(differences) < bound
        assert np.mean(np.array(differences) < 2 * bound) >= 0.9


@pytest.mark.slow
@needs_fashion_mnist
def test_a_model_labels_enlarged_images_mostly_as_it_labels_the_originals(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    data = load_splits(data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=5000, validation=0.02))
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Conv2D(16, 3, activation="relu")),
            *(layers.MaxPooling2D(), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10, "softmax")),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.train.images, data.train.labels, batch_size=64, epochs=3, verbose=0)
    originals = data.validation.images
    taken = [take(_enlarged(image, 200, 20, Image.Resampling.BICUBIC), tmp_path).pixels for image in originals]
    before, after = (model.predict(images, verbose=0).argmax(axis=1) for images in (originals, np.stack(taken)))
    assert len(before) == 100
    assert np.mean(before == data.validation.labels) > 0.75
    assert np.mean(before == after) >= 0.9


def test_a_picture_like_those_of_fashion_mnist_is_left_alone(tmp_path: Path) -> None:
    photograph = take(draw_small_shirt(), tmp_path)
    assert photograph.pixels.shape == (28, 28, 1) and photograph.pixels.dtype == np.uint8
    assert np.array_equal(photograph.pixels, get_pixels(draw_small_shirt())) and photograph.assumptions == []
    assert photograph.name == str(tmp_path / "picture.png") and photograph.thumbnail.shape == (28, 28, 3)


def test_what_was_done_is_said_in_order(tmp_path: Path) -> None:
    photograph = take(draw_shirt((640, 480), 15, (150, 20, 20), "white"), tmp_path)
    assert photograph.assumptions == [
        GREY,
        INVERTED,
        "cropped to the garment",
        "shrunk from 299x361 keeping its proportions, sharpened, centred on 28x28",
        "contrast of 196 of 255 stretched, the background black",
    ]
    assert photograph.thumbnail.shape == (126, 168, 3)


def test_the_garment_keeps_its_proportions_and_fills_the_longest_side_on_black(tmp_path: Path) -> None:
    for size, scale in (((640, 480), 15.0), ((300, 900), 10.0), ((3000, 2500), 60.0), ((90, 90), 1.5)):
        pixels = take(draw_shirt(size, scale, "navy", "white"), tmp_path).pixels[:, :, 0]
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        assert len(rows) == 28 and 23 <= len(columns) <= 24
        left, right = columns[0], 27 - columns[-1]
        assert 0 <= left - right <= 1  # an odd column is left over on the left, as in Fashion-MNIST
        assert pixels.max() == 255 and not pixels[:, :2].any() and not pixels[-1, :5].any()


def test_the_garment_is_bright_whatever_it_was(tmp_path: Path) -> None:
    whites = []
    for garment, ground in ((30, 255), (255, 0), (200, 90), (30, 90), (225, 253), (60, 130)):
        photograph = take(draw_shirt((200, 200), 7, garment, ground, "L"), tmp_path)
        whites.append(photograph.pixels[14, 14, 0])
        assert not photograph.pixels[-1, 0, 0]
        assert any("inverted" in said for said in photograph.assumptions) == (garment < ground)
    assert min(whites) >= 200  # not 255, as sharpening makes the garment's edge the brightest


def test_a_garment_that_is_a_plain_square_is_one(tmp_path: Path) -> None:
    image = Image.new("L", (300, 300), 255)
    image.paste(90, (50, 60, 250, 260))
    assert (take(image, tmp_path).pixels == 255).all()


def test_noise_and_dust_on_the_background_do_not_count_as_garment(tmp_path: Path) -> None:
    picture = np.asarray(draw_shirt((800, 600), 15, (20, 60, 140), (235, 235, 235))).astype(float)
    picture += np.random.default_rng(0).normal(0, 3, picture.shape)
    picture[20:22, 50:52] = 0
    noisy = take(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), tmp_path, "noisy.jpg", quality=85)
    clean = take(draw_shirt((800, 600), 15, (20, 60, 140), "white"), tmp_path)
    assert measure_difference(noisy, clean.pixels) < 8


def test_a_smaller_picture_is_enlarged_and_one_of_28_pixels_only_centred(tmp_path: Path) -> None:
    small = take(Image.fromarray(np.pad(np.full((10, 6), 200, np.uint8), 2)), tmp_path)
    assert small.assumptions[1] == "enlarged from 6x10 keeping its proportions, centred on 28x28"
    assert small.pixels[:, 14].min() == 255
    narrow = draw_small_shirt().crop((4, 0, 24, 28))
    narrow.putpixel((10, 0), 255)
    narrow.putpixel((10, 27), 255)
    photograph = take(narrow, tmp_path)
    assert photograph.assumptions == ["its 20x28 pixels centred on 28x28"]
    assert np.array_equal(np.sort(photograph.pixels.ravel())[-280:], np.sort(np.asarray(narrow).ravel())[-280:])


def test_reading_pictures_needs_none_of_the_other_rooms_libraries() -> None:
    check = (
        "import sys, fmnist_sweep.data.pictures.photographs\n"
        "sys.exit(bool({'matplotlib', 'mlflow', 'keras', 'tensorflow', 'hydra', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
