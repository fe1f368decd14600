"""Labelled images cut into a train and a validation split, the same way every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.description import FASHION_MNIST, DataDescription
from fmnist_sweep.errors import DataError

# Every label needs one image to train on and one to validate with.
SMALLEST_LABEL = 2


class ImageTable(NamedTuple):
    """All images of one part of a source: images (n, height, width, channels) uint8, labels (n,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Some images of a source, in its order; all three arrays are read-only.

    images: (n, height, width, channels) uint8, 0..255; labels: (n,) int64, from 0; index: (n,) int64, the position of
    each image in its source file, from 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """Where images came from, and what they are.

    source: what the images ARE, whatever was asked for; location: the folder, or words; canonical: the
    training file has the images and labels of the canonical Fashion-MNIST, by checksum; fallback_reason: why
    drawn images stand in for Fashion-MNIST, else None.
    """

    source: str
    location: str
    canonical: bool
    fallback_reason: str | None

    @property
    def is_drawn(self) -> bool:
        """Whether the images are the drawn stand-in, asked for or not."""
        return self.source == "drawn"


@dataclass(frozen=True)
class Splits:
    """What a run sees: a train and a validation split that share no image, unless that was asked for.

    sha256: of the bytes of train.images, train.labels, validation.images, validation.labels, in this order,
    labels as little-endian int64; removed_duplicates: train images dropped as they equal a validation image;
    description: what the images are, whatever was asked for.
    """

    train: Split
    validation: Split
    origin: Origin
    sha256: str
    removed_duplicates: int
    description: DataDescription = FASHION_MNIST

    @property
    def tag(self) -> str:
        """What the images are and a short form of their hash, as in the tag `fmnist.data`."""
        return f"{self.origin.source}:{self.sha256[:12]}"


def take_all(table: ImageTable) -> Split:
    """A split of all images of a table."""
    return take_images(table, np.arange(len(table.labels), dtype=np.int64))


def take_images(table: ImageTable, index: NDArray[np.int64]) -> Split:
    """The images at these positions, copied and made read-only."""
    split = Split(images=table.images[index], labels=table.labels[index], index=index)
    for array in (split.images, split.labels, split.index):
        array.setflags(write=False)
    return split


def hash_splits(*splits: Split, prefix: bytes = b"") -> str:
    """The hash of the images' and labels' bytes of these splits, in order, after a prefix."""
    digest = hashlib.sha256(prefix)
    for split in splits:
        digest.update(split.images.tobytes())
        digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def hash_images(images: NDArray[np.uint8]) -> list[bytes]:
    """One short key an image; equal images, and only those, have equal keys."""
    return [hashlib.blake2b(image, digest_size=16).digest() for image in np.ascontiguousarray(images)]


def hash_in_any_order(images: ImageTable | Split) -> str:
    """A hash of images with their labels that is the same for the same ones in another order."""
    rows = np.concatenate(
        [images.labels.astype(np.uint8)[:, None], images.images.reshape(len(images.images), -1)], axis=1
    )
    return hashlib.sha256(b"".join(sorted(hash_images(rows)))).hexdigest()


def hash_images_briefly(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A number (n,) for each image by which it is known in any order; different images hardly ever share one."""
    return np.frombuffer(b"".join(key[:8] for key in hash_images(images)), "<u8").astype(np.uint64)


def split_table(
    table: ImageTable, data: DataConfig, origin: Origin, description: DataDescription = FASHION_MNIST
) -> Splits:
    """Cut a table into train and validation, stratified and seeded.

    Errors: DataError where a label has too few images, or there are fewer images than `limit`.
    """
    generator, labels = np.random.default_rng(data.split_seed), description.labels
    positions = [generator.permutation(np.flatnonzero(table.labels == label)) for label in range(len(labels))]
    if data.limit is not None:
        counts = _share_limit([len(p) for p in positions], data.limit, origin)
        positions = [p[:count] for p, count in zip(positions, counts, strict=True)]
    _refuse_small(positions, origin, labels)
    validation_positions = [p[: _count_held_out(len(p), data.validation)] for p in positions]
    train_positions = [p[_count_held_out(len(p), data.validation) :] for p in positions]
    validation = take_images(table, np.sort(np.concatenate(validation_positions)).astype(np.int64))
    if data.include_validation:
        train, removed = take_images(table, np.sort(np.concatenate(positions)).astype(np.int64)), 0
    else:
        train, removed = _remove_duplicates(
            table, np.sort(np.concatenate(train_positions)).astype(np.int64), validation
        )
    _refuse_untrained(train, origin, labels)
    return Splits(
        train=train,
        validation=validation,
        origin=origin,
        sha256=hash_splits(train, validation, prefix=_describe_results(description)),
        removed_duplicates=removed,
        description=description,
    )


def _describe_results(description: DataDescription) -> bytes:
    """What besides pixels and numbers decides what a study comes to; nothing for Fashion-MNIST, which is known."""
    if description.is_fashion_mnist:
        return b""
    return json.dumps([description.image_shape, description.labels]).encode()


def _count_held_out(count: int, fraction: float) -> int:
    """How many of a label's images are held out: rounded half up, at least one held out and one kept."""
    return min(max(int(count * fraction + 0.5), 1), count - 1)


def _share_limit(counts: list[int], limit: int, origin: Origin) -> list[int]:
    """Share `limit` images over the labels in proportion, by largest remainder, ties to the lower label."""
    total = sum(counts)
    if limit > total:
        raise DataError(
            f"data.limit={limit} asks for more images than the {total} training images of "
            f"{origin.location}: lower it to {total} or less, or set data.limit=null to take all."
        )
    shares = [limit * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda label: -(limit * counts[label] % total))
    for label in by_remainder[: limit - sum(shares)]:
        shares[label] += 1
    return shares


def _refuse_small(positions: list[NDArray[np.int64]], origin: Origin, labels: Sequence[str]) -> None:
    for label, members in enumerate(positions):
        if len(members) < SMALLEST_LABEL:
            raise DataError(
                f"{origin.location} cannot be split into train and validation: expected at least "
                f"{SMALLEST_LABEL} training images of each label, found {len(members)} of label {label} "
                f"({labels[label]}); give more data or raise data.limit."
            )


def _remove_duplicates(table: ImageTable, index: NDArray[np.int64], validation: Split) -> tuple[Split, int]:
    """The images at `index` that equal no validation image, and how many were dropped."""
    validation_keys = set(hash_images(validation.images))
    is_new = np.array([key not in validation_keys for key in hash_images(table.images[index])], dtype=bool)
    return take_images(table, index[is_new]), int((~is_new).sum())


def _refuse_untrained(train: Split, origin: Origin, labels: Sequence[str]) -> None:
    present = np.bincount(train.labels, minlength=len(labels))
    for label in np.flatnonzero(present == 0).tolist():
        raise DataError(
            f"{origin.location} cannot be split into train and validation: expected different images of "
            f"label {label} ({labels[label]}), found that every one left to train on equals a validation "
            "image; give data with more distinct images."
        )
