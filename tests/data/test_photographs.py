"""Picture files become pixels as Fashion-MNIST has them; every test writes and reads a real file."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fmnist_sweep.data import Split, load_splits
from fmnist_sweep.data.photographs import Photograph, read_photograph
from fmnist_sweep.errors import DataError, ExitCode
from tests.conftest import data_config, needs_fashion_mnist
from tests.support.photographed import DISTURBANCES, Disturbance, Picture, enlarged, enlarged_to_the_edge

GREY = "colour converted to grey (ITU-R 601 luma)"
INVERTED = "bright background (median 255 of 255): inverted"
T = Image.Transpose


def _shirt(size: tuple[int, int], scale: float, fill: Any, ground: Any, mode: str = "RGB") -> Image.Image:
    """A T-shirt in the middle of a picture, 20 by 24 times `scale` pixels."""
    image = Image.new(mode, size, ground)
    outline = [(-4, -12), (4, -12), (10, -8), (8, -4), (5, -5), (5, 12), (-5, 12), (-5, -5), (-8, -4), (-10, -8)]
    ImageDraw.Draw(image).polygon([(size[0] / 2 + x * scale, size[1] / 2 + y * scale) for x, y in outline], fill=fill)
    return image


def _small() -> Image.Image:
    """A 28x28 picture as Fashion-MNIST has them, brighter on the right."""
    shirt = np.asarray(_shirt((28, 28), 1, 255, 0, "L"))
    return Image.fromarray((shirt * np.linspace(0.6, 1, 28)).round().astype(np.uint8))


def _taken(image: Image.Image, folder: Path, name: str = "picture.png", **saving: Any) -> Photograph:
    image.save(folder / name, **saving)
    return read_photograph(folder / name)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)[:, :, None]


def _difference(photograph: Photograph, original: NDArray[np.uint8]) -> float:
    return float(np.abs(photograph.pixels.astype(int) - original).mean())


def _real(count: int) -> Split:
    """Validation images of the training file, the labels mixed."""
    return load_splits(data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=count * 5)).validation


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
    for pixels in _real(40).images:
        photograph = _taken(Image.fromarray(pixels[:, :, 0]).convert(mode), tmp_path)
        assert np.array_equal(photograph.pixels, pixels) and photograph.assumptions == []


@needs_fashion_mnist
def test_a_real_image_that_was_inverted_is_inverted_again_and_nothing_else(tmp_path: Path) -> None:
    for pixels in _real(200).images:
        photograph = _taken(Image.fromarray(255 - pixels[:, :, 0]), tmp_path)
        assert np.array_equal(photograph.pixels, pixels)
        assert len(photograph.assumptions) == 1 and photograph.assumptions[0].endswith("inverted")


@needs_fashion_mnist
def test_a_real_image_enlarged_in_colour_on_white_comes_back_close_to_itself(tmp_path: Path) -> None:
    for how, side, bound in ((Image.Resampling.NEAREST, 280, 10), (Image.Resampling.BICUBIC, 200, 15)):
        differences = [
            _difference(_taken(_enlarged(pixels, side, 30, how), tmp_path), pixels) for pixels in _real(60).images
        ]
        # Of 255. What is lost: edges that are nearly background are trimmed, which changes the scale a little.
        assert np.mean(differences) < bound
        assert np.mean(np.array(differences) < 2 * bound) >= 0.9


def _agreement(photograph: Photograph, original: NDArray[np.uint8]) -> float:
    """The correlation of two images' pixels: about -0.5 if the polarity is wrong."""
    return float(np.corrcoef(photograph.pixels.ravel(), original.ravel())[0, 1])


def _read(picture: Picture, folder: Path) -> Photograph:
    return read_photograph(picture.save(folder))


@needs_fashion_mnist
@pytest.mark.parametrize("dark", [True, False], ids=["on white", "on black"])
@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=[disturbance.name for disturbance in DISTURBANCES])
def test_a_disturbed_picture_is_read_about_as_the_original_or_with_a_warning(
    tmp_path: Path, disturbance: Disturbance, dark: bool
) -> None:
    if dark not in disturbance.grounds:
        return
    agreements = []
    for seed, image in enumerate(_real(40).images[:1]):
        photograph = _read(disturbance.make(image[:, :, 0], dark, np.random.default_rng(seed)), tmp_path)
        if not photograph.warnings:
            agreements.append(_agreement(photograph, image))
    assert min(agreements, default=1) > 0.7


