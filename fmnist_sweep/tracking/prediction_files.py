"""What models predict for the validation and test images, packed into .npz files and read back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.reading import load_arrays
from fmnist_sweep.tracking.foreign import check_predictions
from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.run_files import MAX_ARTIFACT_BYTES, UnreadableArtifact, read_artifact

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Predictions:
    """What a trial predicts for the validation images.

    index: (n,) positions of the images in the training file. labels: (n,), from 0. probabilities: (n, number of labels)
    float32.
    """

    index: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @cached_property
    def predicted_labels(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def correct_mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted_labels == self.labels)


@dataclass(frozen=True)
class TestPredictions(Predictions):
    """What a run's saved model predicts for the test images, in the order of the test file.

    twin_mask: (n,) whether the training file holds the image too, or nearly so (see data.twins). image_hashes: (n,) by
    which an image is known in any order (data.splits.hash_images_briefly); None in files of earlier releases.
    """

    __test__ = False  # for pytest: this is not a class of tests

    twin_mask: NDArray[np.bool_]
    image_hashes: NDArray[np.uint64] | None = None

    def reorder_as(self, other: TestPredictions) -> TestPredictions | None:
        """The same predictions in the order of others' images; None if they are of other images.

        Without the hashes of both, only the same order can be told.
        """
        if self.image_hashes is None or other.image_hashes is None:
            is_same = np.array_equal(self.index, other.index) and np.array_equal(self.labels, other.labels)
            return self if is_same else None
        own = np.lexsort((self.labels, self.image_hashes))
        others = np.lexsort((other.labels, other.image_hashes))
        if not np.array_equal(self.image_hashes[own], other.image_hashes[others]):
            return None
        if not np.array_equal(self.labels[own], other.labels[others]):
            return None
        order = np.empty_like(own)
        order[others] = own
        return TestPredictions(
            index=self.index[order],
            labels=self.labels[order],
            probabilities=self.probabilities[order],
            twin_mask=self.twin_mask[order],
            image_hashes=self.image_hashes[order],
        )


# Of each array in the files.
_DTYPES = {
    "index": np.int64,
    "labels": np.int64,
    "probabilities": np.float32,
    "seen": np.bool_,
    "image_hashes": np.uint64,
}


def read_predictions(store: Store, run_id: str) -> Predictions | None:
    """A finished trial's predictions; None if the store has none. Raises ValueError for a damaged file."""
    content = read_artifact(store, run_id, PREDICTIONS_FILE)
    return None if content is None else unpack_predictions(content)


def pack_predictions(**arrays: NDArray[Any]) -> bytes:
    """Pack arrays into the content of a predictions.npz or test_predictions.npz."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpack_predictions(content: bytes) -> Predictions:
    """Unpack the content of a predictions.npz. Raises ValueError if it is something else."""
    return Predictions(**_unpack_arrays(content, ("index", "labels", "probabilities")))


def unpack_test_predictions(content: bytes) -> TestPredictions:
    """Unpack the content of a test_predictions.npz. Raises ValueError if it is something else."""
    arrays = _unpack_arrays(content, ("index", "labels", "probabilities", "seen"), ("image_hashes",))
    return TestPredictions(twin_mask=arrays.pop("seen"), **arrays)


def _unpack_arrays(content: bytes, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    arrays = load_arrays(content, MAX_ARTIFACT_BYTES)
    names = [*names, *(name for name in optional if name in arrays)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"not the content of an .npz file of predictions (without {', '.join(missing)})")
    check_predictions({name: arrays[name] for name in names})
    return {name: np.asarray(arrays[name], _DTYPES[name]) for name in names}


def read_intact_predictions(store: Store, run_id: str) -> Predictions | None:
    """A trial's predictions; None if the store has none, or only a damaged file."""
    try:
        content = read_artifact(store, run_id, PREDICTIONS_FILE)
    except UnreadableArtifact:
        return None
    # Read outside of the try: a store that is away may raise a ValueError, too (requests' JSONDecodeError).
    try:
        return None if content is None else unpack_predictions(content)
    except ValueError:  # it must not keep a study from being closed
        return None
