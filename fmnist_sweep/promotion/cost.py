"""What a promotion cost in trainings and minutes, beside what all seeds would have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.text import format_duration

if TYPE_CHECKING:
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.entrants import Entrant


@dataclass(frozen=True)
class PromotionCost:
    """Trainings with fresh seeds. seconds: of all of them, one after another. most: trainings without any look."""

    trainings: int
    seconds: float
    most: int

    @property
    def text(self) -> str:
        """The cost in a sentence."""
        noun = "training" if self.trainings == 1 else "trainings"
        sentence = f"{self.trainings} {noun}, {format_duration(self.seconds)} of training one after another"
        if self.trainings >= self.most:
            return f"{sentence}."
        minutes = format_duration(self.seconds * self.most / max(1, self.trainings))
        return f"{sentence}; all seeds, without a look, would have been {self.most} trainings, about {minutes}."


NO_COST = PromotionCost(0, 0.0, 0)


def count_cost(
    entrants: Sequence[Entrant], confirmations: Iterable[Confirmations], most_seeds: int | None
) -> PromotionCost:
    """Count what the trainings of entrants cost. most_seeds: of the fixed design; None where it was the design."""
    trainings, seconds, most = 0, 0.0, 0
    for entrant, trained in zip(entrants, confirmations, strict=True):
        runs = trained.runs[entrant.least_seeds :]
        trainings += len(runs)
        seconds += sum(run.metrics.get("fit_seconds", 0.0) for run in runs)
        most += max(0, (most_seeds or entrant.seeds) - entrant.least_seeds)
    return PromotionCost(trainings, seconds, max(most, trainings))
