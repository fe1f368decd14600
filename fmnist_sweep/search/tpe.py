"""Tree-structured Parzen estimators: Optuna's sampler draws, KerasTuner's oracle keeps what was drawn.

This is a module of its own, imported when such a search begins, because importing Optuna and KerasTuner takes seconds.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras_tuner
import numpy as np
import optuna
from keras_tuner.engine import hyperparameters as kinds
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from fmnist_sweep.search.asha import AshaOracle
from fmnist_sweep.search.oracles import Replayable

# Draws of the sampler for one answer: in a small space they are soon known ones, and random ones follow.
_MOST_DRAWS = 10

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class _Answer:
    """An answer that was given before, to be given again."""

    values: Mapping[str, Any]
    seed_state: int
    refused_count: int


@dataclass(frozen=True)
class _Dimension:
    """A tunable in the coordinates of the sampler.

    What has an order and equal steps is an index, what has no order is one of its values, and anything else is
    KerasTuner's cumulative probability in 0..1, which is where its sampling, such as log, is uniform. name: unlike that
    of any other tunable: one of the same key may exist under another condition.
    """

    name: str
    parameter: Any

    @property
    def distribution(self) -> BaseDistribution:
        parameter = self.parameter
        if isinstance(parameter, kinds.Boolean):
            return CategoricalDistribution((False, True))
        if isinstance(parameter, kinds.Choice) and not parameter.ordered:
            return CategoricalDistribution(tuple(parameter.values))
        if isinstance(parameter, kinds.Choice):
            return IntDistribution(0, len(parameter.values) - 1)
        if self._has_equal_steps:
            steps = (parameter.max_value - parameter.min_value) // parameter.step
            return IntDistribution(0, int(steps))
        return FloatDistribution(0.0, 1.0)

    @property
    def _has_equal_steps(self) -> bool:
        return isinstance(self.parameter, kinds.Int) and self.parameter.sampling == "linear"

    def encode(self, value: Any) -> Any:
        """The coordinate of a value."""
        parameter = self.parameter
        if isinstance(parameter, kinds.Choice) and parameter.ordered:
            return parameter.values.index(value)
        if self._has_equal_steps:
            return int((value - parameter.min_value) // parameter.step)
        if isinstance(parameter, kinds.Boolean | kinds.Choice):
            return value
        return min(1.0, max(0.0, float(parameter.value_to_prob(value))))

    def decode(self, coordinate: Any) -> Any:
        """The value at a coordinate."""
        parameter = self.parameter
        if isinstance(parameter, kinds.Choice) and parameter.ordered:
            return parameter.values[coordinate]
        if self._has_equal_steps:
            return parameter.min_value + coordinate * parameter.step
        if isinstance(parameter, kinds.Boolean | kinds.Choice):
            return coordinate
        return min(parameter.max_value, max(parameter.min_value, parameter.prob_to_value(coordinate)))


class _KnownTrials(optuna.storages.InMemoryStorage):
    """A store of what is known of each configuration, in the order in which they were proposed.

    Optuna's own keeps a trial that has ended as it was, and here one is promoted. Beside the known ones, it holds the
    one trial that is asked for, number 0.
    """

    def __init__(self, known: Mapping[int, FrozenTrial]) -> None:
        super().__init__()
        self._known = known

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        asked = super().get_all_trials(study_id, deepcopy, states)
        known = [trial for trial in self._known.values() if states is None or trial.state in states]
        return asked + (copy.deepcopy(known) if deepcopy else known)


class _Model:
    """What is known of the configurations, as Optuna's sampler takes it.

    A configuration counts with its result in the highest rung in which it ended, and as better than all that ended in
    lower ones only. completed_count: how many have a result.
    """

    def __init__(self, space: Sequence[Any], direction: str, rungs: int) -> None:
        self._dimensions = [_Dimension(f"{place:04d} {one.name}", one) for place, one in enumerate(space)]
        self._distributions = {dimension.name: dimension.distribution for dimension in self._dimensions}
        self._direction: Literal["maximize", "minimize"] = "maximize" if direction == "max" else "minimize"
        self._last_rung = rungs - 1
        self._known: dict[int, FrozenTrial] = {}  # by the number of the configuration
        self.completed_count = 0

    def begin_configuration(self, number: int, values: Mapping[str, Any]) -> None:
        """Take in that a new configuration is under way: the sampler keeps away from it. number: from 0."""
        drawn = keras_tuner.HyperParameters()
        params = {}
        for dimension in self._dimensions:
            drawn.merge([dimension.parameter])
            if drawn.is_active(dimension.parameter):
                value = drawn.values[dimension.parameter.name] = values[dimension.parameter.name]
                params[dimension.name] = dimension.encode(value)
        self._note(number, TrialState.RUNNING, params)

    def end_trial(self, number: int, score: float | None, rung: int) -> None:
        """Take in how a trial of a configuration ended. score: None if it failed: the sampler then ignores it."""
        previous = self._known.get(number)
        if previous is None:
            return
        if score is None:
            del self._known[number]
        elif rung == self._last_rung:
            self._note(number, TrialState.COMPLETE, previous.params, value=score)
        else:
            self._note(number, TrialState.PRUNED, previous.params, intermediate_values={rung: score})
        self.completed_count += (score is not None) - (previous.state != TrialState.RUNNING)

    def _note(self, number: int, state: TrialState, params: dict[str, Any], **result: Any) -> None:
        distributions = {name: self._distributions[name] for name in params}
        trial = optuna.trial.create_trial(state=state, params=params, distributions=distributions, **result)
        trial.number = number + 1
        self._known[number] = trial

    def draw_values(self, seed: int) -> Iterator[dict[str, Any]]:
        """Draw values without end; which, depends on the seed and on what is known alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=1, multivariate=True, group=True, constant_liar=True, seed=seed
            )
        while True:
            study = optuna.create_study(storage=_KnownTrials(self._known), sampler=sampler, direction=self._direction)
            asked = study.ask()
            drawn = keras_tuner.HyperParameters()
            for dimension in self._dimensions:
                drawn.merge([dimension.parameter])
                if drawn.is_active(dimension.parameter):
                    drawn.values[dimension.parameter.name] = self._suggest_value(asked, dimension)
            yield dict(drawn.values)

    def _suggest_value(self, asked: optuna.Trial, dimension: _Dimension) -> Any:
        match self._distributions[dimension.name]:
            case CategoricalDistribution() as categorical:
                coordinate: Any = asked.suggest_categorical(dimension.name, categorical.choices)
            case IntDistribution() as whole:
                coordinate = asked.suggest_int(dimension.name, whole.low, whole.high)
            case _:
                coordinate = asked.suggest_float(dimension.name, 0.0, 1.0)
        return dimension.decode(coordinate)


