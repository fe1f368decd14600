"""The oracle of asynchronous successive halving; `ask_and_tell` creates it.

This is a module of its own, imported when a search begins, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner

from fmnist_sweep.search.oracles import Replayable
from fmnist_sweep.search.rungs import Rungs

_OWN_PREFIX = "tuner/"  # of what the oracle adds to a trial's values, as KerasTuner's Hyperband does


@dataclass(frozen=True)
class _Place:
    """Where a trial stands: its place among the proposals, its rung, and the number of its configuration; from 0."""

    number: int
    rung: int
    configuration: int


class AshaOracle(Replayable, keras_tuner.Oracle):  # type: ignore[misc]
    """Promotes the best trial of a rung as soon as it can, and draws a new configuration otherwise.

    A promoted trial is another trial with the same values and more epochs, which goes on from where the first one
    ended. rung_epochs: how many epochs a trial has after each rung. places: of the trials, by id.
    """

    def __init__(self, *, rung_epochs: Sequence[int], factor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rung_epochs = rung_epochs
        self.places: dict[str, _Place] = {}
        self._rungs = Rungs(len(rung_epochs), factor)
        self._configuration_count = 0
        self._is_used_up = False  # the space

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        promotion = self._rungs.promote()
        if promotion is None and self.may_draw:
            values = self._draw_new_values()
            if values is not None:
                return self._begin_new_trial(trial_id, values)
        if promotion is None and not self.ongoing_trials:
            promotion = self._rungs.promote_last()
        if promotion is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}
        rung, number = promotion
        promoted_id = self.start_order[number]
        values = self._drop_own_values(self.trials[promoted_id].hyperparameters.values)
        self.places[trial_id] = _Place(len(self.places), rung + 1, self.places[promoted_id].configuration)
        own = {f"{_OWN_PREFIX}trial_id": promoted_id, f"{_OWN_PREFIX}epochs": self.rung_epochs[rung + 1]}
        return {"status": "RUNNING", "values": {**values, **own}}

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        loss = None
        if trial.status == "COMPLETED":
            loss = -trial.score if self.objective.direction == "max" else trial.score
        place = self.places[trial.trial_id]
        self._rungs.end_trial(place.rung, place.number, loss)

    def _begin_new_trial(self, trial_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        self.places[trial_id] = _Place(len(self.places), 0, self._configuration_count)
        self._configuration_count += 1
        return {"status": "RUNNING", "values": {**values, f"{_OWN_PREFIX}epochs": self.rung_epochs[0]}}

    def _draw_new_values(self) -> dict[str, Any] | None:
        """Values that no trial has yet; None if the space is used up."""
        if self._is_used_up:
            return None
        seed_state = self._seed_state
        values = self._draw_values(self._configuration_count)
        if values is None:
            # A restored search, which is not told of this, has to come to the same.
            self._is_used_up, self._seed_state = True, seed_state
        return values

    def _draw_values(self, number: int) -> dict[str, Any] | None:
        """New values; None if none are left. number: of the configuration."""
        return self._random_values()

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        name: str = super()._compute_values_hash(self._drop_own_values(values))
        return name

    @staticmethod
    def _drop_own_values(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if not key.startswith(_OWN_PREFIX)}
