"""What trials came to: all that a report says, computed once, before a word or a chart is made of it.

Predictions and curves are read through functions, one call a trial, and only of those that matter: they may lie in a
store far away.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis import comparison, importance
from fmnist_sweep.analysis import settings as varied
from fmnist_sweep.analysis.comparison import Difference, Optimism, Repeats, Standing
from fmnist_sweep.analysis.importance import Importance
from fmnist_sweep.analysis.mistakes import Mistakes, find
from fmnist_sweep.analysis.peers import MOST_READ, Peers, PredictionsOf
from fmnist_sweep.analysis.settings import Varied
from fmnist_sweep.tracking.trials import Predictions, StoredTrial
from fmnist_sweep.training import evaluation as evaluate

CurvesOf = Callable[[str], list[dict[str, float]]]

LEAST_FREEDOM = 4  # degrees of freedom from which a measured spread over seeds is believed before the assumed one


@dataclass(frozen=True)
class Row:
    """One trial's place: what leaderboard.csv and the note add to a trial.

    rank: from 1, None for trials without an accuracy. tied: whether it cannot be told apart from the best; None where
    that is unknown (no accuracy, other validation images, predictions not at hand). low, high: 95 % Wilson interval of
    its accuracy. configuration: number of its settings; trials that differ in nothing but the seed share it.
    """

    run_id: str
    rank: int | None
    tied: bool | None
    low: float | None
    high: float | None
    difference: Difference | None
    configuration: int


@dataclass(frozen=True)
class Configuration:
    """Settings that were trained with several seeds; places: of its trials in Findings.trials, the best first."""

    places: tuple[int, ...]
    repeats: Repeats


@dataclass(frozen=True)
class Spent:
    """A trial that ended, in the order in which they did: cumulative processor time and the best accuracy by then."""

    place: int
    cpu_seconds: float
    accuracy: float | None
    best: float | None


@dataclass(frozen=True)
class FailureCause:
    """Failures with one cause: its kind, the first of their messages, and the places of the trials."""

    kind: str
    message: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class Findings:
    """All that a report says of some trials.

    trials: those with an accuracy first, the highest first; rows: one a trial, in the same order. images: how many
    validation images the best was judged on, None where that is unknown; comparable: whether its predictions are at
    hand; elsewhere: how many finished trials cannot be compared with it image by image. seed_sd: spread of one
    configuration's accuracy over seeds, seed_freedom: degrees of freedom it was measured with (0: assumed). retrained:
    the accuracy to expect of the best's configuration with another seed. varied: every setting with more than one
    value. curves: by run id, of the best trials. pictures: the validation images in the order of the predictions, or
    None.
    """

    trials: tuple[StoredTrial, ...]
    rows: tuple[Row, ...]
    images: int | None
    comparable: bool
    elsewhere: int
    optimism: Optimism | None
    seed_sd: float
    seed_freedom: int
    retrained: float | None
    varied: tuple[Varied, ...]
    repeated: tuple[Configuration, ...]
    importance: Importance
    spent: tuple[Spent, ...]
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
    def tied(self) -> tuple[int, ...]:
        """Places of the other trials that cannot be told apart from the best."""
        return tuple(place for place, row in enumerate(self.rows) if row.tied and place > 0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all trials, failed ones included where it is known."""
        return sum(_own_seconds(self.trials))

    @property
    def unmeasured(self) -> int:
        """How many trials that did not finish left no word of their time."""
        return sum(trial.accuracy is None and trial.cpu_seconds == 0 for trial in self.trials)

    @cached_property
    def distinct(self) -> list[Varied]:
        """What varied, without settings that only changed together with another."""
        return varied.distinct(self.varied)


