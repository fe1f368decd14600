"""KerasTuner's oracles, and more of its kind, asked for proposals and told of results by the project's own loop.

No oracle has a budget of trials: the owner of the search keeps it, so that raising it continues the same sequence.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.search import space
from fmnist_sweep.search.estimates import continues_beyond_budget
from fmnist_sweep.search.factories import create_grid_oracle, create_oracle


@dataclass(frozen=True)
class Proposal:
    """A configuration that an oracle proposes, and what restores the oracle's state after it; all of it JSON.

    epochs: how many to train, where the oracle decides that (Hyperband, ASHA). continues: the trial of the rung below
    with the same values, whose training this one continues, or does not, where each rung is a training of its own.
    seed_state, guesses: the oracle's own, see `oracles.Replayable`. refused: draws that were refused so far, this
    answer's included. restarts: whether each rung is a training of its own, this trial's included.
    """

    trial_id: str
    values: dict[str, Any]
    epochs: int | None
    continues: str | None
    seed_state: int
    guesses: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    restarts: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether a trial of the next rung may continue this one's training."""
        return self.epochs is not None and not self.restarts

    def dump(self) -> dict[str, Any]:
        """The proposal for a journal, as every version reads it if it has nothing that came later."""
        return {key: value for key, value in vars(self).items() if value or key not in ("refused", "restarts")}


@dataclass(frozen=True)
class Wait:
    """The answer of an oracle that has nothing to propose until a running trial ends."""


# An answer of the oracle, or what it was told: a trial that ended, with its score.
Exchange = Proposal | Wait | tuple[str, float | None]


class ReplayMismatch(RuntimeError):
    """An oracle, asked again as its record says, gave another answer: a defect of this project."""

    def __init__(self, recorded: Proposal | Wait | None, actual: Proposal | Wait | None) -> None:
        super().__init__(f"the oracle answered {actual}, but its record says that it had answered {recorded}")


class Search:
    """A search in memory: it is asked for proposals and told of results. Its owner keeps the durable record.

    settings: a study's, tunables included. Seeds are shifted by one because KerasTuner takes 0 for "no seed". admits:
    whether a trial may be made of drawn values; None: of any. first: configurations to propose before all others, each
    with a value of every tunable.
    """

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any],
        settings: Mapping[str, Any],
        objective: str,
        admits: Callable[[Mapping[str, Any]], bool] | None = None,
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        import keras_tuner

        from fmnist_sweep.search import oracles

        hyperparameters = space.build_hyperparameters(settings)
        self._objective = objective
        self._continues_beyond_budget = continues_beyond_budget(name, settings)
        direction = "min" if objective.endswith("loss") else "max"
        common = {
            "objective": keras_tuner.Objective(objective, direction),
            # Where the seed itself is varied, a grid goes through its values and draws nothing.
            "seed": settings["seed"] + 1 if isinstance(settings["seed"], int) else 1,
            "allow_new_entries": False,
            "tune_new_entries": False,
            "max_retries_per_trial": 0,
            "max_consecutive_failed_trials": sys.maxsize,
        }
        # Without tunables there is one trial, whichever oracle was asked for.
        epochs = space.read_epochs(settings)
        oracle: Any = (
            create_oracle(name, hyperparameters, common, settings, arguments)
            if hyperparameters.space
            else create_grid_oracle(hyperparameters, common, epochs)
        )
        # With few combinations left, 20 draws in a row are soon all known ones: draw more before giving up.
        oracles.adapt_oracle(oracle, max_collisions=100 * int(min(space.count_combinations(settings), 1000)))
        oracle.steer(admits, first)
        self._oracle = oracle
        self._is_over = False

    @property
    def refused_count(self) -> int:
        """How many draws were refused so far, or combinations of a grid left out."""
        return int(self._oracle.refused_count)

    def ask(self, *, may_draw: bool = True) -> Proposal | Wait | None:
        """The next proposal; Wait: ask again when a trial has ended; None: the search is over, and stays so.

        may_draw: whether the budget allows a new configuration. Without it, ASHA alone is to be asked: it promotes
        what can be promoted, and is over until it may draw again.
        """
        if self._is_over:
            return None
        self._oracle.may_draw = may_draw
        # Each question has a tuner id of its own: the oracle answers the same id with the same trial.
        trial = self._oracle.create_trial(f"slot-{len(self._oracle.trials)}")
        if trial.status == "IDLE":
            return Wait()
        if trial.status == "STOPPED":
            self._is_over = may_draw
            return None
        values = dict(trial.hyperparameters.values)
        epochs = values.get("tuner/epochs")
        return Proposal(
            trial.trial_id,
            # In the order of the space: that of a grid's values depends on what the trial before drew.
            {each.name: values[each.name] for each in trial.hyperparameters.space if each.name in values},
            None if epochs is None else int(epochs),
            values.get("tuner/trial_id"),
            self._oracle.seed_state,
            dict(self._oracle.guesses),
            self.refused_count,
            self._oracle.restarts,
        )

    def replay(self, answer: Proposal | Wait | None) -> None:
        """Restore the state after an earlier `ask` that gave this answer.

        All answers replayed and all results told, in their order, restore all of the state. The oracle is asked again;
        raises ReplayMismatch if it answers otherwise. What the Gaussian process found is not searched for again: to
        fit it for each trial would take as long as the search did.
        """
        if isinstance(answer, Proposal):
            self._oracle.set_next_answer(answer.values, answer.seed_state, answer.guesses, answer.refused)
        # Whether it might have drawn is not recorded, and makes no difference to a promotion, nor to waiting.
        is_new = answer is None or (isinstance(answer, Proposal) and answer.continues is None)
        actual = self.ask(may_draw=is_new or not self._continues_beyond_budget)
        if actual != answer:
            raise ReplayMismatch(answer, actual)

    def restore(self, exchanges: Iterable[Exchange]) -> None:
        """Restore the state after these exchanges: all answers and all results told, in their order."""
        for exchange in exchanges:
            if isinstance(exchange, tuple):
                self.tell(*exchange)
            else:
                self.replay(exchange)

    def tell(self, trial_id: str, score: float | None) -> None:
        """Report the objective that a trial reached, or None if it failed; once for each proposal."""
        trial = self._oracle.trials[trial_id]
        if score is None:
            trial.status = "FAILED"
        else:
            self._oracle.update_trial(trial_id, {self._objective: score})
            trial.status = "COMPLETED"
        self._oracle.end_trial(trial)


def list_samples(name: str, settings: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """Sample the configurations that this oracle may propose: all of a space that has no more, else random draws."""
    with pause_while_importing():
        from fmnist_sweep.search import steering

    grid_size = space.count_grid_trials(settings)
    if grid_size <= most and (name == "grid" or space.count_combinations(settings) == grid_size):
        yield from _list_grid(settings)
        return
    hyperparameters, state = space.build_hyperparameters(settings), 1
    for _ in range(most):
        values = steering.draw_values(hyperparameters, state, is_grid=name == "grid")
        state += len(values)
        yield values


def _list_grid(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    search = Search("grid", {}, settings, "val_accuracy")
    while isinstance(answer := search.ask(), Proposal):
        yield answer.values
