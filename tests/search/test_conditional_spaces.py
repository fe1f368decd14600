"""Spaces with tunables that are drawn only beside others: what the oracles propose of them, and how many there are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal, Search, Wait
from fmnist_sweep.search.estimates import count_possible_trials, explain_infeasible_search
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.search.parameters import CircularConditions, list_parameters
from fmnist_sweep.training.probe import _list_corners


@cache
def read_arguments(name: str) -> dict[str, Any]:
    """An oracle's own settings, as conf/ has them."""
    return compose_job([f"search={name}", *(["search.initial_points=3"] if name == "bayesian" else [])]).config.oracle


def choice(*values: object, **others: object) -> dict[str, Any]:
    return {"tune": "choice", "values": list(values), **others}


def options(**settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"tune": "option", "of": list(settings), "settings": settings}


TRAIN = {"epochs": 9}
# The condition names what comes after it, what is itself conditional, and two tunables that know nothing of each other.
CHAIN: dict[str, Any] = {
    "model": {
        "c": choice(1, 2, 3, when={"model.b": [5], "model.d": [True]}, otherwise=0),
        "b": choice(5, 6, when={"model.a": [2, 3]}, otherwise=9),
        "a": {"tune": "int", "min_value": 1, "max_value": 5},
        "d": {"tune": "boolean"},
    },
    "train": TRAIN,
    "seed": 1,
}
OPTIONS: dict[str, Any] = {
    "model": options(cnn={"filters": choice(2, 4, 8), "layers": choice(1, 2)}, simple={"widths": [8]}),
    "optimizer": options(
        adam={"rate": choice(0.1, 0.2)},
        sgd={
            "rate": choice(0.3, 0.4, 0.5),
            "momentum": choice(0.0, 0.9, when={"optimizer.rate": [0.5]}, otherwise=0.5),
        },
    ),
    "regularization": {"dropout": choice(0.1, 0.2, when={"model": ["simple"], "optimizer": ["sgd"]}, otherwise=0.0)},
    "train": TRAIN,
    "seed": 1,
}
SPACES = {"chain": (CHAIN, 3 * 2 + 2 * (2 + 3 + 1)), "options": (OPTIONS, 6 * (2 + 4) + (2 + 4 * 2))}


def search(name: str, settings: Mapping[str, Any]) -> Search:
    return Search(name, read_arguments(name), settings, "val_accuracy")


def propose(search: Search, most: int = 200) -> list[Proposal]:
    proposals: list[Proposal] = []
    while len(proposals) < most:
        proposal = search.ask()
        assert not isinstance(proposal, Wait)
        if proposal is None:
            break
        proposals.append(proposal)
        search.tell(proposal.trial_id, score(proposal.values))
    return proposals


def score(values: Mapping[str, Any]) -> float:
    return (sum(map(ord, json.dumps(values, sort_keys=True))) % 97) / 97


