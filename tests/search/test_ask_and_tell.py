"""The oracles, asked and told: what they promise of a space, a seed and failures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.search.estimates import count_possible_trials, explain_infeasible_search
from fmnist_sweep.search.factories import ORACLES
from tests.support.searches import ask_until_over, quality, search
from tests.support.small import SPACE_OF_54

ALL = tuple(ORACLES)


def key(proposal: Proposal) -> str:
    return json.dumps([proposal.values, proposal.epochs], sort_keys=True)


@pytest.mark.parametrize("name", ["random", "grid"])
def test_random_and_grid_use_up_the_space_of_54_exactly_and_then_say_so(name: str) -> None:
    proposals = ask_until_over(search(name, *SPACE_OF_54))
    assert len(proposals) == len({key(proposal) for proposal in proposals}) == 54


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_search_finds_the_last_combination_whatever_the_seed(seed: int) -> None:
    assert len({key(proposal) for proposal in ask_until_over(search("random", *SPACE_OF_54, f"seed={seed}"))}) == 54


# Twelve combinations: the process' optimum is soon a known one.
TWELVE = (*SPACE_OF_54, "model.filters=32", "model.conv_layers.max_value=2")


def test_bayesian_search_never_proposes_a_trial_twice_beside_others() -> None:
    asked = search("bayesian", *TWELVE)
    proposals: list[Proposal] = []
    running: list[Proposal] = []
    while len(proposals) < 12:
        proposal = asked.ask()
        assert isinstance(proposal, Proposal)
        proposals.append(proposal)
        running.append(proposal)
        if len(running) == 3:
            done = running.pop(0)
            asked.tell(done.trial_id, quality(done.values))
    assert len({key(proposal) for proposal in proposals}) == 12


@pytest.mark.slow
def test_bayesian_search_proposes_nothing_twice_and_ends_when_the_space_is_used_up() -> None:
    proposals = ask_until_over(search("bayesian", *TWELVE))
    assert len(proposals) == len({key(proposal) for proposal in proposals}) == 12


@pytest.mark.slow
def test_bayesian_search_finds_the_best_of_54_in_fewer_trials_than_there_are() -> None:
    proposals = ask_until_over(search("bayesian", *SPACE_OF_54), most=27)
    best = max(quality(proposal.values) for proposal in proposals)
    assert best == pytest.approx(quality({"model.filters": 64, "model.conv_layers": 3}), abs=0.051)


def test_only_hyperband_and_asha_decide_the_epochs() -> None:
    for name in ("random", "bayesian", "grid", "tpe"):
        assert {proposal.epochs for proposal in ask_until_over(search(name), most=3)} == {None}


@pytest.mark.parametrize("name", ALL)
def test_values_are_named_by_their_dotted_keys_and_hold_nothing_of_the_oracle(name: str) -> None:
    for proposal in ask_until_over(search(name, *SPACE_OF_54, "train.epochs=2"), most=6):
        assert set(proposal.values) == {"model.filters", "model.conv_layers", "regularization.dropout"}


# A question that the Gaussian process answers takes half a second: as few as show it.
GUIDED = {"bayesian": ("search.initial_points=2",)}
ASKED = {"bayesian": 4}


@pytest.mark.parametrize("name", ["random", "bayesian", "hyperband", "asha", "tpe"])
def test_seed_0_is_a_seed_like_any_other(name: str) -> None:
    def sequence(seed: int) -> list[str]:
        asked = search(name, f"seed={seed}", "train.epochs=2", *GUIDED.get(name, ()))
        proposals = ask_until_over(asked, most=ASKED.get(name, 8))
        return [json.dumps(proposal.values, sort_keys=True) for proposal in proposals]

    first = sequence(0)
    assert first == sequence(0)
    assert first != sequence(1)


@pytest.mark.parametrize("name", ["random", "grid", "tpe"])
def test_the_same_answers_lead_to_the_same_questions(name: str) -> None:
    assert [key(proposal) for proposal in ask_until_over(search(name), most=7)] == [
        key(proposal) for proposal in ask_until_over(search(name), most=7)
    ]


@pytest.mark.parametrize("name", ["random", "bayesian", "grid", "tpe"])
def test_failed_trials_do_not_stop_the_search(name: str) -> None:
    proposals = ask_until_over(search(name, *TWELVE), score=lambda values: None)
    assert len({key(proposal) for proposal in proposals}) == 12


@pytest.mark.parametrize("name", ALL)
def test_a_failed_trial_never_comes_back_as_the_best(name: str) -> None:
    def fails_when_narrow(values: Mapping[str, Any]) -> float | None:
        return None if values["model.filters"] == 32 else quality(values)

    asked = search(name, *SPACE_OF_54, "train.epochs=3", "model.filters.values=[32,64]", "model.conv_layers=1")
    proposals = ask_until_over(asked, fails_when_narrow, most=12)
    assert {proposal.values["model.filters"] for proposal in proposals} == {32, 64}
    best = asked._oracle.get_best_trials(1)[0]
    assert (best.status, best.hyperparameters.get("model.filters")) == ("COMPLETED", 64)


@pytest.mark.parametrize("name", ALL)
def test_hyperband_and_all_others_end_even_if_every_trial_fails(name: str) -> None:
    proposals = ask_until_over(
        search(name, *SPACE_OF_54, "model.filters=32", "train.epochs=2"), score=lambda values: None, most=100
    )
    assert 0 < len(proposals) < 100


@pytest.mark.parametrize("name", ALL)
def test_a_config_without_tunables_is_a_single_trial_for_every_oracle(name: str) -> None:
    single = search(name, "experiment=simple", f"search={name}")
    proposals = ask_until_over(single)
    assert [(proposal.values, proposal.epochs) for proposal in proposals] == [({}, None)]


@pytest.mark.parametrize("name", ALL)
def test_a_single_trial_is_announced_as_one(name: str) -> None:
    job = compose_job(["experiment=simple", f"search={name}"])
    assert count_possible_trials(name, job.config.oracle, job.config.settings) == 1
    assert explain_infeasible_search(name, job.config.oracle, job.config.settings) is None


def test_several_trials_may_be_under_way_and_are_told_in_any_order() -> None:
    asked = search("random", *SPACE_OF_54, "model.filters=32")
    running = []
    for _ in range(4):
        proposal = asked.ask()
        assert isinstance(proposal, Proposal)
        running.append(proposal)
    assert len({proposal.trial_id for proposal in running}) == 4
    for proposal in reversed(running):
        asked.tell(proposal.trial_id, 0.5)
    assert len(ask_until_over(asked)) == 14


def test_a_loss_is_made_small_and_an_accuracy_large() -> None:
    for objective, best in (("val_loss", 32), ("val_accuracy", 64)):
        asked = search(
            "grid", *SPACE_OF_54, f"search.objective={objective}", "model.conv_layers=1", "regularization=none"
        )
        ask_until_over(asked, score=lambda values: float(values["model.filters"]))
        assert asked._oracle.get_best_trials(1)[0].hyperparameters.get("model.filters") == best


def test_a_space_with_a_continuous_tunable_has_no_end_but_a_grid_of_it_has() -> None:
    known_rate = ("regularization=l2", "optimizer.learning_rate=0.001")
    settings = compose_job(known_rate).config.settings
    assert math.isinf(count_possible_trials("random", {}, settings))
    assert count_possible_trials("grid", {}, settings) == len(ask_until_over(search("grid", *known_rate)))


@pytest.mark.parametrize("name", ["random", "bayesian", "grid", "tpe"])
def test_without_rungs_no_trial_continues_another(name: str) -> None:
    assert {proposal.continues for proposal in ask_until_over(search(name), most=5)} == {None}
