"""Promotion, with a real store, a real registry and real models."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, data_config, needs_fashion_mnist

from fmnist_sweep import store as stores
from fmnist_sweep.data import load

TINY = (
    *("model.filters.values=[4,8]", "model.conv_layers=1", "model.dense_units=16", "regularization=none"),
    *("train.epochs=1", "search=grid"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sweep: Command) -> Path:
    """A store with one sweep of two trials on real images."""
    folder = tmp_path_factory.mktemp("real")
    done = sweep("data.limit=400", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """That store's folder, with what a test before may have registered."""
    return trained


def _trials(store: stores.Store) -> list[Any]:
    found = store.client.search_runs([store.experiment_id], filter_string="tags.`fmnist.kind` = 'trial'")
    return sorted(found, key=lambda run: -run.data.metrics["best_val_accuracy"])


def _open(folder: Path) -> stores.Store:
    return stores.open_existing(stores.default_uri(folder), "fashion-mnist")


@needs_fashion_mnist
def test_the_best_trial_becomes_the_champion_once_however_often_it_is_promoted(folder: Path, verb: Command) -> None:
    import mlflow

    for _ in range(2):
        done = verb("promote", cwd=folder)
        assert done.returncode == 0, done.stderr
    assert "still version 1" in done.stdout
    store = _open(folder)
    (version,) = store.client.search_model_versions("name = 'fashion-mnist'")
    best = _trials(store)[0]
    assert version.run_id == best.info.run_id
    assert version.tags["fmnist.study_id"] == best.data.tags["fmnist.study_id"]
    assert version.tags["fmnist.command"].startswith("python -m fmnist_sweep")
    assert len(version.tags["fmnist.sha256"]) == 64
    data = data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=400, validation=0.1)
    validation = load(data).validation
    with stores.mlflow_pointed_at(store):
        champion = mlflow.pyfunc.load_model("models:/fashion-mnist@champion")
    right = champion.predict(validation.images).argmax(axis=1) == validation.labels
    assert right.mean() == pytest.approx(best.data.metrics["best_val_accuracy"])


