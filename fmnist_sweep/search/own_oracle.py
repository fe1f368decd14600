"""An oracle of one's own: a function of the space and of the trials so far, which proposes the next configuration.

A module of its own, imported when such a search begins, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search import tunable
from fmnist_sweep.search.oracles import Replayable
from fmnist_sweep.text import quote_text


class OwnOracle(Replayable, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """Proposes what a function says; asked again with the same trials, it says the same.

    propose: takes the space (the tunable of each name) and the trials (values, and score where one ended well: the
    higher, the better), gives values by name, or None when there is nothing left.
    """

    def __init__(
        self,
        name: str,
        propose: Callable[[Mapping[str, Any], list[dict[str, Any]]], Any],
        space: Mapping[str, Mapping[str, Any]],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._name, self._propose, self._space = name, propose, space

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self._first:
            return {"status": "RUNNING", "values": self._first.popleft()}
        try:
            proposed = self._propose({name: dict(spec) for name, spec in self._space.items()}, self._list_trials())
        except Exception as error:
            reason = quote_text(f"{type(error).__name__}: {error}".strip().splitlines()[0], 300)
            raise ConfigError(f"search.name={self._name}: the oracle raised an error ({reason}); mend it.") from error
        if proposed is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED", "values": None}
        values = self._select_active(self._check_values(proposed))
        if self._duplicate(values) or not self._admits(values):
            # A trial is never repeated, and what is too large is none: a draw at random, as long as there are any.
            self.refused_count += 1
            drawn = self._random_values()
            return {"status": "STOPPED" if drawn is None else "RUNNING", "values": drawn}
        return {"status": "RUNNING", "values": values}

    def _list_trials(self) -> list[dict[str, Any]]:
        sign = 1 if self.objective.direction == "max" else -1
        return [
            {
                "values": {name: trial.hyperparameters.values.get(name) for name in self._space},
                "score": sign * float(trial.score) if trial.status == "COMPLETED" else None,
                "state": {"COMPLETED": "finished", "FAILED": "failed"}.get(trial.status, "running"),
            }
            for trial in self.trials.values()
        ]

    def _check_values(self, proposed: Any) -> dict[str, Any]:
        if not isinstance(proposed, Mapping):
            raise self._refuse(f"{type(proposed).__name__}; expected a mapping of values by name, or None")
        values = {}
        for name, spec in self._space.items():
            if name not in proposed:
                raise self._refuse(f"no value of {name}; expected one of each of {', '.join(self._space)}")
            value = _find_drawn(spec, proposed[name])
            if value is None:
                raise self._refuse(f"{name}={quote_text(proposed[name])}, which the space does not have")
            values[name] = value
        return values

    def _refuse(self, found: str) -> ConfigError:
        return ConfigError(f"search.name={self._name}: the oracle proposed {found}; mend it.")


def _find_drawn(spec: Mapping[str, Any], value: Any) -> Any:
    """The value of a tunable that is meant; None if it has no such value."""
    if hasattr(value, "item"):
        value = value.item()  # NumPy's
    if isinstance(value, float):
        value = tunable.round_float(value)  # 3 * 0.1 is meant for 0.3
    parsed = tunable.parse_tunable(spec)
    if isinstance(parsed, tunable.Float) and parsed.step is None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_within = is_number and parsed.min_value <= value <= parsed.max_value
        return float(value) if is_within else None
    return parsed.find_drawn(value)
