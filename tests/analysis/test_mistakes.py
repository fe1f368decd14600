"""Mistakes are counted as by hand, planted label errors are found, and calibration is judged against chance."""

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
from fmnist_sweep.analysis.labelling import find_suspects
from fmnist_sweep.analysis.mistakes import (
    ConfusedPair,
    find_confused_pairs,
    score_classes,
    score_merged_labels,
    score_similar_labels,
    score_without_images,
)
from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.data import FASHION_MNIST, LABELS
from fmnist_sweep.report.wording import describe_suspects
from fmnist_sweep.training.evaluation import compute_wilson_interval, count_confusion, evaluate_predictions

NAN = float("nan")
TEE, TROUSER, PULLOVER, SHIRT, BAG = (LABELS.index(n) for n in ("T-shirt/top", "Trouser", "Pullover", "Shirt", "Bag"))
# One pullover taken for a shirt, one shirt for a T-shirt, one shirt for a bag, one bag for a shirt.
TRUE = np.array([TEE, TEE, PULLOVER, PULLOVER, SHIRT, SHIRT, SHIRT, BAG, BAG, TROUSER])
SAID = np.array([TEE, TEE, PULLOVER, SHIRT, TEE, BAG, SHIRT, BAG, SHIRT, TROUSER])
CONFUSION = count_confusion(TRUE, SAID, LABELS)


def _sure(predicted: NDArray[Any], names: int = 10, confidence: float | NDArray[Any] = 0.91) -> NDArray[np.float32]:
    """Probabilities that give the predicted label `confidence` and the others the rest in equal parts."""
    share = np.broadcast_to(np.asarray(confidence), predicted.shape)[..., None]
    one = np.eye(names)[predicted]
    return np.asarray(one * share + (1 - one) * (1 - share) / (names - 1), np.float32)


def _drawn(n: int, names: int = 10, sharp: float = 1.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels drawn from probabilities, and these raised to the power `sharp`: 1 is perfectly calibrated."""
    random = np.random.default_rng(1)
    chance = random.dirichlet(np.full(names, 0.25), n)
    labels = (chance.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    said = chance**sharp
    return labels, said / said.sum(axis=1, keepdims=True)


def _find_pairs(
    labels: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str], **options: int
) -> list[ConfusedPair]:
    confusion = count_confusion(labels, probabilities.argmax(axis=1), names)
    return find_confused_pairs(confusion, labels, probabilities, names, **options)


# --- labels and blocks of labels


def test_a_proportion_says_its_value_and_interval() -> None:
    assert str(Proportion.from_counts(5474, 6000)) == "0.9123 [0.9049, 0.9192]"
    assert (Proportion.from_counts(3, 4).low, Proportion.from_counts(3, 4).high) == compute_wilson_interval(3, 4)


def test_a_proportion_of_nothing_knows_nothing() -> None:
    nothing = Proportion.from_counts(0, 0)
    assert np.isnan(nothing.value) and (nothing.low, nothing.high) == (0, 1)
    assert str(nothing) == "none to count"


def test_a_proportion_refuses_more_successes_than_cases() -> None:
    with pytest.raises(ValueError, match="1 out of 0"):
        Proportion.from_counts(1, 0)


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
    labels, probabilities = _drawn(500)
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
    pairs = _find_pairs(labels, _sure(said, 3), ("a", "b", "c"))
    assert [(p.true, p.predicted, p.count, p.share, p.reverse) for p in pairs] == [
        ("a", "b", 4, 0.4, 2),
        ("b", "a", 2, 0.4, 4),
        ("b", "c", 1, 0.2, 0),
    ]
    assert len(_find_pairs(labels, _sure(said, 3), ("a", "b", "c"), most=2)) == 2


def test_examples_of_a_pair_are_its_most_confident_mistakes() -> None:
    labels, said = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 0, 1, 1])
    probabilities = _sure(said, 2, np.array([0.6, 0.9, 0.99, 0.7, 0.99]))
    assert _find_pairs(labels, probabilities, ("a", "b"))[0].examples == (1, 3, 0)
    assert _find_pairs(labels, probabilities, ("a", "b"), examples=2)[0].examples == (1, 3)


def test_a_model_without_mistakes_confuses_nothing() -> None:
    assert _find_pairs(TRUE, _sure(TRUE), LABELS) == []


@pytest.mark.parametrize(
    ("labels", "probabilities", "sentence"),
    [
        (TRUE, _sure(SAID)[:4], r"\(10,\) and \(4, 10\)"),
        (TRUE, SAID, r"probabilities \(n, labels\)"),
        (TRUE[:0], _sure(SAID)[:0], "n >= 1"),
        (TRUE, _sure(SAID) * 2, "sum to 1 in each row, but 10 of 10 do not"),
        (TRUE, _sure(SAID, confidence=1.5), "0 or more and .* 10 of 10 do not"),
        (TRUE, np.where(np.arange(10)[:, None] < 2, np.nan, _sure(SAID)), "2 of 10 do not"),
        (TRUE, _sure(SAID)[:, :5] * 2, r"labels must lie in 0\.\.4"),
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
        _find_pairs(TRUE, _sure(SAID), ("a", "b", "c"))


# --- suspected labels


def _planted(trials: int = 8, n: int = 2000) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int], list[int]]:
    """Labels, 30 of them planted wrong; what trials say, each wrong by itself on 5 %, and all on 20 hard images."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 10, n)
    astray = random.random((trials, n)) < 0.05
    said = np.where(astray, (truth + random.integers(1, 10, (trials, n))) % 10, truth)
    chosen = random.choice(n, 50, replace=False)
    wrong, hard = chosen[:30], chosen[30:]
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + random.integers(1, 10, 30)) % 10
    said[:, wrong] = truth[wrong]
    said[:, hard] = (truth[hard] + 1 + np.arange(trials)[:, None] % 9) % 10  # no two trials agree on these
    return labels, said, sorted(wrong.tolist()), sorted(hard.tolist())


