"""Trials that can be compared image by image: judged on the same validation images, their predictions at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.tracking.names import DATA_TAG
from fmnist_sweep.tracking.predictions import Predictions
from fmnist_sweep.tracking.trials import StoredTrial, has_same_validation_images
from fmnist_sweep.training.evaluation import compute_wilson_interval

PredictionReader = Callable[[str], Predictions | None]

MOST_READ = 50  # trials whose predictions are looked at for more than a comparison, and whose curves are shown
MOST_COMPARED = 500  # beyond that the reading would take longer than anybody waits for a mark in a table
GOOD_WITHIN = 0.02  # of the best's accuracy: trials good enough for what they all get wrong to say something


class Peers:
    """The finished trials judged on the same validation images as the best, and what they said of them.

    best: the best's predictions, None where the store has none; then there are no peers. places: of the peers in the
    trials given, the best first.
    """

    def __init__(self, trials: Sequence[StoredTrial], read_predictions: PredictionReader) -> None:
        self._trials, self._read_predictions = trials, read_predictions
        self._cached_predictions: dict[int, Predictions | None] = {}
        self._image_counts: dict[str, int | None] = {}
        finished = [place for place, trial in enumerate(trials) if trial.accuracy is not None]
        best = read_predictions(trials[0].run_id) if finished else None
        self.best_predictions = best if best is not None and _matches_accuracy(best, trials[0]) else None
        if self.best_predictions is not None:
            self._image_counts[_get_data_tag(trials[0])] = len(self.best_predictions.labels)
        self.places: list[int] = []
        is_comparable: dict[str, bool] = {}
        for place in finished if self.best_predictions is not None else ():
            data = _get_data_tag(trials[place])
            if data not in is_comparable:  # one look for each data set
                is_comparable[data] = place == 0 or self._check_data(place, data)
            if is_comparable[data]:
                self.places.append(place)

    def _check_data(self, place: int, data: str) -> bool:
        predictions = self._read_predictions(self._trials[place].run_id)
        self._image_counts[data] = None if predictions is None else len(predictions.labels)
        return predictions is not None and self._has_same_images(predictions, self._trials[place])

    def _has_same_images(self, predictions: Predictions, trial: StoredTrial) -> bool:
        return self.best_predictions is not None and has_same_validation_images(
            self._trials[0], self.best_predictions, trial, predictions
        )

    def count_images(self, trial: StoredTrial) -> int | None:
        """How many validation images a trial was judged on, where that is known."""
        return trial.images or self._image_counts.get(_get_data_tag(trial))

    def read_correct(self, number: int) -> NDArray[np.bool_] | None:
        """Which images the peer of this number got right; None where the store has no predictions that fit."""
        predictions = self._read_peer(number)
        return None if predictions is None else predictions.correct_mask

    @cached_property
    def good_predictions(self) -> list[Predictions]:
        """The predictions of the best and of those near it or inside its interval, at most MOST_READ, best first."""
        if self.best_predictions is None:
            return []
        best = self._trials[0].accuracy or 0.0
        min_accuracy = min(
            best - GOOD_WITHIN,
            compute_wilson_interval(int(self.best_predictions.correct_mask.sum()), len(self.best_predictions.labels))[
                0
            ],
        )
        numbers = [
            number for number, place in enumerate(self.places) if (self._trials[place].accuracy or 0.0) >= min_accuracy
        ]
        return [predictions for number in numbers[:MOST_READ] if (predictions := self._read_peer(number)) is not None]

    def _read_peer(self, number: int) -> Predictions | None:
        if number == 0:
            return self.best_predictions
        if number in self._cached_predictions or number >= MOST_COMPARED:
            return self._cached_predictions.get(number)
        trial = self._trials[self.places[number]]
        predictions = self._read_predictions(trial.run_id)
        if predictions is not None and not (
            self._has_same_images(predictions, trial) and _matches_accuracy(predictions, trial)
        ):
            predictions = None
        if number < MOST_READ:  # more would fill the memory, and is asked for once
            self._cached_predictions[number] = predictions
        return predictions


def _matches_accuracy(predictions: Predictions, trial: StoredTrial) -> bool:
    """Whether predictions are those that the trial's accuracy was computed from."""
    return abs(float(predictions.correct_mask.sum()) - (trial.accuracy or 0.0) * len(predictions.labels)) < 1


def _get_data_tag(trial: StoredTrial) -> str:
    return trial.tags.get(DATA_TAG, "")
