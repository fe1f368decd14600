"""Planted label errors are found, and hard images told from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.analysis.labelling import find_suspects
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.wording import describe_suspects
from tests.support.predictions import SAID, TRUE, make_probabilities


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
    found = find_suspects(labels, said, make_probabilities(said), LABELS)

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
    found = find_suspects(labels, said, make_probabilities(said), LABELS)
    assert found.by_chance < found.by_chance_by_label < 0.1 < found.common_errors


def test_independent_mistakes_are_as_many_as_expected_by_chance() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 10, 40_000)
    # Half of the images of label 0 and a tenth of all others: only the rates by label expect as many.
    astray = random.random((2, 40_000)) < np.where(labels == 0, 0.5, 0.1)
    said = np.where(astray, (labels + 1) % 10, labels)
    found = find_suspects(labels, said, make_probabilities(said), LABELS)
    expected = 4_000 * 0.25 + 36_000 * 0.01
    assert found.by_chance_by_label == pytest.approx(expected, rel=0.05)
    assert found.common_errors == pytest.approx(expected, abs=4 * expected**0.5)
    assert found.by_chance == pytest.approx(40_000 * 0.14**2, rel=0.05)


def test_chance_is_the_product_of_error_rates_as_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    said = np.array([[1, 0, 1, 1], [1, 1, 0, 1]])
    found = find_suspects(labels, said, make_probabilities(said, 2), ("a", "b"))
    assert found.by_chance == pytest.approx(4 * (1 / 4) * (3 / 4))
    assert found.by_chance_by_label == pytest.approx(2 * (1 / 2) * 1 + 2 * 0 * (1 / 2))


def test_suspects_come_by_agreement_then_by_confidence() -> None:
    labels = np.zeros(4, int)
    said = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 2, 1, 2]])
    confidence = np.array([0.6, 0.9, 0.8, 0.95])
    found = find_suspects(labels, said, make_probabilities(said, 3, confidence), ("a", "b", "c")).label_suspects
    assert [(s.row, s.agreement) for s in found] == [(2, 4), (0, 4), (3, 3), (1, 3)]
    assert found[0].confidence == pytest.approx(0.8)
    assert found[0].self_confidence == pytest.approx(0.1)
    # The mean is over all trials, those too that say something else.
    assert found[2].confidence == pytest.approx((3 * 0.95 + 0.025) / 4)


def test_how_many_must_agree_can_be_said() -> None:
    labels, said = np.zeros(1, int), np.array([[1], [1], [1], [2]])
    probabilities = make_probabilities(said, 3)
    assert len(find_suspects(labels, said, probabilities, ("a", "b", "c"), agree=0.75).label_suspects) == 1
    strict = find_suspects(labels, said, probabilities, ("a", "b", "c"), agree=0.8)
    assert (strict.label_suspects, strict.hard_images) == ((), (0,))


def test_confident_means_as_sure_as_of_images_that_carry_the_label() -> None:
    labels = np.array([0, 0, 1, 1])
    said = np.array([[1, 1, 1, 1]] * 2)
    # Images labelled 1 have 0.7 and 0.9 on average 0.8: row 0 reaches that and row 1 does not.
    found = find_suspects(
        labels, said, make_probabilities(said, 2, np.array([0.85, 0.75, 0.7, 0.9])), ("a", "b")
    ).label_suspects
    assert [(s.row, s.confident) for s in found] == [(0, True), (1, False)]


def test_a_label_no_image_carries_is_never_confidently_agreed_on() -> None:
    said = np.array([[2, 1], [2, 1]])
    found = find_suspects(np.array([0, 1]), said, make_probabilities(said, 3, 0.99), ("a", "b", "c")).label_suspects
    assert [(s.alternative, s.confident) for s in found] == [("c", False)]


@pytest.mark.parametrize("trials", [0, 1])
def test_with_fewer_than_two_trials_nothing_can_be_told(trials: int) -> None:
    said = np.stack([SAID] * 2)[:trials]
    found = find_suspects(TRUE, said, make_probabilities(said), LABELS)
    assert not found.can_tell
    assert (found.label_suspects, found.hard_images, found.occasional_errors) == ((), (), ())
    assert np.isnan([found.by_chance, found.by_chance_by_label]).all()
    assert describe_suspects(found).startswith("Nothing can be told")


def test_suspects_are_put_into_words_with_their_counts_and_without_claiming_errors() -> None:
    labels, said, _, _ = _planted()
    words = describe_suspects(find_suspects(labels, said, make_probabilities(said), LABELS))
    assert "Of 2,000 images, 50 are wrong in all 8 trials, where 0.0 would be" in words
    assert "On 30 of them the trials agree" in words and "20 are hard" in words
    assert "may be label errors" in words


def test_trials_without_a_common_mistake_have_no_suspects() -> None:
    said = np.stack([TRUE, TRUE])
    found = find_suspects(TRUE, said, make_probabilities(said), LABELS)
    assert found.can_tell and found.common_errors == 0 and found.by_chance == 0


@pytest.mark.parametrize(
    ("said", "probabilities", "agree", "sentence"),
    [
        (SAID, make_probabilities(SAID), 0.75, r"predicted \(trials, n\), but they have \(10,\) and \(10,\)"),
        (SAID[None, :4], make_probabilities(SAID)[None, :4], 0.75, r"\(10,\) and \(1, 4\)"),
        (SAID[None], make_probabilities(SAID), 0.75, r"must have shape \(1, 10, 10\), but have \(10, 10\)"),
        (SAID[None] + 2, make_probabilities(SAID)[None], 0.75, r"predicted must lie in 0\.\.9"),
        (SAID[None], make_probabilities(SAID)[None] + 1, 0.75, "sum to 1 in each row, but 10 of 10"),
        (SAID[None], make_probabilities(SAID)[None], 0.5, "above 0.5 and not above 1, but is 0.5"),
        (SAID[None], make_probabilities(SAID)[None], 1.1, "but is 1.1"),
    ],
)
def test_trials_that_do_not_fit_are_refused(
    said: NDArray[Any], probabilities: NDArray[Any], agree: float, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_suspects(TRUE, said, probabilities, LABELS, agree=agree)