def test_planted_label_errors_are_found_and_hard_images_told_from_them() -> None:
    labels, said, planted, hard = _planted()
    found = find_suspects(labels, said, _sure(said), LABELS)

    assert sorted(suspect.row for suspect in found.label_suspects) == planted
    assert list(found.hard_images) == hard
    assert found.common_errors == 50 and found.images == 2000 and found.trials == 8
    wrong = (said != labels).sum(axis=0)
    assert list(found.occasional_errors) == np.flatnonzero((wrong > 0) & (wrong < 8)).tolist()
    for suspect in found.label_suspects:
        assert suspect.label == LABELS[labels[suspect.row]]
        assert suspect.alternative == LABELS[said[0, suspect.row]]


def test_wrong_in_all_trials_is_far_more_than_chance_where_labels_are_wrong() -> None:
    labels, said, _, _ = _planted()
    found = find_suspects(labels, said, _sure(said), LABELS)
    assert found.by_chance < found.by_chance_by_label < 0.1 < found.common_errors


def test_independent_mistakes_are_as_many_as_expected_by_chance() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 10, 40_000)
    # Half of the images of label 0 and a tenth of all others: only the rates by label expect as many.
    astray = random.random((2, 40_000)) < np.where(labels == 0, 0.5, 0.1)
    said = np.where(astray, (labels + 1) % 10, labels)
    found = find_suspects(labels, said, _sure(said), LABELS)
    expected = 4_000 * 0.25 + 36_000 * 0.01
    assert found.by_chance_by_label == pytest.approx(expected, rel=0.05)
    assert found.common_errors == pytest.approx(expected, abs=4 * expected**0.5)
    assert found.by_chance == pytest.approx(40_000 * 0.14**2, rel=0.05)


def test_chance_is_the_product_of_error_rates_as_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    said = np.array([[1, 0, 1, 1], [1, 1, 0, 1]])
    found = find_suspects(labels, said, _sure(said, 2), ("a", "b"))
    assert found.by_chance == pytest.approx(4 * (1 / 4) * (3 / 4))
    assert found.by_chance_by_label == pytest.approx(2 * (1 / 2) * 1 + 2 * 0 * (1 / 2))


