"""What steers every oracle: configurations that it proposes first, and drawn ones that no trial is made of.

A module of its own, imported when a search begins, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner

# Takes the values of a draw; says whether a trial may be made of them.
Admission = Callable[[Mapping[str, Any]], bool]
# Refused draws in a row after which an oracle has nothing left to propose.
_MAX_REFUSED = 10_000


def _admit_all(values: Mapping[str, Any]) -> bool:
    return True


class Steered:
    """A mixin for KerasTuner's oracles, whose random draws all go through `_random_values`.

    What is refused is drawn again within the same answer, so that it is no trial and leaves no hole in a rung or grid.
    refused_count: draws that were refused so far in favour of what was proposed.
    """

    hyperparameters: keras_tuner.HyperParameters
    _seed_state: int
    _max_collisions: int
    refused_count = 0

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._admits: Admission = _admit_all
        self._first: deque[dict[str, Any]] = deque()

    def steer(self, admits: Admission | None, first: Sequence[Mapping[str, Any]]) -> None:
        """Set which draws are admitted (None: all), and the configurations to propose before any draw."""
        self._admits = admits or _admit_all
        self._first = deque(self._select_active(values) for values in first)

    def _select_active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the tunables that are active with these values."""
        selected = keras_tuner.HyperParameters()
        for parameter in self.hyperparameters.space:
            selected.merge([parameter])
            if selected.is_active(parameter):
                selected.values[parameter.name] = values[parameter.name]
        return dict(selected.values)

    def _random_values(self) -> dict[str, Any] | None:
        """The next configuration to come first, or else new, admitted values drawn at random; None if none is left."""
        if self._first:
            return self._first.popleft()
        known_count = refused_count = 0
        while known_count <= self._max_collisions and refused_count < _MAX_REFUSED:
            values = self._draw_values_once()
            if self._duplicate(values):  # type: ignore[attr-defined]
                known_count += 1
            elif not self._admits(values):
                refused_count += 1
            else:
                self.refused_count += refused_count
                return values
        return None

    def _draw_values_once(self) -> dict[str, Any]:
        values = draw_values(self.hyperparameters, self._seed_state)
        self._seed_state += len(values)
        return values


def draw_values(
    hyperparameters: keras_tuner.HyperParameters, seed_state: int, *, is_grid: bool = False
) -> dict[str, Any]:
    """Draw values at random, as KerasTuner does: each tunable that is active uses up one state of the seed.

    is_grid: draw from the values that a grid tries.
    """
    drawn, state = keras_tuner.HyperParameters(), seed_state
    for parameter in hyperparameters.space:
        drawn.merge([parameter])  # which gives it its default
        if drawn.is_active(parameter):
            drawn.values[parameter.name] = (
                random.Random(state).choice(list(parameter.values))  # noqa: S311
                if is_grid
                else parameter.random_sample(state)
            )
            state += 1
    return dict(drawn.values)
