"""The command documented: real runs of a write-up, their page, and openings of the test images."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data.sources import read_train
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.errors import StoreError
from fmnist_sweep.promotion.write_up_scoring import score_write_ups
from fmnist_sweep.report.documented.recipe_results import read_validation_predictions
from fmnist_sweep.report.documented.recipe_runs import (
    RecipeRun,
    WriteUpRuns,
    find_write_up_runs,
    read_finished_trials,
)
from fmnist_sweep.report.documented.write_ups import read_write_ups
from fmnist_sweep.tracking.names import TEST_OPENED_TAG
from fmnist_sweep.tracking.queries import StoredRun, search_runs
from fmnist_sweep.training import trial
from tests.conftest import Command, data_config, needs_fashion_mnist
from tests.support.in_process import run_verb
from tests.support.written import cells, connected

SMALL = ("data.limit=300", "train.epochs=2", "executor=in_process")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, warm_verb: Command) -> Path:
    """A folder with a small write-up run on real images, tested and rendered."""
    folder = tmp_path_factory.mktemp("documented")
    done = warm_verb("documented", "run", "004", *SMALL, "--seeds", "1,2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "experiment=simple,double_conv seed=1,2" in done.stdout
    done = warm_verb("documented", "test", "004", *SMALL[:2], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs scored" in done.stdout
    done = warm_verb("documented", "render", "004", *SMALL[:2], cwd=folder)
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
    train, origin, description = read_train(config)
    from fmnist_sweep.data.sources import read_test

    test = read_test(config, origin, description)
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
def test_the_test_images_are_opened_once_and_for_named_runs(trained: Path, warm_verb: Command) -> None:
    done = warm_verb("documented", "test", "004", *SMALL[:2], cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "0 of 4 runs scored on the test images now; 4 were before" in done.stdout
    (line,) = (trained / "mlruns" / "test_openings.jsonl").read_text().splitlines()
    opening = json.loads(line)
    assert opening["images"] == 10_000
    assert all(run.run_id in opening["reason"] for run in trials(trained))
    assert all(run.tags[TEST_OPENED_TAG] >= opening["time"] for run in trials(trained))


@pytest.mark.slow
@needs_fashion_mnist
def test_the_same_commands_again_train_nothing_and_write_the_same_page(trained: Path, warm_verb: Command) -> None:
    before, runs = pages(trained), [run.run_id for run in trials(trained)]
    done = warm_verb("documented", "run", "004", *SMALL, "--seeds", "1,2", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stdout
    done = warm_verb("documented", "render", "004", *SMALL[:2], cwd=trained)
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
            score_write_ups(opened, [WriteUpRuns({"simple": [fresh]}, found.jobs, [])], ledger, lambda _: None)
    finally:
        score(original)
    assert not ledger.exists()


@pytest.mark.slow
@needs_fashion_mnist
def test_a_file_of_somebody_else_is_left_alone(trained: Path, warm_verb: Command, tmp_path: Path) -> None:
    path = tmp_path / "004_39f1803ac50da150.md"
    path.write_text("# My own notes\n")
    done = warm_verb("documented", "render", "004", "--out", str(tmp_path), cwd=trained)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert path.read_text() == "# My own notes\n"


@pytest.mark.slow
def test_drawn_runs_are_marked_worthless_and_never_see_a_test_image(warm_verb: Command, tmp_path: Path) -> None:
    small = ("data=drawn", "data.images=200", "train.epochs=1")
    done = warm_verb("documented", "run", "004", *small, "--seeds", "1", "--", "executor=in_process", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = warm_verb("documented", "test", "004", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped, as trained on drawn images: 2 runs" in done.stdout
    assert not (tmp_path / "mlruns" / "test_openings.jsonl").exists()
    done = warm_verb("documented", "render", "004", *small, "--out", "pages", cwd=tmp_path)
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
def test_what_cannot_be_meant_is_refused_in_one_sentence(words: tuple[str, ...], named: str, tmp_path: Path) -> None:
    done = run_verb("documented", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_documented_model_that_is_tuned_is_refused(tmp_path: Path) -> None:
    connected(tmp_path)
    done = run_verb(
        "documented", "render", "004", "optimizer.learning_rate={tune: choice, values: [0.1, 0.01]}", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "single trial" in done.stderr
