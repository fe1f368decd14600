"""A .keras file before it is loaded: it must take no more memory than it has bytes, whoever wrote it.

Such a file is a zip archive of a description and of weights in HDF5. Keras packs none of it, so that what unpacks to
more, states more weights than there are bytes, or describes more weights than it holds, was made to fill the memory.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

from fmnist_sweep.reading import open_regular_file, open_zip, parse_json, read_stream

_MAX_CONFIG_BYTES = 4 * 2**20
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def refuse_swollen_model(file: Path) -> None:
    """Raise ValueError for a .keras file that would take more memory than it has bytes.

    Raises BadZipFile, KeyError, OSError and what Keras raises for a file that is none, or describes no model.
    """
    with open_regular_file(file) as content:
        size = content.seek(0, io.SEEK_END)
        with open_zip(content) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > size:
                raise ValueError("it unpacks to more bytes than it has")
            with archive.open(_CONFIG) as config:
                described = count_described_weights(read_stream(config, _MAX_CONFIG_BYTES).decode())
            with archive.open(_WEIGHTS) as weights:
                stored = _count_stored_weights(read_stream(weights, size))
    if described > stored:
        raise ValueError(f"it describes {described:,} weights and holds {stored:,}")


def count_described_weights(config: str) -> int:
    """How many weights the layers of a model have; none of them is created for that."""
    import keras

    parse_json(config)  # Keras would nest as deeply as it does
    with keras.StatelessScope(initialize_variables=False):
        model = keras.models.model_from_json(config)
        if not isinstance(model, keras.Model):
            raise ValueError("it describes no model")
        return int(model.count_params())


def _count_stored_weights(content: bytes) -> int:
    """How many numbers an HDF5 file holds. Raises ValueError if it states more than it has bytes."""
    import h5py  # type: ignore[import-untyped]

    counts, sizes = [0], [0]

    def count(name: str, part: object) -> None:
        if isinstance(part, h5py.Dataset):
            counts.append(math.prod(part.shape or ()))
            sizes.append(counts[-1] * part.dtype.itemsize)

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(count)
    if sum(sizes) > len(content):
        raise ValueError(f"its weights state {sum(sizes):,} bytes and have {len(content):,}")
    return sum(counts)
