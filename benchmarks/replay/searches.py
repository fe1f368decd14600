"""Searches on the table: the product's own oracles, asked and told as a sweep with one slot would.

An oracle draws from the whole space, and the table has some configurations of it. Each draw is moved onto the nearest
row that the search has not had, within the oracle, before the oracle takes it for its own: so it learns the result of
the very values that it believes to have proposed, and its model is of true pairs. What this distorts: a search that
goes by results cannot look as closely at a good place as it would, and random draws take rows from where there are few
somewhat earlier. The first is seen in `Replay.displacement`, the second in the control that takes rows evenly, without
any oracle. A grid learns nothing and needs its own order, so its combinations are moved after it has proposed them.

Near is counted in the coordinates in which the space is drawn evenly: 0 to 1 along each tunable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal, Search
from replay.table import Row, Table


@dataclass(frozen=True)
class Strategy:
    """A search to replay. arguments: its oracle's own.

    foresees: told the result of its last epoch for each trial, however short: no rung can say more, so this is the
    limit of what promoting by better rungs could save.
    """

    name: str
    oracle: str
    arguments: Mapping[str, Any]
    foresees: bool = False

    @property
    def has_seed(self) -> bool:
        """Whether another seed makes another search of it."""
        return self.oracle != "grid"


# As a user would choose them, but for what would end them: Hyperband begins its brackets again and again.
OVERRIDES: dict[str, tuple[str, ...]] = {
    "random": ("search=random",),
    "grid": ("search=grid",),
    "bayesian": ("search=bayesian",),
    "hyperband": ("search=hyperband", "search.iterations=1000", "search.restart=false"),
    "asha": ("search=asha", "search.restart=false"),
    "tpe": ("search=tpe",),
    "asha with tpe": ("search=asha", "search.proposer=tpe", "search.restart=false"),
    "hyperband, restarting": ("search=hyperband", "search.iterations=1000", "search.restart=true"),
    "asha, restarting": ("search=asha", "search.restart=true"),
    "asha with tpe, restarting": ("search=asha", "search.proposer=tpe", "search.restart=true"),
}
_SHORT_RUNGS = (1, 3)  # of those that restart, below a longest schedule of 9 epochs
RANDOM = "random"
EVEN = "rows drawn evenly"
FORESIGHT = "asha, had each rung foretold the end"


def compose_strategy(name: str, overrides: Sequence[str], *, foresees: bool = False) -> Strategy:
    """A strategy with the defaults of the product's configs where these overrides do not say otherwise."""
    config = compose_job(overrides).config
    return Strategy(name, config.search.name, config.oracle, foresees)


def list_strategies(table: Table) -> list[Strategy]:
    """All strategies that a table can replay, and the limit of ASHA's."""
    composed = [compose_strategy(name, overrides) for name, overrides in OVERRIDES.items()]
    restarts = all(epochs in table.shorter for epochs in _SHORT_RUNGS)
    strategies = [each for each in composed if restarts or not each.arguments.get("restart")]
    return [*strategies, compose_strategy(FORESIGHT, OVERRIDES["asha"], foresees=True)]


@dataclass
class Replay:
    """What a replayed search came to.

    seconds, scores: CPU seconds spent when a trial ended, and the best validation accuracy by then. full_length: trials
    that ended with the last epoch. asking: CPU seconds of all proposals, which are not among `seconds`. displacement:
    how far each draw was moved, in the coordinates of the space.
    """

    strategy: str
    seed: int
    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    configurations: int = 0
    full_length: int = 0
    asking: float = 0.0
    displacement: list[float] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """The CPU seconds of all trials that have ended."""
        return self.seconds[-1] if self.seconds else 0.0

    @property
    def best(self) -> float:
        """The best validation accuracy so far."""
        return self.scores[-1] if self.scores else 0.0

    def end_trial(self, cost: float, score: float | None) -> None:
        """Take in that the next trial has ended."""
        self.seconds.append(self.spent + cost)
        self.scores.append(max(self.best, score or 0.0))

    def find_seconds(self, target: float) -> float:
        """The CPU seconds until the best was at least this; infinity where it never was."""
        return next((spent for spent, best in zip(self.seconds, self.scores, strict=True) if best >= target), np.inf)

    def find_best(self, seconds: float) -> float:
        """The best after so many CPU seconds; NaN before the first trial has ended."""
        place = int(np.searchsorted(self.seconds, seconds, side="right"))
        return self.scores[place - 1] if place else float("nan")