@needs_fashion_mnist
@pytest.mark.parametrize("make", [enlarged, enlarged_to_the_edge])
def test_an_undisturbed_picture_has_no_warnings(
    tmp_path: Path, make: Callable[[NDArray[np.uint8], bool, np.random.Generator], Picture]
) -> None:
    warned = 0
    for seed, image in enumerate(_real(40).images):
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


@pytest.mark.parametrize("size", [(90, 90), (300, 300), (640, 480), (600, 900)])
@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize(("garment", "ground"), [(40, 250), (235, 60), (90, 180), (200, 110)])
def test_the_light_on_a_plain_background_does_not_decide_what_is_garment(
    tmp_path: Path, light: str, garment: int, ground: int, size: tuple[int, int]
) -> None:
    picture = np.asarray(_shirt(size, min(size) / 28, garment, ground, "L"), np.float64)
    picture = picture * LIGHTS[light](*_grid(*picture.shape)) + np.random.default_rng(0).normal(0, 2, picture.shape)
    photograph = _taken(Image.fromarray(picture.round().clip(0, 255).astype(np.uint8)), tmp_path)
    expected = _taken(_shirt((280, 280), 10, 0, 255, "L"), tmp_path)
    assert _agreement(photograph, expected.pixels) > 0.85 or photograph.warnings
    assert photograph.warnings == [] or light in ("cos^4", "a spot at the top")  # further from a quadratic


@pytest.mark.parametrize("thickness", [1, 4, 25, 60])
@pytest.mark.parametrize("colour", ["black", "white", "grey", "red"])
@pytest.mark.parametrize("dark", [True, False])
def test_a_frame_or_page_of_any_thickness_is_cut_off(tmp_path: Path, thickness: int, colour: str, dark: bool) -> None:
    picture = _shirt((300, 260), 9, *(("navy", (240, 240, 235)) if dark else ("khaki", (20, 25, 20))))
    framed = Image.new("RGB", (300 + 2 * thickness, 260 + 3 * thickness), colour)
    framed.paste(picture, (thickness, thickness))
    photograph, plain = _taken(framed, tmp_path, "a.png"), _taken(picture, tmp_path, "b.png")
    assert _agreement(photograph, plain.pixels) > 0.9 and photograph.warnings == []


def test_frames_within_frames_and_bars_are_cut_off_one_after_the_other(tmp_path: Path) -> None:
    picture = _shirt((200, 200), 7, "navy", "white")
    plain = _taken(picture, tmp_path).pixels
    for colours in (("black", "white", "grey"), ("white", "black"), ("grey", "white", "black", "grey")):
        framed = picture
        for place, colour in enumerate(colours):
            wider = Image.new("RGB", (framed.width + 20 * (place != 1), framed.height + 30), colour)
            wider.paste(framed, (10 * (place != 1), 15))
            framed = wider
        assert _agreement(_taken(framed, tmp_path), plain) > 0.9


def _round_picture() -> Image.Image:
    picture, mask = _shirt((300, 300), 7, "navy", "white"), Image.new("L", (300, 300), 0)
    ImageDraw.Draw(mask).ellipse((5, 5, 294, 294), fill=255)
    return Image.composite(picture, Image.new("RGB", (300, 300), "black"), mask)


def _two_shirts() -> Image.Image:
    picture = Image.new("RGB", (600, 300), "white")
    for left in (0, 300):
        picture.paste(_shirt((300, 300), 8, "navy", "white"), (left, 0))
    return picture


def _striped_shirt() -> Image.Image:
    picture = np.array(_shirt((300, 300), 10, 255, 128, "L"))
    picture[(picture == 255) & (np.arange(300) % 40 < 20)[:, None]] = 0
    return Image.fromarray(picture)


def _coloured_corner() -> Image.Image:
    picture = _shirt((300, 300), 8, (20, 60, 140), "white")
    picture.paste((120, 60, 0), (0, 0, 40, 40))
    return picture


def _coarse_noise() -> Image.Image:
    cells = np.random.default_rng(0).integers(0, 256, (15, 15), np.uint8)
    return Image.fromarray(cells.repeat(20, axis=0).repeat(20, axis=1))


