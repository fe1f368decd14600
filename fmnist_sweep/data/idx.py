"""Fashion-MNIST's own file format: four IDX files, gzipped or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from fmnist_sweep.data.data_config import MAX_IMAGES
from fmnist_sweep.data.description import IMAGE_SIDE, LABELS
from fmnist_sweep.data.folder import (
    describe_folder,
    read_first_whole,
    refuse_folder_of_another_source,
    report_unreadable,
)
from fmnist_sweep.data.splits import ImageTable
from fmnist_sweep.errors import DataError
from fmnist_sweep.reading import UNPACKING_ERRORS, RefusedFile, describe_content, open_unpacked_file, read_stream

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


class _IdxFile(NamedTuple):
    """One whole file. header: the sizes that it announces; values: a byte for each pixel or label."""

    path: Path
    header: list[int]
    values: bytes
    canonical: bool


def read_idx_part(folder: Path, part: Part) -> IdxFiles:
    """Read the images and labels of one part; the other part's files are not opened.

    Errors: DataError where a file is missing, damaged, swapped with another, or they do not match each other.
    Source: the format is described at http://yann.lecun.com/exdb/mnist.
    """
    image_file = _read_member(folder, MEMBERS[part, "images"], _read_images)
    label_file = _read_member(folder, MEMBERS[part, "labels"], _read_labels)
    (count, *_), (label_count,) = image_file.header, label_file.header
    if count != label_count:
        raise DataError(
            f"{label_file.path} does not belong to {image_file.path}: expected a label for each of the {count} "
            f"images, found {label_count} labels; take both files from the same place."
        )
    images = np.frombuffer(image_file.values, np.uint8).reshape(count, IMAGE_SIDE, IMAGE_SIDE, 1)
    labels = np.frombuffer(label_file.values, np.uint8).astype(np.int64)
    return IdxFiles(ImageTable(images, labels), image_file.canonical and label_file.canonical)


def _read_member(folder: Path, member: Member, read: Callable[[Path, Member], _IdxFile]) -> _IdxFile:
    """Read one of the four files, whichever of its usual names it has.

    Errors: DataError where it is missing or damaged.
    """
    dotted = member.name.replace("-idx", ".idx")
    names = [member.name, f"{member.name}.gz", dotted, f"{dotted}.gz"]
    whole_file = read_first_whole(folder, names, lambda path: read(path, member))
    if whole_file is not None:
        return whole_file
    refuse_folder_of_another_source(folder, "fashion_mnist")
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: expected one holding the Fashion-MNIST IDX files, found "
            f"{describe_folder(folder)}; correct data.dir (or FMNIST_DATA_DIR)."
        )
    raise DataError(
        f"{folder / member.name} is missing: expected it there, plain or with .gz (the name {dotted} will "
        f"do too), found {describe_folder(folder)}; put the four Fashion-MNIST IDX files into that folder or "
        "correct data.dir."
    )


def _read_images(path: Path, member: Member) -> _IdxFile:
    with _report_damage(path), open_unpacked_file(path) as file:
        head = file.read(16)
        count, height, width = header = _parse_header(path, head, IMAGES_MAGIC, 3)
        if (height, width) != (IMAGE_SIDE, IMAGE_SIDE):
            raise DataError(
                f"{path} does not hold Fashion-MNIST images: expected {IMAGE_SIDE} x {IMAGE_SIDE} pixels, found "
                f"{height} x {width}; give the folder of the Fashion-MNIST files."
            )
        values = _read_values(path, file, head, count, IMAGE_SIDE * IMAGE_SIDE, "images")
    return _IdxFile(path, header, values, _is_canonical(path, head, values, member))


def _read_labels(path: Path, member: Member) -> _IdxFile:
    with _report_damage(path), open_unpacked_file(path) as file:
        head = file.read(8)
        (count,) = header = _parse_header(path, head, LABELS_MAGIC, 1)
        values = _read_values(path, file, head, count, 1, "labels")
    canonical = _is_canonical(path, head, values, member)
    labels = np.frombuffer(values, np.uint8)
    wrong = np.flatnonzero(labels >= len(LABELS))
    if len(wrong):
        raise DataError(
            f"{path} holds a label that Fashion-MNIST does not have: expected 0 to {len(LABELS) - 1}, found "
            f"{labels[wrong[0]]} at position {wrong[0]}; download it again or correct the file."
        )
    return _IdxFile(path, header, values, canonical)


@contextmanager
def _report_damage(path: Path) -> Iterator[None]:
    """Turn what the unpackers and the system say of a file into one sentence."""
    with report_unreadable(path):
        try:
            yield
        except UNPACKING_ERRORS as error:
            raise DataError(
                f"{path} is damaged: expected a whole gzip or zip file, found that it cannot be unpacked ({error}); "
                "download it again."
            ) from error


def _parse_header(path: Path, head: bytes, magic: int, dimensions: int) -> list[int]:
    """The sizes that an IDX header announces, after checking its kind."""
    length = 4 * (1 + dimensions)
    numbers = [int.from_bytes(head[at : at + 4], "big") for at in range(0, len(head), 4)]
    if len(head) < length or numbers[0] != magic:
        kind = describe_content(head) or (f"first bytes {head[:4].hex()}" if head else "an empty file")
        raise DataError(
            f"{path} is not {KIND_OF_MAGIC[magic]}: expected a header of {length} bytes that begins with "
            f"the number {magic}, found {kind}; check that the files are not swapped or packed twice, or download it "
            "again."
        )
    return numbers[1:]


def _read_values(path: Path, file: IO[bytes], head: bytes, count: int, value_bytes: int, name: str) -> bytes:
    """The bytes of the `count` images or labels that a header, read before, announced; at most one byte more is read.

    Errors: DataError where there are more or fewer, or more are announced than there can be.
    """
    if count > MAX_IMAGES:
        raise DataError(
            f"{path} does not hold Fashion-MNIST {name}: expected at most {MAX_IMAGES:,}, found a header that "
            f"announces {count:,}; download it again."
        )
    try:
        values = read_stream(file, count * value_bytes)
    except RefusedFile:
        state, found = "too long", "more"
    else:
        if len(values) == count * value_bytes:
            return values
        state, found = "truncated", str(len(head) + len(values))
    expected = len(head) + count * value_bytes
    raise DataError(
        f"{path} is {state}: its header announces {count} {name}, so expected {expected} bytes uncompressed, "
        f"found {found}; download it again."
    )


def _is_canonical(path: Path, head: bytes, values: bytes, member: Member) -> bool:
    """Whether these are the canonical bytes of the file that the name promises.

    Errors: DataError where they are the canonical bytes of another of the four files.
    """
    md5 = hashlib.md5(head, usedforsecurity=False)
    md5.update(values)
    digest = md5.hexdigest()
    other = _NAME_OF_MD5.get(digest)
    if other is not None and other != member.name:
        raise DataError(
            f"{path} is swapped with another file: expected {member.name}, found the content of {other}; "
            "give each file its own name back."
        )
    return digest == member.md5
