"""`fmnist-sweep export`: a real sweep's model in each format, loaded in its own runtime, and what leaves nothing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import load_splits
from fmnist_sweep.errors import ConfigError, ExitCode, PromotionRefused
from fmnist_sweep.tracking.exports import BFLOAT16_TOLERANCE, FLOAT32_TOLERANCE, compare_predictions
from fmnist_sweep.tracking.models import hash_predictions
from fmnist_sweep.tracking.names import MODEL_NAME, PREDICTIONS_SHA256_TAG, SHA256_TAG
from fmnist_sweep.tracking.prediction_files import Predictions, pack_predictions, unpack_predictions
from fmnist_sweep.tracking.registry import CHAMPION, register_version
from fmnist_sweep.tracking.store_lock import lock_registry
from fmnist_sweep.training.export_formats import parse_formats
from tests.conftest import Command, data_config
from tests.support.in_process import run_verb
from tests.support.promotions import model_file, model_id, opened, swept
from tests.support.small import DRAWN
from tests.support.zygote import VERB, Zygote

# Each kind of layer that a default study may have, in bfloat16.
NETWORK = (
    *(*DRAWN, "search=grid", "model.conv_layers=2", "model.filters=4", "model.dense_units=8", "model.residual=true"),
    "model.members=2",
    *("regularization.dropout=0.2", "optimizer.learning_rate=0.01", "train.epochs=2", "train.batch_size=16"),
    *("train.precision=mixed_bfloat16", "executor=in_process"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """A sweep of one trial on drawn images, whose model is registered as champion."""
    folder = tmp_path_factory.mktemp("exports")
    swept(folder, partial(warm_sweep, environment={"FAULTS_PLAIN": "1"}), *NETWORK)
    store = opened(folder)
    run = _trial(folder)
    tags = {
        SHA256_TAG: store.client.get_logged_model(model_id(run)).tags[SHA256_TAG],
        PREDICTIONS_SHA256_TAG: hash_predictions(_stored(folder).probabilities),
    }
    with lock_registry(store):
        version = register_version(store, run.info.run_id, model_id(run), tags=tags, description="a test")
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, version.number)
    assert model_file(folder, run).is_file()
    return folder


def _trial(folder: Path) -> Any:
    store = opened(folder)
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    return runs[0]


def _predictions_file(folder: Path) -> Path:
    return Path(_trial(folder).info.artifact_uri.removeprefix("file://"), "predictions.npz")


def _stored(folder: Path) -> Predictions:
    return unpack_predictions(_predictions_file(folder).read_bytes())


def _images() -> NDArray[np.uint8]:
    return load_splits(data_config(source="drawn", validation=0.1)).validation.images


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime", "ai_edge_litert")),
    reason="needs ONNX Runtime, tf2onnx and LiteRT: pip install 'fmnist_sweep[export]'",
)
def test_each_format_gives_the_stored_predictions_in_its_own_runtime(
    folder: Path, warm_verb: Command, tmp_path: Path
) -> None:
    target = tmp_path / "taken"
    done = warm_verb("export", "--to", "onnx,litert,saved_model", "--folder", str(target), cwd=folder)
    assert done.returncode == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"taken"}
    assert {path.name for path in target.iterdir()} == {"model.onnx", "model.tflite", "saved_model", "export.json"}
    images, stored = _images(), _stored(folder)
    assert len(images) == len(stored.labels)
    told = json.loads((target / "export.json").read_text())
    assert told["model"] == f"models:/{MODEL_NAME}/1"
    assert told["input"]["shape"] == ["n", 28, 28, 1]
    assert told["output"]["labels"][6] == "Shirt"
    predicted = {
        "onnx": _run_onnx(target / "model.onnx", images),
        "litert": _run_litert(target / "model.tflite", images),
        "saved_model": _run_saved_model(target / "saved_model", images),
    }
    for name, probabilities in predicted.items():
        figures = told["formats"][name]
        difference = np.abs(probabilities - stored.probabilities).max()
        assert 0 < difference <= BFLOAT16_TOLERANCE.difference
        assert figures["largest_difference"] == pytest.approx(difference, abs=1e-4)
        assert figures["validation_accuracy"] == (probabilities.argmax(axis=1) == stored.labels).mean()
        assert figures["milliseconds"] > 0
        assert f"{figures['bytes']:,}" in done.stdout
    assert told["formats"]["onnx"]["bytes"] == (target / "model.onnx").stat().st_size
    assert "it was trained in bfloat16" in done.stdout


def _run_onnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def _run_litert(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One image at a time, as a telephone would."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    return np.concatenate([next(iter(runner(**{name: image[None]}).values())) for image in images])


def _run_saved_model(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return np.asarray(loaded.serve(tf.constant(images)).numpy())


@pytest.mark.slow
def test_a_version_whose_stored_predictions_are_others_is_not_exported_and_nothing_remains(
    folder: Path, warm_verb: Command, tmp_path: Path
) -> None:
    stored, file = _stored(folder), _predictions_file(folder)
    others = np.roll(stored.probabilities, 1, axis=1)
    kept = file.read_bytes()
    client = opened(folder).client
    try:
        file.write_bytes(pack_predictions(index=stored.index, labels=stored.labels, probabilities=others))
        altered = warm_verb("export", "--to", "saved_model", "--folder", str(tmp_path / "a"), cwd=folder)
        client.set_model_version_tag(MODEL_NAME, "1", PREDICTIONS_SHA256_TAG, hash_predictions(others))
        different = warm_verb("export", "--to", "saved_model", "--folder", str(tmp_path / "b"), cwd=folder)
    finally:
        file.write_bytes(kept)
        client.set_model_version_tag(MODEL_NAME, "1", PREDICTIONS_SHA256_TAG, hash_predictions(stored.probabilities))
    assert altered.returncode == ExitCode.STORE
    assert "missing, damaged or altered" in altered.stderr
    assert different.returncode == ExitCode.REFUSED
    assert "does not give the stored predictions" in different.stderr.splitlines()[-1]
    assert "Traceback" not in altered.stderr + different.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_leaves_nothing(
    folder: Path, zygote: Zygote, tmp_path: Path, number: signal.Signals
) -> None:
    words = ("export", "--to", "saved_model", "--folder", str(tmp_path / "a"))
    with zygote.start(*words, cwd=folder, entry=VERB) as process:
        process.wait_for("exporting, then loading")
        process.send_signal(number)
        ended = process.end()
    assert ended.returncode == ExitCode.INTERRUPTED, ended.output
    assert "Interrupted: nothing was kept." in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "place", "sentence"),
    [
        ("tflite", "new", "--to tflite: 'tflite' is no format; expected one of onnx, litert, saved_model"),
        ("", "new", "'' is no format"),
        ("saved_model", "there", "it is there already, and nothing is overwritten; name a new one."),
        ("saved_model", "no/such/place", "cannot be made in"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    folder: Path, tmp_path: Path, to: str, place: str, sentence: str
) -> None:
    (tmp_path / "there").mkdir()
    refused = run_verb("export", "--to", to, "--folder", str(tmp_path / place), cwd=folder)
    assert refused.returncode == ExitCode.CONFIG
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


def test_other_images_than_those_that_were_scored_are_refused_before_anything_is_made(
    folder: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(_predictions_file(folder).parent, copied)
    config = _predictions_file(folder).parent / "config.yaml"
    try:
        config.write_text(config.read_text().replace("drawn_seed: 0", "drawn_seed: 1"))
        refused = run_verb("export", "--to", "saved_model", "--folder", str(tmp_path / "a"), cwd=folder)
    finally:
        shutil.copy(copied / "config.yaml", config)
    assert refused.returncode == ExitCode.DATA, refused.stderr
    assert not (tmp_path / "a").exists()


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else object())
    refused = run_verb("export", "--to", "litert,onnx", "--folder", str(tmp_path / "a"), cwd=folder)
    assert refused.returncode == ExitCode.CONFIG
    assert refused.stderr == (
        "fmnist-sweep: --to onnx: onnxruntime is not installed; pip install 'fmnist_sweep[export]'.\n"
    )
    assert [each.name for each in parse_formats("litert,saved_model,litert")] == ["litert", "saved_model"]
    with pytest.raises(ConfigError, match="onnxruntime"):
        parse_formats("onnx")


def _predicted(rows: list[list[float]]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


STORED = Predictions(np.arange(2), np.array([0, 1]), _predicted([[0.9, 0.1], [0.2, 0.8]]))


def test_the_largest_difference_and_the_changed_labels_are_counted() -> None:
    near = _predicted([[0.9, 0.1], [0.1995, 0.8005]])
    difference, changed = compare_predictions("onnx", near, STORED, FLOAT32_TOLERANCE)
    assert (round(difference, 6), changed) == (0.0005, 0)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[0.9, 0.1], [0.4, 0.6]], r"difference of a probability is 0\.2 and 0 of 2"),
        ([[0.9, 0.1], [0.6, 0.4]], "and 1 of 2 labels are others"),
        ([[0.9, 0.1], [np.nan, 0.8]], "what are no numbers"),
        ([[0.9, 0.1]], r"of shape \(2, 2\)"),
    ],
)
def test_an_export_that_predicts_something_else_is_refused(rows: list[list[float]], sentence: str) -> None:
    with pytest.raises(PromotionRefused, match=sentence):
        compare_predictions("onnx", _predicted(rows), STORED, FLOAT32_TOLERANCE)
