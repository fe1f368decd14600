"""Ranges whose edge the best trial lies at, where better values may lie beyond it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from fmnist_sweep.analysis.widening import has_edges, list_wider_ranges, locate_value
from fmnist_sweep.config.check import is_allowed
from fmnist_sweep.config.overrides import format_override_value
from fmnist_sweep.search.parameters import find_tunables

LEAST_TRIALS = 4  # of three, the likeliest order by chance has a probability of 1/6
_NEAR = 0.1  # of the range: draws of a continuous tunable do not hit its edge
_LEVEL = 0.05


@dataclass(frozen=True)
class Edge:
    """A tunable whose best value lies at an edge, towards which accuracy rises.

    value: of the best trial. trials: how many drew a value of it. override: what widens the range beyond the edge.
    """

    key: str
    value: Any
    is_upper: bool
    trials: int
    override: str


def find_edges(
    settings: Mapping[str, Any], values: Sequence[Mapping[str, Any]], accuracies: Sequence[float]
) -> list[Edge]:
    """The edges that the best of a study's finished trials lies at.

    settings: the study's, tunables included. values: of each trial, by dotted key; one that was not drawn is absent.

    Two things must speak for it: the best trial lies within a tenth of the range from the edge, and over the trials
    accuracy rises towards it: Kendall's rank correlation, with ties, is above 0 at a one-sided level of 0.05. So one
    trial, or the luck of one, says nothing, and trials that diverged count no more than others. Among trials of equal
    worth, an edge is found for at most one in ten tunables. Where the schema allows nothing beyond it, it is none.
    """
    best = max(range(len(accuracies)), key=accuracies.__getitem__, default=None)
    edges = []
    for key, spec in find_tunables(settings):
        if best is None or not has_edges(spec):
            continue
        places = [locate_value(spec, trial.get(key)) for trial in values]
        edge = _find_edge(settings, (key, spec), values[best].get(key), places[best], places, accuracies)
        if edge is not None:
            edges.append(edge)
    return edges


def _find_edge(
    settings: Mapping[str, Any],
    tuned: tuple[str, Mapping[str, Any]],
    best_value: Any,
    best_place: float | None,
    places: Sequence[float | None],
    accuracies: Sequence[float],
) -> Edge | None:
    if best_place is None or _NEAR < best_place < 1 - _NEAR:
        return None
    pairs = [(place, accuracy) for place, accuracy in zip(places, accuracies, strict=True) if place is not None]
    is_upper = best_place > 0.5
    rising = pairs if is_upper else [(-place, accuracy) for place, accuracy in pairs]
    if len(pairs) < LEAST_TRIALS or compute_rise_probability(rising) > _LEVEL:
        return None
    override = find_widening_override(settings, tuned, is_upper=is_upper)
    return None if override is None else Edge(tuned[0], best_value, is_upper, len(pairs), override)


def find_widening_override(
    settings: Mapping[str, Any], tuned: tuple[str, Mapping[str, Any]], *, is_upper: bool
) -> str | None:
    """The override that widens a tunable beyond an edge, as far as the schema allows; None where it allows nothing."""
    key, spec = tuned
    for name, bound in list_wider_ranges(spec, is_upper=is_upper):
        if is_allowed(settings, key, {**spec, name: bound}):
            return f"{key}.{name}={format_override_value(bound).replace(' ', '')}"
    return None


def compute_rise_probability(pairs: Sequence[tuple[float, float]]) -> float:
    """The probability of a rise of the second with the first like this by chance: one-sided, of Kendall's S.

    M. G. Kendall, "Rank correlation methods", Griffin 1948: normal, with the variance for ties and a correction for
    continuity. 1 where all values of either are equal.
    """
    count = len(pairs)
    score = sum(
        _compare(later[0], earlier[0]) * _compare(later[1], earlier[1])
        for place, later in enumerate(pairs)
        for earlier in pairs[:place]
    )
    ties = [[size for size in Counter(pair[side] for pair in pairs).values() if size > 1] for side in (0, 1)]
    sums = [[sum(form(size) for size in sizes) for sizes in ties] for form in _TIE_FORMS]
    variance = (_TIE_FORMS[0](count) - sums[0][0] - sums[0][1]) / 18
    if count > 2:
        variance += sums[1][0] * sums[1][1] / (9 * count * (count - 1) * (count - 2))
        variance += sums[2][0] * sums[2][1] / (2 * count * (count - 1))
    if variance <= 0:
        return 1.0
    return 1 - NormalDist().cdf((score - 1) / math.sqrt(variance))


# Of the size of a group of ties, in Kendall's variance.
_TIE_FORMS: tuple[Callable[[int], int], ...] = (
    lambda size: size * (size - 1) * (2 * size + 5),
    lambda size: size * (size - 1) * (size - 2),
    lambda size: size * (size - 1),
)


def _compare(one: float, other: float) -> int:
    return (one > other) - (one < other)
