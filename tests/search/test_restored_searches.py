"""A search that is restored from its record: it goes on as if it had never stopped, or says what differs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.search.ask_and_tell import Proposal, ReplayMismatch, Search, Wait
from fmnist_sweep.search.factories import ORACLES
from tests.support.searches import CONTINUOUS, Exchange, onwards, search
from tests.support.small import SPACE_OF_54, search_of

ALL = tuple(ORACLES)


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