def gather(
    trials: Sequence[StoredTrial],
    *,
    predictions_of: PredictionsOf,
    curves_of: CurvesOf,
    splits_images: NDArray[np.uint8] | None,
    twins: NDArray[np.bool_] | None = None,
) -> Findings:
    """Compute all that a report says of these trials.

    predictions_of, curves_of: read a trial's, by its run id. splits_images: (n, 28, 28, 1), the validation images in
    the order of the predictions; None where the data is not at hand. Images of another number than the predictions'
    are left out. twins: (n,), which of them have a near twin among the training images (analysis.near).
    """
    ranked = _Ranked(trials, predictions_of)
    ordered, peers, configuration, seed_sd = ranked.ordered, ranked.peers, ranked.configuration, ranked.seed_sd
    accuracies = [trial.accuracy for trial in ordered]
    pictures = _fitting(splits_images, peers.best)
    return Findings(
        trials=ordered,
        rows=_rows(ordered, peers, configuration, seed_sd),
        images=peers.images(ordered[0]) if ordered and accuracies[0] is not None else None,
        comparable=peers.best is not None,
        elsewhere=sum(accuracy is not None for accuracy in accuracies) - len(peers.places),
        optimism=_optimism(peers.good),
        seed_sd=seed_sd,
        seed_freedom=ranked.seed_freedom,
        retrained=_retrained(ordered, peers, seed_sd),
        varied=ranked.settings,
        repeated=ranked.repeated,
        importance=importance.measure(varied.distinct(ranked.settings), accuracies, configuration),
        spent=_spent(ordered),
        curves=_curves(ordered, curves_of),
        mistakes=None if peers.best is None else find(peers.best, peers.good, None if pictures is None else twins),
        failures=_failures(ordered),
        pictures=pictures,
    )


class _Ranked:
    """Trials, the best first, and how far their accuracies can be trusted.

    configuration: a number for each trial, the same for those that differ in their seed alone. seed_sd: of one
    training, as measured among them with seed_freedom degrees of freedom, or assumed.
    """

    def __init__(self, trials: Sequence[StoredTrial], predictions_of: PredictionsOf) -> None:
        self.ordered = tuple(sorted(trials, key=lambda trial: (trial.accuracy is None, -(trial.accuracy or 0.0))))
        self.settings = tuple(varied.find(self.ordered))
        self.configuration = varied.configurations(self.ordered, self.settings)
        self.repeated = _repeated(self.ordered, self.configuration)
        spreads = [[self.ordered[place].accuracy or 0.0 for place in found.places] for found in self.repeated]
        freedom = comparison.pooled_freedom(spreads)
        measured = comparison.pooled_sd(spreads) if freedom >= LEAST_FREEDOM else None
        self.seed_sd = comparison.SEED_SD if measured is None else measured
        self.seed_freedom = 0 if measured is None else freedom
        self.peers = Peers(self.ordered, predictions_of)


def tied_with_best(trials: Sequence[StoredTrial], predictions_of: PredictionsOf) -> list[StoredTrial]:
    """The best trial and those that the leaderboard cannot tell apart from it, the best first; one a configuration.

    predictions_of: reads a trial's, by its run id. A trial that cannot be compared image by image is not among them.
    """
    ranked = _Ranked(trials, predictions_of)
    rows = _rows(ranked.ordered, ranked.peers, ranked.configuration, ranked.seed_sd)
    found: dict[int, StoredTrial] = {}
    for place, (trial, row) in enumerate(zip(ranked.ordered, rows, strict=True)):
        if trial.accuracy is not None and (row.tied or place == 0):
            found.setdefault(ranked.configuration[place], trial)
    return list(found.values())


def _fitting(images: NDArray[np.uint8] | None, best: Predictions | None) -> NDArray[np.uint8] | None:
    return images if images is not None and best is not None and len(images) == len(best.labels) else None


def _rows(
    ordered: Sequence[StoredTrial], peers: Peers, configuration: Sequence[int], seed_sd: float
) -> tuple[Row, ...]:
    standings: dict[int, Standing] = {}
    if peers.best is not None:
        accuracies = [ordered[place].accuracy or 0.0 for place in peers.places]
        found = comparison.standings(accuracies, len(peers.best.labels), peers.correct, seed_sd=seed_sd)
        standings = {peers.places[standing.index]: standing for standing in found}
    return tuple(
        _row(trial, place, standings.get(place), peers.images(trial), number)
        for place, (trial, number) in enumerate(zip(ordered, configuration, strict=True))
    )


