"""The best trial, and the wording of which others may be just as good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

TIED_LABEL = "≈ not distinguishable from the best"

Trial = TypeVar("Trial")


def find_best(trials: Sequence[Trial], read_accuracy: Callable[[Trial], float | None]) -> Trial | None:
    """Find the trial with the highest validation accuracy, the first of equals; None where no trial has one."""
    finished = [trial for trial in trials if read_accuracy(trial) is not None]
    return max(finished, key=lambda trial: read_accuracy(trial) or 0.0, default=None)


def describe_ties(tied: int, worse: int, uncompared: int = 0) -> str:
    """Say how many other trials are not distinguishable from the best; empty where none was compared.

    tied, worse: of the others compared with it; uncompared: others with an accuracy that could not be.
    """
    total = tied + worse + uncompared
    if not tied + worse:
        return ""
    others = f"the other {total:,} trials" if total > 1 else "the other trial"
    if tied == total:
        sentence = (
            f"None of {others} is distinguishable from the best (≈)"
            if total > 1
            else "The other trial is not distinguishable from the best (≈)"
        )
    elif tied:
        sentence = f"{tied:,} of {others} {'is' if tied == 1 else 'are'} not distinguishable from the best (≈)"
    elif uncompared:
        sentence = f"None of {others} is known to be as good as the best"
    else:
        sentence = (
            f"{others[0].upper()}{others[1:]} {'is' if total == 1 else 'are'} distinguishably worse than the best"
        )
    return f"{sentence}; {uncompared:,} could not be compared with it." if uncompared else f"{sentence}."
