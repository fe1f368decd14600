"""A folder of pictures: a folder a label, below train/ and test/ or below the folder itself."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer

from fmnist_sweep.data.data_config import MAX_IMAGES
from fmnist_sweep.data.description import MAX_SIDE
from fmnist_sweep.data.folder import describe_folder, report_unreadable
from fmnist_sweep.data.own.parts import MAX_BYTES, RawPart, Values
from fmnist_sweep.data.pictures.picture_files import open_picture
from fmnist_sweep.errors import DataError
from fmnist_sweep.plugins import data_source
from fmnist_sweep.reading import read_file
from fmnist_sweep.text import echo

if TYPE_CHECKING:
    from PIL import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MAX_LABELS = 1000  # folders that are looked at
_MAX_PICTURE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class PictureFile:
    """A picture's file and the name of its label."""

    path: Path
    label: str


def has_test_folder(folder: Path) -> bool:
    """Whether the pictures lie below train/ and test/."""
    with report_unreadable(folder):
        return (folder / "train").is_dir() and (folder / "test").is_dir()


def _make_sides(value: Any) -> Any:
    """A list of height and width, or one number for both, as a pair. Raises ValueError for anything else."""
    if value is None:
        return None
    sides = (value, value) if type(value) is int else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"expected [height, width], or one number for both, each from 1 to {MAX_SIDE} pixels")
    return sides


def _list_sides(value: tuple[int, int] | None) -> list[int] | None:
    return None if value is None else list(value)


Sides = Annotated[tuple[int, int] | None, BeforeValidator(_make_sides), PlainSerializer(_list_sides)]


@data_source(name="folder", has_test=has_test_folder)
def read_picture_folder(
    path: Path,
    part: Literal["train", "test"],
    *,
    size: Sides,
    channels: Literal[1, 3] | None,
    image_shape: tuple[int, int, int] | None,
    choose: Callable[[list[bytes], Values], NDArray[np.bool_]] | None,
) -> RawPart:
    """Read the pictures of one part, and say what was done to them. Of those that `choose` leaves out none is decoded.

    size: height and width that all are given; None where all have one size. channels: 1 for grey, 3 for colour; None: 3
    if any training picture has colours. image_shape: of the training images, which test pictures are made like.
    Errors: DataError as for `list_pictures` and `read_pictures`.
    """
    pictures = list_pictures(path, part)
    if choose is not None:
        keys = [_hash_file(picture.path) for picture in pictures]
        wanted = choose(keys, np.array([picture.label for picture in pictures]))
        pictures = [picture for picture, takes in zip(pictures, wanted, strict=True) if takes]
    if image_shape is not None:
        size, channels = image_shape[:2], 3 if image_shape[2] == 3 else 1
    raw, note = read_pictures(pictures, size, channels)
    if note is not None:
        echo(f"{path}: {note}", err=True)
    return raw


def _hash_file(path: Path) -> bytes:
    try:
        return hashlib.blake2b(read_file(path, _MAX_PICTURE_BYTES), digest_size=16).digest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): mend or remove it.") from None


def list_pictures(folder: Path, part: str) -> list[PictureFile]:
    """The pictures of a part, by label and name: below its own folder if there is one, else all.

    Errors: DataError for a folder without folders of pictures.
    """
    top = folder / part if has_test_folder(folder) else folder
    with report_unreadable(top):
        if not top.is_dir():
            raise DataError(f"{top} is no folder: expected a folder for each label in it; correct data.dir.")
        label_folders = sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(label_folders) > _MAX_LABELS:
        raise DataError(f"{top} holds {len(label_folders):,} folders: expected one for each label.")
    pictures, others = list[PictureFile](), list[Path]()
    for label_folder in label_folders:
        for path in _iterate_files(label_folder):
            if path.suffix.lower() in _SUFFIXES:
                pictures.append(PictureFile(path, label_folder.name))
            else:
                others.append(path)
    if others:
        echo(f"{len(others)} files below {top} are no .png or .jpg and left out, such as {others[0].name}", err=True)
    if not pictures:
        raise DataError(
            f"{top} holds no pictures: expected a folder for each label with .png or .jpg files in it, found "
            f"{describe_folder(top)}; correct data.dir."
        )
    if len(pictures) > MAX_IMAGES:
        raise DataError(f"{top} holds {len(pictures):,} pictures: expected at most {MAX_IMAGES:,}.")
    return pictures


def _iterate_files(folder: Path) -> Iterator[Path]:
    with report_unreadable(folder), os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    for name in names:
        yield folder / name


def read_pictures(
    pictures: list[PictureFile], size: tuple[int, int] | None, channels: int | None
) -> tuple[RawPart, str | None]:
    """Read pictures as images of one size, and say what was done to them; None if nothing was.

    size: height and width; None: the one that all have. channels: 1, 3, or None for 3 if any of them has colours.
    Errors: DataError for a picture that cannot be read, and for different sizes without `size`.
    """
    first_size, resized, images = (0, 0), Counter[tuple[int, int]](), np.empty(0, np.uint8)
    for place, picture in enumerate(pictures):
        image, _ = open_picture(picture.path, str(picture.path))
        own_size = (image.height, image.width)
        if not place:
            first_size = size or own_size
            images = _make_room(picture.path, len(pictures), first_size)
        if own_size != first_size:
            if size is None:
                raise DataError(
                    f"{picture.path} has {_format_size(own_size)} pixels and {pictures[0].path} "
                    f"{_format_size(first_size)}: give the height and width that all are to have, such as "
                    f"data.size=[{first_size[0]},{first_size[1]}]."
                )
            resized[own_size] += 1
        images[place] = resize_picture(image, first_size)
    values = np.array([picture.label for picture in pictures])
    if channels is None:
        channels = 3 if has_colours(images) else 1
    note = None
    if resized:
        common = resized.most_common(1)[0][0]
        note = (
            f"{resized.total():,} of {len(pictures):,} pictures were resized to {_format_size(first_size)} pixels "
            f"(height x width), most of them from {_format_size(common)}"
        )
    return RawPart(images if channels == 3 else drop_colours(images), values), note


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _make_room(path: Path, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    if max(size) > MAX_SIDE:
        raise DataError(
            f"{path} has {_format_size(size)} pixels: expected at most {MAX_SIDE} down and across; give the height and "
            "width to learn from, such as data.size=[64,64]."
        )
    if count * size[0] * size[1] * 3 > MAX_BYTES:
        raise DataError(
            f"{count:,} pictures of {_format_size(size)} pixels take more than {MAX_BYTES:,} bytes: give a smaller "
            "data.size."
        )
    return np.empty((count, *size, 3), np.uint8)


def has_colours(images: NDArray[np.uint8]) -> bool:
    """Whether any pixel of images (..., 3) has a colour."""
    return bool((images[..., :1] != images[..., 1:]).any())


def drop_colours(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The brightness of images (..., 3) as (..., 1); of those without colours exactly theirs (weights: ITU-R 601)."""
    if not has_colours(images):
        return np.ascontiguousarray(images[..., :1])
    weights = np.array([299, 587, 114], np.uint32)
    return np.asarray((images @ weights + 500) // 1000, np.uint8)[..., None]


def resize_picture(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of this size: averaged where it had more pixels, interpolated where fewer."""
    from PIL import Image

    height, width = size
    if (image.height, image.width) == size:
        return np.asarray(image, np.uint8)
    shrinks = image.height >= height and image.width >= width
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(image.resize((width, height), method), np.uint8)
