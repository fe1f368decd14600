"""An oracle of one's own: asked with all that was told, restored exactly, and refused where it proposes nonsense."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import pytest
from pydantic import Field

from fmnist_sweep import plugins
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.ask_and_tell import Exchange, Proposal, Search
from tests.support.small import SPACE_OF_54

Trials = Sequence[Mapping[str, Any]]


def climb(
    space: Mapping[str, Any], trials: Trials, *, seed: int, start: Annotated[int, Field(ge=0, le=2)]
) -> dict[str, Any] | None:
    """Two filters to try with one layer; then the better one with other layers."""
    generator = random.Random(seed + len(trials))
    filters = space["model.filters"]["values"]
    if len(trials) >= 6:
        return None
    ended = [trial for trial in trials if trial["score"] is not None]
    best = max(ended, key=lambda trial: float(trial["score"]), default=None)
    return {
        "model.filters": filters[start] if best is None else best["values"]["model.filters"],
        "model.conv_layers": generator.randint(1, 3),
        "regularization.dropout": 0.1 * len(trials),
    }


@pytest.fixture
def make_search() -> Iterator[Callable[..., Search]]:
    with plugins.collect_registrations("mine.py") as functions:
        plugins.oracle(climb)
    for registry, function in functions:
        registry.register(function)

    def make(*overrides: str) -> Search:
        config = compose_job([*SPACE_OF_54, "regularization.dropout.max_value=0.5", *overrides]).config
        assert config.search.lookahead == (4 if config.search.synchronous else None)
        return Search(config.search.name, config.oracle, config.settings, config.search.objective)

    yield make
    plugins.ORACLES.drop_plugins()


CLIMB = ("search.name=climb", "+search.start=1", "search.synchronous=true")


def ask_all(search: Search, score: Callable[[Mapping[str, Any]], float]) -> list[Exchange]:
    exchanges: list[Exchange] = []
    while isinstance(answer := search.ask(), Proposal):
        told = (answer.trial_id, score(answer.values))
        search.tell(*told)
        exchanges += [answer, told]
    return exchanges


def test_it_proposes_what_its_function_says_of_the_trials_so_far(make_search: Callable[..., Search]) -> None:
    exchanges = ask_all(make_search(*CLIMB), lambda values: 0.5)
    proposals = [each.values for each in exchanges if isinstance(each, Proposal)]
    assert len(proposals) == 6
    assert {values["model.filters"] for values in proposals} == {48}
    assert [values["regularization.dropout"] for values in proposals] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_it_is_restored_exactly_from_its_record(make_search: Callable[..., Search]) -> None:
    exchanges = ask_all(make_search(*CLIMB), lambda values: 1 / values["model.conv_layers"])
    restored = make_search(*CLIMB)
    restored.restore(exchanges[:6])
    assert ask_all(restored, lambda values: 1 / values["model.conv_layers"]) == exchanges[6:]


def test_a_lower_loss_is_a_higher_score(make_search: Callable[..., Search]) -> None:
    search = make_search(*CLIMB, "search.objective=val_loss")
    first = search.ask()
    assert isinstance(first, Proposal)
    search.tell(first.trial_id, 2.0)
    (trial,) = search._oracle._list_trials()
    assert (trial["score"], trial["state"]) == (-2.0, "finished")


@pytest.mark.parametrize(
    ("proposed", "words"),
    [
        ({"model.filters": 33}, "proposed model.filters=33, which the space does not have"),
        ({}, "proposed no value of model.filters; expected one of each of model.filters, model.conv_layers"),
        ([1], "proposed list; expected a mapping of values by name, or None"),
        (None, None),
    ],
)
def test_what_it_must_not_propose_is_refused_in_one_sentence(
    make_search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, proposed: Any, words: str | None
) -> None:
    search = make_search(*CLIMB)
    monkeypatch.setattr(search._oracle, "_propose", lambda space, trials: proposed)
    if words is None:
        assert search.ask() is None
        return
    with pytest.raises(ConfigError, match=r"search.name=climb: the oracle") as refused:
        search.ask()
    assert words in str(refused.value)


def test_an_error_in_it_and_a_setting_that_it_does_not_allow_are_one_sentence(
    make_search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"search.start=3 .*expected a whole number from 0 to 2"):
        make_search("search.name=climb", "+search.start=3")
    search = make_search(*CLIMB)
    monkeypatch.setattr(search._oracle, "_propose", lambda space, trials: 1 / 0)
    with pytest.raises(ConfigError, match=r"the oracle raised an error \(ZeroDivisionError: division by zero\)"):
        search.ask()
