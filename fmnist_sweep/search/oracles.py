"""KerasTuner's oracles, changed where they must be restored exactly and stay quick; `ask_and_tell` uses them.

This is a module of its own, imported when a search begins, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras_tuner
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fmnist_sweep.search.steering import Steered

# How many points KerasTuner's populate_space draws to start its search for the optimum from.
_START_POINTS = 50
# Admitted draws of which the best by the process takes the place of an optimum that is refused.
_CANDIDATES = 50


class Replayable(Steered):
    """What all oracles here share: the state that an answer left behind, and a way to restore it.

    guesses: the scores that the last answer assumed for the trials under way, by trial id. An oracle that does not
    assume any needs nothing but to be asked again. may_draw: whether the next answer may be a new configuration, and
    not only the continuation of one (ASHA); it is asked for one more without it only where it continues any. restarts:
    whether a promoted trial is trained from its first epoch, by a schedule of its own length.
    """

    guesses: Mapping[str, float] = MappingProxyType({})
    may_draw = True
    restarts = False

    @property
    def seed_state(self) -> int:
        """The seed that KerasTuner draws the next values from."""
        return self._seed_state

    def set_next_answer(
        self, values: Mapping[str, Any], seed_state: int, guesses: Mapping[str, float], refused_count: int
    ) -> None:
        """Let the next answer be this one. Here it does nothing: the oracle, asked again, finds the answer quickly."""


def adapt_oracle(oracle: Any, max_collisions: int) -> None:
    """Replace private attributes of KerasTuner's oracle, so that it writes no files and stays quick.

    max_collisions: draws in a row that may all be known combinations before it gives up.
    """
    oracle.verbose = 0
    # Its files are torn by a kill and cost more with every trial; the owner's journal replaces them.
    oracle.save = lambda: None
    oracle._save_trial = lambda trial: None
    # It walks through all trials that have ended, at each end, for a limit that is never reached.
    oracle._check_consecutive_failures = lambda: None
    oracle._max_collisions = max_collisions


class RandomOracle(Replayable, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """KerasTuner's random search, as it is."""


