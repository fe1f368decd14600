"""Predictions are judged as the field judges them, and what cannot be judged is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.training.evaluation import compute_wilson_interval, evaluate_predictions, find_most_confused


def _certain(predicted: list[int], classes: int) -> NDArray[np.float64]:
    return np.eye(classes)[predicted]


def _random(n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 10, n), random.dirichlet(np.ones(10), n)


def test_a_small_case_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    result = evaluate_predictions(labels, _certain([0, 0, 1, 1, 2, 2], 3), ("a", "b", "c"))

    assert result.accuracy == pytest.approx(4 / 6)
    assert result.confusion == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert result.report["a"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1-score": 0.8, "support": 3})
    assert result.f1 == pytest.approx({"a": 0.8, "b": 0.5, "c": 2 / 3})
    assert result.report["macro avg"]["f1-score"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert result.report["weighted avg"]["f1-score"] == pytest.approx((3 * 0.8 + 2 * 0.5 + 2 / 3) / 6)


def test_confusion_sums_to_n_and_its_rows_to_the_labels() -> None:
    labels, probabilities = _random(500)
    result = evaluate_predictions(labels, probabilities, LABELS)

    confusion = np.array(result.confusion)
    assert confusion.sum() == 500
    assert confusion.sum(axis=1).tolist() == np.bincount(labels, minlength=10).tolist()
    assert np.trace(confusion) / 500 == pytest.approx(result.accuracy)


def test_labels_that_never_occur_keep_their_place_and_score_nothing() -> None:
    result = evaluate_predictions(np.array([0, 1]), _certain([0, 0], 10), LABELS)

    assert np.array(result.confusion).shape == (10, 10)
    assert set(result.f1) == set(LABELS)
    assert result.f1["Bag"] == 0.0
    assert result.report["Bag"]["support"] == 0.0
    assert result.f1["Trouser"] == 0.0


def test_the_report_holds_one_mapping_a_label_and_two_averages() -> None:
    result = evaluate_predictions(*_random(100), LABELS)

    assert list(result.report) == [*LABELS, "macro avg", "weighted avg"]
    for measures in result.report.values():
        assert set(measures) == {"precision", "recall", "f1-score", "support"}


def test_everything_survives_json_unchanged() -> None:
    values = asdict(evaluate_predictions(*_random(100), LABELS))
    assert json.loads(json.dumps(values)) == values


def test_small_integer_and_half_precision_arrays_are_judged_alike() -> None:
    labels, probabilities = _random(200)
    sharp = np.round(probabilities, 2)
    assert evaluate_predictions(labels.astype(np.uint8), sharp.astype(np.float32), LABELS) == evaluate_predictions(
        labels, sharp.astype(np.float32).astype(np.float64), LABELS
    )


@pytest.mark.parametrize(
    ("labels", "probabilities", "sentence"),
    [
        (np.array([], int), np.zeros((0, 10)), r"labels must have shape \(n,\) with n >= 1"),
        (np.zeros((2, 1), int), np.ones((2, 10)), r"labels must have shape \(n,\)"),
        (np.zeros(3, int), np.ones((2, 10)), r"probabilities must have shape \(3, 10\), but have \(2, 10\)"),
        (np.zeros(2, int), np.ones((2, 9)), r"probabilities must have shape \(2, 10\), but have \(2, 9\)"),
        (np.array([0, 10]), np.ones((2, 10)), r"labels must lie in 0\.\.9, but lie in 0\.\.10"),
        (np.array([-1, 3]), np.ones((2, 10)), r"labels must lie in 0\.\.9, but lie in -1\.\.3"),
        (np.array([0.0, 1.5]), np.ones((2, 10)), "labels must be integers, but are float64"),
        (np.zeros(2, int), np.array([[np.nan] * 10, [0.1] * 10]), "1 of 2 rows hold NaN or infinity"),
        (np.zeros(2, int), np.full((2, 10), np.inf), "2 of 2 rows hold NaN or infinity"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    labels: NDArray[Any], probabilities: NDArray[Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluate_predictions(labels, probabilities, LABELS)


def test_names_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="label names must differ"):
        evaluate_predictions(np.array([0, 1]), np.eye(2), ("shoe", "shoe"))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine
        # 17 (1998), table I, method 3 (the score interval without continuity correction), 95 %.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert compute_wilson_interval(successes, n, z=1.959964) == pytest.approx((low, high), abs=5e-5)


def test_wilson_mirrors_successes_and_failures() -> None:
    low, high = compute_wilson_interval(7, 50)
    assert compute_wilson_interval(43, 50) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("n", [1, 3, 10, 10_000])
def test_wilson_ends_exactly_at_none_and_all(n: int) -> None:
    assert compute_wilson_interval(0, n)[0] == 0.0
    assert compute_wilson_interval(n, n)[1] == 1.0
    assert 0 < compute_wilson_interval(0, n)[1] < 1


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
def test_wilson_covers_the_truth_about_as_often_as_it_says(accuracy: float) -> None:
    n, repeats = 1000, 2000
    seen = np.random.default_rng(1).binomial(n, accuracy, repeats)
    covered = [low <= accuracy <= high for low, high in (compute_wilson_interval(int(count), n) for count in seen)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"but got {successes} out of {n}"):
        compute_wilson_interval(successes, n)


def test_most_confused_names_the_commonest_mistakes_and_not_the_diagonal() -> None:
    confusion = [[90, 3, 0], [7, 80, 1], [3, 0, 99]]
    assert find_most_confused(confusion, ("a", "b", "c")) == [("b", "a", 7), ("a", "b", 3), ("c", "a", 3)]
    assert find_most_confused(confusion, ("a", "b", "c"), k=1) == [("b", "a", 7)]


def test_most_confused_says_nothing_of_a_perfect_model() -> None:
    assert find_most_confused([[5, 0], [0, 5]], ("a", "b")) == []


def test_most_confused_refuses_a_matrix_of_another_size() -> None:
    with pytest.raises(ValueError, match="a confusion matrix of 2 labels"):
        find_most_confused([[1, 2, 3], [1, 2, 3]], ("a", "b"))


def test_importing_the_room_does_not_import_scikit_learn() -> None:
    check = "import sys, fmnist_sweep.training.evaluation; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
