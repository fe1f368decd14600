"""Small against good: what models cost to keep and to run, and those that no other beats in accuracy and cost alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

if TYPE_CHECKING:
    from fmnist_sweep.tracking.trials import StoredTrial


@dataclass(frozen=True)
class CostMeasure:
    """A cost of a trial's model. key: as typed. metric: of its run. title: with its unit, as on an axis."""

    key: str
    metric: str
    title: str

    def read_cost(self, trial: StoredTrial) -> float | None:
        """The cost of a finished trial; None where it was not measured, as in runs of earlier versions."""
        cost = trial.metrics.get(self.metric)
        return cost if trial.accuracy is not None and cost is not None and 0 < cost < math.inf else None

    def format_cost(self, cost: float) -> str:
        """A cost as it is shown: counts whole, times with three digits."""
        return f"{cost:,.0f}" if self.metric in _COUNTS else f"{cost:,.3g}" if cost < 1000 else f"{cost:,.0f}"


_COUNTS = ("parameters", "size_bytes")
MEASURES = {
    measure.key: measure
    for measure in (
        CostMeasure("parameters", "parameters", "parameters"),
        CostMeasure("bytes", "size_bytes", "bytes of the model's file"),
        CostMeasure("milliseconds", "ms_per_image", "milliseconds an image, on one core"),
        CostMeasure("cpu_seconds", "cpu_seconds", "CPU-seconds of training"),
    )
}
# What a model costs whoever uses it: limits are for these.
LIMITED = ("parameters", "bytes", "milliseconds")


@dataclass(frozen=True)
class CostFront:
    """Accuracy against one cost. costs: by the place of the trial; places: of the front, the cheapest first."""

    measure: CostMeasure
    costs: dict[int, float]
    places: tuple[int, ...]


def find_front(accuracies: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Places of what nothing beats in accuracy and cost alike, the cheapest first; of exact equals, all.

    One is beaten by another that is no worse in either and better in one.
    """
    front: list[int] = []
    best, best_cost = -math.inf, -math.inf
    for place in sorted(range(len(costs)), key=lambda each: (costs[each], -accuracies[each], each)):
        if accuracies[place] > best or (accuracies[place], costs[place]) == (best, best_cost):
            front.append(place)
            best, best_cost = accuracies[place], costs[place]
    return front


def compute_front(trials: Sequence[StoredTrial], measure: CostMeasure, data: str) -> CostFront:
    """The front of the trials that were scored on these images (the tag fmnist.data) and whose cost is known."""
    costs = {
        place: cost
        for place, trial in enumerate(trials)
        if trial.data == data and (cost := measure.read_cost(trial)) is not None
    }
    places = list(costs)
    front = find_front([trials[place].accuracy or 0.0 for place in places], [costs[place] for place in places])
    return CostFront(measure, costs, tuple(places[number] for number in front))


def compute_fronts(trials: Sequence[StoredTrial]) -> tuple[CostFront, ...]:
    """The fronts of trials, the best first, on the best's images: by each cost that is not the same for all."""
    fronts = [compute_front(trials, measure, trials[0].data) for measure in MEASURES.values()] if trials else []
    return tuple(front for front in fronts if len(set(front.costs.values())) > 1)


@dataclass(frozen=True)
class CostLimit:
    """The most that a model may cost: a number of parameters, of bytes, or of milliseconds an image."""

    measure: CostMeasure
    most: float

    def __str__(self) -> str:
        return f"{self.measure.key}={self.most:.15g}"

    def admits(self, trial: StoredTrial) -> bool:
        """Whether a finished trial's model is known to cost no more."""
        cost = self.measure.read_cost(trial)
        return cost is not None and cost <= self.most

    def name_least(self, trials: Sequence[StoredTrial]) -> str:
        """What the cheapest of some trials costs, as the end of a sentence."""
        costs = [cost for trial in trials if (cost := self.measure.read_cost(trial)) is not None]
        if not costs:
            return f", as none says its {self.measure.key}: an earlier version trained them"
        return f"; the least is {self.measure.format_cost(min(costs))}: raise the limit, or search among smaller models"


def parse_cost_limits(texts: Sequence[str]) -> tuple[CostLimit, ...]:
    """What was typed behind --within, KEY=NUMBER each, as limits. Raises ConfigError for other text or a key twice."""
    limits = tuple(map(_parse_cost_limit, texts))
    keys = [limit.measure.key for limit in limits]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--within {key}: it is limited twice; give it one number.")
    return limits


def _parse_cost_limit(text: str) -> CostLimit:
    key, _, number = text.partition("=")
    try:
        most = float(number)
    except ValueError:
        most = math.nan
    if key not in LIMITED or not 0 < most < math.inf:
        raise ConfigError(
            f"--within {quote_text(text)}: expected {', '.join(LIMITED[:-1])} or {LIMITED[-1]} and a number above 0, "
            "as in --within parameters=100000."
        )
    return CostLimit(MEASURES[key], most)
