"""Picture files of any format are opened upright, without transparency and within limits, or refused in a sentence."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from fmnist_sweep.data.pictures.photographs import read_photograph
from fmnist_sweep.errors import DataError, ExitCode
from tests.support.process import LIMIT_SECONDS
from tests.support.shirts import (
    draw_shirt,
    draw_small_shirt,
    get_pixels,
    measure_difference,
    take,
)

T = Image.Transpose


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp"])
def test_each_format_gives_about_the_same_pixels(tmp_path: Path, name: str) -> None:
    shirt = draw_shirt((400, 300), 10, (20, 60, 140), "white")
    exact = take(shirt, tmp_path, "exact.png")
    assert measure_difference(take(shirt, tmp_path, name), exact.pixels) < (
        15 if name == "a.jpg" else 8
    )  # its edge is blurred, and half a pixel off


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
    photograph = take(draw_small_shirt().transpose(stored), tmp_path, exif=exif)
    assert np.array_equal(photograph.pixels, get_pixels(draw_small_shirt()))
    assert photograph.assumptions == ["rotated as its EXIF orientation says"]


def test_transparent_parts_are_background_that_the_garment_stands_out_from(tmp_path: Path) -> None:
    bright = draw_small_shirt()
    bright.putalpha(Image.fromarray((np.asarray(bright) > 0).astype(np.uint8) * 255))
    photograph = take(bright, tmp_path)
    assert np.array_equal(photograph.pixels, get_pixels(draw_small_shirt()))
    assert photograph.assumptions == ["transparent parts filled with black"]
    # Whatever colour is hidden where nothing is seen.
    dark = take(draw_shirt((300, 300), 10, (0, 0, 60, 255), (90, 200, 0, 0), "RGBA"), tmp_path)
    on_white = take(draw_shirt((300, 300), 10, (0, 0, 60), "white"), tmp_path)
    assert np.array_equal(dark.pixels, on_white.pixels)
    assert dark.assumptions == ["transparent parts filled with white", *on_white.assumptions]


@pytest.mark.parametrize(("factor", "bits"), [(256, 16), (257, 16), (16, 12), (4, 10)])
def test_grey_of_more_than_eight_bits_is_scaled_to_eight(tmp_path: Path, factor: int, bits: int) -> None:
    image = Image.fromarray(np.asarray(draw_small_shirt()).astype(np.uint16) * factor)
    photograph = take(image, tmp_path)
    assert np.array_equal(photograph.pixels, get_pixels(draw_small_shirt()))
    assert photograph.assumptions == [f"{bits}-bit grey scaled to 8 bits"]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_several_frames_the_first_is_taken_and_it_is_said(tmp_path: Path, name: str) -> None:
    other = Image.fromarray(np.asarray(draw_small_shirt())[::-1])
    photograph = take(draw_small_shirt(), tmp_path, name, save_all=True, append_images=[other], lossless=True)
    assert np.array_equal(photograph.pixels, get_pixels(draw_small_shirt()))
    assert photograph.assumptions == ["only its first frame used"]


def test_what_is_no_picture_is_refused_in_one_sentence_each(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a shirt")
    draw_small_shirt().save(tmp_path / "other.tiff")
    draw_shirt((300, 300), 10, "navy", "white").save(tmp_path / "whole.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    Image.new("RGB", (50, 50), "red").save(tmp_path / "plain.png")
    Image.new("RGBA", (50, 50), (9, 9, 9, 0)).save(tmp_path / "unseen.png")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    # Two colours of one brightness.
    draw_shirt((200, 200), 7, (0, 100, 0), (196, 0, 0)).save(tmp_path / "alike.png")
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
    draw_small_shirt().save(tmp_path / "it.png")
    os.truncate(tmp_path / "it.png", 2**40)  # takes no place on the disk
    with pytest.raises(DataError, match="expected a picture of at most 256 MiB, found 1048576"):
        read_photograph(tmp_path / "it.png")


_PICTURES_WITH_LIMITED_MEMORY = """
import resource, sys
from pathlib import Path
from PIL import Image
from fmnist_sweep.data.pictures.photographs import read_photograph
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    lines = dict(zip(pictures, done.stdout.splitlines(), strict=True))
    assert all(line.startswith(("expected ", "the picture is damaged")) for line in lines.values()), lines


def test_of_a_hundred_thousand_frames_only_the_first_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [draw_shirt((60, 60), 2, "navy", "white"), Image.new("RGB", (60, 60), "red")]
    frames[0].save(tmp_path / "it.gif", save_all=True, append_images=frames[1:])
    whole = (tmp_path / "it.gif").read_bytes()
    start = whole.rindex(b"\x21\xf9")  # the second frame, with its graphic control
    (tmp_path / "it.gif").write_bytes(whole[:start] + whole[start:-1] * 100_000 + b";")
    sought: list[int] = []
    seek = GifImagePlugin.GifImageFile._seek

    def count_and_seek(self: GifImagePlugin.GifImageFile, frame: int, update_image: bool = True) -> None:
        sought.append(frame)
        seek(self, frame, update_image)

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", count_and_seek)
    assert "only its first frame used" in read_photograph(tmp_path / "it.gif").assumptions
    assert set(sought) <= {0, 1}


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.bmp", "a.gif", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a.jpg", "a.webp"))],
)
def test_a_damaged_file_is_read_or_refused_and_never_breaks_the_reading(tmp_path: Path, name: str) -> None:
    random, path = np.random.default_rng(0), tmp_path / name
    exif = Image.Exif()
    exif[274] = 6
    extra: dict[str, Any] = {} if name in ("a.bmp", "a.gif") else {"exif": exif}
    draw_shirt((60, 50), 1.8, (20, 60, 140), "white").save(path, **extra)
    whole, refused = path.read_bytes(), 0
    for turn in range(75):
        damaged = bytearray(whole if turn % 3 else whole[: random.integers(1, len(whole))])
        for place in random.integers(0, min(len(damaged), 300 if turn % 2 else len(damaged)), turn % 3 * 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            assert read_photograph(path).pixels.shape == (28, 28, 1)
        except DataError:
            refused += 1
    assert refused > 5


def test_a_name_that_would_play_with_the_terminal_is_shown_without_that(tmp_path: Path) -> None:
    assert take(draw_small_shirt(), tmp_path, "a\x1b[31m\nb.png").name == str(tmp_path / "a?[31m?b.png")
