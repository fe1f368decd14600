"""Whether a search has settled: search.until=settled ends it when what is still to be gained is too little."""

from __future__ import annotations

from collections.abc import Sequence

from fmnist_sweep.analysis.prospects import count_hourly_trials, estimate_gain
from fmnist_sweep.config.schema import Config
from fmnist_sweep.search.space import read_epochs
from fmnist_sweep.study.record import StudyRecord, TrialHistory

# It is asked after every trial, and the first estimate that is low by chance ends the search. Simulated from the 12th
# trial on (50 further trials, normal accuracies, promote.gain at half and at 1.25 of their standard deviation), the
# gain that was given up was 1.2 and 0.6 of promote.gain in the mean; from the 8th on, 1.3 and 0.7.
LEAST_TRIALS = 12


def is_settled(config: Config, record: StudyRecord) -> bool:
    """Whether the expected gain of another hour is below promote.gain, where search.until asks for that.

    In a search that is synchronous no clock decides: it goes by as many further trials as it has had.
    """
    if config.search.until is None:
        return False
    trials = _list_known_trials(config, record)
    accuracies = [(history.outcome or {}).get("best_val_accuracy") for history in trials]
    if sum(accuracy is not None for accuracy in accuracies) < LEAST_TRIALS:
        return False
    further = len(trials) if config.search.synchronous else _count_hourly_trials(trials)
    gain = estimate_gain(accuracies, further)
    return gain is not None and gain < config.promote.gain


def awaits_results(config: Config, record: StudyRecord) -> bool:
    """Whether the next proposal has to wait for results: every run of a synchronous search ends at the same trial.

    A search whose oracle is told results in order waits for that anyway.
    """
    search = config.search
    if search.until is None or not search.synchronous or search.lookahead is not None:
        return False
    return any(history.outcome is None for history in record.trials.values() if _is_decisive(config, record, history))


def _list_known_trials(config: Config, record: StudyRecord) -> list[TrialHistory]:
    """The trials that the decision goes by: those that have ended, and were trained to the end.

    A trial that Hyperband may still promote says nothing of what its configuration comes to.
    """
    epochs = read_epochs(config.settings)
    return [
        history
        for history in record.trained_trials
        if history.is_reported
        and history.outcome is not None
        and history.proposal.epochs in (None, epochs)
        and _is_decisive(config, record, history)
    ]


def _is_decisive(config: Config, record: StudyRecord, history: TrialHistory) -> bool:
    """Whether a trial that has ended may count: of a synchronous search those that lie search.ahead trials behind."""
    search = config.search
    return (
        not search.synchronous
        or search.lookahead is not None
        or history.number <= len(record.trials) + 1 - search.ahead
    )


def _count_hourly_trials(trials: Sequence[TrialHistory]) -> int:
    return count_hourly_trials([float((history.outcome or {}).get("seconds", 0.0)) for history in trials])