def test_suspects_come_by_agreement_then_by_confidence() -> None:
    labels = np.zeros(4, int)
    said = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 2, 1, 2]])
    confidence = np.array([0.6, 0.9, 0.8, 0.95])
    found = find_suspects(labels, said, _sure(said, 3, confidence), ("a", "b", "c")).label_suspects
    assert [(s.row, s.agreement) for s in found] == [(2, 4), (0, 4), (3, 3), (1, 3)]
    assert found[0].confidence == pytest.approx(0.8)
    assert found[0].self_confidence == pytest.approx(0.1)
    # The mean is over all trials, those too that say something else.
    assert found[2].confidence == pytest.approx((3 * 0.95 + 0.025) / 4)


def test_how_many_must_agree_can_be_said() -> None:
    labels, said = np.zeros(1, int), np.array([[1], [1], [1], [2]])
    probabilities = _sure(said, 3)
    assert len(find_suspects(labels, said, probabilities, ("a", "b", "c"), agree=0.75).label_suspects) == 1
    strict = find_suspects(labels, said, probabilities, ("a", "b", "c"), agree=0.8)
    assert (strict.label_suspects, strict.hard_images) == ((), (0,))


def test_confident_means_as_sure_as_of_images_that_carry_the_label() -> None:
    labels = np.array([0, 0, 1, 1])
    said = np.array([[1, 1, 1, 1]] * 2)
    # Images labelled 1 have 0.7 and 0.9 on average 0.8: row 0 reaches that and row 1 does not.
    found = find_suspects(labels, said, _sure(said, 2, np.array([0.85, 0.75, 0.7, 0.9])), ("a", "b")).label_suspects
    assert [(s.row, s.confident) for s in found] == [(0, True), (1, False)]


def test_a_label_no_image_carries_is_never_confidently_agreed_on() -> None:
    said = np.array([[2, 1], [2, 1]])
    found = find_suspects(np.array([0, 1]), said, _sure(said, 3, 0.99), ("a", "b", "c")).label_suspects
    assert [(s.alternative, s.confident) for s in found] == [("c", False)]


@pytest.mark.parametrize("trials", [0, 1])
def test_with_fewer_than_two_trials_nothing_can_be_told(trials: int) -> None:
    said = np.stack([SAID] * 2)[:trials]
    found = find_suspects(TRUE, said, _sure(said), LABELS)
    assert not found.can_tell
    assert (found.label_suspects, found.hard_images, found.occasional_errors) == ((), (), ())
    assert np.isnan([found.by_chance, found.by_chance_by_label]).all()
    assert describe_suspects(found).startswith("Nothing can be told")


def test_suspects_are_put_into_words_with_their_counts_and_without_claiming_errors() -> None:
    labels, said, _, _ = _planted()
    words = describe_suspects(find_suspects(labels, said, _sure(said), LABELS))
    assert "Of 2,000 images, 50 are wrong in all 8 trials, where 0.0 would be" in words
    assert "On 30 of them the trials agree" in words and "20 are hard" in words
    assert "may be label errors" in words


def test_trials_without_a_common_mistake_have_no_suspects() -> None:
    said = np.stack([TRUE, TRUE])
    found = find_suspects(TRUE, said, _sure(said), LABELS)
    assert found.can_tell and found.common_errors == 0 and found.by_chance == 0


