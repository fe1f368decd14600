"""Mistakes are counted as by hand: of each label, of labels that look alike, and by pairs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import measure_calibration
from fmnist_sweep.analysis.mistakes import (
    ConfusedPair,
    find_confused_pairs,
    score_classes,
    score_merged_labels,
    score_similar_labels,
    score_without_images,
)
from fmnist_sweep.data import FASHION_MNIST, LABELS
from fmnist_sweep.training.evaluation import compute_wilson_interval, count_confusion, evaluate_predictions
from tests.support.predictions import SAID, SHIRT, TEE, TRUE, draw_cases, make_probabilities

CONFUSION = count_confusion(TRUE, SAID, LABELS)


def _find_pairs(
    labels: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str], **options: int
) -> list[ConfusedPair]:
    confusion = count_confusion(labels, probabilities.argmax(axis=1), names)
    return find_confused_pairs(confusion, labels, probabilities, names, **options)


def test_each_label_is_scored_as_by_hand() -> None:
    scores = score_classes(CONFUSION, LABELS)
    assert [score.label for score in scores] == list(LABELS)
    shirt = scores[SHIRT]
    assert (shirt.support, shirt.precision, shirt.recall) == (3, 1 / 3, 1 / 3)
    assert shirt.f1 == pytest.approx(1 / 3)
    assert (shirt.recall_low, shirt.recall_high) == compute_wilson_interval(1, 3)
    assert (scores[TEE].precision, scores[TEE].recall, scores[TEE].f1) == (2 / 3, 1, 0.8)


def test_a_label_without_images_scores_nothing_and_its_recall_is_unknown() -> None:
    coat = score_classes(CONFUSION, LABELS)[LABELS.index("Coat")]
    assert (coat.support, coat.precision, coat.recall, coat.f1) == (0, 0, 0, 0)
    assert (coat.recall_low, coat.recall_high) == (0, 1)


def test_scores_are_those_of_the_classification_report() -> None:
    labels, probabilities = draw_cases(500)
    report = evaluate_predictions(labels, probabilities, LABELS).report
    for score in score_classes(count_confusion(labels, probabilities.argmax(axis=1), LABELS), LABELS):
        expected = report[score.label]
        assert score.precision == pytest.approx(expected["precision"])
        assert score.recall == pytest.approx(expected["recall"])
        assert score.f1 == pytest.approx(expected["f1-score"])
        assert score.support == expected["support"]


def test_the_upper_body_is_counted_as_by_hand() -> None:
    block = score_similar_labels(CONFUSION, FASHION_MNIST)
    assert block is not None
    assert (block.name, block.images) == ("upper body", 7)
    assert block.labels == ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt")
    assert (block.accuracy.successes, block.accuracy.n) == (4, 7)
    assert (block.mistakes_inside.successes, block.mistakes_inside.n) == (2, 4)
    assert (block.outside_accuracy.successes, block.outside_accuracy.n) == (2, 3)


def test_a_block_of_a_model_without_mistakes_has_no_share_of_them() -> None:
    block = score_similar_labels(count_confusion(TRUE, TRUE, LABELS), FASHION_MNIST)
    assert block is not None
    assert block.accuracy.value == block.outside_accuracy.value == 1
    assert block.mistakes_inside.n == 0


def test_merging_two_labels_forgives_mistakes_between_them_only() -> None:
    merged = FASHION_MNIST.merged_labels
    assert score_merged_labels(CONFUSION, LABELS, merged).successes == np.sum(TRUE == SAID) + 1
    assert (
        score_merged_labels(CONFUSION, LABELS, group=("Pullover", "Shirt", "Bag")).successes == np.sum(TRUE == SAID) + 3
    )
    assert score_merged_labels(CONFUSION, LABELS, group=()).successes == np.sum(TRUE == SAID)


def test_a_label_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['Hat'\] are not among"):
        score_merged_labels(CONFUSION, LABELS, group=("Hat", "Shirt"))
    with pytest.raises(ValueError, match="'T-shirt/top'"):
        score_similar_labels(np.eye(2, dtype=int), replace(FASHION_MNIST, labels=("a", "b")))


@pytest.mark.parametrize(
    ("labels", "predicted", "sentence"),
    [
        (TRUE, SAID[:3], r"one shape .* have \(10,\) and \(3,\)"),
        (TRUE[:0], SAID[:0], "n >= 1"),
        (TRUE[:, None], SAID[:, None], "one shape"),
        (TRUE, SAID.astype(float), "predicted must be integers, but are float64"),
        (TRUE - 1, SAID, r"labels must lie in 0\.\.9, but lie in -1\.\.7"),
        (TRUE, SAID + 2, r"predicted must lie in 0\.\.9, but lie in 2\.\.10"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: NDArray[Any], predicted: NDArray[Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        count_confusion(labels, predicted, LABELS)


def test_a_confusion_matrix_of_other_labels_is_refused() -> None:
    matrix = np.eye(2, dtype=int)
    for judge in (
        lambda: score_classes(matrix, LABELS),
        lambda: score_similar_labels(matrix, FASHION_MNIST),
        lambda: score_merged_labels(matrix, LABELS, ()),
    ):
        with pytest.raises(ValueError, match=r"10 labels cannot have the shape \(2, 2\)"):
            judge()


def test_data_without_labels_that_look_alike_has_no_such_block() -> None:
    assert score_similar_labels(CONFUSION, replace(FASHION_MNIST, similar_labels=())) is None


# --- excluded images


def test_excluded_images_do_not_count() -> None:
    excluded = TRUE == SHIRT
    assert (score_without_images(TRUE, SAID, excluded).successes, score_without_images(TRUE, SAID, excluded).n) == (
        5,
        7,
    )
    assert score_without_images(TRUE, SAID, np.ones(10, bool)).n == 0
    with pytest.raises(ValueError, match=r"the last boolean, but have .* int64"):
        score_without_images(TRUE, SAID, np.arange(10))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(10,\), \(10,\) and \(3,\)"):
        score_without_images(TRUE, SAID, excluded[:3])


# --- confused pairs


def test_pairs_are_counted_by_direction_commonest_first() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2])
    said = np.array([0] * 6 + [1] * 4 + [0, 0, 1, 1, 2] + [2])
    pairs = _find_pairs(labels, make_probabilities(said, 3), ("a", "b", "c"))
    assert [(p.true, p.predicted, p.count, p.share, p.reverse) for p in pairs] == [
        ("a", "b", 4, 0.4, 2),
        ("b", "a", 2, 0.4, 4),
        ("b", "c", 1, 0.2, 0),
    ]
    assert len(_find_pairs(labels, make_probabilities(said, 3), ("a", "b", "c"), most=2)) == 2


def test_examples_of_a_pair_are_its_most_confident_mistakes() -> None:
    labels, said = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 0, 1, 1])
    probabilities = make_probabilities(said, 2, np.array([0.6, 0.9, 0.99, 0.7, 0.99]))
    assert _find_pairs(labels, probabilities, ("a", "b"))[0].examples == (1, 3, 0)
    assert _find_pairs(labels, probabilities, ("a", "b"), examples=2)[0].examples == (1, 3)


def test_a_model_without_mistakes_confuses_nothing() -> None:
    assert _find_pairs(TRUE, make_probabilities(TRUE), LABELS) == []


@pytest.mark.parametrize(
    ("labels", "probabilities", "sentence"),
    [
        (TRUE, make_probabilities(SAID)[:4], r"\(10,\) and \(4, 10\)"),
        (TRUE, SAID, r"probabilities \(n, labels\)"),
        (TRUE[:0], make_probabilities(SAID)[:0], "n >= 1"),
        (TRUE, make_probabilities(SAID) * 2, "sum to 1 in each row, but 10 of 10 do not"),
        (TRUE, make_probabilities(SAID, confidence=1.5), "0 or more and .* 10 of 10 do not"),
        (TRUE, np.where(np.arange(10)[:, None] < 2, np.nan, make_probabilities(SAID)), "2 of 10 do not"),
        (TRUE, make_probabilities(SAID)[:, :5] * 2, r"labels must lie in 0\.\.4"),
    ],
)
def test_probabilities_that_do_not_fit_are_refused(
    labels: NDArray[Any], probabilities: NDArray[Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_confused_pairs(CONFUSION, labels, probabilities, LABELS)
    with pytest.raises(ValueError, match=sentence):
        measure_calibration(labels, probabilities)


def test_probabilities_of_other_labels_than_named_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        _find_pairs(TRUE, make_probabilities(SAID), ("a", "b", "c"))


def test_analysis_leaves_the_other_rooms_libraries_alone() -> None:
    check = (
        "import sys, fmnist_sweep.analysis.findings, fmnist_sweep.analysis.pair\n"
        "sys.exit(bool({'matplotlib', 'mlflow', 'keras', 'tensorflow', 'hydra', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
