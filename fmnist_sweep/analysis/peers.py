"""Trials that can be compared image by image: judged on the same validation images, their predictions at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import Predictions, StoredTrial
from fmnist_sweep.training import evaluation as evaluate

PredictionsOf = Callable[[str], Predictions | None]

MOST_READ = 50  # trials whose predictions are looked at for more than a comparison, and whose curves are shown
MOST_COMPARED = 500  # beyond that the reading would take longer than anybody waits for a mark in a table
GOOD_WITHIN = 0.02  # of the best's accuracy: trials good enough for what they all get wrong to say something


class Peers:
    """The finished trials judged on the same validation images as the best, and what they said of them.

    best: the best's predictions, None where the store has none; then there are no peers. places: of the peers in the
    trials given, the best first.
    """

    def __init__(self, ordered: Sequence[StoredTrial], predictions_of: PredictionsOf) -> None:
        self._trials, self._predictions_of = ordered, predictions_of
        self._kept: dict[int, Predictions | None] = {}
        self._images: dict[str, int | None] = {}
        finished = [place for place, trial in enumerate(ordered) if trial.accuracy is not None]
        best = predictions_of(ordered[0].run_id) if finished else None
        self.best = best if best is not None and _agrees(best, ordered[0]) else None
        if self.best is not None:
            self._images[_data(ordered[0])] = len(self.best.labels)
        self.places: list[int] = []
        same: dict[str, bool] = {}
        for place in finished if self.best is not None else ():
            data = _data(ordered[place])
            if data not in same:  # one look for each data set
                same[data] = place == 0 or self._look(place, data)
            if same[data]:
                self.places.append(place)

    def _look(self, place: int, data: str) -> bool:
        found = self._predictions_of(self._trials[place].run_id)
        self._images[data] = None if found is None else len(found.labels)
        return found is not None and self._fits(found, self._trials[place])

    def _fits(self, found: Predictions, trial: StoredTrial) -> bool:
        return self.best is not None and evidence.has_same_validation_images(self._trials[0], self.best, trial, found)

    def images(self, trial: StoredTrial) -> int | None:
        """How many validation images a trial was judged on, where that is known."""
        return trial.images or self._images.get(_data(trial))

    def correct(self, number: int) -> NDArray[np.bool_] | None:
        """Which images the peer of this number got right; None where the store has no predictions that fit."""
        found = self._read(number)
        return None if found is None else found.correct_mask

    @cached_property
    def good(self) -> list[Predictions]:
        """The predictions of the best and of those near it or inside its interval, at most MOST_READ, best first."""
        if self.best is None:
            return []
        best = self._trials[0].accuracy or 0.0
        least = min(
            best - GOOD_WITHIN,
            evaluate.compute_wilson_interval(int(self.best.correct_mask.sum()), len(self.best.labels))[0],
        )
        near = [number for number, place in enumerate(self.places) if (self._trials[place].accuracy or 0.0) >= least]
        return [found for number in near[:MOST_READ] if (found := self._read(number)) is not None]

    def _read(self, number: int) -> Predictions | None:
        if number == 0:
            return self.best
        if number in self._kept or number >= MOST_COMPARED:
            return self._kept.get(number)
        trial = self._trials[self.places[number]]
        found = self._predictions_of(trial.run_id)
        if found is not None and not (self._fits(found, trial) and _agrees(found, trial)):
            found = None
        if number < MOST_READ:  # more would fill the memory, and is asked for once
            self._kept[number] = found
        return found


def _agrees(found: Predictions, trial: StoredTrial) -> bool:
    """Whether predictions are those that the trial's accuracy was computed from."""
    return abs(float(found.correct_mask.sum()) - (trial.accuracy or 0.0) * len(found.labels)) < 1


def _data(trial: StoredTrial) -> str:
    return trial.tags.get("fmnist.data", "")
