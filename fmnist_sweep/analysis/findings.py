"""The findings of a report, computed once, before a word or a chart is made of them.

Predictions and curves are read through functions, one call a trial, and only for the trials that matter, because the
store may be far away.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import comparison
from fmnist_sweep.analysis.comparison import Optimism, SeedSpread
from fmnist_sweep.analysis.fronts import CostFront, compute_fronts
from fmnist_sweep.analysis.importance import Importance, measure_importance
from fmnist_sweep.analysis.mistakes import Mistakes, analyse_mistakes
from fmnist_sweep.analysis.peers import (
    MOST_READ,
    Peers,
    PredictionReader,
    read_correct_mask,
    read_good_predictions,
    read_peers,
)
from fmnist_sweep.analysis.ranking import LeaderboardRow, RepeatedConfiguration, make_leaderboard_rows, rank_trials
from fmnist_sweep.analysis.settings import VariedSetting, select_distinct_settings
from fmnist_sweep.tracking.names import JOURNAL_TAG
from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.tracking.trials import StoredTrial

CurveReader = Callable[[str], list[dict[str, float]]]
ImportanceMeasure = Callable[[Sequence[VariedSetting], Sequence[float | None], Sequence[int]], Importance]


@dataclass(frozen=True)
class CostPoint:
    """A trial that ended, with the processor time of all trials up to then and their best accuracy."""

    place: int
    cpu_seconds: float
    accuracy: float | None
    best: float | None


@dataclass(frozen=True)
class FailureCause:
    """Failures with one cause: its kind, the first of its messages, and the places of the trials."""

    kind: str
    message: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class Findings:
    """All that a report says of some trials.

    trials: those with an accuracy first, the highest first; rows: one a trial, in the same order. images: how many
    validation images the best was scored on, None where that is unknown. is_comparable: whether the best's predictions
    are at hand. incomparable_trials: how many finished trials cannot be compared with it image by image.
    seed_spread: of one configuration's accuracy over seeds. retrained_accuracy: to expect of the best's configuration
    with another seed. varied_settings: all with more than one value. fronts: accuracy against each cost that differs.
    curves: of the best trials, by run id. pictures: the validation images in the order of the predictions, or None.
    """

    trials: tuple[StoredTrial, ...]
    rows: tuple[LeaderboardRow, ...]
    images: int | None
    is_comparable: bool
    incomparable_trials: int
    optimism: Optimism | None
    seed_spread: SeedSpread
    retrained_accuracy: float | None
    varied_settings: tuple[VariedSetting, ...]
    repeated_configurations: tuple[RepeatedConfiguration, ...]
    importance: Importance
    cost_points: tuple[CostPoint, ...]
    fronts: tuple[CostFront, ...]
    curves: Mapping[str, list[dict[str, float]]]
    mistakes: Mistakes | None
    failures: tuple[FailureCause, ...]
    pictures: NDArray[np.uint8] | None

    @property
    def best(self) -> StoredTrial | None:
        """The trial with the highest accuracy, the first given of equals; None where none finished."""
        return self.trials[0] if self.trials and self.trials[0].accuracy is not None else None

    @cached_property
    def states(self) -> Counter[str]:
        """How many trials are in each state."""
        return Counter(trial.state for trial in self.trials)

    @cached_property
    def tied_places(self) -> tuple[int, ...]:
        """Places of the other trials that cannot be told apart from the best."""
        return tuple(place for place, row in enumerate(self.rows) if row.tied and place > 0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all trials, failed ones included where it is known."""
        return sum(_compute_own_seconds(self.trials))

    @property
    def unmeasured_trials(self) -> int:
        """How many trials that did not finish left no record of their time."""
        return sum(trial.accuracy is None and trial.cpu_seconds == 0 for trial in self.trials)

    @cached_property
    def distinct_settings(self) -> list[VariedSetting]:
        """What varied, without settings that only changed together with another."""
        return select_distinct_settings(self.varied_settings)