def key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def check_drawn(settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """What was drawn is what its conditions say, in the order of the space, and nothing else; None is no value."""
    expected: dict[str, Any] = {}
    for parameter in list_parameters(settings):
        if parameter.is_drawn(expected):
            expected[parameter.name] = values[parameter.name]
    assert list(values.items()) == list(expected.items())
    assert None not in values.values()


@pytest.mark.parametrize("case", SPACES)
@pytest.mark.parametrize("name", ["random", "grid"])
def test_a_space_is_used_up_exactly(name: str, case: str) -> None:
    settings, count = SPACES[case]
    proposals = propose(search(name, settings))
    assert len(proposals) == len({key(proposal.values) for proposal in proposals}) == count
    assert count_possible_trials(name, {}, settings) == space.count_combinations(settings) == count
    resolved = [key(space.resolve_tunables(settings, proposal.values)) for proposal in proposals]
    assert len(set(resolved)) == count


@pytest.mark.parametrize("case", SPACES)
@pytest.mark.parametrize("name", sorted({*ORACLES} - {"bayesian"}))  # whose fits take a second each, see below
def test_every_oracle_draws_what_its_conditions_let_it_and_is_restored_exactly(name: str, case: str) -> None:
    settings, _ = SPACES[case]
    assert explain_infeasible_search(name, read_arguments(name), settings) is None
    whole = propose(search(name, settings), most=22)
    for proposal in whole:
        check_drawn(settings, proposal.values)
    cut = len(whole) - 6
    restored = search(name, settings)
    for proposal in whole[:cut]:
        restored.replay(Proposal(**json.loads(json.dumps(vars(proposal)))))
        restored.tell(proposal.trial_id, score(proposal.values))
    assert propose(restored, most=6) == whole[cut:]


def test_a_model_based_search_ends_when_a_conditional_space_is_used_up() -> None:
    settings = {"model": options(a={"x": choice(1, 2)}, b={"y": choice(1, 2)}), "train": TRAIN, "seed": 1}
    proposals = propose(search("bayesian", settings))
    assert len({key(proposal.values) for proposal in proposals}) == len(proposals) == 4


@pytest.mark.slow
def test_a_model_based_search_guesses_trials_under_way_that_drew_other_options_and_is_restored_exactly() -> None:
    asked = search("bayesian", OPTIONS)
    exchanges: list[Any] = []
    for number in range(5):
        proposal = asked.ask()
        assert isinstance(proposal, Proposal)
        check_drawn(OPTIONS, proposal.values)
        exchanges.append(proposal)
        if number < 3:
            asked.tell(proposal.trial_id, score(proposal.values))
            exchanges.append((proposal.trial_id, score(proposal.values)))
    assert any(proposal.guesses for proposal in exchanges if isinstance(proposal, Proposal))
    restored = search("bayesian", OPTIONS)
    restored.restore(exchanges)
    assert restored.ask() == asked.ask()


@pytest.mark.parametrize("case", SPACES)
def test_a_promoted_trial_of_hyperband_has_the_values_of_the_one_it_continues(case: str) -> None:
    proposals = {proposal.trial_id: proposal for proposal in propose(search("hyperband", SPACES[case][0]))}
    promoted = [proposal for proposal in proposals.values() if proposal.continues is not None]
    assert promoted
    for proposal in promoted:
        assert proposal.values == proposals[str(proposal.continues)].values


def test_what_was_not_drawn_is_gone_within_options_and_otherwise_beside_them() -> None:
    resolved = space.resolve_tunables(OPTIONS, {"model": "simple", "optimizer": "adam", "optimizer.adam.rate": 0.2})
    assert resolved == {
        "model": {"widths": [8]},
        "optimizer": {"rate": 0.2},
        "regularization": {"dropout": 0.0},
        "train": TRAIN,
        "seed": 1,
    }
    values = {"model": "simple", "optimizer": "sgd", "optimizer.sgd.rate": 0.3, "regularization.dropout": 0.1}
    assert space.resolve_tunables(OPTIONS, values)["optimizer"] == {"rate": 0.3, "momentum": 0.5}


def test_what_was_drawn_and_has_no_value_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"optimizer\.adam\.rate"):
        space.resolve_tunables(OPTIONS, {"model": "simple", "optimizer": "adam"})


def test_a_continuous_tunable_of_one_option_makes_the_space_endless() -> None:
    rate = {"tune": "float", "min_value": 0.1, "max_value": 1.0}
    settings = {"optimizer": options(adam={"rate": rate}, sgd={"rate": choice(1, 2)}), "train": TRAIN, "seed": 1}
    assert math.isinf(space.count_combinations(settings))
    assert space.count_grid_trials(settings) == len(propose(search("grid", settings))) == 11 + 2


def test_a_value_between_the_points_of_a_grid_is_not_counted() -> None:
    width = {"tune": "int", "min_value": 1, "max_value": 1000, "sampling": "log"}
    settings = {"a": width, "b": choice(1, 2, 3, when={"a": [7]}, otherwise=0), "train": TRAIN, "seed": 1}
    assert space.count_grid_trials(settings) == len(propose(search("grid", settings)))
    assert space.count_combinations(settings) == 999 + 3


def test_a_large_conditional_space_is_counted_quickly() -> None:
    parents = {f"p{place}": choice(*range(5)) for place in range(8)}
    children = {f"c{place}": choice(1, 2, 3, when={f"p{place}": [0, 4]}, otherwise=0) for place in range(8)}
    assert space.count_combinations({**parents, **children}) == (2 * 3 + 3) ** 8


def test_a_circle_has_no_order() -> None:
    settings = {
        "a": choice(1, 2),
        "b": choice(1, when={"c": [1]}, otherwise=0),
        "c": choice(1, when={"b": [1]}, otherwise=0),
    }
    with pytest.raises(CircularConditions) as refused:
        list_parameters(settings)
    assert refused.value.names == ["b", "c"]


def test_the_largest_model_is_looked_for_in_every_option() -> None:
    corners = [space.resolve_tunables(OPTIONS, corner) for corner in _list_corners(OPTIONS)]
    assert {json.dumps(corner["model"]) for corner in corners} >= {
        *(json.dumps({"filters": 8, "layers": 2}), json.dumps({"widths": [8]}))
    }
