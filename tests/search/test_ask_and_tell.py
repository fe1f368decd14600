"""The oracles, asked and told: what they promise of a space, a seed and failures."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import ORACLES, Proposal, ReplayMismatch, Search, Wait
from fmnist_sweep.search.estimates import count_possible_trials, explain_infeasible_search
from tests.support.small import SPACE_OF_54, search_of

Score = Callable[[Mapping[str, Any]], float | None]
ALL = tuple(ORACLES)
# What a search's owner records: the oracle's answers, and the trials that ended with their scores.
Exchange = Proposal | Wait | None | tuple[str, float | None]


def quality(values: Mapping[str, Any]) -> float:
    """A made-up validation accuracy: the widest, deepest network with a dropout of 0.2 is best."""
    dropout = values.get("regularization.dropout", 0.2)
    wide, deep = values.get("model.filters", 32), values.get("model.conv_layers", 1)
    return float(0.5 + wide / 640 + deep / 30 - abs(dropout - 0.2))


def ask_until_over(search: Search, score: Score = quality, most: int = 400) -> list[Proposal]:
    """Every proposal, told its score at once, as with a single slot."""
    proposals: list[Proposal] = []
    while len(proposals) < most:
        proposal = search.ask()
        assert not isinstance(proposal, Wait), "with nothing under way there is nothing to wait for"
        if proposal is None:
            break
        proposals.append(proposal)
        search.tell(proposal.trial_id, score(proposal.values))
    return proposals


def search(name: str, *overrides: str) -> Search:
    return search_of(compose_job([f"search={name}", *overrides]))


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


def test_bayesian_search_proposes_nothing_twice_and_ends_when_the_space_is_used_up() -> None:
    proposals = ask_until_over(search("bayesian", *TWELVE))
    assert len(proposals) == len({key(proposal) for proposal in proposals}) == 12


@pytest.mark.slow
def test_bayesian_search_finds_the_best_of_54_in_fewer_trials_than_there_are() -> None:
    proposals = ask_until_over(search("bayesian", *SPACE_OF_54), most=27)
    best = max(quality(proposal.values) for proposal in proposals)
    assert best == pytest.approx(quality({"model.filters": 64, "model.conv_layers": 3}), abs=0.051)


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


def test_hyperband_refuses_a_space_smaller_than_its_first_rungs() -> None:
    job = compose_job([*SPACE_OF_54, "search=hyperband", "train.epochs=9", "regularization=none"])
    reason = explain_infeasible_search("hyperband", job.config.oracle, job.config.settings)
    assert reason is not None
    assert "17 different trials" in reason
    assert "only 9" in reason
    assert space.count_combinations(job.config.settings) == 9


def onwards(search: Search, so_far: Sequence[Exchange], slots: int, most: int, failing: float = 0.2) -> list[Exchange]:
    """All exchanges, up to the end or `most`: after `so_far` they depend on it and on the search alone.

    Trials end in no order; failing: the share of them that fails.
    """
    exchanges = list(so_far)
    running = [exchange.trial_id for exchange in exchanges if isinstance(exchange, Proposal)]
    for exchange in exchanges:
        if isinstance(exchange, tuple):
            running.remove(exchange[0])
    while len(exchanges) < most:
        chance = random.Random(f"{len(exchanges)}")
        told_to_wait = bool(exchanges) and (exchanges[-1] is None or isinstance(exchanges[-1], Wait))
        if len(running) < slots and not told_to_wait:
            exchanges.append(answer := search.ask())
            if isinstance(answer, Proposal):
                running.append(answer.trial_id)
        elif running:
            ended = running.pop(chance.randrange(len(running)))
            score = None if chance.random() < failing else chance.random()
            search.tell(ended, score)
            exchanges.append((ended, score))
        else:
            break
    return exchanges


def restored(job: Job, exchanges: Sequence[Exchange]) -> Search:
    """A search after these exchanges, as read from a file."""
    search = search_of(job)
    for exchange in exchanges:
        if isinstance(exchange, tuple):
            search.tell(*exchange)
        elif isinstance(exchange, Proposal):
            search.replay(Proposal(**json.loads(json.dumps(asdict(exchange)))))
        else:
            search.replay(exchange)
    return search


NINE = (
    *SPACE_OF_54,
    "regularization=none",
)  # combinations
ONE_LINE = (
    *SPACE_OF_54,
    "regularization=none",
    "model.conv_layers=1",
    "model.filters={tune: int, min_value: 1, max_value: 512}",
)
FIVE = (*SPACE_OF_54, "regularization=none", "model.conv_layers=1", "model.filters.values=[8,16,32,64,128]")
CONTINUOUS = (*SPACE_OF_54, "regularization.dropout.step=null", "train.epochs=9")


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    ("name", "overrides", "most"),
    [
        ("random", NINE, 100),
        ("grid", NINE, 100),
        ("hyperband", CONTINUOUS, 200),
        ("hyperband", ("search.iterations=2", "train.epochs=3", "regularization.dropout.step=null"), 200),
        pytest.param("bayesian", (*ONE_LINE, "search.initial_points=2"), 16, marks=pytest.mark.slow),
        pytest.param("bayesian", (*FIVE, "search.initial_points=2"), 100, marks=pytest.mark.slow),
    ],
)
def test_a_search_restored_after_any_exchange_goes_on_as_if_it_had_never_stopped(
    name: str, overrides: Sequence[str], most: int, slots: int
) -> None:
    job = compose_job([f"search={name}", *overrides])
    whole = onwards(search_of(job), [], slots, most)
    assert len(whole) == most or whole[-1] is None
    assert any(isinstance(exchange, tuple) and exchange[1] is None for exchange in whole)
    for cut in range(len(whole) + 1):
        assert onwards(restored(job, whole[:cut]), whole[:cut], slots, most) == whole, f"cut after {cut}"


def test_the_recorded_searches_hold_what_is_hard_to_restore() -> None:
    for name in ("grid", "hyperband"):
        whole = onwards(search(name, *(NINE if name == "grid" else CONTINUOUS)), [], 3, 200)
        assert any(isinstance(exchange, Wait) for exchange in whole)
    whole = onwards(search("bayesian", *ONE_LINE, "search.initial_points=2"), [], 3, 16)
    guesses = [exchange.guesses for exchange in whole if isinstance(exchange, Proposal)]
    assert sum(len(guess) == 2 for guess in guesses) >= 3
    ended = [exchange[0] for exchange in whole if isinstance(exchange, tuple)]
    assert ended != sorted(ended)


@pytest.mark.parametrize("name", ALL)
def test_a_config_without_tunables_is_restored_as_well(name: str) -> None:
    job = compose_job(["experiment=simple", f"search={name}"])
    whole = onwards(search_of(job), [], 2, 10)
    assert [type(exchange) for exchange in whole] == [Proposal, Wait, tuple, type(None)]
    for cut in range(len(whole) + 1):
        assert onwards(restored(job, whole[:cut]), whole[:cut], 2, 10) == whole


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "wrong", [{"trial_id": "0007"}, {"values": {"model.filters": 1}}, {"epochs": 77}, {"continues": "0003"}]
)
def test_an_answer_that_the_oracle_does_not_repeat_is_refused_and_both_are_named(
    name: str, wrong: dict[str, Any]
) -> None:
    job = compose_job([f"search={name}", *CONTINUOUS])
    first = search_of(job).ask()
    assert isinstance(first, Proposal)
    other = replace(first, **wrong)
    with pytest.raises(ReplayMismatch) as refused:
        search_of(job).replay(other)
    # Asked for a promotion as its record says, ASHA has none.
    answered = None if name == "asha" and "continues" in wrong else first
    assert f"answered {answered}, but" in str(refused.value)
    assert str(other) in str(refused.value)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("wrong", [Wait(), None])
def test_waiting_or_the_end_is_not_repeated_where_the_oracle_proposes(name: str, wrong: Wait | None) -> None:
    with pytest.raises(ReplayMismatch):
        search(name, *CONTINUOUS).replay(wrong)


def test_a_model_based_answer_to_another_question_is_refused() -> None:
    job = compose_job(["search=bayesian", *ONE_LINE, "search.initial_points=1"])
    first = search_of(job).ask()
    assert isinstance(first, Proposal)
    asked = restored(job, [first, (first.trial_id, 0.5)])
    with pytest.raises(ReplayMismatch):
        asked.replay(replace(first, trial_id="0007"))


def test_a_search_that_is_over_stays_over() -> None:
    asked = search("random", *NINE)
    exchanges = onwards(asked, [], 3, 100)
    assert exchanges[-1] is None
    assert asked.ask() is None


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


@pytest.mark.parametrize("name", ["random", "bayesian", "grid", "tpe"])
def test_without_rungs_no_trial_continues_another(name: str) -> None:
    assert {proposal.continues for proposal in ask_until_over(search(name), most=5)} == {None}


def test_brackets_that_failures_left_incomplete_are_forgotten_and_no_proposal_changes() -> None:
    job = compose_job(["search=hyperband", *CONTINUOUS, "search.iterations=20"])
    ours, stock = search_of(job), search_of(job)
    stock._oracle._is_open = lambda bracket: True
    assert onwards(ours, [], 3, 1000) == onwards(stock, [], 3, 1000)
    assert len(stock._oracle._brackets) > 20
    assert len(ours._oracle._brackets) < 5
