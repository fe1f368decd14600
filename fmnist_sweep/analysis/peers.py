"""Trials that can be compared image by image: scored on the same validation images, with predictions at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.tracking.names import DATA_TAG
from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.tracking.trials import StoredTrial, has_fitting_labels, has_same_validation_images
from fmnist_sweep.training.evaluation import compute_wilson_interval

PredictionReader = Callable[[str], Predictions | None]  # by run id

MOST_READ = 50  # trials whose predictions are looked at for more than a comparison, and whose curves are shown
MOST_COMPARED = 500  # beyond that, reading takes longer than anybody waits for a mark in a table
GOOD_WITHIN = 0.02  # of the best's accuracy: trials so good that an image they all get wrong says something


@dataclass(frozen=True)
class Peers:
    """The finished trials that were scored on the same validation images as the best.

    trials: all trials, the best first. best_predictions: None where the store has none that fit; then there are no
    peers. places: of the peers in `trials`, the best first; the number of a peer is its index here. image_counts: how
    many validation images a data set has, by the tag fmnist.data, as far as predictions were read.
    """

    trials: Sequence[StoredTrial]
    best_predictions: Predictions | None = None
    places: tuple[int, ...] = ()
    image_counts: Mapping[str, int | None] = field(default_factory=dict)

    def count_images(self, trial: StoredTrial) -> int | None:
        """How many validation images a trial was scored on, where that is known."""
        return trial.images or self.image_counts.get(_get_data_tag(trial))


def read_peers(trials: Sequence[StoredTrial], read_predictions: PredictionReader) -> Peers:
    """Find the peers of the best trial. It reads the predictions of the best and of one trial for each data set.

    trials: the best first, those without an accuracy last.
    """
    finished = [place for place, trial in enumerate(trials) if trial.accuracy is not None]
    best = read_predictions(trials[0].run_id) if finished else None
    if best is None or not (has_fitting_labels(trials[0], best) and _matches_accuracy(best, trials[0])):
        return Peers(trials)
    image_counts: dict[str, int | None] = {_get_data_tag(trials[0]): len(best.labels)}
    is_comparable = {_get_data_tag(trials[0]): True}
    for place in finished:
        data = _get_data_tag(trials[place])
        if data not in is_comparable:
            predictions = read_predictions(trials[place].run_id)
            image_counts[data] = None if predictions is None else len(predictions.labels)
            is_comparable[data] = predictions is not None and has_same_validation_images(
                trials[0], best, trials[place], predictions
            )
    places = tuple(place for place in finished if is_comparable[_get_data_tag(trials[place])])
    return Peers(trials, best, places, image_counts)


def read_good_predictions(peers: Peers, read_predictions: PredictionReader) -> dict[int, Predictions | None]:
    """The predictions of the best and of the peers near it or inside its interval, by the number of the peer.

    They come best first, at most MOST_READ; None where the store has none that fit.
    """
    best = peers.best_predictions
    if best is None:
        return {}
    lower_bound, _ = compute_wilson_interval(int(best.correct_mask.sum()), len(best.labels))
    min_accuracy = min((peers.trials[0].accuracy or 0.0) - GOOD_WITHIN, lower_bound)
    numbers = [
        number
        for number, place in enumerate(peers.places)
        if (peers.trials[place].accuracy or 0.0) >= min_accuracy and number < MOST_COMPARED
    ]
    return {number: _read_peer(peers, number, read_predictions) for number in numbers[:MOST_READ]}


def read_correct_mask(
    peers: Peers, number: int, read_predictions: PredictionReader, known: Mapping[int, Predictions | None]
) -> NDArray[np.bool_] | None:
    """Mask (n,) of the images that a peer got right; None where the store has no predictions that fit.

    known: predictions that were read before, by the number of the peer. Beyond MOST_COMPARED peers nothing is read.
    """
    if number in known:
        predictions = known[number]
    elif number < MOST_COMPARED:
        predictions = _read_peer(peers, number, read_predictions)
    else:
        predictions = None
    return None if predictions is None else predictions.correct_mask


def _read_peer(peers: Peers, number: int, read_predictions: PredictionReader) -> Predictions | None:
    best = peers.best_predictions
    if number == 0 or best is None:
        return best
    trial = peers.trials[peers.places[number]]
    predictions = read_predictions(trial.run_id)
    fits = (
        predictions is not None
        and has_same_validation_images(peers.trials[0], best, trial, predictions)
        and _matches_accuracy(predictions, trial)
    )
    return predictions if fits else None


def _matches_accuracy(predictions: Predictions, trial: StoredTrial) -> bool:
    """Whether predictions are those that the trial's accuracy was computed from."""
    return abs(float(predictions.correct_mask.sum()) - (trial.accuracy or 0.0) * len(predictions.labels)) < 1


def _get_data_tag(trial: StoredTrial) -> str:
    return trial.tags.get(DATA_TAG, "")
