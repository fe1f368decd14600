"""Confirmations judged: their test predictions are read from the store and given to the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.gate import Contender, GateJudgement, Rule, judge
from fmnist_sweep.promotion.opening import collect_opening_names
from fmnist_sweep.promotion.overused_labels import find_overused_labels
from fmnist_sweep.tracking.prediction_files import TestPredictions
from fmnist_sweep.tracking.test_predictions import read_test_predictions

if TYPE_CHECKING:
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class TestScores:
    """A configuration's predictions of the test images, one for each seed."""

    __test__ = False  # pytest takes a class with this name for one of tests

    name: str
    predictions: Sequence[TestPredictions]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.predictions[0].labels

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, of shape (seeds, images)."""
        return np.stack([predictions.correct_mask for predictions in self.predictions])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted labels, of shape (seeds, images)."""
        return np.stack([predictions.predicted_labels for predictions in self.predictions])

    def has_same_images(self, other: TestScores) -> bool:
        """Whether all predictions of both are of the same images in the same order."""
        first = self.predictions[0]
        return all(
            np.array_equal(first.index, predictions.index) and np.array_equal(first.labels, predictions.labels)
            for predictions in (*self.predictions, *other.predictions)
        )


def read_test_scores(store: Store, confirmations: Confirmations) -> TestScores:
    """Test scores of a configuration's confirmations. Errors: StoreError where a file is gone or damaged."""
    predictions = [read_test_predictions(store, run.run_id, run.name) for run in confirmations.scored_runs]
    return TestScores(confirmations.configuration.name, predictions)


def judge_confirmations(
    store: Store, finalists: Sequence[Confirmations], champion: Confirmations | None, champion_name: str, rule: Rule
) -> GateJudgement:
    """Judge finalists beside the champion by their test predictions.

    champion_name: what sentences call the champion. Errors: PromotionRefused if they were scored on different test
    images, StoreError.
    """
    scores = [read_test_scores(store, confirmations) for confirmations in finalists]
    champion_scores = None if champion is None else read_test_scores(store, champion)
    for other in (*scores[1:], *([champion_scores] if champion_scores else [])):
        if not scores[0].has_same_images(other):
            raise PromotionRefused(
                f"{other.name} and {scores[0].name} were scored on different test images and cannot be compared."
            )
    return judge(
        [Contender(finalist.name, finalist.correct) for finalist in scores],
        None if champion_scores is None else Contender(champion_name, champion_scores.correct),
        scores[0].labels,
        LABELS,
        rule,
        openings=max(1, len(collect_opening_names(finalists))),
        overused_labels=()
        if champion_scores is None
        else find_overused_labels(champion_scores.predicted, champion_scores.labels, LABELS),
    )
