"""The ranking of trials: their order, their places on the leaderboard, and which are tied with the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fmnist_sweep.analysis import comparison
from fmnist_sweep.analysis.comparison import Booleans, Difference, Repeats, SeedSpread, TrialStanding
from fmnist_sweep.analysis.peers import Peers, PredictionReader, read_correct_mask, read_peers
from fmnist_sweep.analysis.proportions import compute_accuracy_interval
from fmnist_sweep.analysis.settings import VariedSetting, find_varied_settings, group_by_seed, number_configurations
from fmnist_sweep.tracking.trials import StoredTrial


@dataclass(frozen=True)
class LeaderboardRow:
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
class RepeatedConfiguration:
    """A configuration that was trained with several seeds; places: of its trials in Findings.trials, the best first."""

    places: tuple[int, ...]
    repeats: Repeats


@dataclass(frozen=True)
class Ranking:
    """Trials, the best first, and how far their accuracies can be trusted.

    configuration_numbers: one for each trial, the same for trials that differ in nothing but their seed. seed_spread:
    of one configuration's accuracy over seeds, as measured among these trials, or assumed.
    """

    trials: tuple[StoredTrial, ...]
    settings: tuple[VariedSetting, ...]
    configuration_numbers: list[int]
    repeated_configurations: tuple[RepeatedConfiguration, ...]
    seed_spread: SeedSpread


def rank_trials(trials: Sequence[StoredTrial]) -> Ranking:
    """Sort trials by accuracy, those without one last, and number their configurations."""
    ranked = tuple(sorted(trials, key=lambda trial: (trial.accuracy is None, -(trial.accuracy or 0.0))))
    settings = tuple(find_varied_settings(ranked))
    numbers = number_configurations(ranked, settings)
    repeated_configurations = _find_repeated_configurations(ranked, numbers)
    accuracies = [[ranked[place].accuracy or 0.0 for place in item.places] for item in repeated_configurations]
    return Ranking(ranked, settings, numbers, repeated_configurations, comparison.estimate_seed_sd(accuracies))


def find_tied_trials(trials: Sequence[StoredTrial], read_predictions: PredictionReader) -> list[StoredTrial]:
    """The best trial and those that the leaderboard cannot tell apart from it, the best first; one a configuration.

    read_predictions: reads those of one trial, by its run id. A trial that cannot be compared image by image is not
    among them.
    """
    ranking = rank_trials(trials)
    peers = read_peers(ranking.trials, read_predictions)
    read_correct = partial(read_correct_mask, peers, read_predictions=read_predictions, known={})
    rows = make_leaderboard_rows(ranking, peers, read_correct)
    trials_by_configuration: dict[int, StoredTrial] = {}
    for place, (trial, row) in enumerate(zip(ranking.trials, rows, strict=True)):
        if trial.accuracy is not None and (row.tied or place == 0):
            trials_by_configuration.setdefault(ranking.configuration_numbers[place], trial)
    return list(trials_by_configuration.values())


def make_leaderboard_rows(
    ranking: Ranking, peers: Peers, read_correct: Callable[[int], Booleans | None]
) -> tuple[LeaderboardRow, ...]:
    """Make a row for each trial, in order.

    read_correct: the mask of the images that a peer got right, by the number of the peer (see Peers), not by its place.
    """
    standing_by_place: dict[int, TrialStanding] = {}
    if peers.best_predictions is not None:
        accuracies = [ranking.trials[place].accuracy or 0.0 for place in peers.places]
        standings = comparison.compare_with_best(
            accuracies, len(peers.best_predictions.labels), read_correct, seed_sd=ranking.seed_spread.sd
        )
        standing_by_place = {peers.places[standing.index]: standing for standing in standings}
    return tuple(
        _make_row(trial, place, standing_by_place.get(place), peers.count_images(trial), number)
        for place, (trial, number) in enumerate(zip(ranking.trials, ranking.configuration_numbers, strict=True))
    )


def _make_row(
    trial: StoredTrial, place: int, standing: TrialStanding | None, images: int | None, number: int
) -> LeaderboardRow:
    if trial.accuracy is None:
        return LeaderboardRow(trial.run_id, None, None, None, None, None, number)
    low, high = compute_accuracy_interval(trial.accuracy, images) or (None, None)
    difference = None if standing is None else standing.difference
    # Where the trial's images were not looked at, a worst case that leaves it tied says nothing.
    is_unknown = standing is None or (standing.tied and difference is not None and difference.only_a is None)
    tied = None if standing is None or is_unknown else standing.tied
    return LeaderboardRow(trial.run_id, place + 1, tied, low, high, difference, number)


def _find_repeated_configurations(
    trials: Sequence[StoredTrial], configuration_numbers: Sequence[int]
) -> tuple[RepeatedConfiguration, ...]:
    """The configurations that finished with two seeds or more, the highest mean first."""
    configurations = [
        RepeatedConfiguration(places, comparison.summarize_repeats([trials[place].accuracy or 0.0 for place in places]))
        for places in group_by_seed(trials, configuration_numbers)
        if len(places) > 1
    ]
    return tuple(sorted(configurations, key=lambda item: -item.repeats.mean))
