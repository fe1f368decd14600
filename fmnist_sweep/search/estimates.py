"""How much a search takes: its trials, their epochs and rungs; and why an oracle cannot search a space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_sweep.search import rungs, space, tunable
from fmnist_sweep.search.parameters import find_tunables


def continues_beyond_budget(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a budget of trials counts configurations alone, and what can be promoted of them is trained besides."""
    return name == "asha" and any(find_tunables(settings))


def count_possible_trials(name: str, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """How many trials the oracle would run without a budget, of ASHA how many configurations.

    It is math.inf where only a budget ends the search.
    """
    if name == "hyperband" and any(find_tunables(settings)):
        hyperband_rungs = compute_hyperband_rungs(space.read_epochs(settings), arguments["factor"])
        return float(sum(map(sum, hyperband_rungs)) * arguments["iterations"])
    return space.count_grid_trials(settings) if name == "grid" else space.count_combinations(settings)


def estimate_trials(
    name: str, arguments: Mapping[str, Any], settings: Mapping[str, Any], configurations: float
) -> float:
    """About how many trials so many configurations take: more than one each where the oracle promotes them."""
    if not continues_beyond_budget(name, settings) or math.isinf(configurations):
        return configurations
    return float(len(list_asha_epochs(arguments, settings, configurations)))


def estimate_epochs(name: str, arguments: Mapping[str, Any], settings: Mapping[str, Any], trials: float) -> float:
    """How many epochs so many trials take: exact for Hyperband without a budget, an upper bound for tuned epochs.

    Those that a promoted trial goes on from count for it, too.
    """
    epochs = space.read_epochs(settings)
    if name == "hyperband" and any(find_tunables(settings)):
        hyperband_rungs = compute_hyperband_rungs(epochs, arguments["factor"])
        total = sum(
            size * rung_epochs
            for bracket in hyperband_rungs
            for size, rung_epochs in zip(
                bracket, list_rung_epochs(epochs, arguments["factor"], len(bracket)), strict=True
            )
        )
        return float(total * trials / sum(map(sum, hyperband_rungs)))
    if continues_beyond_budget(name, settings) and 0 < trials < math.inf:
        rung_epochs = rungs.list_asha_rungs(arguments["lowest_epochs"], arguments["factor"], epochs)
        trial_rungs = rungs.estimate_trial_rungs(len(rung_epochs), arguments["factor"], trials)
        return sum(rung_epochs[rung] for rung in trial_rungs) * trials / len(trial_rungs)
    return float(trials * find_max_epochs(epochs))


def list_asha_epochs(arguments: Mapping[str, Any], settings: Mapping[str, Any], configurations: float) -> list[int]:
    """About the epochs that each trial of so many configurations really trains, in the order in which they begin."""
    rung_epochs = rungs.list_asha_rungs(arguments["lowest_epochs"], arguments["factor"], space.read_epochs(settings))
    own_epochs = list_own_epochs(arguments, rung_epochs)
    trial_rungs = rungs.estimate_trial_rungs(len(rung_epochs), arguments["factor"], configurations)
    return [own_epochs[rung] for rung in trial_rungs]


def list_own_epochs(arguments: Mapping[str, Any], rung_epochs: Sequence[int]) -> list[int]:
    """How many epochs a trial of each rung really trains. rung_epochs: how many it has after each."""
    if arguments.get("restart"):
        return list(rung_epochs)
    return [epochs - earlier for earlier, epochs in itertools.pairwise((0, *rung_epochs))]


def find_max_epochs(epochs: Any) -> int:
    """The most epochs that a trial can have. epochs: train.epochs, a number or a tunable."""
    return int(max(tunable.list_extremes(epochs)))


def compute_hyperband_rungs(epochs: int, factor: int) -> list[list[int]]:
    """How many trials each rung of each bracket has, by KerasTuner's own arithmetic."""
    brackets = 0
    while epochs / factor**brackets >= 1:
        brackets += 1
    last = math.ceil(1 + math.log(epochs, factor))
    return [
        [math.ceil(last / (bracket + 1) * factor ** (bracket - rung)) for rung in range(bracket + 1)]
        for bracket in range(brackets)
    ]


def list_rung_epochs(epochs: int, factor: int, rungs: int) -> list[int]:
    """How many epochs a trial has after each rung of a bracket of so many rungs. epochs: those after the last one."""
    return [math.ceil(epochs / factor ** (rungs - 1 - rung)) for rung in range(rungs)]


def count_first_rung_trials(arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """How many different configurations Hyperband needs for the first rungs of all its brackets."""
    rungs = compute_hyperband_rungs(space.read_epochs(settings), arguments["factor"])
    return int(sum(bracket[0] for bracket in rungs) * arguments["iterations"])


def explain_infeasible_search(name: str, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Why this oracle cannot search this space, or None.

    Hyperband draws its first rungs without repetition and promotes from a full rung only: in a space smaller than its
    first rungs it would stop after them, and nothing would ever be trained to the end. A grid lists the values of each
    tunable, at every proposal.
    """
    unlisted = space.find_unlisted_tunable(settings) if name == "grid" else None
    if unlisted is not None:
        return (
            f"a grid lists the values of a tunable, and {unlisted[0]} has {unlisted[1]:,}, more than "
            f"{tunable.MAX_LISTED_VALUES:,}; narrow it, give it a wider step, or use search=random"
        )
    if name != "hyperband" or not any(find_tunables(settings)):
        return None
    required = count_first_rung_trials(arguments, settings)
    combinations = space.count_combinations(settings)
    if combinations >= required:
        return None
    return (
        f"hyperband with {space.read_epochs(settings)} epochs begins {required} different trials and the space holds "
        f"only {combinations:.0f}; widen a tunable, lower train.epochs or use search=grid"
    )
