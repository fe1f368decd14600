"""Proposals by Optuna's sampler: what they depend on, that they are restored, and that they find what is good."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import keras_tuner
import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.search import oracles
from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Search, Wait
from tests.support.small import SPACE_OF_54, search_of

# A tunable of each kind, of each way of sampling, with and without steps.
SPACE = (
    *("model.conv_layers=1", "regularization=none", "search.initial_points=3"),
    "model.filters={tune: int, min_value: 8, max_value: 64, step: 8}",
    "model.dense_units={tune: int, min_value: 4, max_value: 300, sampling: log}",
    "train.batch_size={tune: choice, values: [32, 64, 128]}",
    "train.loss={tune: choice, values: [sparse_categorical_crossentropy, categorical_crossentropy]}",
    "train.augmentation.flip={tune: boolean}",
    "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}",
    "regularization.l2={tune: float, min_value: 0.0001, max_value: 0.1, sampling: reverse_log}",
    "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.1, sampling: log}",
)
SEARCHES = {
    "tpe": ("search=tpe", *SPACE),
    "asha": ("search=asha", "search.proposer=tpe", "train.epochs=4", "search.factor=2", *SPACE),
}
NINE = (*SPACE_OF_54, "regularization=none", "search.initial_points=2")  # combinations


@cache
def _compose(*overrides: str) -> Job:
    return compose_job(overrides)


def make_search(*overrides: str) -> Search:
    return search_of(_compose(*overrides))


def score_rate(proposal: Proposal) -> float:
    return -abs(math.log10(proposal.values.get("optimizer.learning_rate", 0.01)) + 2.0)


def score_some(proposal: Proposal) -> float | None:
    return None if random.Random(proposal.trial_id).random() < 0.2 else score_rate(proposal)


def run_on(search: Search, so_far: Sequence[Exchange], slots: int, most: int) -> list[Exchange]:
    """All exchanges, up to the end or `most`: after `so_far` they depend on it and on the search alone."""
    exchanges = list(so_far)
    running = {exchange.trial_id: exchange for exchange in exchanges if isinstance(exchange, Proposal)}
    for exchange in exchanges:
        if isinstance(exchange, tuple):
            del running[exchange[0]]
    while len(exchanges) < most:
        answer = search.ask() if len(running) < slots else None
        if isinstance(answer, Proposal):
            exchanges.append(answer)
            running[answer.trial_id] = answer
        elif running:
            ended = random.Random(len(exchanges)).choice(sorted(running))
            score = score_some(running.pop(ended))
            search.tell(ended, score)
            exchanges.append((ended, score))
        else:
            break
    return exchanges


@pytest.mark.parametrize("slots", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_restored_after_any_exchange_goes_on_as_if_it_had_never_stopped(name: str, slots: int) -> None:
    whole = run_on(make_search(*SEARCHES[name]), [], slots, 50)
    assert len(whole) == 50
    for cut in range(0, 51, 1 if slots > 1 else 7):
        search = make_search(*SEARCHES[name])
        search.restore(whole[:cut])
        assert run_on(search, whole[:cut], slots, 50) == whole, f"cut after {cut}"


def test_answers_are_restored_without_sampling_and_a_proposal_depends_on_no_earlier_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fmnist_sweep.search import tpe

    whole = run_on(make_search(*SEARCHES["tpe"]), [], 2, 40)
    with monkeypatch.context() as patched:
        patched.setattr(tpe._Model, "draw_values", None)
        search = make_search(*SEARCHES["tpe"])
        search.restore(whole)
    other = make_search(*SEARCHES["tpe"])
    other.restore(whole)
    assert search.ask() == other.ask()


def test_in_whatever_order_results_are_told_the_next_proposal_is_the_same() -> None:
    asked = make_search(*SEARCHES["tpe"])
    proposals = [proposal for _ in range(12) if isinstance(proposal := asked.ask(), Proposal)]
    answers = []
    for order in (proposals, proposals[::-1]):
        search = make_search(*SEARCHES["tpe"])
        search.restore(proposals)
        for proposal in order[2:] if order is proposals else order[:-2]:
            search.tell(proposal.trial_id, score_some(proposal))
        answers.append(search.ask())
    assert answers[0] == answers[1]
    assert answers[0] not in proposals


def test_trials_under_way_are_kept_away_from() -> None:
    searches = [make_search(*SEARCHES["tpe"]) for _ in range(2)]
    for search in searches:
        for _ in range(8):
            proposal = search.ask()
            assert isinstance(proposal, Proposal)
            search.tell(proposal.trial_id, score_rate(proposal))
    apart, _ = searches
    one, two = apart.ask(), apart.ask()
    assert isinstance(one, Proposal)
    assert isinstance(two, Proposal)
    apart.tell(one.trial_id, None)
    apart.tell(two.trial_id, None)
    # What failed is forgotten, what runs is not: the third proposal depends on it.
    running = searches[1]
    assert isinstance(running.ask(), Proposal)
    assert isinstance(running.ask(), Proposal)
    assert apart.ask() != running.ask()


@pytest.mark.parametrize("name", ["tpe", "asha"])
@pytest.mark.parametrize("slots", [1, 3])
def test_no_combination_is_proposed_twice_and_the_search_ends_when_the_space_is_used_up(name: str, slots: int) -> None:
    own = ("search.proposer=tpe", "train.epochs=4", "search.factor=2") if name == "asha" else ()
    exchanges = run_on(make_search(f"search={name}", *NINE, *own), [], slots, 400)
    proposals = [exchange for exchange in exchanges if isinstance(exchange, Proposal)]
    new = [str(sorted(p.values.items())) for p in proposals if p.continues is None]
    assert len(set(new)) == len(new) == 9
    assert len(exchanges) < 400


@pytest.mark.parametrize("name", SEARCHES)
def test_it_proposes_better_than_at_random_once_it_has_learned(name: str) -> None:
    def reach(*overrides: str) -> float:
        """The mean distance of the learning rates of 20 proposals from the best one, in decades."""
        distances = []
        for seed in range(3):
            search = make_search(*overrides, f"seed={seed}")
            for number in range(45):
                proposal = search.ask()
                assert isinstance(proposal, Proposal)
                search.tell(proposal.trial_id, score_rate(proposal))
                if number >= 25 and proposal.continues is None:
                    distances.append(-score_rate(proposal))
        return sum(distances) / len(distances)

    assert reach(*SEARCHES[name]) < 0.6 * reach("search=random", *SPACE[:2], *SPACE[3:])


def test_every_value_is_one_of_the_space() -> None:
    exchanges = run_on(make_search(*SEARCHES["tpe"]), [], 1, 120)
    for proposal in exchanges:
        if isinstance(proposal, Proposal):
            values = proposal.values
            assert values["model.filters"] in range(8, 65, 8)
            assert values["model.dense_units"] in range(4, 301)
            assert values["train.batch_size"] in (32, 64, 128)
            assert type(values["train.augmentation.flip"]) is bool
            assert values["regularization.dropout"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
            assert 0.0001 <= values["regularization.l2"] <= 0.1
            assert 0.0001 <= values["optimizer.learning_rate"] <= 0.1
            assert type(values["model.filters"]) is int


SGD = ("sgd_rate", "momentum")


def _make_conditional_oracle() -> Any:
    """An oracle over a space with options."""
    from fmnist_sweep.search import tpe

    space = keras_tuner.HyperParameters()
    space.Choice("optimizer", ["adam", "sgd"])
    with space.conditional_scope("optimizer", ["adam"]):
        space.Float("adam_rate", 1e-4, 1e-2, sampling="log")
    with space.conditional_scope("optimizer", ["sgd"]):
        space.Float("sgd_rate", 1e-2, 1.0, sampling="log")
        space.Float("momentum", 0.0, 0.9)
    oracle = tpe.TpeOracle(
        initial_points=3,
        hyperparameters=space,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        seed=1,
        allow_new_entries=False,
        tune_new_entries=False,
    )
    oracles.adapt_oracle(oracle, max_collisions=100)
    return oracle


def test_what_is_not_active_is_neither_drawn_nor_learned_from() -> None:
    oracle = _make_conditional_oracle()
    chosen: list[Mapping[str, Any]] = []
    for number in range(40):
        trial = oracle.create_trial(f"slot-{number}")
        values = trial.hyperparameters.values
        chosen.append(values)
        assert set(values) == {"optimizer", *(("adam_rate",) if values["optimizer"] == "adam" else SGD)}
        oracle.update_trial(trial.trial_id, {"val_accuracy": values.get("momentum", 0.0)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    late = chosen[25:]
    assert sum(values["optimizer"] == "sgd" for values in late) >= 12
    assert sum(values.get("momentum", 0.0) > 0.5 for values in late) >= 10


def test_asha_without_a_slot_to_spare_waits_only_when_nothing_new_is_left() -> None:
    search = make_search(*SEARCHES["asha"])
    for _ in range(30):
        assert not isinstance(search.ask(), Wait)