class _TpeProposing(Replayable):
    """New configurations for an oracle: the first `initial_points` at random, as the stock oracles draw them.

    A proposal depends on the seed, on its number, on the trials that have ended and on those that run, and on nothing
    else.
    """

    seed: int
    _initial_points: int
    _model: _Model
    _recorded: _Answer | None = None

    def set_next_answer(
        self, values: Mapping[str, Any], seed_state: int, guesses: Mapping[str, float], refused_count: int
    ) -> None:
        """Let the next answer be this one; values that were drawn at random are drawn again all the same."""
        self._recorded = _Answer(values, seed_state, refused_count)

    def _propose_values(self, number: int) -> dict[str, Any] | None:
        """New values; None if none are left. number: of the configuration."""
        seed = self._seed_state = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self._first or self._model.completed_count < self._initial_points:
            return self._random_values()
        if self._recorded is not None:
            self._seed_state, self.refused_count = self._recorded.seed_state, self._recorded.refused_count
            return dict(self._recorded.values)
        refused_count = 0
        for values in itertools.islice(self._model.draw_values(seed), _MOST_DRAWS):
            if self._duplicate(values):  # type: ignore[attr-defined]
                continue
            if self._admits(values):
                self.refused_count += refused_count
                return values
            refused_count += 1
        return self._random_values()


class TpeOracle(_TpeProposing, keras_tuner.Oracle):  # type: ignore[misc]
    """Proposes what is likely among the good trials and unlikely among the others (Bergstra et al., 2011)."""

    def __init__(self, *, initial_points: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._initial_points = initial_points
        self._model = _Model(self.hyperparameters.space, self.objective.direction, rungs=1)
        self._numbers: dict[str, int] = {}  # by trial id

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        number = len(self._numbers)
        values, self._recorded = self._propose_values(number), None
        if values is None:
            return {"status": "STOPPED", "values": None}
        self._numbers[trial_id] = number
        self._model.begin_configuration(number, values)
        return {"status": "RUNNING", "values": values}

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        score = trial.score if trial.status == "COMPLETED" else None
        self._model.end_trial(self._numbers[trial.trial_id], score, rung=0)


class AshaTpeOracle(_TpeProposing, AshaOracle):
    """Promotes as ASHA does, and draws new configurations as the TPE oracle does."""

    def __init__(self, *, initial_points: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._initial_points = initial_points
        self._model = _Model(self.hyperparameters.space, self.objective.direction, len(self.rung_epochs))

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        answer = super().populate_space(trial_id)
        self._recorded = None  # that of a promotion, which is found again
        return answer

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        place = self.places[trial.trial_id]
        self._model.end_trial(place.configuration, trial.score if trial.status == "COMPLETED" else None, place.rung)

    def _begin_new_trial(self, trial_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        answer = super()._begin_new_trial(trial_id, values)
        self._model.begin_configuration(self.places[trial_id].configuration, values)
        return answer

    def _draw_values(self, number: int) -> dict[str, Any] | None:
        return self._propose_values(number)
