"""A .keras file that takes more memory than it has bytes is refused before Keras loads it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.tracking.model_files import refuse_swollen_model
from fmnist_sweep.tracking.models import UnusableModel, load_keras_file
from fmnist_sweep.training import backend


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The entries of the .keras file of a small network."""
    backend.import_tensorflow()
    import keras

    file = tmp_path_factory.mktemp("model") / "model.keras"
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(10)]
    keras.Sequential(layers).save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def make_weights(**options: Any) -> bytes:
    import h5py  # type: ignore[import-untyped]

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("layers/dense/vars/0", **options)
    return content.getvalue()


def widen(entries: dict[str, bytes]) -> dict[str, bytes]:
    config = entries["config.json"].replace(b'"units": 10', b'"units": 1000000000')
    assert config != entries["config.json"]
    return {**entries, "config.json": config}


SWOLLEN: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "a layer of a billion units": widen,
    "weights that are packed": lambda given: {
        **given,
        "model.weights.h5": make_weights(data=np.zeros(50_000_000, np.int8), compression="gzip", chunks=(10**6,)),
    },
    "weights that are not there": lambda given: {
        **given,
        "model.weights.h5": make_weights(shape=(10**13,), dtype="f4", chunks=(1024,)),
    },
    "a description without end": lambda given: {**given, "config.json": b" " * 5_000_000 + given["config.json"]},
    "no weights": lambda given: {name: content for name, content in given.items() if "weights" not in name},
    "weights of another kind": lambda given: {**given, "model.weights.h5": b"weights"},
    "a description that nests": lambda given: {**given, "config.json": b"[" * 100_000},
    "no description": lambda given: {**given, "config.json": b"{}"},
}


@pytest.mark.parametrize("kind", SWOLLEN)
def test_a_model_that_would_fill_the_memory_is_refused(tmp_path: Path, entries: dict[str, bytes], kind: str) -> None:
    file = write(tmp_path / "model.keras", SWOLLEN[kind](entries))
    with pytest.raises(UnusableModel, match=r"\w") as error:
        load_keras_file(file)
    assert "\n" not in str(error.value)


def test_a_model_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    swollen = {**entries, "assets/data": bytes(20_000_000)}
    file = write(tmp_path / "model.keras", swollen, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnusableModel, match="it unpacks to more bytes than it has"):
        load_keras_file(file)


def test_a_pipe_in_place_of_a_model_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.keras")
    with pytest.raises(UnusableModel, match="it is a named pipe"):
        load_keras_file(tmp_path / "model.keras")


def test_a_model_as_keras_writes_it_passes(tmp_path: Path, entries: dict[str, bytes]) -> None:
    refuse_swollen_model(write(tmp_path / "model.keras", entries))
    assert load_keras_file(tmp_path / "model.keras").count_params() == 7850
    assert json.loads(entries["config.json"])["class_name"] == "Sequential"
