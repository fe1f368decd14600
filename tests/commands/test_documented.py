"""The documented tables: runs found by content, verdicts that follow from figures, pages, openings of the test set."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Metric, Param
from numpy.typing import NDArray

from fmnist_sweep.config.folders import find_experiments_folder, read_recipes
from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.data import LABELS
from fmnist_sweep.data.sources import read_train
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.documented.page_content import read_page
from fmnist_sweep.report.documented.recipe_results import read_validation_predictions
from fmnist_sweep.report.documented.recipe_runs import (
    RecipeRun,
    WriteUpRuns,
    compose_recipe,
    find_write_up_runs,
    read_finished_trials,
)
from fmnist_sweep.report.documented.rules import is_credible, judge_figure
from fmnist_sweep.report.documented.test_images import score_write_ups
from fmnist_sweep.report.documented.write_up_page import render_write_up_page
from fmnist_sweep.report.documented.write_ups import StatedFigure, WriteUp, read_write_ups
from fmnist_sweep.tracking import store
from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_PREDICTIONS_FILE
from fmnist_sweep.tracking.queries import StoredRun, search_runs
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.training import trial
from tests.conftest import Command, data_config, needs_fashion_mnist

WRITE_UPS = read_write_ups()
SHIRT, TSHIRT, COAT, BAG = (LABELS.index(name) for name in ("Shirt", "T-shirt/top", "Coat", "Bag"))
IMAGES = 2000


# --- what the write-ups state -----------------------------------------------------------------------------------------


def test_every_recipe_is_in_one_write_up_and_no_write_up_is_a_recipe() -> None:
    named = [recipe for write_up in WRITE_UPS for recipe in write_up.figures]
    assert sorted(named) == sorted(name for name, _ in read_recipes())
    assert len(WRITE_UPS) == 5


@pytest.mark.parametrize("write_up", WRITE_UPS, ids=lambda write_up: write_up.number)
def test_a_stated_figure_is_the_one_that_its_recipe_says(write_up: WriteUp) -> None:
    for recipe, stated in write_up.figures.items():
        comment = (find_experiments_folder() / f"{recipe}.yaml").read_text().splitlines()[1]
        assert f"Write-up {write_up.number}" in comment
        said = [float(number.rstrip(".%")) for number in re.findall(r"[\d.]*\d%?", comment.replace("write-up", ""))]
        for figure in stated.values():
            assert figure.value in said or round(100 * figure.value, 6) in said, (recipe, figure, said)


@pytest.mark.parametrize("write_up", WRITE_UPS, ids=lambda write_up: write_up.number)
def test_what_was_left_open_is_filled_by_settings_there_are(write_up: WriteUp) -> None:
    configs = [compose_recipe(recipe, []).config for recipe in write_up.figures]
    known = {key for config in configs for key in flatten_config({**config.settings, "data": config.data.model_dump()})}
    assert {key for entry in write_up.omissions for key in entry.keys} <= known


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "kind", "values", "reached", "words"),
    [
        ("0.9", "val_accuracy", [0.90, 0.91, 0.92], True, "reached"),
        ("0.924", "val_accuracy", [0.91, 0.92, 0.915], True, "**reached**"),  # below, but within 2 sd of 0.005
        ("0.927", "val_accuracy", [0.91, 0.92, 0.915], False, "0.0120 short"),
        ("0.9800", "val_accuracy", [0.90, 0.91, 0.92], False, "0.0700 short"),
        ("0.8000", "val_accuracy", [0.90, 0.91, 0.92], True, "better by 0.1100"),
        ("0.2000", "val_loss", [0.30, 0.31, 0.32], False, "0.1100 short"),
        ("0.5000", "loss", [0.30, 0.31, 0.32], True, "better by 0.1900"),
        ("49", "epochs", [40, 44, 48], True, "agrees"),
        ("49", "epochs", [20, 21, 22], False, "differs** by 28.0"),
        ("> 0.90", "test_accuracy", [0.91, 0.92, 0.93], True, "all 3"),
        ("> 0.90", "test_accuracy", [0.91, 0.89, 0.93], False, "2 of 3"),
        ("> 0.90", "test_accuracy", [0.81, 0.89, 0.90], False, "not reached"),
    ],
)
def test_a_verdict_follows_from_the_figures(
    stated: str, kind: str, values: list[float], reached: bool, words: str
) -> None:
    found = judge_figure(StatedFigure(stated), kind, values)
    assert found.is_reached is reached
    assert words in found.text


def test_two_trainings_are_too_few_for_a_verdict() -> None:
    assert judge_figure(StatedFigure("0.5"), "accuracy", [0.9, 0.9]).is_reached is None


def test_half_a_unit_of_the_last_digit_is_leeway_for_a_rounded_figure() -> None:
    assert judge_figure(StatedFigure("0.92"), "accuracy", [0.9151] * 3).is_reached
    assert not judge_figure(StatedFigure("0.9200"), "accuracy", [0.9151] * 3).is_reached
    assert not judge_figure(StatedFigure("0.92"), "accuracy", [0.9149] * 3).is_reached


def test_the_figures_of_one_write_up_alone_are_not_credible_as_test_accuracies() -> None:
    hopeless = {
        (write_up.number, figure.text)
        for write_up in WRITE_UPS
        for stated in write_up.figures.values()
        for kind, figure in stated.items()
        if kind != "epochs" and not is_credible(figure)
    }
    assert hopeless == {("004", "0.97238"), ("004", "0.9864")}


# --- pages of runs that were written into a store, with figures of our choice ----------------------------------------


def connected(folder: Path, experiment: str = "fashion-mnist") -> store.Store:
    return store.open_store(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}", experiment)


def told(right: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and probabilities: that share is right, spread over the labels; what is wrong is the next label."""
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    wrong = np.random.default_rng(seed).permutation(IMAGES)[: round(IMAGES * (1 - right))]
    said = labels.copy()
    said[wrong] = (labels[wrong] + 1) % 10
    return labels, np.eye(10, dtype=np.float32)[said] * 0.9 + 0.01


