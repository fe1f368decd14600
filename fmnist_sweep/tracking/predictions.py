"""What a trial predicted for its validation images, read back from its predictions.npz."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.run_files import read_artifact

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Predictions:
    """What a trial predicts for the validation images.

    index: (n,) positions of the images in the training file. labels: (n,), 0..9. probabilities: (n, 10) float32.
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


def read_predictions(store: Store, run_id: str) -> Predictions | None:
    """A finished trial's predictions; None if the store has none. Raises ValueError for a damaged file."""
    content = read_artifact(store, run_id, PREDICTIONS_FILE)
    return None if content is None else unpack_predictions(content)


def unpack_predictions(content: bytes) -> Predictions:
    """Unpack the content of a predictions.npz. Raises ValueError if it is something else."""
    # No pickle: it would let anybody who can write to the store run code here.
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return Predictions(
                np.asarray(file["index"], np.int64),
                np.asarray(file["labels"], np.int64),
                np.asarray(file["probabilities"], np.float32),
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"not the content of a predictions.npz ({type(error).__name__}: {error})") from None


def read_intact_predictions(store: Store, run_id: str) -> Predictions | None:
    """A trial's predictions; None if the store has none, or only a damaged file."""
    # Read outside of the try: a store that is away may raise a ValueError, too (requests' JSONDecodeError).
    content = read_artifact(store, run_id, PREDICTIONS_FILE)
    try:
        return None if content is None else unpack_predictions(content)
    except ValueError:  # it must not keep a study from being closed
        return None