def _row(trial: StoredTrial, place: int, standing: Standing | None, images: int | None, number: int) -> Row:
    if trial.accuracy is None:
        return Row(trial.run_id, None, None, None, None, None, number)
    low, high = evaluate.compute_wilson_interval(round(trial.accuracy * images), images) if images else (None, None)
    difference = None if standing is None else standing.difference
    # Where the trial's images were not looked at, a worst case that leaves it tied says nothing.
    unknown = standing is None or (standing.tied and difference is not None and difference.only_a is None)
    tied = None if standing is None or unknown else standing.tied
    return Row(trial.run_id, place + 1, tied, low, high, difference, number)


def _optimism(good: Sequence[Predictions]) -> Optimism | None:
    return comparison.optimism(np.stack([found.correct_mask for found in good])) if len(good) > 1 else None


def _retrained(ordered: Sequence[StoredTrial], peers: Peers, seed_sd: float) -> float | None:
    accuracies = [ordered[place].accuracy or 0.0 for place in peers.places]
    return comparison.shrunk(accuracies, seed_sd) if len(accuracies) > 1 else None


def _repeated(ordered: Sequence[StoredTrial], configuration: Sequence[int]) -> tuple[Configuration, ...]:
    """Configurations finished with two seeds or more, the highest mean first; a seed's second trial is no new draw."""
    draws: dict[int, dict[str | None, int]] = defaultdict(dict)
    for place, (trial, number) in enumerate(zip(ordered, configuration, strict=True)):
        if trial.accuracy is not None:
            draws[number].setdefault(trial.params.get("seed"), place)
    groups = [tuple(places.values()) for places in draws.values() if len(places) > 1]
    found = [Configuration(g, comparison.repeats([ordered[place].accuracy or 0.0 for place in g])) for g in groups]
    return tuple(sorted(found, key=lambda item: -item.repeats.mean))


def _own_seconds(trials: Sequence[StoredTrial]) -> list[float]:
    """Processor time of each trial, without that of the trial it went on from (Hyperband), which is counted there."""
    known = {(trial.tags.get("fmnist.journal"), trial.trial_id): trial.cpu_seconds for trial in trials}
    return [
        max(0.0, trial.cpu_seconds - known.get((trial.tags.get("fmnist.journal"), trial.continued_trial_id or ""), 0.0))
        for trial in trials
    ]


def _spent(ordered: Sequence[StoredTrial]) -> tuple[Spent, ...]:
    own = _own_seconds(ordered)
    ended = [(trial.ended, place) for place, trial in enumerate(ordered) if trial.ended is not None]
    total, best, found = 0.0, None, []
    for _, place in sorted(ended):
        accuracy = ordered[place].accuracy
        total += own[place]
        if accuracy is not None and (best is None or accuracy > best):
            best = accuracy
        found.append(Spent(place, total, accuracy, best))
    return tuple(found)


def _curves(ordered: Sequence[StoredTrial], curves_of: CurvesOf) -> dict[str, list[dict[str, float]]]:
    shown = [trial.run_id for trial in ordered[:MOST_READ] if trial.accuracy is not None]
    return {run_id: found for run_id in shown if (found := curves_of(run_id))}


def _failures(ordered: Sequence[StoredTrial]) -> tuple[FailureCause, ...]:
    """Failed trials by cause, the commonest first: messages that differ in their numbers alone are one cause."""
    causes: dict[str, list[int]] = defaultdict(list)
    for place, trial in enumerate(ordered):
        if trial.state == "failed":
            causes[re.sub(r"\d+(\.\d+)?", "#", trial.failure or "")].append(place)
    found = []
    for places in causes.values():
        text = ordered[places[0]].failure or "no reason was recorded"
        kind, _, message = text.partition(": ")
        found.append(FailureCause(kind, message, tuple(places)))
    return tuple(sorted(found, key=lambda cause: -len(cause.places)))
