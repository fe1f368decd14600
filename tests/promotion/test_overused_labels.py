"""A champion that calls most images the same: its recall of that label keeps no better finalist out, and is named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.promotion.gate import Contender, GateJudgement, Rule, judge
from fmnist_sweep.promotion.overused_labels import find_overused_labels

SHIRT = LABELS.index("Shirt")
TRUTH = np.arange(2000, dtype=np.int64) % len(LABELS)
RULE = Rule(min_gain=0.001, class_drop=0.05, level=0.95)


def predict(accuracy: float, *, doubts: int | None, seeds: int = 3) -> NDArray[np.int64]:
    """Predicted labels, shape (seeds, images): wrong ones are `doubts`, or the label after the true one."""
    random = np.random.default_rng(5)
    wrong = (TRUTH + 1) % len(LABELS) if doubts is None else np.full_like(TRUTH, doubts)
    return np.where(random.random((seeds, len(TRUTH))) < accuracy, TRUTH, wrong)


def decide(champion: NDArray[np.int64], finalist: NDArray[np.int64]) -> GateJudgement:
    return judge(
        [Contender("good", finalist == TRUTH)],
        Contender("version 1", champion == TRUTH),
        TRUTH,
        LABELS,
        RULE,
        overused_labels=find_overused_labels(champion, TRUTH, LABELS),
    )


@pytest.mark.parametrize("accuracy", [0.0, 0.4, 0.7])
def test_a_label_that_is_given_mostly_to_images_of_others_is_found(accuracy: float) -> None:
    (found,) = find_overused_labels(predict(accuracy, doubts=SHIRT), TRUTH, LABELS)
    assert (found.label, found.recall) == ("Shirt", 1.0)
    assert found.share == pytest.approx(1 - 0.9 * accuracy, abs=0.02)
    assert found.precision == pytest.approx(0.1 / found.share)


@pytest.mark.parametrize("doubts", [SHIRT, None])
def test_a_good_model_overuses_no_label(doubts: int | None) -> None:
    assert find_overused_labels(predict(0.92, doubts=doubts), TRUTH, LABELS) == ()


def test_labels_that_are_never_given_or_have_no_image_are_none() -> None:
    assert find_overused_labels(np.zeros((2, 10), np.int64), np.zeros(10, np.int64), LABELS) == ()


@pytest.mark.parametrize("accuracy", [0.0, 0.6])
def test_a_better_finalist_takes_the_place_of_a_champion_that_calls_most_images_the_same(accuracy: float) -> None:
    champion, finalist = predict(accuracy, doubts=SHIRT), predict(0.9, doubts=None)
    found = decide(champion, finalist)
    assert found.verdict == "better"
    assert found.standings[0].objections == ()
    assert found.standings[0].drops[0].label == "Shirt"
    (named,) = [reason for reason in found.reasons if "is held against no finalist" in reason]
    assert named.startswith("version 1 calls ")
    assert "a fall of the recall of Shirt, 1.0000, is held" in named
    assert found.reasons[-1].startswith("good takes the champion's place")


def test_a_fall_of_another_label_still_counts() -> None:
    champion = predict(0.6, doubts=SHIRT)
    champion[:, TRUTH == 0] = 0
    found = decide(champion, predict(0.85, doubts=None))
    assert found.verdict == "cannot tell"
    (objection,) = found.standings[0].objections
    assert objection.startswith("recall of T-shirt/top falls by")
