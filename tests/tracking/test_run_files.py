"""Artifacts that others put into a run are read with a bound, and never keep a reader waiting."""

from __future__ import annotations

import io
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.errors import DataError, StoreError
from fmnist_sweep.promotion.configuration import read_trial_configuration
from fmnist_sweep.tracking.names import PREDICTIONS_FILE
from fmnist_sweep.tracking.prediction_files import (
    pack_predictions,
    read_intact_predictions,
    read_predictions,
    unpack_predictions,
)
from fmnist_sweep.tracking.run_files import UnreadableArtifact, log_files, read_artifact, read_artifacts
from fmnist_sweep.tracking.store import Store, locate_local_artifacts, open_store
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from fmnist_sweep.tracking.trial_data import load_trial_splits
from fmnist_sweep.tracking.trial_search import read_predictions_or_reason
from fmnist_sweep.tracking.trials import read_trials

PREDICTIONS: dict[str, NDArray[Any]] = {
    "index": np.arange(20),
    "labels": np.arange(20) % 10,
    "probabilities": np.full((20, 10), 0.1, np.float32),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('files')}/mlflow.db", "fashion-mnist")


@pytest.fixture
def run_id(store: Store) -> str:
    ids = {"fmnist.study_id": "s", "fmnist.trial_id": "0000", "mlflow.parentRunId": "none"}
    tags = {"fmnist.kind": "trial", "fmnist.data": "drawn:0", **ids}
    run = store.client.create_run(store.experiment_id, run_name="a trial", tags=tags)
    log_files(store, run.info.run_id, {"curves.png": b"curves", "deep/file.txt": b"text"})
    return str(run.info.run_id)


@pytest.fixture
def folder(store: Store, run_id: str) -> Iterator[Path]:
    folder = locate_local_artifacts(store, run_id)
    assert folder is not None
    yield folder
    shutil.rmtree(folder)


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)  # takes no place on the disk


def make_folder(path: Path) -> None:
    (path / "below").mkdir(parents=True)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "an endless file": make_large,
    "a folder": make_folder,
    "a file from elsewhere": lambda path: path.symlink_to("/etc/passwd"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_artifact_is_never_waited_for_copied_or_taken_for_predictions(
    store: Store, run_id: str, folder: Path, kind: str
) -> None:
    FOREIGN[kind](folder / PREDICTIONS_FILE)
    try:
        assert not read_artifact(store, run_id, PREDICTIONS_FILE)
    except UnreadableArtifact as error:
        assert len(str(error)) < 300
    assert read_intact_predictions(store, run_id) is None
    (trial,) = [trial for trial in read_trials(store, {}) if trial.run_id == run_id]
    assert isinstance(read_predictions_or_reason(store, trial), str)


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_artifacts_do_not_hide_the_others(store: Store, run_id: str, folder: Path, kind: str) -> None:
    FOREIGN[kind](folder / "misclassified.png")
    found = {name: content for name, content in read_artifacts(store, run_id).items() if content}
    assert found == {"curves.png": b"curves", "deep/file.txt": b"text"}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["config.yaml", "test_predictions.npz"])
def test_a_foreign_artifact_in_place_of_a_description_is_one_sentence(
    store: Store, run_id: str, folder: Path, kind: str, name: str
) -> None:
    FOREIGN[kind](folder / name)
    (trial,) = [trial for trial in read_trials(store, {}) if trial.run_id == run_id]
    for read in (
        (lambda: load_trial_splits(store, trial, None), lambda: read_trial_configuration(store, trial))
        if name == "config.yaml"
        else (lambda: read_test_predictions(store, run_id, "a trial"),)
    ):
        with pytest.raises((DataError, StoreError, Exception)) as error:
            read()
        assert type(error.value).__module__ == "fmnist_sweep.errors"
        assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_run_of_thousands_of_files_is_read_in_part(store: Store, run_id: str, folder: Path) -> None:
    for number in range(1100):
        (folder / f"{number:05d}").write_bytes(b"x")
    assert len(read_artifacts(store, run_id)) == 1000


def test_an_artifact_that_is_absent_is_none(store: Store, run_id: str) -> None:
    assert read_artifact(store, run_id, "nothing.json") is None
    assert read_artifact(store, run_id, "no/such/file.json") is None
    assert read_artifact(store, run_id, "deep/file.txt") == b"text"


def swell(**changed: Any) -> bytes:
    """Predictions of which some arrays are others, packed small."""
    content = io.BytesIO()
    np.savez_compressed(content, **{**PREDICTIONS, **changed})
    return content.getvalue()


def state(name: str, shape: str) -> bytes:
    """Predictions of which one array states another shape than it has."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(pack_predictions(**PREDICTIONS))) as given,
        zipfile.ZipFile(content, "w") as altered,
    ):
        for entry in given.namelist():
            stored = given.read(entry)
            if entry == f"{name}.npy":
                start, end = stored.index(b"("), stored.index(b")") + 1
                stored = stored[:start] + shape.encode() + stored[end + len(shape) - (end - start) :]
            altered.writestr(entry, stored)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        swell(probabilities=np.zeros((2_000_000, 10), np.float32)),
        swell(index=np.zeros(20_000_000, np.int64)),
        swell(more=np.zeros(100_000_000, np.int8)),
        state("probabilities", "(10**15,)"),
        state("labels", "(99999999999999,)"),
        b"",
    ],
)
def test_predictions_that_would_fill_the_memory_are_damaged(store: Store, run_id: str, content: bytes) -> None:
    log_files(store, run_id, {PREDICTIONS_FILE: content})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w"):
            read_predictions(store, run_id)
        assert read_intact_predictions(store, run_id) is None
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_predictions_as_a_sweep_packs_them_are_read() -> None:
    predictions = unpack_predictions(pack_predictions(**PREDICTIONS))
    assert predictions.probabilities.shape == (20, 10)
