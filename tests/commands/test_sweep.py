"""The real command from end to end, and an audit of every run it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fmnist_sweep.data import LABELS, load_splits
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store, point_mlflow_at
from fmnist_sweep.tracking.trial_data import build_data_config
from tests.conftest import Command
from tests.support.zygote import Zygote

EPOCHS, TRIALS, LIMIT = 2, 2, 400
OPTIMIZERS = ("rmsprop", "adam")
SMALL = (
    "model.filters.values=[4,8]",
    "model.conv_layers.max_value=2",
    "model.dense_units=16",
    f"train.epochs={EPOCHS}",
    f"search.max_trials={TRIALS}",
)


def _data() -> tuple[str, ...]:
    """Real images where they are at hand, else drawn ones."""
    if os.environ.get("FMNIST_DATA_DIR"):
        return (f"data.limit={LIMIT}",)
    return ("data=drawn", f"data.images={LIMIT}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """A folder where the README's sweep was run, small."""
    folder = tmp_path_factory.mktemp("sweep")
    done = warm_sweep("-m", f"optimizer={','.join(OPTIMIZERS)}", *_data(), *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_existing_store(build_default_uri(folder), "fashion-mnist")


@pytest.fixture(scope="module")
def runs(store: Store) -> dict[str, list[Any]]:
    """All runs of the store by kind."""
    found: dict[str, list[Any]] = {}
    for run in store.client.search_runs([store.experiment_id], max_results=1000):
        found.setdefault(run.data.tags["fmnist.kind"], []).append(run)
    return found


def test_one_sweep_holds_two_studies_that_hold_all_trials_and_nothing_is_left_running(
    runs: dict[str, list[Any]],
) -> None:
    assert {kind: len(found) for kind, found in runs.items()} == {
        "sweep": 1,
        "study": len(OPTIMIZERS),
        "trial": len(OPTIMIZERS) * TRIALS,
    }
    assert {run.info.status for found in runs.values() for run in found} == {"FINISHED"}
    (top,) = runs["sweep"]
    assert "mlflow.parentRunId" not in top.data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in runs["study"]} == {top.info.run_id}
    parents = [run.data.tags["mlflow.parentRunId"] for run in runs["trial"]]
    assert sorted(parents) == sorted([run.info.run_id for run in runs["study"]] * TRIALS)


def test_every_trial_carries_the_tags_of_the_contract(runs: dict[str, list[Any]]) -> None:
    studies = {run.info.run_id: run.data.tags["fmnist.study_id"] for run in runs["study"]}
    assert len(set(studies.values())) == len(OPTIMIZERS)
    for run in runs["trial"]:
        tags = run.data.tags
        assert tags["fmnist.sweep_id"] == runs["sweep"][0].data.tags["fmnist.sweep_id"]
        assert tags["fmnist.study_id"] == studies[tags["mlflow.parentRunId"]]
        assert tags["fmnist.attempt"] == "1"
        assert tags["fmnist.data"].split(":")[0] in ("fashion_mnist", "drawn")
        assert tags["fmnist.precision"] in ("float32", "mixed_bfloat16")
        assert tags["fmnist.git"]
    ids = {(run.data.tags["fmnist.study_id"], run.data.tags["fmnist.trial_id"]) for run in runs["trial"]}
    assert len(ids) == len(runs["trial"])


def test_every_trial_has_its_resolved_config_as_parameters_and_none_twice(runs: dict[str, list[Any]]) -> None:
    for study in runs["study"]:
        own = [run for run in runs["trial"] if run.data.tags["mlflow.parentRunId"] == study.info.run_id]
        assert len({run.data.params["optimizer.name"] for run in own}) == 1
        configs = [tuple(sorted(run.data.params.items())) for run in own]
        assert len(set(configs)) == TRIALS
    for run in runs["trial"]:
        params = run.data.params
        assert params["model.filters"] in ("4", "8")
        assert params["model.conv_layers"] in ("1", "2")
        assert 0 <= float(params["regularization.dropout"]) <= 0.5
        assert params["optimizer.name"] in OPTIMIZERS
        assert {"optimizer.learning_rate", "train.batch_size", "seed"} <= params.keys()