@pytest.mark.parametrize(
    ("said", "probabilities", "agree", "sentence"),
    [
        (SAID, _sure(SAID), 0.75, r"predicted \(trials, n\), but they have \(10,\) and \(10,\)"),
        (SAID[None, :4], _sure(SAID)[None, :4], 0.75, r"\(10,\) and \(1, 4\)"),
        (SAID[None], _sure(SAID), 0.75, r"must have shape \(1, 10, 10\), but have \(10, 10\)"),
        (SAID[None] + 2, _sure(SAID)[None], 0.75, r"predicted must lie in 0\.\.9"),
        (SAID[None], _sure(SAID)[None] + 1, 0.75, "sum to 1 in each row, but 10 of 10"),
        (SAID[None], _sure(SAID)[None], 0.5, "above 0.5 and not above 1, but is 0.5"),
        (SAID[None], _sure(SAID)[None], 1.1, "but is 1.1"),
    ],
)
def test_trials_that_do_not_fit_are_refused(
    said: NDArray[Any], probabilities: NDArray[Any], agree: float, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_suspects(TRUE, said, probabilities, LABELS, agree=agree)


# --- calibration


def test_calibration_of_a_small_case_is_as_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    found = measure_calibration(labels, probabilities, bins=2)

    (only,) = found.bins
    assert (only.low, only.high, only.count) == (0.5, 1, 4)
    assert only.confidence == pytest.approx(0.75)
    assert only.accuracy == Proportion.from_counts(3, 4)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.brier == pytest.approx(2 * (0.01 + 0.04 + 0.49 + 0.16) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.6]).mean())
    assert found.overconfidence == pytest.approx(0, abs=1e-12)

    # Four bins: 0.5 to 0.75 holds 0.7 (wrong) and 0.6 (right), 0.75 to 1 holds 0.9 and 0.8 (both right).
    finer = measure_calibration(labels, probabilities, bins=4)
    assert [(b.low, b.count) for b in finer.bins] == [(0.5, 2), (0.75, 2)]
    assert finer.ece == pytest.approx((abs(0.5 - 0.65) + abs(1 - 0.85)) / 2)


def test_bins_are_closed_above_and_only_those_with_images_are_listed() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]])
    found = measure_calibration(np.array([0, 0, 0]), probabilities, bins=4)
    assert [(b.low, b.high, b.count) for b in found.bins] == [(0.25, 0.5, 1), (0.5, 0.75, 1), (0.75, 1.0, 1)]


def test_a_calibrated_model_shows_the_error_that_chance_predicts_and_not_none() -> None:
    found = measure_calibration(*_drawn(6000))
    assert 0.003 < found.ece_if_calibrated < 0.03
    assert abs(found.ece - found.ece_if_calibrated) < 4 * found.ece_if_calibrated_sd
    assert abs(found.overconfidence) < 0.02
    inside = [b.accuracy.low <= b.confidence <= b.accuracy.high for b in found.bins]
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize(("sharp", "sign"), [(2.0, 1), (0.5, -1)])
def test_over_and_underconfidence_stand_out_from_chance(sharp: float, sign: int) -> None:
    calibrated, found = measure_calibration(*_drawn(6000)), measure_calibration(*_drawn(6000, sharp=sharp))
    assert found.ece > found.ece_if_calibrated + 10 * found.ece_if_calibrated_sd
    assert sign * found.overconfidence > 0.03
    assert found.ece == pytest.approx(sign * found.overconfidence, abs=0.01)
    assert found.accuracy == calibrated.accuracy
    assert found.brier > calibrated.brier and found.nll > calibrated.nll


def test_the_error_of_a_calibrated_model_is_what_repeated_draws_show() -> None:
    random = np.random.default_rng(4)
    confidence = random.uniform(0.5, 1, 400)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = measure_calibration(np.zeros(400, int), probabilities)
    drawn = [measure_calibration((random.random(400) > confidence).astype(int), probabilities).ece for _ in range(60)]
    assert found.ece_if_calibrated == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 60**0.5)
    assert found.ece_if_calibrated_sd == pytest.approx(np.std(drawn), rel=0.4)


def test_the_bias_of_the_error_shrinks_with_more_images() -> None:
    few, many = (measure_calibration(*_drawn(n)).ece_if_calibrated for n in (300, 12_000))
    assert few > 4 * many


def test_the_same_predictions_are_judged_the_same() -> None:
    assert measure_calibration(*_drawn(300)) == measure_calibration(*_drawn(300))


def test_a_sure_mistake_has_a_finite_loss() -> None:
    found = measure_calibration(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], np.float32))
    assert found.nll == pytest.approx(-np.log(1e-7) / 2)
    assert found.brier == 1
    assert found.overconfidence == 0.5


def test_calibration_refuses_no_bins() -> None:
    with pytest.raises(ValueError, match="bins is 0"):
        measure_calibration(TRUE, _sure(SAID), bins=0)


def test_analysis_leaves_the_other_rooms_libraries_alone() -> None:
    check = (
        "import sys, fmnist_sweep.analysis.findings, fmnist_sweep.analysis.pair\n"
        "sys.exit(bool({'matplotlib', 'mlflow', 'keras', 'tensorflow', 'hydra', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