class Written:
    """An experiment into which runs of recipes are written as the supervisor logs them."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.folder = folder
        self.store = connected(shared, folder.name)

    def run(
        self,
        recipe: str,
        seed: int,
        *,
        right: float = 0.9,
        overrides: Sequence[str] = (),
        precision: str = "float32",
        tags: Mapping[str, str] | None = None,
        objective: str = "val_accuracy",
        epochs: int = 2,
    ) -> str:
        job = compose_recipe(recipe, [*overrides, f"seed={seed}", f"search.objective={objective}"])
        settings = {**job.config.settings, "train": {**job.config.settings["train"], "precision": precision}}
        made = identify_study(job, "", settings, "0" * 64)
        client, experiment = self.store.client, self.store.experiment_id
        parent = client.create_run(experiment, tags={"fmnist.kind": "study"}).info.run_id
        log_files(self.store, parent, {"identity.json": json.dumps(made.identity).encode()})
        marks = {
            "fmnist.kind": "trial",
            "fmnist.study_id": made.id,
            "fmnist.sweep_id": "s",
            "fmnist.data": "fashion_mnist:0",
            "fmnist.canonical": "true",
            "fmnist.git": "abc",
            "mlflow.parentRunId": parent,
            **(tags or {}),
        }
        run_id = str(client.create_run(experiment, tags=marks).info.run_id)
        data = job.config.data.model_dump(exclude={"dir", "download", "fallback"})
        params = flatten_config({**settings, "data": data})
        final = {"best_val_accuracy": right, "best_epoch": epochs, "parameters": 7, "fit_seconds": 3}
        client.log_batch(
            run_id,
            metrics=[
                *(
                    Metric(key, right - 0.01 * (epochs - step), 0, step)
                    for step in range(1, epochs + 1)
                    for key in ("accuracy", "val_accuracy", "loss", "val_loss")
                ),
                *(Metric(key, value, 0, 0) for key, value in final.items()),
            ],
            params=[
                Param(key, json.dumps(value) if isinstance(value, dict | list) else str(value))
                for key, value in params.items()
            ],
        )
        labels, probabilities = told(right, seed)
        file = self.folder / "predictions.npz"
        np.savez(file, index=np.arange(IMAGES), labels=labels, probabilities=probabilities)
        client.log_artifact(run_id, str(file))
        client.set_terminated(run_id, "FINISHED")
        return run_id

    def page(self, number: str, overrides: Sequence[str] = ()) -> str:
        (write_up,) = read_write_ups([number])
        found = find_write_up_runs(self.store, read_finished_trials(self.store), write_up, overrides)
        return render_write_up_page(read_page(self.store, write_up, found, overrides))


@pytest.fixture(scope="module")
def verb(warm_verb: Command) -> Command:
    return warm_verb


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one store: to make it takes seconds, and an experiment of it no time."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def written(shared: Path, tmp_path: Path) -> Written:
    return Written(shared, tmp_path)


def cells(page: str, *begins: str) -> list[str]:
    """The cells of the one table row that begins with these."""
    (row,) = [
        found
        for line in page.splitlines()
        if line.startswith("| ") and (found := line.strip("| ").split(" | "))[: len(begins)] == list(begins)
    ]
    return [cell.strip(" |") for cell in row]


def test_a_page_without_runs_says_so_with_the_command(written: Written) -> None:
    page = written.page("003")
    assert "Not run yet: model_1, model_2, model_3, model_4" in page
    assert "fmnist-sweep documented run 003 --seeds 1,2,3" in page
    assert page.count("too few runs for a verdict") == 2 * len(read_write_ups(["003"])[0].conclusions)


def test_figures_are_of_the_last_epoch_with_spread_and_count(written: Written) -> None:
    accuracies = [0.90, 0.91, 0.93]
    for seed, accuracy in enumerate(accuracies, 1):
        written.run("model_1", seed, right=accuracy)
    row = cells(written.page("003"), "`model_1`", "validation accuracy (last epoch)")
    mean, sd = statistics.fmean(accuracies), statistics.stdev(accuracies)
    assert row[2:4] == ["0.8898", f"{mean:.4f} ± {sd:.4f} (n=3)"]
    assert row[4] == "**reached**"
    gap = cells(written.page("003"), "`model_1`", "training minus validation accuracy (last epoch)")
    assert gap[2:4] == ["0.0111", "0.0000 ± 0.0000 (n=3)"]


def test_only_runs_that_are_the_recipe_by_content_are_counted(written: Written) -> None:
    for seed in (1, 2, 3):
        written.run("model_1", seed, right=0.9)
    before = written.page("003")
    written.run("model_1", 4, right=0.5, overrides=["train.batch_size=128"])
    written.run("model_1", 5, right=0.5, objective="val_loss")  # the very same parameters
    written.run("model_1", 6, right=0.5, overrides=["data.limit=1000"])
    assert written.page("003") == before
    written.run("model_1", 4, right=0.9)
    assert "0.9000 ± 0.0000 (n=4)" in written.page("003")


def test_a_seed_that_was_trained_again_or_otherwise_is_said_and_not_counted(written: Written) -> None:
    for seed in (1, 2, 3):
        written.run("model_1", seed, right=0.9)
    written.run("model_1", 1, right=0.99)
    written.run("model_1", 4, right=0.99, precision="mixed_bfloat16")
    written.run("model_1", 5, right=0.99, tags={"fmnist.canonical": "false"})
    page = written.page("003")
    assert cells(page, "`model_1`", "validation accuracy (last epoch)")[3] == "0.9000 ± 0.0000 (n=3)"
    assert "not counted: 1 of a seed that was trained before" in page
    assert "not counted: 1 of another precision than float32" in page
    assert "not counted: 1 of images that by checksum are not the canonical ones" in page


@pytest.mark.parametrize(
    ("best", "verdict"), [(0.95, "**confirmed**"), (0.80, "**contradicted**: model_4 is better"), (0.90, "told apart")]
)
def test_the_best_model_is_confirmed_contradicted_or_not_told_apart(
    written: Written, best: float, verdict: str
) -> None:
    for seed in (1, 2, 3):
        written.run("model_1", seed, right=0.7)
        written.run("model_2", seed + 10, right=0.7)
        written.run("model_3", seed, right=best)
        written.run("model_4", seed + 20, right=0.9)
    claim = read_write_ups(["003"])[0].conclusions[0]["claim"]
    assert verdict in cells(written.page("003"), claim)[2]


@pytest.mark.parametrize(("other", "verdict"), [(COAT, "**confirmed** in all 3"), (BAG, "**contradicted** in all 3")])
def test_the_commonest_confusion_is_confirmed_or_contradicted(written: Written, other: int, verdict: str) -> None:
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    for seed in (1, 2, 3):
        run_id = written.run("model_3", seed)
        replace(written, run_id, labels, np.where((labels == SHIRT) & (np.arange(IMAGES) < 1000), other, labels))
    claim = read_write_ups(["003"])[0].conclusions[1]["claim"]
    assert verdict in cells(written.page("003"), claim)[2]


@pytest.mark.parametrize(("second", "verdict"), [(COAT, "**confirmed** in all 3"), (BAG, "**contradicted** in all 3")])
def test_what_a_shirt_is_mostly_taken_for_is_confirmed_or_contradicted(
    written: Written, second: int, verdict: str
) -> None:
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    shirts = labels == SHIRT
    said = np.where(shirts & (np.arange(IMAGES) < 1000), TSHIRT, labels)
    said = np.where(shirts & (np.arange(IMAGES) > 1500), second, said)
    for seed in (1, 2, 3):
        replace(written, written.run("model_3", seed), labels, said)
    claim = read_write_ups(["003"])[0].conclusions[2]["claim"]
    assert verdict in cells(written.page("003"), claim)[2]


def test_test_images_that_stand_in_the_training_file_are_counted_and_left_out_once_more(written: Written) -> None:
    labels = np.arange(1000, dtype=np.int64) % 10
    seen = np.arange(1000) < 100
    # Right on what was seen, and on half of the rest.
    said = np.where(seen | (np.arange(1000) % 20 < 10), labels, (labels + 1) % 10)
    file = written.folder / TEST_PREDICTIONS_FILE
    np.savez(file, index=np.arange(1000), labels=labels, probabilities=np.eye(10, dtype=np.float32)[said], seen=seen)
    for seed in (1, 2, 3):
        run_id = written.run("bn_dropout", seed, right=0.95)
        assert "test images were not opened for all of these runs yet" in written.page("000")
        written.store.client.log_artifact(run_id, str(file))
        written.store.client.log_metric(run_id, "test_accuracy", 0.55)
        written.store.client.set_tag(run_id, TEST_OPENED_TAG, "2026-01-01")
    page = written.page("000")
    assert "100 of the 1,000 test images are nearly an image of the training file" in page
    assert cells(page, "`bn_dropout`", "test accuracy (best epoch)")[2:4] == ["above 0.90", "0.5500 ± 0.0000 (n=3)"]
    without = "the same without the near twins of training images"
    assert cells(page, "`bn_dropout`", without)[3] == "0.5000 ± 0.0000 (n=3)"
    assert cells(page, "The model has an accuracy above 90%.")[2] == "**contradicted** in all 3 runs"
    assert "test images were not opened" not in page


def replace(written: Written, run_id: str, labels: NDArray[np.int64], said: NDArray[np.int64]) -> None:
    file = written.folder / "predictions.npz"
    probabilities = np.eye(10, dtype=np.float32)[said]
    np.savez(file, index=np.arange(IMAGES), labels=labels, probabilities=probabilities)
    written.store.client.log_artifact(run_id, str(file))


@pytest.mark.parametrize(("shirts", "verdict"), [(3, "confirmed** in all 3"), (2, "2 of 3"), (0, "contradicted** in")])
def test_the_label_with_the_lowest_f1_is_counted_over_the_runs(written: Written, shirts: int, verdict: str) -> None:
    labels = np.arange(IMAGES, dtype=np.int64) % 10
    for seed in (1, 2, 3):
        run_id = written.run("regularized", seed)
        worst = SHIRT if seed <= shirts else BAG
        replace(written, run_id, labels, np.where((labels == worst) & (np.arange(IMAGES) < 1000), TSHIRT, labels))
    claim = read_write_ups(["002"])[0].conclusions[0]["claim"]
    assert verdict in cells(written.page("002"), claim)[2]


def test_a_figure_above_all_published_ones_is_not_credible_whatever_was_measured(written: Written) -> None:
    for seed in (1, 2, 3):
        written.run("simple", seed, right=0.99)
    page = written.page("004")
    assert "0.97238 of `simple` is not credible as a test accuracy" in page
    assert not any("is not credible" in written.page(number) for number in ("000", "001", "002", "003"))
    assert "As a training accuracy it is reached in 3 of 3 runs, first in epoch 1 to 1," in page
    assert "**reached**, better by" in cells(page, "`simple`", "training accuracy (last epoch)")[4]


def test_two_renderings_of_a_store_are_the_same_bytes(written: Written) -> None:
    for seed in (3, 1, 2):
        written.run("simple", seed, right=0.9)
    assert written.page("004") == written.page("004")


# --- the command ------------------------------------------------------------------------------------------------------

SMALL = ("data.limit=300", "train.epochs=2", "executor=in_process")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, verb: Command) -> Path:
    """A folder with a small write-up run on real images, tested and rendered."""
    folder = tmp_path_factory.mktemp("documented")
    done = verb("documented", "run", "004", *SMALL, "--seeds", "1,2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "experiment=simple,double_conv seed=1,2" in done.stdout
    done = verb("documented", "test", "004", *SMALL[:2], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs scored" in done.stdout
    done = verb("documented", "render", "004", *SMALL[:2], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def trials(folder: Path) -> list[StoredRun]:
    opened = connected(folder)
    return sorted(search_runs(opened, {"fmnist.kind": "trial"}), key=lambda run: (run.start_time, run.run_id))


def pages(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "experiments").iterdir())}


@pytest.mark.slow
@needs_fashion_mnist
def test_the_page_says_what_the_store_holds(trained: Path) -> None:
    page = (trained / "experiments" / "004_39f1803ac50da150.md").read_text()
    assert "Not the documented set-up: changed by `data.limit=300 train.epochs=2`" in page
    client = connected(trained).client
    for recipe, builder in (("simple", "mlp"), ("double_conv", "conv_stack")):
        ours = [run for run in trials(trained) if run.params["model.builder"] == builder]
        assert len(ours) == 2
        for key, name in (("loss", "training loss (last epoch)"), ("val_accuracy", "validation accuracy (last epoch)")):
            last = [client.get_metric_history(run.run_id, key)[-1] for run in ours]
            assert {entry.step for entry in last} == {2}
            values = [entry.value for entry in last]
            shown = f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f} (n=2)"
            assert cells(page, f"`{recipe}`", name)[3] == shown
        parameters = {run.metrics["parameters"] for run in ours}
        assert cells(page, f"`{recipe}`", f"{parameters.pop():,.0f}")


@pytest.mark.slow
@needs_fashion_mnist
def test_the_test_accuracy_is_that_of_the_saved_model_on_the_test_images(trained: Path) -> None:
    config = data_config(dir=os.environ["FMNIST_DATA_DIR"])
    train, origin = read_train(config)
    from fmnist_sweep.data.sources import read_test

    test = read_test(config, origin)
    run = trials(trained)[0]
    (output,) = connected(trained).client.get_run(run.run_id).outputs.model_outputs
    (place,) = (trained / "mlruns" / "artifacts" / "models").glob(f"{output.model_id}/**/*.keras")
    said = trial.load_model(place).predict(test.images, verbose=0).argmax(axis=1)
    assert run.metrics["test_accuracy"] == pytest.approx(float((said == test.labels).mean()), abs=2e-3)
    seen = int(find_near_twins(test.images, train.images).sum())
    page = (trained / "experiments" / "004_39f1803ac50da150.md").read_text()
    assert f"{seen} of the 10,000 test images are nearly" in page
    accuracies = [run.metrics["test_accuracy"] for run in trials(trained)]
    shown = {cells(page, f"`{recipe}`", "test accuracy (best epoch)")[3] for recipe in ("simple", "double_conv")}
    by_recipe = [accuracies[:2], accuracies[2:]]
    assert shown == {f"{statistics.fmean(a):.4f} ± {statistics.stdev(a):.4f} (n=2)" for a in by_recipe}


@pytest.mark.slow
@needs_fashion_mnist
def test_the_test_images_are_opened_once_and_for_named_runs(trained: Path, verb: Command) -> None:
    done = verb("documented", "test", "004", *SMALL[:2], cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "0 of 4 runs scored on the test images now; 4 were before" in done.stdout
    (line,) = (trained / "mlruns" / "test_openings.jsonl").read_text().splitlines()
    opening = json.loads(line)
    assert opening["images"] == 10_000
    assert all(run.run_id in opening["reason"] for run in trials(trained))
    assert all(run.tags[TEST_OPENED_TAG] >= opening["time"] for run in trials(trained))


@pytest.mark.slow
@needs_fashion_mnist
def test_the_same_commands_again_train_nothing_and_write_the_same_page(trained: Path, verb: Command) -> None:
    before, runs = pages(trained), [run.run_id for run in trials(trained)]
    done = verb("documented", "run", "004", *SMALL, "--seeds", "1,2", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stdout
    done = verb("documented", "render", "004", *SMALL[:2], cwd=trained)
    assert done.returncode == 0, done.stderr
    assert pages(trained) == before
    assert [run.run_id for run in trials(trained)] == runs


@pytest.mark.slow
@needs_fashion_mnist
def test_a_model_that_does_not_predict_what_was_scored_keeps_the_test_images_closed(
    trained: Path, tmp_path: Path
) -> None:
    opened = connected(trained)
    (write_up,) = read_write_ups(["004"])
    found = find_write_up_runs(opened, read_finished_trials(opened), write_up, SMALL[:2])
    run = found.runs["simple"][0]
    original, other = (read_validation_predictions(opened, each) for each in found.runs["simple"][:2])
    untested = {key: value for key, value in run.trial.tags.items() if key != TEST_OPENED_TAG}
    fresh = RecipeRun(run.recipe, dataclasses.replace(run.trial, tags=untested), run.identity)
    file = tmp_path / "predictions.npz"

    def score(predictions: Any) -> None:
        np.savez(file, index=predictions.index, labels=predictions.labels, probabilities=predictions.probabilities)
        opened.client.log_artifact(run.trial.run_id, str(file))

    ledger = tmp_path / "ledger.jsonl"
    score(other)
    try:
        with pytest.raises(StoreError, match="does not predict what was scored"):
            score_write_ups(opened, [WriteUpRuns({"simple": [fresh]}, found.jobs, [])], None, ledger, lambda _: None)
    finally:
        score(original)
    assert not ledger.exists()


@pytest.mark.slow
@needs_fashion_mnist
def test_a_file_of_somebody_else_is_left_alone(trained: Path, verb: Command, tmp_path: Path) -> None:
    path = tmp_path / "004_39f1803ac50da150.md"
    path.write_text("# My own notes\n")
    done = verb("documented", "render", "004", "--out", str(tmp_path), cwd=trained)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert path.read_text() == "# My own notes\n"


@pytest.mark.slow
def test_drawn_runs_are_marked_worthless_and_never_see_a_test_image(verb: Command, tmp_path: Path) -> None:
    small = ("data=drawn", "data.images=200", "train.epochs=1")
    done = verb("documented", "run", "004", *small, "--seeds", "1", "--", "executor=in_process", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = verb("documented", "test", "004", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped, as trained on drawn images: 2 runs" in done.stdout
    assert not (tmp_path / "mlruns" / "test_openings.jsonl").exists()
    done = verb("documented", "render", "004", *small, "--out", "pages", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "pages" / "004_39f1803ac50da150.md").read_text()
    assert "worthless" in page
    assert "Fewer than 3 seeds: simple, double_conv" in page
    assert "(n=1)" in page


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "009"), "allowed: 000_c4a8f9fbe98cf434"),
        (("test", "model_3"), "allowed: 000_c4a8f9fbe98cf434"),
        (("render", "3"), "allowed: 000_c4a8f9fbe98cf434"),
        (("run", "003", "--seeds", "1,x"), "--seeds=1,x"),
        (("run", "003", "--seeds", "1,1"), "--seeds=1,1"),
        (("run", "003", "seed=1"), "--seeds"),
        (("render", "003", "tracking.uri=sqlite:///x.db"), "--uri"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    words: tuple[str, ...], named: str, verb: Command, tmp_path: Path
) -> None:
    done = verb("documented", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_documented_model_that_is_tuned_is_refused(verb: Command, tmp_path: Path) -> None:
    connected(tmp_path)
    done = verb(
        "documented", "render", "004", "optimizer.learning_rate={tune: choice, values: [0.1, 0.01]}", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "single trial" in done.stderr