def _wall_and_table() -> Image.Image:
    picture = np.array(_shirt((300, 300), 8, 30, 250, "L"))
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
    ],
)
def test_a_guess_is_a_warning_of_one_sentence_each(tmp_path: Path, picture: Image.Image, sentence: str) -> None:
    warnings = _taken(picture, tmp_path).warnings
    assert any(sentence in warning for warning in warnings)
    assert all(warning.endswith(".") and "\n" not in warning for warning in warnings)


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
    taken = [_taken(_enlarged(image, 200, 20, Image.Resampling.BICUBIC), tmp_path).pixels for image in originals]
    before, after = (model.predict(images, verbose=0).argmax(axis=1) for images in (originals, np.stack(taken)))
    assert len(before) == 100
    assert np.mean(before == data.validation.labels) > 0.75
    assert np.mean(before == after) >= 0.9


def test_a_picture_like_those_of_fashion_mnist_is_left_alone(tmp_path: Path) -> None:
    photograph = _taken(_small(), tmp_path)
    assert photograph.pixels.shape == (28, 28, 1) and photograph.pixels.dtype == np.uint8
    assert np.array_equal(photograph.pixels, _pixels(_small())) and photograph.assumptions == []
    assert photograph.name == str(tmp_path / "picture.png") and photograph.thumbnail.shape == (28, 28, 3)


def test_what_was_done_is_said_in_order(tmp_path: Path) -> None:
    photograph = _taken(_shirt((640, 480), 15, (150, 20, 20), "white"), tmp_path)
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
        pixels = _taken(_shirt(size, scale, "navy", "white"), tmp_path).pixels[:, :, 0]
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        assert len(rows) == 28 and 23 <= len(columns) <= 24
        left, right = columns[0], 27 - columns[-1]
        assert 0 <= left - right <= 1  # an odd column is left over on the left, as in Fashion-MNIST
        assert pixels.max() == 255 and not pixels[:, :2].any() and not pixels[-1, :5].any()


def test_the_garment_is_bright_whatever_it_was(tmp_path: Path) -> None:
    whites = []
    for garment, ground in ((30, 255), (255, 0), (200, 90), (30, 90), (225, 253), (60, 130)):
        photograph = _taken(_shirt((200, 200), 7, garment, ground, "L"), tmp_path)
        whites.append(photograph.pixels[14, 14, 0])
        assert not photograph.pixels[-1, 0, 0]
        assert any("inverted" in said for said in photograph.assumptions) == (garment < ground)
    assert min(whites) >= 200  # not 255, as sharpening makes the garment's edge the brightest


def test_a_garment_that_is_a_plain_square_is_one(tmp_path: Path) -> None:
    image = Image.new("L", (300, 300), 255)
    image.paste(90, (50, 60, 250, 260))
    assert (_taken(image, tmp_path).pixels == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp"])
def test_each_format_gives_about_the_same_pixels(tmp_path: Path, name: str) -> None:
    shirt = _shirt((400, 300), 10, (20, 60, 140), "white")
    exact = _taken(shirt, tmp_path, "exact.png")
    assert _difference(_taken(shirt, tmp_path, name), exact.pixels) < (
        15 if name == "a.jpg" else 8
    )  # its edge is blurred, and half a pixel off


def test_noise_and_dust_on_the_background_do_not_count_as_garment(tmp_path: Path) -> None:
    picture = np.asarray(_shirt((800, 600), 15, (20, 60, 140), (235, 235, 235))).astype(float)
    picture += np.random.default_rng(0).normal(0, 3, picture.shape)
    picture[20:22, 50:52] = 0
    noisy = _taken(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), tmp_path, "noisy.jpg", quality=85)
    clean = _taken(_shirt((800, 600), 15, (20, 60, 140), "white"), tmp_path)
    assert _difference(noisy, clean.pixels) < 8