def compute_findings(
    trials: Sequence[StoredTrial],
    *,
    read_predictions: PredictionReader,
    read_curves: CurveReader,
    validation_images: NDArray[np.uint8] | None,
    twins: NDArray[np.bool_] | None = None,
    measure_importance: ImportanceMeasure = measure_importance,
) -> Findings:
    """Compute all that a report says of these trials.

    read_predictions, read_curves: read those of one trial, by its run id. validation_images: (n, height, width,
    channels), in the order of the predictions; None where the data is not at hand. Images of another number than the
    predictions' are left out. twins: mask (n,) of those that have a near twin among the training images (data.twins).
    measure_importance: what ranks the settings.
    """
    ranking = rank_trials(trials)
    peers = read_peers(ranking.trials, read_predictions)
    known = read_good_predictions(peers, read_predictions)
    good_predictions = [predictions for predictions in known.values() if predictions is not None]
    accuracies = [trial.accuracy for trial in ranking.trials]
    pictures = _match_pictures(validation_images, peers.best_predictions)
    return Findings(
        trials=ranking.trials,
        rows=make_leaderboard_rows(
            ranking, peers, partial(read_correct_mask, peers, read_predictions=read_predictions, known=known)
        ),
        images=peers.count_images(ranking.trials[0]) if ranking.trials and accuracies[0] is not None else None,
        is_comparable=peers.best_predictions is not None,
        incomparable_trials=sum(accuracy is not None for accuracy in accuracies) - len(peers.places),
        optimism=_estimate_optimism(good_predictions),
        seed_spread=ranking.seed_spread,
        retrained_accuracy=_estimate_retrained_accuracy(peers, ranking.seed_spread.sd),
        varied_settings=ranking.settings,
        repeated_configurations=ranking.repeated_configurations,
        importance=measure_importance(
            select_distinct_settings(ranking.settings), accuracies, ranking.configuration_numbers
        ),
        cost_points=_accumulate_costs(ranking.trials),
        fronts=compute_fronts(ranking.trials),
        curves=_read_curves(ranking.trials, read_curves),
        mistakes=None
        if peers.best_predictions is None
        else analyse_mistakes(
            peers.best_predictions,
            good_predictions,
            None if pictures is None else twins,
            ranking.trials[0].description,
        ),
        failures=_group_failures(ranking.trials),
        pictures=pictures,
    )


def _match_pictures(images: NDArray[np.uint8] | None, best: Predictions | None) -> NDArray[np.uint8] | None:
    return images if images is not None and best is not None and len(images) == len(best.labels) else None


def _estimate_optimism(good_predictions: Sequence[Predictions]) -> Optimism | None:
    return (
        comparison.estimate_optimism(np.stack([predictions.correct_mask for predictions in good_predictions]))
        if len(good_predictions) > 1
        else None
    )


def _estimate_retrained_accuracy(peers: Peers, seed_sd: float) -> float | None:
    accuracies = [peers.trials[place].accuracy or 0.0 for place in peers.places]
    return comparison.shrink_best_accuracy(accuracies, seed_sd) if len(accuracies) > 1 else None


def _compute_own_seconds(trials: Sequence[StoredTrial]) -> list[float]:
    """Processor time of each trial, without that of the trial it went on from (Hyperband), which is counted there."""
    known = {(trial.tags.get(JOURNAL_TAG), trial.trial_id): trial.cpu_seconds for trial in trials}
    return [
        max(0.0, trial.cpu_seconds - known.get((trial.tags.get(JOURNAL_TAG), trial.continued_trial_id or ""), 0.0))
        for trial in trials
    ]


def _accumulate_costs(trials: Sequence[StoredTrial]) -> tuple[CostPoint, ...]:
    own_seconds = _compute_own_seconds(trials)
    end_times = [(trial.ended, place) for place, trial in enumerate(trials) if trial.ended is not None]
    total, best, points = 0.0, None, []
    for _, place in sorted(end_times):
        accuracy = trials[place].accuracy
        total += own_seconds[place]
        if accuracy is not None and (best is None or accuracy > best):
            best = accuracy
        points.append(CostPoint(place, total, accuracy, best))
    return tuple(points)


def _read_curves(trials: Sequence[StoredTrial], read_curves: CurveReader) -> dict[str, list[dict[str, float]]]:
    run_ids = [trial.run_id for trial in trials[:MOST_READ] if trial.accuracy is not None]
    return {run_id: curve for run_id in run_ids if (curve := read_curves(run_id))}


def _group_failures(trials: Sequence[StoredTrial]) -> tuple[FailureCause, ...]:
    """Failed trials by cause, the commonest first: messages that differ in their numbers alone are one cause."""
    causes: dict[str, list[int]] = defaultdict(list)
    for place, trial in enumerate(trials):
        if trial.state == "failed":
            causes[re.sub(r"\d+(\.\d+)?", "#", trial.failure or "")].append(place)
    failures = []
    for places in causes.values():
        text = trials[places[0]].failure or "no reason was recorded"
        kind, _, message = text.partition(": ")
        failures.append(FailureCause(kind, message, tuple(places)))
    return tuple(sorted(failures, key=lambda cause: -len(cause.places)))