class BayesianOracle(Replayable, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Proposes nothing twice, and repeats an earlier answer without searching for it again.

    guesses: the process was fitted to them as if they were results, so that fit cannot be repeated without them.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.guesses: dict[str, float] = {}
        self._completed = 0
        self._next_answer: tuple[Mapping[str, Any], int, Mapping[str, float], int] | None = None
        # A fit that was skipped: how many trials had ended by then, and the guesses for those under way.
        self._pending_fit: tuple[int, Mapping[str, float]] | None = None

    def set_next_answer(
        self, values: Mapping[str, Any], seed_state: int, guesses: Mapping[str, float], refused_count: int
    ) -> None:
        """Let the next answer be this one; values that were drawn at random are drawn again all the same."""
        self._next_answer = values, seed_state, guesses, refused_count

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        next_answer, self._next_answer = self._next_answer, None
        self.guesses = {}
        # The stock oracle decides the same by walking through all its trials.
        if self._first or self._completed < self.num_initial_points:
            return self._draw_values()
        if next_answer is not None:
            return self._repeat_answer(*next_answer)
        # The last bits depend on the number of threads, and so would a restored search. Beside trials under way, more
        # threads also take many times longer.
        with threadpool_limits(1, user_api="blas"):
            answer: dict[str, Any] = super().populate_space(trial_id)
            self._pending_fit = None
            # The optimum of the process may be a trial that is already known; a new one says more.
            if self._duplicate(answer["values"]):
                return self._draw_values()
            # NumPy's numbers are not JSON's, and an answer that is set later must count the same to the last bit.
            answer["values"] = {
                key: value.item() if isinstance(value, np.generic) else value for key, value in answer["values"].items()
            }
            return answer if self._admits(answer["values"]) else self._choose_candidate()

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        self._completed += trial.status == "COMPLETED"

    def _draw_values(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._random_populate_space()
        return answer

    def _choose_candidate(self) -> dict[str, Any]:
        """Of new, admitted draws the one with the best bound by the process, which has been fitted."""
        self.refused_count += 1
        draws = [self._random_values() for _ in range(_CANDIDATES)]
        candidates = [values for values in draws if values is not None]
        if not candidates:
            return {"status": "STOPPED", "values": None}
        means, deviations = self.gpr.predict(np.array(list(map(self._vectorize, candidates))), return_std=True)
        return {"status": "RUNNING", "values": candidates[int(np.argmin(means - self.beta * deviations))]}

    def _vectorize(self, values: Mapping[str, Any]) -> list[float]:
        """Values in the coordinates of the process; a tunable that is not active counts as its default."""
        return [
            parameter.value_to_prob(values.get(parameter.name, parameter.default))
            for parameter in self._nonfixed_space()
        ]

    def _repeat_answer(
        self, values: Mapping[str, Any], seed_state: int, guesses: Mapping[str, float], refused_count: int
    ) -> dict[str, Any]:
        # Change all that finding the optimum changes but the fit: its cost is cubic, and only the last one matters.
        bounds = self._get_hp_bounds()
        self._random_state.uniform(bounds[:, 0], bounds[:, 1], size=(_START_POINTS, len(bounds)))
        self._seed_state, self.refused_count = seed_state, refused_count
        self.guesses = dict(guesses)
        self._pending_fit = len(self.end_order), self.guesses
        return {"status": "RUNNING", "values": dict(values)}

    def _vectorize_trials(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # The fit of the previous answer guesses the trials under way; with none under way it is not needed.
        if self._pending_fit is not None and self.ongoing_trials:
            self._fit(*self._pending_fit)
        x, y = super()._vectorize_trials()
        rows = [trial for trial in self.trials.values() if trial.status != "FAILED"]
        self.guesses = {
            trial.trial_id: float(score) for trial, score in zip(rows, y, strict=True) if trial.status == "RUNNING"
        }
        return x, y

    def _fit(self, end_count: int, guesses: Mapping[str, float]) -> None:
        """Fit the process to what was known when `end_count` trials had ended; it minimises, whatever the objective."""
        completed = {trial_id for trial_id in self.end_order[:end_count] if self.trials[trial_id].status == "COMPLETED"}
        sign = -1 if self.objective.direction == "max" else 1
        x, y = [], []
        for trial_id, trial in self.trials.items():
            if trial_id in completed or trial_id in guesses:
                x.append(self._vectorize(trial.hyperparameters.values))
                y.append(guesses[trial_id] if trial_id in guesses else sign * trial.score)
        self.gpr.fit(np.array(x), np.nan_to_num(np.array(y), posinf=0, neginf=0))


class GridOracle(Replayable, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """Proposes the next combination at once; the stock oracle waits for a trial to end, which may add entries."""

    _populate_next: list[str]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._first_hashes: set[str] = set()
        self._refused_hashes: set[str] = set()  # it comes to a combination twice: when a trial begins and when it ends
        self._has_begun = False

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self._first:
            values = self._first.popleft()
            self._first_hashes.add(self._compute_values_hash(values))
            return {"status": "RUNNING", "values": values}
        # A trial that came first has no place in the order of the grid.
        self._populate_next = [each for each in self._populate_next if each in self._ordered_ids._data_to_index]
        answer: dict[str, Any] = super().populate_space(trial_id) if self._has_begun else self._begin_grid(trial_id)
        if answer["values"] is not None:
            self._populate_next.append(trial_id)
        return answer

    def _begin_grid(self, trial_id: str) -> dict[str, Any]:
        """Propose the first combination, that of the defaults, or the first one after it that is admitted and new."""
        self._has_begun = True
        defaults = self._select_active({parameter.name: parameter.default for parameter in self.hyperparameters.space})
        values = defaults if self._is_to_be_tried(defaults) else self._get_next_combination(defaults)
        if values is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}
        self._ordered_ids.insert(trial_id)
        return {"status": "RUNNING", "values": values}

    def _get_next_combination(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The next combination that is admitted and did not come first."""
        combination: dict[str, Any] | None = super()._get_next_combination(values)
        while combination is not None and not self._is_to_be_tried(combination):
            combination = super()._get_next_combination(combination)
        return combination

    def _is_to_be_tried(self, values: Mapping[str, Any]) -> bool:
        name = self._compute_values_hash(values)
        if name in self._first_hashes:
            return False
        if not self._admits(values):
            self._refused_hashes.add(name)
            self.refused_count = len(self._refused_hashes)
        return name not in self._refused_hashes


class HyperbandOracle(Replayable, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Drops a bracket as soon as nothing more can come of it."""

    _brackets: list[dict[str, Any]]

    def _remove_completed_brackets(self) -> None:
        # After a failure a bracket may never be complete, and the stock oracle walks through it whenever it is asked.
        super()._remove_completed_brackets()
        self._brackets = [bracket for bracket in self._brackets if self._is_open(bracket)]

    def _is_open(self, bracket: Mapping[str, Any]) -> bool:
        """Whether a bracket has trials to begin, to wait for or to promote."""
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        if len(rounds[0]) < self._get_size(number, 0):
            return True
        statuses = [[self.trials[entry["id"]].status for entry in entries] for entries in rounds]
        if any("RUNNING" in entries for entries in statuses):
            return True
        # As in populate_space: more must be left to promote than are to be left behind.
        return any(
            statuses[rung].count("COMPLETED") - len(rounds[rung + 1])
            > self._get_size(number, rung) - self._get_size(number, rung + 1)
            for rung in range(len(rounds) - 1)
        )