def test_a_smaller_picture_is_enlarged_and_one_of_28_pixels_only_centred(tmp_path: Path) -> None:
    small = _taken(Image.fromarray(np.pad(np.full((10, 6), 200, np.uint8), 2)), tmp_path)
    assert small.assumptions[1] == "enlarged from 6x10 keeping its proportions, centred on 28x28"
    assert small.pixels[:, 14].min() == 255
    narrow = _small().crop((4, 0, 24, 28))
    narrow.putpixel((10, 0), 255)
    narrow.putpixel((10, 27), 255)
    photograph = _taken(narrow, tmp_path)
    assert photograph.assumptions == ["its 20x28 pixels centred on 28x28"]
    assert np.array_equal(np.sort(photograph.pixels.ravel())[-280:], np.sort(np.asarray(narrow).ravel())[-280:])


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        *((2, T.FLIP_LEFT_RIGHT), (3, T.ROTATE_180), (4, T.FLIP_TOP_BOTTOM), (5, T.TRANSPOSE)),
        *((6, T.ROTATE_90), (7, T.TRANSVERSE), (8, T.ROTATE_270)),
    ],
)
def test_a_picture_is_turned_as_its_exif_orientation_says(tmp_path: Path, orientation: int, stored: T) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    photograph = _taken(_small().transpose(stored), tmp_path, exif=exif)
    assert np.array_equal(photograph.pixels, _pixels(_small()))
    assert photograph.assumptions == ["rotated as its EXIF orientation says"]


def test_transparent_parts_are_background_that_the_garment_stands_out_from(tmp_path: Path) -> None:
    bright = _small()
    bright.putalpha(Image.fromarray((np.asarray(bright) > 0).astype(np.uint8) * 255))
    photograph = _taken(bright, tmp_path)
    assert np.array_equal(photograph.pixels, _pixels(_small()))
    assert photograph.assumptions == ["transparent parts filled with black"]
    # Whatever colour is hidden where nothing is seen.
    dark = _taken(_shirt((300, 300), 10, (0, 0, 60, 255), (90, 200, 0, 0), "RGBA"), tmp_path)
    on_white = _taken(_shirt((300, 300), 10, (0, 0, 60), "white"), tmp_path)
    assert np.array_equal(dark.pixels, on_white.pixels)
    assert dark.assumptions == ["transparent parts filled with white", *on_white.assumptions]


@pytest.mark.parametrize("factor", [256, 257])
def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path: Path, factor: int) -> None:
    image = Image.fromarray(np.asarray(_small()).astype(np.uint16) * factor)
    photograph = _taken(image, tmp_path)
    assert np.array_equal(photograph.pixels, _pixels(_small()))
    assert photograph.assumptions == ["16-bit grey scaled to 8 bits"]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_several_frames_the_first_is_taken_and_it_is_said(tmp_path: Path, name: str) -> None:
    other = Image.fromarray(np.asarray(_small())[::-1])
    photograph = _taken(_small(), tmp_path, name, save_all=True, append_images=[other], lossless=True)
    assert np.array_equal(photograph.pixels, _pixels(_small()))
    assert photograph.assumptions == ["only its first frame used"]


def test_what_is_no_picture_is_refused_in_one_sentence_each(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a shirt")
    _small().save(tmp_path / "other.tiff")
    _shirt((300, 300), 10, "navy", "white").save(tmp_path / "whole.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    Image.new("RGB", (50, 50), "red").save(tmp_path / "plain.png")
    Image.new("RGBA", (50, 50), (9, 9, 9, 0)).save(tmp_path / "unseen.png")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    # Two colours of one brightness.
    _shirt((200, 200), 7, (0, 100, 0), (196, 0, 0)).save(tmp_path / "alike.png")
    for name, sentence in {
        "none.png": "expected a picture, found no such file: correct the name.",
        "folder.png": "expected a picture file, found a folder: name the files in it.",
        "empty.png": "expected a PNG, JPEG, BMP, GIF or WEBP picture, found an empty file: save it again.",
        "text.png": "expected a PNG, JPEG, BMP, GIF or WEBP picture, found something else: ",
        "other.tiff": "expected a PNG, JPEG, BMP, GIF or WEBP picture, found something else: ",
        "torn.png": "the picture is damaged or incomplete (",
        "plain.png": "expected a garment on a plain background, but nothing differs from its background by more",
        "unseen.png": "expected a garment on a plain background, but nothing differs from its background",
        "huge.png": "expected a picture of at most 89,478,485 pixels, found more: make it smaller",
        "alike.png": "expected a garment on a plain background, but the garment is no brighter",
    }.items():
        with pytest.raises(DataError) as refused:
            read_photograph(tmp_path / name)
        said = str(refused.value)
        assert said.startswith(f"{tmp_path / name}: {sentence}") and "\n" not in said
        assert refused.value.exit_code == ExitCode.DATA


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (_make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("/dev/full"), "a device"),
    ],
)
def test_what_could_keep_the_reader_waiting_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], Any], kind: str
) -> None:
    make(tmp_path / "it.png")
    with pytest.raises(DataError, match=f"the picture cannot be read \\(it is {kind}, not a file\\)"):
        read_photograph(tmp_path / "it.png")


