"""Hyperband: how many trials it runs, which of them go on with more epochs, and what failures leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal, Wait
from fmnist_sweep.search.estimates import count_possible_trials, explain_infeasible_search
from tests.support.searches import CONTINUOUS, ask_until_over, onwards, quality, search
from tests.support.small import SPACE_OF_54, search_of


@pytest.mark.parametrize("epochs", [2, 3, 4, 9])
@pytest.mark.parametrize("iterations", [1, 2])
def test_hyperband_runs_as_many_trials_as_were_announced(epochs: int, iterations: int) -> None:
    job = compose_job(
        [
            "search=hyperband",
            f"train.epochs={epochs}",
            f"search.iterations={iterations}",
            "regularization.dropout.step=null",
        ]
    )
    announced = count_possible_trials("hyperband", job.config.oracle, job.config.settings)
    assert len(ask_until_over(search_of(job))) == announced


def test_hyperband_gives_short_trials_first_and_the_most_epochs_to_the_best() -> None:
    proposals = ask_until_over(search("hyperband", "train.epochs=9", "regularization.dropout.step=null"))
    epochs = [proposal.epochs for proposal in proposals]
    assert epochs[0] == 1
    assert max(number for number in epochs if number is not None) == 9
    first_bracket = [proposal for proposal in proposals if proposal.epochs == 1]
    promoted = [proposal.values for proposal in proposals[len(first_bracket) :] if proposal.epochs == 3][:3]
    best_first = sorted((proposal.values for proposal in first_bracket), key=quality, reverse=True)
    assert [values for values in promoted if values in best_first[:3]] == promoted


def test_hyperband_promotes_no_failed_trial() -> None:
    def fails_when_wide(values: Mapping[str, Any]) -> float | None:
        return None if values["model.filters"] == 64 else quality(values)

    proposals = ask_until_over(
        search("hyperband", *SPACE_OF_54, "train.epochs=9", "regularization.dropout.step=null"), fails_when_wide
    )
    seen: set[str] = set()
    promoted = []
    for proposal in proposals:
        named = json.dumps(proposal.values, sort_keys=True)
        if named in seen:
            promoted.append(proposal)
        seen.add(named)
    assert promoted
    assert all(proposal.values["model.filters"] != 64 for proposal in promoted)


def test_hyperband_waits_while_a_rung_is_under_way() -> None:
    asked = search("hyperband", "train.epochs=2")
    answers: list[Proposal | Wait | None] = []
    while not isinstance(answer := asked.ask(), Wait):
        assert isinstance(answer, Proposal)
        answers.append(answer)
        assert len(answers) < 100
    for proposal in answers:
        assert isinstance(proposal, Proposal)
        asked.tell(proposal.trial_id, quality(proposal.values))
    assert not isinstance(asked.ask(), Wait)


def test_hyperband_refuses_a_space_smaller_than_its_first_rungs() -> None:
    job = compose_job([*SPACE_OF_54, "search=hyperband", "train.epochs=9", "regularization=none"])
    reason = explain_infeasible_search("hyperband", job.config.oracle, job.config.settings)
    assert reason is not None
    assert "17 different trials" in reason
    assert "only 9" in reason
    assert space.count_combinations(job.config.settings) == 9


@pytest.mark.parametrize("failing", [0, 0.1])
def test_what_a_trial_continues_is_a_finished_trial_of_the_rung_below_with_the_same_values(failing: float) -> None:
    exchanges = onwards(search("hyperband", *CONTINUOUS, "search.iterations=4"), [], 3, 1000, failing)
    begun: dict[str, Proposal] = {}
    scores: dict[str, float | None] = {}
    rungs = []
    for exchange in exchanges:
        if isinstance(exchange, tuple):
            scores[exchange[0]] = exchange[1]
        elif isinstance(exchange, Proposal):
            begun[exchange.trial_id] = exchange
            if exchange.continues is not None:
                below = begun[exchange.continues]
                assert below.values == exchange.values
                assert scores[below.trial_id] is not None
                rungs.append((below.epochs, exchange.epochs))
    assert set(rungs) <= {(1, 3), (3, 9)}
    continued = [proposal.continues for proposal in begun.values() if proposal.continues is not None]
    assert len(set(continued)) == len(continued)
    # Of an iteration without failures, 3 of 9 trials and then 1 go on in the widest bracket, 2 of 5 in the next.
    assert len(continued) == 4 * (3 + 1 + 2) if not failing else 5 < len(continued) < 4 * (3 + 1 + 2)
    assert failing or any(begun[trial_id].continues for trial_id in continued)


def test_brackets_that_failures_left_incomplete_are_forgotten_and_no_proposal_changes() -> None:
    job = compose_job(["search=hyperband", *CONTINUOUS, "search.iterations=20"])
    ours, stock = search_of(job), search_of(job)
    stock._oracle._is_open = lambda bracket: True
    assert onwards(ours, [], 3, 1000) == onwards(stock, [], 3, 1000)
    assert len(stock._oracle._brackets) > 20
    assert len(ours._oracle._brackets) < 5
