"""The oracle of asynchronous successive halving: what it promotes, that nothing waits, and that it is restored."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Search, Wait
from fmnist_sweep.search.estimates import count_possible_trials, estimate_trials
from fmnist_sweep.sweep.live_trial import resolve_trial_config
from tests.support.searches import ask_until_over
from tests.support.small import SPACE_OF_54, search_of

SPACE = (
    *(*SPACE_OF_54, "regularization=none", "model.conv_layers=1"),
    "model.filters={tune: int, min_value: 1, max_value: 400}",
)
Score = Callable[[Proposal], float | None]


@cache
def _compose(*overrides: str) -> Job:
    return compose_job(["search=asha", *SPACE, "train.epochs=9", *overrides])


def make_search(*overrides: str) -> Search:
    return search_of(_compose(*overrides))


def score_width(proposal: Proposal) -> float:
    return float(proposal.values["model.filters"] + (proposal.epochs or 0))


def run_budget(
    search: Search, configurations: int, slots: int = 1, score: Score = score_width, so_far: Sequence[Exchange] = ()
) -> list[Exchange]:
    """All exchanges of a search with a budget of configurations, on some slots whose trials end in no order.

    After `so_far` they depend on these and on the search alone. None is its end.
    """
    exchanges = list(so_far)
    running = {exchange.trial_id: exchange for exchange in exchanges if isinstance(exchange, Proposal)}
    for exchange in exchanges:
        if isinstance(exchange, tuple):
            del running[exchange[0]]
    while True:
        drawn = sum(isinstance(exchange, Proposal) and exchange.continues is None for exchange in exchanges)
        if len(running) < slots and not (exchanges and isinstance(exchanges[-1], Wait)):
            answer = search.ask(may_draw=drawn < configurations)
            assert drawn == configurations or isinstance(answer, Proposal), "nothing waits while it may draw"
            if answer is None:
                assert not running
                return exchanges
            exchanges.append(answer)
            if isinstance(answer, Proposal):
                running[answer.trial_id] = answer
        else:
            ended = random.Random(len(exchanges)).choice(sorted(running))
            value = score(running.pop(ended))
            search.tell(ended, value)
            exchanges.append((ended, value))


def list_proposals(exchanges: Sequence[Exchange]) -> list[Proposal]:
    return [exchange for exchange in exchanges if isinstance(exchange, Proposal)]


def count_epochs(exchanges: Sequence[Exchange]) -> Counter[int | None]:
    return Counter(proposal.epochs for proposal in list_proposals(exchanges))


@pytest.mark.parametrize("name", ["asha", "hyperband"])
@pytest.mark.parametrize(("restart", "cycle"), [("true", None), ("false", 9)])
def test_a_rung_is_a_training_of_its_own_or_a_part_of_the_longest(name: str, restart: str, cycle: int | None) -> None:
    job = compose_job([f"search={name}", *SPACE, "train=one_cycle", "train.epochs=9", f"search.restart={restart}"])
    proposals = ask_until_over(search_of(job), lambda values: float(values["model.filters"]), most=40)
    assert {proposal.epochs for proposal in proposals} == {1, 3, 9}
    for proposal in proposals:
        train = resolve_trial_config(job.config.settings, proposal)["train"]
        assert (train["epochs"], train["schedule"]["over_epochs"]) == (proposal.epochs, cycle)
        assert Proposal(**proposal.dump()) == proposal


def test_rungs_that_restart_are_drawn_and_promoted_as_those_that_go_on() -> None:
    going_on, restarting = (
        list_proposals(run_budget(make_search(f"search.restart={restart}"), 20)) for restart in ("false", "true")
    )
    assert [replace(proposal, restarts=False) for proposal in restarting] == going_on


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("configurations", [1, 2, 3, 20])
def test_a_budget_counts_configurations_and_what_can_be_promoted_of_them_is_trained_to_the_end(
    configurations: int, slots: int
) -> None:
    proposals = list_proposals(run_budget(make_search(), configurations, slots))
    new = [proposal for proposal in proposals if proposal.continues is None]
    assert len(new) == configurations
    assert {proposal.epochs for proposal in new} == {1}
    assert len({proposal.values["model.filters"] for proposal in new}) == configurations
    by_id = {proposal.trial_id: proposal for proposal in proposals}
    for proposal in proposals:
        if proposal.continues is not None:
            below = by_id[proposal.continues]
            assert (below.values, below.epochs) == (proposal.values, (proposal.epochs or 0) // 3)
    best = max(new, key=score_width)
    assert [proposal.epochs for proposal in proposals if proposal.values == best.values] == [1, 3, 9]
    # As many as can be promoted of 20: at least those of synchronous halving.
    counts = Counter(proposal.epochs for proposal in proposals)
    assert counts[3] >= configurations // 3
    assert counts[9] >= configurations // 9


def test_new_configurations_are_those_of_a_random_search_whatever_is_promoted_between_them() -> None:
    drawn = [p.values for p in list_proposals(run_budget(make_search(), 12, 3)) if p.continues is None]
    stock = search_of(compose_job(["search=random", *SPACE]))
    assert drawn == [proposal.values for _ in range(12) if isinstance(proposal := stock.ask(), Proposal)]


def test_a_larger_budget_goes_on_where_the_smaller_one_ended() -> None:
    search = make_search()
    smaller = run_budget(search, 9)
    larger = run_budget(search, 20, so_far=smaller)
    assert larger[: len(smaller)] == smaller
    at_once = run_budget(make_search(), 20)
    drawn = [[p.values for p in list_proposals(found) if p.continues is None] for found in (larger, at_once)]
    assert drawn[0] == drawn[1]
    assert count_epochs(larger)[9] >= count_epochs(smaller)[9]


@pytest.mark.parametrize("failing", [0.3, 1.0])
def test_failed_trials_neither_block_the_search_nor_are_promoted(failing: float) -> None:
    def fail_some(proposal: Proposal) -> float | None:
        return None if random.Random(proposal.trial_id).random() < failing else score_width(proposal)

    exchanges = run_budget(make_search(), 20, 3, fail_some)
    failed = {exchange[0] for exchange in exchanges if isinstance(exchange, tuple) and exchange[1] is None}
    assert failed
    assert not failed & {proposal.continues for proposal in list_proposals(exchanges)}
    assert (count_epochs(exchanges)[9] > 0) == (failing < 1)


def test_a_loss_is_made_small() -> None:
    exchanges = run_budget(make_search("search.objective=val_loss"), 20)
    new = [proposal for proposal in list_proposals(exchanges) if proposal.continues is None]
    narrowest = min(new, key=score_width)
    assert {proposal.epochs for proposal in list_proposals(exchanges) if proposal.values == narrowest.values} == {
        1,
        3,
        9,
    }


def test_a_space_that_is_used_up_ends_with_promotions_and_never_repeats_a_configuration() -> None:
    search = make_search("model.filters={tune: int, min_value: 1, max_value: 7}")
    exchanges = []
    running: list[Proposal] = []
    while (answer := search.ask()) is not None:
        exchanges.append(answer)
        if isinstance(answer, Proposal):
            running.append(answer)
        if isinstance(answer, Wait) or len(running) == 3:
            ended = running.pop(0)
            search.tell(ended.trial_id, score_width(ended))
    trained = Counter((p.values["model.filters"], p.epochs) for p in exchanges if isinstance(p, Proposal))
    assert set(trained.values()) == {1}
    assert {filters for filters, _ in trained} == set(range(1, 8))
    assert any(isinstance(exchange, Wait) for exchange in exchanges)
    assert (7, 9) in trained
    assert search.ask() is None


@pytest.mark.parametrize("slots", [1, 3])
def test_a_search_restored_after_any_exchange_goes_on_as_if_it_had_never_stopped(slots: int) -> None:
    def score(proposal: Proposal) -> float | None:
        chance = random.Random(proposal.trial_id)
        return None if chance.random() < 0.2 else chance.random()

    whole = run_budget(make_search(), 14, slots, score)
    assert any(isinstance(exchange, Wait) for exchange in whole) == (slots > 1)
    for cut in range(len(whole) + 1):
        search = make_search()
        search.restore(whole[:cut])
        assert run_budget(search, 14, slots, score, whole[:cut]) == whole, f"cut after {cut}"


def test_more_lowest_epochs_than_there_are_epochs_make_one_rung() -> None:
    assert count_epochs(run_budget(make_search("search.lowest_epochs=50"), 4)) == {9: 4}


@pytest.mark.parametrize("configurations", [1, 4, 12, 40])
def test_about_as_many_trials_are_announced_as_there_are(configurations: int) -> None:
    config = compose_job(["search=asha", *SPACE, "train.epochs=9"]).config
    assert count_possible_trials("asha", config.oracle, config.settings) == 400
    announced = estimate_trials("asha", config.oracle, config.settings, configurations)
    trained = len(list_proposals(run_budget(make_search(), configurations, 2)))
    assert announced == pytest.approx(trained, rel=0.25)