@needs_fashion_mnist
def test_another_run_can_be_promoted_by_name_and_the_best_again(folder: Path, verb: Command) -> None:
    store = _open(folder)
    best, worst = _trials(store)
    assert verb("promote", "--run", worst.info.run_id, cwd=folder).returncode == 0
    assert store.client.get_model_version_by_alias("fashion-mnist", "champion").run_id == worst.info.run_id
    done = verb("promote", "--study", best.data.tags["fmnist.study_id"], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert store.client.get_model_version_by_alias("fashion-mnist", "champion").run_id == best.info.run_id
    assert len(store.client.search_model_versions("name = 'fashion-mnist'")) == 2


def _model_file(store: stores.Store, run: Any) -> Path:
    (output,) = run.outputs.model_outputs
    location = store.client.get_logged_model(output.model_id).artifact_location
    return Path(location.removeprefix("file://")) / "data" / "model.keras"


@needs_fashion_mnist
def test_a_model_that_does_not_predict_what_was_scored_is_refused_and_the_champion_stays(
    folder: Path, verb: Command
) -> None:
    store = _open(folder)
    best, worst = _trials(store)
    assert verb("promote", cwd=folder).returncode == 0
    file = _model_file(store, worst)
    kept = file.read_bytes()
    shutil.copy(_model_file(store, best), file)
    try:
        done = verb("promote", "--run", worst.info.run_id, cwd=folder)
    finally:
        file.write_bytes(kept)
    assert done.returncode == 8
    assert "does not predict what was scored" in done.stderr
    assert "Traceback" not in done.stderr
    assert store.client.get_model_version_by_alias("fashion-mnist", "champion").run_id == best.info.run_id


@needs_fashion_mnist
def test_a_model_file_that_carries_code_or_is_torn_is_refused_without_running_it(
    folder: Path, verb: Command, tmp_path: Path
) -> None:
    import keras

    store = _open(folder)
    worst = _trials(store)[1]
    file = _model_file(store, worst)
    kept = file.read_bytes()
    marker = tmp_path / "ran"
    code = str(marker)
    evil = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Lambda(lambda x: (__import__("pathlib").Path(code).touch(), x)[1], output_shape=(28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    try:
        evil.save(tmp_path / "evil.keras")
        marker.unlink(missing_ok=True)
        for content in ((tmp_path / "evil.keras").read_bytes(), kept[:1000]):
            file.write_bytes(content)
            done = verb("promote", "--run", worst.info.run_id, cwd=folder)
            assert done.returncode == 8, done.stderr
            assert "Traceback" not in done.stderr
            assert not marker.exists()
    finally:
        file.write_bytes(kept)
    assert zipfile.is_zipfile(file)


def test_drawn_images_never_reach_the_registry(sweep: Command, verb: Command, tmp_path: Path) -> None:
    done = sweep("data=drawn", "data.images=200", *TINY, "model.filters=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = _open(tmp_path)
    (run,) = _trials(store)
    assert run.info.run_name.startswith("DRAWN · ")
    for arguments in ((), ("--run", run.info.run_id)):
        refused = verb("promote", *arguments, cwd=tmp_path)
        assert refused.returncode == 8
        assert "not on Fashion-MNIST" in refused.stderr
    assert not store.client.search_registered_models()


@needs_fashion_mnist
def test_other_data_than_the_trial_was_scored_on_is_noticed(folder: Path, verb: Command, tmp_path: Path) -> None:
    import gzip

    source = Path(os.environ["FMNIST_DATA_DIR"])
    for path in source.glob("train-*.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        if "images" in path.name:
            content[16:] = (255 - np.frombuffer(content, np.uint8, offset=16)).tobytes()
        (tmp_path / path.name.removesuffix(".gz")).write_bytes(content)
    done = verb("promote", "--data-dir", str(tmp_path), cwd=folder)
    assert done.returncode == 3
    assert "--data-dir" in done.stderr
    assert "Traceback" not in done.stderr


@needs_fashion_mnist
def test_a_newer_sweep_without_a_finished_trial_is_passed_over_and_said(
    sweep: Command, verb: Command, tmp_path: Path
) -> None:
    assert sweep("data.limit=200", *TINY, "model.filters=4", cwd=tmp_path).returncode == 0
    diverges = ("optimizer=sgd", "optimizer.learning_rate=10.0", "optimizer.momentum=0.9", "regularization.l2=1.0")
    failed = sweep("data.limit=200", *TINY, "model.filters=4", *diverges, "train.batch_size=4", cwd=tmp_path)
    assert failed.returncode == 5, failed.stdout + failed.stderr
    assert "promote the best" not in failed.stdout
    done = verb("promote", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "passed over" in done.stdout


def _idx(folder: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    header = np.array([0x803, len(images), 28, 28], ">i4").tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(header + images.astype(np.uint8).tobytes())
    header = np.array([0x801, len(labels)], ">i4").tobytes()
    (folder / "train-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


def test_files_of_other_images_are_noticed_and_promoted_only_on_purpose(
    sweep: Command, verb: Command, tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    folder.mkdir()
    _idx(data, np.random.default_rng(0).integers(0, 256, (200, 28, 28)), np.arange(200) % 10)
    done = sweep(f"data.dir={data}", *TINY, "model.filters=4", cwd=folder, environment={"FMNIST_DATA_DIR": ""})
    assert done.returncode == 0, done.stderr
    assert "not the canonical Fashion-MNIST" in done.stdout
    hint = next(line for line in done.stdout.splitlines() if line.startswith("promote the best: "))
    words = hint.removeprefix("promote the best: fmnist-sweep ").split()
    refused = verb(*words, cwd=folder, environment={"FMNIST_DATA_DIR": ""})
    assert refused.returncode == 8
    assert "--any-data" in refused.stderr
    meant = verb(*words, "--any-data", cwd=folder, environment={"FMNIST_DATA_DIR": ""})
    assert meant.returncode == 0, meant.stderr
