"""Confirmations judged: their test predictions are read from the store and given to the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.early_stop import CorrectedGain, correct_interval
from fmnist_sweep.promotion.gate import Contender, GateJudgement, Rule, judge
from fmnist_sweep.promotion.looks import Look, LookRule, find_early_stop
from fmnist_sweep.promotion.opening import collect_opening_names
from fmnist_sweep.promotion.overused_labels import find_overused_labels
from fmnist_sweep.promotion.spending import FIRST_SHARE, DecisionShare
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

    def reorder_as(self, reference: TestPredictions) -> TestScores:
        """The same scores in the order of the reference's images. Errors: PromotionRefused if they are of others."""
        reordered = [predictions.reorder_as(reference) for predictions in self.predictions]
        present = [predictions for predictions in reordered if predictions is not None]
        if len(present) < len(reordered):
            raise PromotionRefused(
                f"{self.name} was scored on other test images than the first finalist, or in another order by a "
                "release that did not keep which image is which: the two cannot be compared."
            )
        return TestScores(self.name, present)


def read_test_scores(store: Store, confirmations: Confirmations) -> TestScores:
    """Test scores of a configuration's confirmations. Errors: StoreError where a file is gone or damaged."""
    predictions = [read_test_predictions(store, run.run_id, run.name) for run in confirmations.scored_runs]
    return TestScores(confirmations.configuration.name, predictions)


def correct_gain(
    judgement: GateJudgement, rule: LookRule, look: Look | None, champion: Confirmations | None
) -> CorrectedGain | None:
    """The winner's gain, corrected for the look that ended the training; None if no look did."""
    winner = judgement.standings[judgement.winner]
    difference = winner.difference
    if look is None or champion is None or difference is None or not look.is_enough:
        return None
    stop = find_early_stop(rule, look, len(champion.scored_runs))
    low, high = correct_interval(difference.low, difference.high, difference.level, stop)
    return CorrectedGain(winner.name, look.seeds, low, high, difference.level)


def judge_confirmations(
    store: Store,
    finalists: Sequence[Confirmations],
    champion: Confirmations | None,
    champion_name: str,
    rule: Rule,
    *,
    share: DecisionShare = FIRST_SHARE,
    entered: int = 1,
) -> GateJudgement:
    """Judge finalists beside the champion by their test predictions.

    champion_name: what sentences call the champion. share: what this decision may spend. entered: number
    of finalists before looks dropped some. Errors: PromotionRefused if
    they were scored on different test images, StoreError.
    """
    scores = [read_test_scores(store, confirmations) for confirmations in finalists]
    reference = scores[0].predictions[0]
    scores = [finalist_scores.reorder_as(reference) for finalist_scores in scores]
    champion_scores = None if champion is None else read_test_scores(store, champion).reorder_as(reference)
    label_names = finalists[0].scored_runs[0].description.labels
    return judge(
        [Contender(finalist.name, finalist.correct) for finalist in scores],
        None if champion_scores is None else Contender(champion_name, champion_scores.correct),
        scores[0].labels,
        label_names,
        rule,
        openings=max(1, len(collect_opening_names(finalists))),
        share=share,
        entered=entered,
        overused_labels=()
        if champion_scores is None
        else find_overused_labels(champion_scores.predicted, champion_scores.labels, label_names),
    )
