"""Searches as tests ask and tell them: a made-up accuracy, and trials that end at once or in no order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search.ask_and_tell import Proposal, Search, Wait
from tests.support.small import SPACE_OF_54, search_of

# A space that no search uses up.
CONTINUOUS = (*SPACE_OF_54, "regularization.dropout.step=null", "train.epochs=9")
Score = Callable[[Mapping[str, Any]], float | None]
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
