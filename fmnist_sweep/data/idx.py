"""Fashion-MNIST's own file format: four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.splits import IMAGE_SIDE, LABELS, ImageTable
from fmnist_sweep.errors import DataError

Part = Literal["train", "test"]

IMAGES_MAGIC = 2051
LABELS_MAGIC = 2049
KIND_OF_MAGIC = {IMAGES_MAGIC: "an IDX images file", LABELS_MAGIC: "an IDX labels file"}


def get_other_part(part: Part) -> Part:
    """The test part for train, and the train part for test."""
    return "test" if part == "train" else "train"


class Member(NamedTuple):
    """One of the four files: its name, and the length and md5 of its canonical, uncompressed bytes."""

    name: str
    length: int
    md5: str


# md5 of the uncompressed bytes: gzip wrappers of the same bytes differ from place to place.
MEMBERS: dict[tuple[Part, str], Member] = {
    ("train", "images"): Member("train-images-idx3-ubyte", 47_040_016, "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    ("train", "labels"): Member("train-labels-idx1-ubyte", 60_008, "9018921c3c673c538a1fc5bad174d6f9"),
    ("test", "images"): Member("t10k-images-idx3-ubyte", 7_840_016, "8181f5470baa50b63fa0f6fddb340f0a"),
    ("test", "labels"): Member("t10k-labels-idx1-ubyte", 10_008, "15d484375f8d13e6eb1aabb0c3f46965"),
}
_NAME_OF_MD5 = {member.md5: member.name for member in MEMBERS.values()}


@dataclass(frozen=True)
class IdxFiles:
    """A part read from its two files, and whether both are byte for byte the canonical ones."""

    table: ImageTable
    canonical: bool


def read_idx_part(folder: Path, part: Part) -> IdxFiles:
    """Read the images and labels of one part; the other part's files are not opened.

    Errors: DataError where a file is missing, damaged, swapped with another, or they do not match each other.
    Source: the format is described at http://yann.lecun.com/exdb/mnist.
    """
    image_path = find_idx_file(folder, MEMBERS[part, "images"])
    label_path = find_idx_file(folder, MEMBERS[part, "labels"])
    image_bytes = _read_uncompressed(image_path)
    label_bytes = _read_uncompressed(label_path)
    canonical = [
        _is_canonical(image_path, image_bytes, MEMBERS[part, "images"]),
        _is_canonical(label_path, label_bytes, MEMBERS[part, "labels"]),
    ]
    images = _parse_images(image_path, image_bytes)
    labels = _parse_labels(label_path, label_bytes)
    if len(images) != len(labels):
        raise DataError(
            f"{label_path} does not belong to {image_path}: expected a label for each of the {len(images)} "
            f"images, found {len(labels)} labels; take both files from the same place."
        )
    return IdxFiles(ImageTable(images, labels), all(canonical))


def find_idx_file(folder: Path, member: Member) -> Path:
    """The path of one of the four files, whichever of its usual names it has.

    Errors: DataError where it is missing.
    """
    dotted = member.name.replace("-idx", ".idx")
    names = [member.name, f"{member.name}.gz", dotted, f"{dotted}.gz"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: expected one holding the Fashion-MNIST IDX files; correct data.dir "
            "(or FMNIST_DATA_DIR)."
        )
    raise DataError(
        f"{folder / member.name} is missing: expected it there, plain or with .gz (the name {dotted} will "
        f"do too), found {_list_folder(folder)}; put the four Fashion-MNIST IDX files into that folder or "
        "correct data.dir."
    )


def _list_folder(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"


def _read_uncompressed(path: Path) -> bytes:
    """The file's bytes, unpacked where its name ends in .gz."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged: expected a whole gzip file, found that it cannot be unpacked ({error}); "
            "download it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error


def _is_canonical(path: Path, content: bytes, member: Member) -> bool:
    """Whether these are the canonical bytes of the file that the name promises.

    Errors: DataError where they are the canonical bytes of another of the four files.
    """
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    other = _NAME_OF_MD5.get(digest)
    if other is not None and other != member.name:
        raise DataError(
            f"{path} is swapped with another file: expected {member.name}, found the content of {other}; "
            "give each file its own name back."
        )
    return digest == member.md5


def _parse_header(path: Path, content: bytes, magic: int, dimensions: int) -> list[int]:
    """The sizes that an IDX header announces, after checking its kind."""
    length = 4 * (1 + dimensions)
    numbers = [int.from_bytes(content[at : at + 4], "big") for at in range(0, min(length, len(content)), 4)]
    if len(content) < length or numbers[0] != magic:
        kind = KIND_OF_MAGIC.get(numbers[0], f"first bytes {content[:4].hex()}") if numbers else "an empty file"
        raise DataError(
            f"{path} is not {KIND_OF_MAGIC[magic]}: expected a header of {length} bytes that begins with "
            f"the number {magic}, found {kind} of {len(content)} bytes; check that the files are not "
            "swapped or compressed without .gz in the name, or download it again."
        )
    return numbers[1:]


def _refuse_length(path: Path, content: bytes, expected: int, content_name: str) -> None:
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path} is {state}: its header announces {content_name}, so expected {expected} bytes uncompressed, "
            f"found {len(content)}; download it again."
        )


def _parse_images(path: Path, content: bytes) -> NDArray[np.uint8]:
    count, height, width = _parse_header(path, content, IMAGES_MAGIC, 3)
    if (height, width) != (IMAGE_SIDE, IMAGE_SIDE):
        raise DataError(
            f"{path} does not hold Fashion-MNIST images: expected {IMAGE_SIDE} x {IMAGE_SIDE} pixels, found {height} x "
            f"{width}; give the folder of the Fashion-MNIST files."
        )
    _refuse_length(path, content, 16 + count * IMAGE_SIDE * IMAGE_SIDE, f"{count} images")
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, IMAGE_SIDE, IMAGE_SIDE, 1)


def _parse_labels(path: Path, content: bytes) -> NDArray[np.int64]:
    (count,) = _parse_header(path, content, LABELS_MAGIC, 1)
    _refuse_length(path, content, 8 + count, f"{count} labels")
    labels = np.frombuffer(content, np.uint8, offset=8).astype(np.int64)
    wrong = np.flatnonzero(labels >= len(LABELS))
    if len(wrong):
        raise DataError(
            f"{path} holds a label that Fashion-MNIST does not have: expected 0 to {len(LABELS) - 1}, found "
            f"{labels[wrong[0]]} at position {wrong[0]}; download it again or correct the file."
        )
    return labels
