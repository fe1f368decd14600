"""Pages of runs that were written into a store, with figures of our choice."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.documented.write_ups import read_write_ups
from fmnist_sweep.tracking.names import PREDICTIONS_FILE, TEST_OPENED_TAG, TEST_PREDICTIONS_FILE
from tests.support.written import IMAGES, Written, cells, replace

SHIRT, TSHIRT, COAT, BAG = (LABELS.index(name) for name in ("Shirt", "T-shirt/top", "Coat", "Bag"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one store: to make it takes seconds, and an experiment of it no time."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def written(shared: Path, tmp_path: Path) -> Written:
    return Written(shared, tmp_path)


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


def test_a_damaged_file_of_predictions_matters_only_where_it_is_needed(written: Written) -> None:
    labels = np.arange(1000, dtype=np.int64) % 10
    file = written.folder / TEST_PREDICTIONS_FILE
    probabilities = np.eye(10, dtype=np.float32)[labels]
    np.savez(file, index=labels, labels=labels, probabilities=probabilities, seen=np.zeros(1000, bool))
    run_ids = [written.run("regularized", seed) for seed in (1, 2, 3)]
    damaged = written.folder / PREDICTIONS_FILE
    damaged.write_bytes(b"\0" * 100)
    written.store.client.log_artifact(run_ids[0], str(damaged))
    with pytest.raises(StoreError, match=r"regularized seed 1 .*has no readable predictions.npz any more"):
        written.page("002")
    for run_id in run_ids:
        written.store.client.log_artifact(run_id, str(file))
        written.store.client.set_tag(run_id, TEST_OPENED_TAG, "2026-01-01")
    assert "F1 of each label, `regularized` on the test images" in written.page("002")


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
