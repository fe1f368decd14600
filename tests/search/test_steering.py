"""What steers the oracles: draws that are refused, and configurations that come first."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras_tuner
import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Search, Wait
from fmnist_sweep.search.estimates import count_possible_trials
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.search.parameters import find_tunables
from tests.support.small import SPACE_OF_54

ALL = tuple(ORACLES)
# 9 combinations, of which `is_small` admits 6.
SPACE = (
    *(*SPACE_OF_54, "regularization=none", "model.filters.values=[16,32,64]"),
    "model.conv_layers={tune: int, min_value: 1, max_value: 3}",
)
SETTINGS = {
    "bayesian": (*SPACE, "search.initial_points=2"),
    "tpe": (*SPACE, "search.initial_points=2"),
    "hyperband": (
        *SPACE_OF_54,
        "model.filters.values=[16,32,64]",
        "train.epochs=3",
        "regularization.dropout.step=null",
    ),
}
FIRST = (
    {"model.filters": 64, "model.conv_layers": 1, "regularization.dropout": 0.2},
    {"model.filters": 16, "model.conv_layers": 2, "regularization.dropout": 0.0},
)


def is_small(values: Mapping[str, Any]) -> bool:
    return bool(values["model.filters"] * values["model.conv_layers"] <= 64)


def make_job(name: str) -> Job:
    return compose_job([f"search={name}", *SETTINGS.get(name, SPACE)])


def make_search(job: Job, admits: Any = is_small, first: Sequence[Mapping[str, Any]] = ()) -> Search:
    config = job.config
    return Search(config.search.name, config.oracle, config.settings, config.search.objective, admits, first)


def list_first(job: Job) -> list[dict[str, Any]]:
    """FIRST, in the tunables that the job has."""
    tuned = {name for name, _ in find_tunables(job.config.settings)}
    return [{key: value for key, value in values.items() if key in tuned} for values in FIRST]


def run_on(search: Search, exchanges: Sequence[Exchange], most: int = 60, slots: int = 2) -> list[Exchange]:
    """All exchanges, up to the end or `most`: after those so far they depend on them and on the search alone."""
    exchanges = list(exchanges)
    ended = [exchange[0] for exchange in exchanges if isinstance(exchange, tuple)]
    running = [e.trial_id for e in exchanges if isinstance(e, Proposal) and e.trial_id not in ended]
    while len(exchanges) < most:
        may_ask = len(running) < slots and not (exchanges and isinstance(exchanges[-1], Wait))
        answer = search.ask() if may_ask else None
        if answer is not None:
            exchanges.append(answer)
            running += [answer.trial_id] if isinstance(answer, Proposal) else []
            continue
        if not running:
            break
        chance = random.Random(f"{len(exchanges)}")
        trial_id = running.pop(chance.randrange(len(running)))
        score = None if chance.random() < 0.1 else chance.random()
        search.tell(trial_id, score)
        exchanges.append((trial_id, score))
    return exchanges


def restore(search: Search, exchanges: Sequence[Exchange]) -> Search:
    """The search after these exchanges, as read from a journal."""
    search.restore(
        Proposal(**json.loads(json.dumps(exchange.dump()))) if isinstance(exchange, Proposal) else exchange
        for exchange in exchanges
    )
    return search


def list_proposals(exchanges: Sequence[Exchange]) -> list[Proposal]:
    return [exchange for exchange in exchanges if isinstance(exchange, Proposal)]


@pytest.mark.parametrize("name", ALL)
def test_an_oracle_proposes_only_what_is_admitted_and_counts_what_was_not(name: str) -> None:
    search = make_search(make_job(name))
    proposals = list_proposals(run_on(search, []))
    assert proposals and all(is_small(proposal.values) for proposal in proposals)
    assert search.refused_count > 0
    counts = [proposal.refused for proposal in proposals]
    assert counts == sorted(counts)
    assert counts[-1] <= search.refused_count


@pytest.mark.parametrize("name", ["random", "grid", "bayesian"])
def test_all_that_is_admitted_of_a_finite_space_is_proposed_and_nothing_twice(name: str) -> None:
    proposals = list_proposals(run_on(make_search(make_job(name)), [], most=200))
    assert len({json.dumps(proposal.values, sort_keys=True) for proposal in proposals}) == len(proposals) == 6


def test_a_grid_comes_to_what_is_admitted_in_its_own_order_whatever_is_refused() -> None:
    job = make_job("grid")
    whole = [proposal.values for proposal in list_proposals(run_on(make_search(job, None), [], most=200, slots=1))]
    assert len(whole) == 9
    for admits in (is_small, lambda values: not is_small(values), lambda values: values == whole[-1]):
        search = make_search(job, admits)
        steered = [proposal.values for proposal in list_proposals(run_on(search, [], most=200, slots=1))]
        assert steered == [values for values in whole if admits(values)]
        assert search.refused_count == 9 - len(steered)


def test_no_rung_of_hyperband_has_a_hole() -> None:
    job = make_job("hyperband")
    announced = count_possible_trials("hyperband", job.config.oracle, job.config.settings)
    exchanges: list[Exchange] = []
    search = make_search(job)
    while (answer := search.ask()) is not None:
        assert isinstance(answer, Proposal)
        exchanges.append(answer)
        search.tell(answer.trial_id, len(exchanges) / 100)
    assert len(exchanges) == announced
    assert all(is_small(proposal.values) for proposal in list_proposals(exchanges))


def test_draws_are_those_of_keras_tuner() -> None:
    """Stored studies go on with them."""
    search = make_search(make_job("random"), None)
    oracle = search._oracle
    stock = keras_tuner.oracles.RandomSearchOracle
    while (answer := search.ask()) is not None:
        assert isinstance(answer, Proposal)
        state, oracle._seed_state = oracle._seed_state, answer.seed_state
        ours = oracle._random_values(), oracle._seed_state
        oracle._seed_state = answer.seed_state
        assert (stock._random_values(oracle), oracle._seed_state) == ours
        oracle._seed_state = state


@pytest.mark.parametrize("name", ALL)
def test_an_oracle_that_may_propose_nothing_ends(name: str) -> None:
    assert make_search(make_job(name), lambda values: False).ask() is None


@pytest.mark.parametrize("name", ALL)
def test_what_admits_everything_changes_nothing(name: str) -> None:
    job = make_job(name)
    assert run_on(make_search(job, lambda values: True), []) == run_on(make_search(job, None), [])


@pytest.mark.parametrize("has_first", [False, True], ids=["drawn", "first"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "bayesian" else []) for name in ALL]
)
def test_a_steered_search_restored_after_any_exchange_goes_on_as_if_it_had_never_stopped(
    name: str, has_first: bool
) -> None:
    job, most = make_job(name), 12 if name == "bayesian" else 40
    first = list_first(job) if has_first else []
    whole_search = make_search(job, first=first)
    whole = run_on(whole_search, [], most)
    assert whole_search.refused_count > 0
    for cut in range(len(whole) + 1):
        search = restore(make_search(job, first=first), whole[:cut])
        assert run_on(search, whole[:cut], most) == whole, f"cut after {cut}"
        assert search.refused_count == whole_search.refused_count


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_what_comes_first_is_proposed_first_and_never_again(name: str, slots: int) -> None:
    job = make_job(name)
    first = list_first(job)
    proposals = list_proposals(run_on(make_search(job, None, first), [], most=60, slots=slots))
    assert [proposal.values for proposal in proposals[:2]] == first
    drawn = [proposal for proposal in proposals[2:] if proposal.continues is None]
    assert drawn and all(proposal.values not in first for proposal in drawn)


@pytest.mark.parametrize("name", ["random", "grid", "bayesian"])
def test_what_comes_first_is_a_part_of_the_space(name: str) -> None:
    job = make_job(name)
    proposals = list_proposals(run_on(make_search(job, None, list_first(job)), [], most=200))
    assert len({json.dumps(proposal.values, sort_keys=True) for proposal in proposals}) == len(proposals) == 9


def test_what_comes_first_in_hyperband_has_places_of_the_first_rung_and_may_be_promoted() -> None:
    job = make_job("hyperband")
    search, proposals = make_search(job, None, FIRST), list[Proposal]()
    while (answer := search.ask()) is not None:
        assert isinstance(answer, Proposal)
        proposals.append(answer)
        search.tell(answer.trial_id, 1.0 if answer.values in FIRST else 0.1)
    assert len(proposals) == count_possible_trials("hyperband", job.config.oracle, job.config.settings)
    assert [proposal.epochs for proposal in proposals[:2]] == [1, 1]
    promoted = [proposal for proposal in proposals if proposal.continues in ("0", "1", "0000", "0001")]
    assert any(proposal.values in FIRST for proposal in promoted)


@pytest.mark.parametrize("name", ALL)
def test_a_single_configuration_may_come_first(name: str) -> None:
    search = make_search(compose_job(["experiment=simple", f"search={name}"]), None, [{}])
    assert [asdict(proposal)["values"] for proposal in list_proposals(run_on(search, []))] == [{}]


def test_a_journal_says_nothing_of_refused_draws_where_there_are_none() -> None:
    free, steered = (run_on(make_search(make_job("random"), admits), [], most=12) for admits in (None, is_small))
    assert all("refused" not in proposal.dump() for proposal in list_proposals(free))
    assert any("refused" in proposal.dump() for proposal in list_proposals(steered))