class _Pool:
    """The rows that a search has not had yet, and what moves its draws onto them."""

    def __init__(self, table: Table) -> None:
        self._parameters = space.build_hyperparameters(table.settings).space
        self._rows = {self._identify(row.values): row for row in table.rows}
        self._left = list(table.rows)
        self._places = np.array([self._locate(row.values) for row in table.rows])
        self.displacement = list[float]()
        self._moved: dict[int, float] = {}  # how far, by the row's number

    def __bool__(self) -> bool:
        return bool(self._left)

    def admit(self, values: Mapping[str, Any]) -> bool:
        """Move a draw onto the nearest row left, in the oracle's own mapping; False where none is left."""
        if not self._left:
            return False
        row, distance = self._find_nearest(values)
        assert isinstance(values, dict)
        values.update(row.values)
        self._moved[row.number] = distance
        return True

    def take(self, values: Mapping[str, Any]) -> Row:
        """The row of a proposal, which no other gets. Raises KeyError if the proposal is none."""
        row = self._rows[self._identify(values)]
        distance = self._moved[row.number]
        place = self._left.index(row)
        del self._left[place]
        self._places = np.delete(self._places, place, axis=0)
        self.displacement.append(distance)
        return row

    def _find_nearest(self, values: Mapping[str, Any]) -> tuple[Row, float]:
        distances = np.linalg.norm(self._places - self._locate(values), axis=1)
        place = int(distances.argmin())
        return self._left[place], float(distances[place])

    def _locate(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        return np.array([each.value_to_prob(values[each.name]) for each in self._parameters])

    def _identify(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(values[each.name] for each in self._parameters)


def replay(table: Table, strategy: Strategy, seed: int, budget: float) -> Replay:
    """Replay a search until it has spent its budget of CPU seconds, found the best row, or had all rows."""
    pool, result = _Pool(table), Replay(strategy.name, seed)
    is_grid = strategy.oracle == "grid"
    settings = {**table.settings, "seed": seed}
    search = Search(
        strategy.oracle, strategy.arguments, settings, "val_accuracy", admits=None if is_grid else pool.admit
    )
    trials: dict[str, tuple[Row, int]] = {}
    best, promotes = max(table.finals), strategy.oracle in ("asha", "hyperband")
    while result.spent < budget and result.best < best and (pool or promotes):
        begun = time.process_time()
        answer = search.ask(may_draw=bool(pool))
        result.asking += time.process_time() - begun
        if not isinstance(answer, Proposal):
            break  # nothing is under way that it could wait for
        values = dict(answer.values)
        if is_grid:
            pool.admit(values)
        row, earlier_epochs = (pool.take(values), 0) if answer.continues is None else trials[answer.continues]
        epochs = answer.epochs or table.epochs
        trials[answer.trial_id] = row, epochs
        if answer.restarts:
            trained, earlier_epochs = table.find_short_row(row.number, epochs), 0
        else:
            trained = row
        score = trained.compute_score(epochs)
        result.end_trial(trained.compute_cost(earlier_epochs, epochs), score)
        result.configurations += answer.continues is None
        result.full_length += epochs == table.epochs
        begun = time.process_time()
        search.tell(answer.trial_id, row.compute_score(table.epochs) if strategy.foresees else score)
        result.asking += time.process_time() - begun
    result.displacement = pool.displacement
    return result


def replay_evenly(table: Table, seed: int, budget: float) -> Replay:
    """A random search that needs no mapping: the rows in a random order. The control for what the mapping distorts."""
    result = Replay(EVEN, seed)
    for place in np.random.default_rng(seed).permutation(len(table.rows)):
        row = table.rows[int(place)]
        result.end_trial(row.compute_cost(0, table.epochs), row.compute_score(table.epochs))
        result.configurations += 1
        result.full_length += 1
        if result.seconds[-1] >= budget:
            break
    return result