def test_every_trial_has_one_value_per_metric_and_epoch(runs: dict[str, list[Any]], store: Store) -> None:
    for run in runs["trial"]:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds"):
            history = store.client.get_metric_history(run.info.run_id, name)
            assert [entry.step for entry in history] == list(range(1, EPOCHS + 1)), name
        metrics = run.data.metrics
        accuracies = [entry.value for entry in store.client.get_metric_history(run.info.run_id, "val_accuracy")]
        best = int(metrics["best_epoch"])
        assert metrics["best_val_accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
        assert accuracies[best - 1] == max(accuracies)
        assert metrics["parameters"] > 0
        assert metrics["fit_seconds"] > 0
        assert {f"val_f1.{label}" for label in LABELS} <= metrics.keys()


def test_every_trial_has_its_artifacts_and_the_confusion_matrix_counts_every_validation_image(
    runs: dict[str, list[Any]], store: Store, tmp_path: Path
) -> None:
    for run in runs["trial"]:
        files = Path(store.client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        for picture in ("curves.png", "confusion_matrix.png", "misclassified.png"):
            assert (files / picture).read_bytes().startswith(b"\x89PNG")
        matrix = np.array(json.loads((files / "confusion_matrix.json").read_text())["matrix"])
        profiles = {entry.tags[0].value: json.loads(entry.dataset.profile) for entry in run.inputs.dataset_inputs}
        assert matrix.sum() == profiles["validation"]["images"]
        assert profiles["train"]["images"] + profiles["validation"]["images"] <= LIMIT
        report = json.loads((files / "classification_report.json").read_text())
        assert report["accuracy"] == pytest.approx(run.data.metrics["best_val_accuracy"])
        assert np.trace(matrix) / matrix.sum() == pytest.approx(report["accuracy"])
        assert [report[label]["support"] for label in LABELS] == matrix.sum(axis=1).tolist()
        config = yaml.safe_load((files / "config.yaml").read_text())
        assert str(config["model"]["filters"]) == run.data.params["model.filters"]
        assert (files / "overrides.txt").read_text().startswith("python -m fmnist_sweep ")


def test_every_model_loads_and_predicts_what_was_scored(
    runs: dict[str, list[Any]], store: Store, tmp_path: Path
) -> None:
    import mlflow

    for run in runs["trial"]:
        (output,) = run.outputs.model_outputs
        logged = store.client.get_logged_model(output.model_id)
        assert logged.status == "READY"
        files = Path(store.client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        config = yaml.safe_load((files / "config.yaml").read_text())
        folder = os.environ.get("FMNIST_DATA_DIR")
        validation = load_splits(build_data_config(config["data"], folder)).validation
        scored = np.load(files / "predictions.npz")["probabilities"]
        with point_mlflow_at(store):
            served = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
        assert served.metadata.signature is not None
        predicted = served.predict(validation.images)  # raw pixels
        np.testing.assert_allclose(predicted, scored, atol=1e-5)
        assert (predicted.argmax(axis=1) == validation.labels).mean() == run.data.metrics["best_val_accuracy"]


def test_the_best_trial_is_rolled_up_to_study_and_sweep(
    runs: dict[str, list[Any]], store: Store, tmp_path: Path
) -> None:
    for parent in [*runs["study"], *runs["sweep"]]:
        key = "fmnist.study_id" if parent in runs["study"] else "fmnist.sweep_id"
        own = [run for run in runs["trial"] if run.data.tags[key] == parent.data.tags[key]]
        best = max(run.data.metrics["best_val_accuracy"] for run in own)
        assert parent.data.metrics["best_val_accuracy"] == best
        winner = next(run for run in own if run.info.run_id == parent.data.tags["fmnist.best_run"])
        assert winner.data.metrics["best_val_accuracy"] == best
        assert parent.data.tags["best_trial"] == winner.data.tags["fmnist.trial_id"]
        assert parent.data.metrics["trials_finished"] == len(own)
        assert parent.data.metrics["trials_failed"] == 0
        files = Path(store.client.download_artifacts(parent.info.run_id, "", str(tmp_path)))
        rows = list(csv.DictReader((files / "leaderboard.csv").open()))
        assert rows[0]["run_id"] in {run.info.run_id for run in own if run.data.metrics["best_val_accuracy"] == best}
        assert {row["run_id"] for row in rows} == {run.info.run_id for run in own}
        page = (files / "report.html").read_text()
        assert winner.info.run_name in page
        assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)  # readable without a network
        note = parent.data.tags["mlflow.note.content"]
        assert winner.info.run_name in note


def test_run_names_say_what_differs(runs: dict[str, list[Any]]) -> None:
    mark = "" if os.environ.get("FMNIST_DATA_DIR") else "DRAWN · "
    for run in runs["trial"]:
        params = run.data.params
        assert run.info.run_name == (
            f"{mark}{params['optimizer.name']} · {params['model.conv_layers']} conv · "
            f"{params['model.filters']} filters · lr {float(params['optimizer.learning_rate']):.4g} · "
            f"dropout {float(params['regularization.dropout']):.4g}"
        )
    assert len({run.info.run_name for run in runs["trial"]}) == len(runs["trial"])


def test_a_log_file_gets_plain_lines_with_every_epoch_and_no_noise_of_tensorflow(folder: Path) -> None:
    shown = (folder / "stdout.txt").read_text()
    assert "\x1b" not in shown
    assert shown.count("epoch 2/2") == len(OPTIMIZERS) * TRIALS
    assert "fmnist-sweep ui" in shown
    assert (folder / "stderr.txt").read_text() == ""


def test_only_the_store_is_left_in_the_working_directory(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"mlruns", "stdout.txt", "stderr.txt"}


def test_the_store_is_in_wal_mode_and_its_experiment_opens_on_model_training(store: Store) -> None:
    import sqlite3

    database = sqlite3.connect(store.uri.removeprefix("sqlite:///"))
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    tags = store.client.get_experiment(store.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_recorded_command_repeats_a_trial_bit_for_bit(
    runs: dict[str, list[Any]], store: Store, warm_sweep: Command, tmp_path: Path
) -> None:
    first = runs["trial"][0]
    command = Path(store.client.download_artifacts(first.info.run_id, "overrides.txt", str(tmp_path))).read_text()
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "fmnist_sweep"]
    done = warm_sweep(*words[3:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = open_existing_store(build_default_uri(tmp_path), "fashion-mnist")
    (repeat,) = again.client.search_runs([again.experiment_id], filter_string="tags.`fmnist.kind` = 'trial'")
    assert repeat.data.params == first.data.params
    for name in ("loss", "val_loss", "val_accuracy"):
        before = [entry.value for entry in store.client.get_metric_history(first.info.run_id, name)]
        assert [entry.value for entry in again.client.get_metric_history(repeat.info.run_id, name)] == before


def test_a_trial_that_diverges_is_marked_and_the_study_goes_on(warm_sweep: Command, tmp_path: Path) -> None:
    done = warm_sweep(
        *("data=drawn", "data.images=200", "optimizer=sgd", "optimizer.momentum=0.9", "model=simple"),
        *("regularization=none", "regularization.l2=1.0", "search=grid", "train.epochs=2", "train.batch_size=8"),
        "optimizer.learning_rate={tune: choice, values: [0.01, 10.0]}",
        "train.loss=categorical_crossentropy",
        cwd=tmp_path,
    )
    runs = _by_kind(tmp_path)
    assert done.returncode == 6, done.stdout + done.stderr
    states = {run.data.params["optimizer.learning_rate"]: run.info.status for run in runs["trial"]}
    assert states == {"0.01": "FINISHED", "10.0": "FAILED"}


def _by_kind(folder: Path) -> dict[str, list[Any]]:
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    found: dict[str, list[Any]] = {}
    for run in store.client.search_runs([store.experiment_id], max_results=1000):
        found.setdefault(run.data.tags["fmnist.kind"], []).append(run)
    return found


@pytest.mark.slow
def test_a_sweep_that_is_hung_up_closes_its_runs_as_killed(zygote: Zygote, tmp_path: Path) -> None:
    """The other signals are in test_interrupts."""
    with zygote.start("data=drawn", f"data.images={LIMIT}", "train.epochs=500", *SMALL[:3], cwd=tmp_path) as running:
        running.wait_for("epoch 1/")
        running.send_signal(signal.SIGHUP)
        assert running.end().returncode == 130
    runs = _by_kind(tmp_path)
    assert {run.info.status for found in runs.values() for run in found} == {"KILLED"}