def test_a_file_far_larger_than_a_picture_is_not_read(tmp_path: Path) -> None:
    _small().save(tmp_path / "it.png")
    os.truncate(tmp_path / "it.png", 2**40)  # takes no place on the disk
    with pytest.raises(DataError, match="expected a picture of at most 256 MiB, found 1048576"):
        read_photograph(tmp_path / "it.png")


_PICTURES_WITH_LIMITED_MEMORY = """
import resource, sys
from pathlib import Path
from PIL import Image
from fmnist_sweep.data.photographs import read_photograph
from fmnist_sweep.errors import DataError
image = Image.new("RGB", (1, 1))
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))  # addresses, of which the libraries take most
for name in sys.argv[1:]:
    try:
        print(read_photograph(Path(name)).pixels.shape)
    except DataError as error:
        print(str(error).partition(": ")[2])
"""


def test_pictures_that_unpack_to_gigabytes_take_a_bounded_memory(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def png(width: int, height: int, *chunks: bytes) -> bytes:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")

    zeros = zlib.compress(bytes(2**26))
    pictures = {
        "wide.png": png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zeros)),
        "high.png": png(1, 2**31 - 1, chunk(b"IDAT", zeros)),
        "text.png": png(28, 28, *[chunk(b"zTXt", b"a\0\0" + zeros)] * 80, chunk(b"IDAT", zeros)),
        "profile.png": png(28, 28, chunk(b"iCCP", b"a\0\0" + zeros * 50), chunk(b"IDAT", zeros)),
        "frames.png": png(28, 28, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"IDAT", zeros)),
        "screen.gif": b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b"\x2c"
        + bytes(8)
        + b"\0\2\2\x44\1\0;",
        "large.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", _PICTURES_WITH_LIMITED_MEMORY, *(str(tmp_path / name) for name in pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = dict(zip(pictures, done.stdout.splitlines(), strict=True))
    assert all(line.startswith(("expected ", "the picture is damaged")) for line in lines.values()), lines


def test_of_a_million_frames_only_the_first_is_read(tmp_path: Path) -> None:
    frames = [_shirt((60, 60), 2, "navy", "white"), Image.new("RGB", (60, 60), "red")]
    frames[0].save(tmp_path / "it.gif", save_all=True, append_images=frames[1:])
    whole = (tmp_path / "it.gif").read_bytes()
    start = whole.rindex(b"\x21\xf9")  # the second frame, with its graphic control
    (tmp_path / "it.gif").write_bytes(whole[:start] + whole[start:-1] * 100_000 + b";")
    began = time.perf_counter()
    assert "only its first frame used" in read_photograph(tmp_path / "it.gif").assumptions
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp"])
def test_a_damaged_file_is_read_or_refused_and_never_breaks_the_reading(tmp_path: Path, name: str) -> None:
    random, path = np.random.default_rng(0), tmp_path / name
    exif = Image.Exif()
    exif[274] = 6
    extra: dict[str, Any] = {} if name in ("a.bmp", "a.gif") else {"exif": exif}
    _shirt((60, 50), 1.8, (20, 60, 140), "white").save(path, **extra)
    whole, refused = path.read_bytes(), 0
    for turn in range(150):
        damaged = bytearray(whole if turn % 3 else whole[: random.integers(1, len(whole))])
        for place in random.integers(0, min(len(damaged), 300 if turn % 2 else len(damaged)), turn % 3 * 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            assert read_photograph(path).pixels.shape == (28, 28, 1)
        except DataError:
            refused += 1
    assert refused > 10


def test_a_name_that_would_play_with_the_terminal_is_shown_without_that(tmp_path: Path) -> None:
    assert _taken(_small(), tmp_path, "a\x1b[31m\nb.png").name == str(tmp_path / "a?[31m?b.png")


def test_reading_pictures_needs_none_of_the_other_rooms_libraries() -> None:
    check = (
        "import sys, fmnist_sweep.data.photographs\n"
        "sys.exit(bool({'matplotlib', 'mlflow', 'keras', 'tensorflow', 'hydra', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
