"""The oracle of asynchronous successive halving; `ask_and_tell` creates it.

This is a module of its own, imported when a search begins, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner

from fmnist_sweep.search.oracles import Replayable
from fmnist_sweep.search.rungs import Rungs

_OWN_PREFIX = "tuner/"  # of what the oracle adds to a trial's values, as KerasTuner's Hyperband does


class AshaOracle(Replayable, keras_tuner.Oracle):  # type: ignore[misc]
    """Promotes the best trial of a rung as soon as it can, and draws a new configuration otherwise.

    A promoted trial is another trial with the same values and more epochs, which goes on from where the first one
    ended. rung_epochs: how many epochs a trial has after each rung.
    """

    def __init__(self, *, rung_epochs: Sequence[int], factor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._rung_epochs = rung_epochs
        self._rungs = Rungs(len(rung_epochs), factor)
        self._numbers: dict[str, int] = {}  # place among the proposals, by trial id
        self._places: dict[str, int] = {}  # rung, by trial id

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        promotion = self._rungs.promote()
        if promotion is None and self.may_draw:
            values = self._draw_new_values()
            if values is not None:
                return self._begin_trial(trial_id, 0, values)
        if promotion is None and not self.ongoing_trials:
            promotion = self._rungs.promote_last()
        if promotion is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}
        rung, number = promotion
        promoted_id = self.start_order[number]
        values = self._drop_own_values(self.trials[promoted_id].hyperparameters.values)
        return self._begin_trial(trial_id, rung + 1, {**values, f"{_OWN_PREFIX}trial_id": promoted_id})

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        loss = None
        if trial.status == "COMPLETED":
            loss = -trial.score if self.objective.direction == "max" else trial.score
        self._rungs.end_trial(self._places[trial.trial_id], self._numbers[trial.trial_id], loss)

    def _begin_trial(self, trial_id: str, rung: int, values: Mapping[str, Any]) -> dict[str, Any]:
        self._numbers[trial_id], self._places[trial_id] = len(self.start_order), rung
        return {"status": "RUNNING", "values": {**values, f"{_OWN_PREFIX}epochs": self._rung_epochs[rung]}}

    def _draw_new_values(self) -> dict[str, Any] | None:
        """Values that no trial has yet; None, which changes nothing, if the space is used up."""
        seed_state = self._seed_state
        values: dict[str, Any] | None = self._random_values()
        if values is None:
            self._seed_state = seed_state
        return values

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        name: str = super()._compute_values_hash(self._drop_own_values(values))
        return name

    @staticmethod
    def _drop_own_values(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if not key.startswith(_OWN_PREFIX)}
