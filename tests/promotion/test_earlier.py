"""An earlier decision about the same finalists: when it still holds, and when a rollback forbids to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, Locked, PromotionRefused
from fmnist_sweep.promotion.candidates import PromotionTarget
from fmnist_sweep.promotion.configuration import TrialConfiguration
from fmnist_sweep.promotion.earlier import find_earlier_outcome, refuse_rolled_back
from fmnist_sweep.promotion.outcome import describe_alias, refuse_changed_champion
from fmnist_sweep.promotion.preparation import Promotion, PromotionRequest
from fmnist_sweep.tracking.aliases import MoveKind, move_alias
from fmnist_sweep.tracking.names import (
    AGAINST_TAG,
    CONFIG_HASH_TAG,
    DECISION_TAG,
    MODEL_NAME,
    RULE_TAG,
    SEEDS_TAG,
    WHY_TAG,
)
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.support.versions import connect_store

SETTINGS: dict[str, Any] = {"model": {}, "optimizer": {}, "regularization": {}, "train": {}}
CONFIGURATION = TrialConfiguration("a trial", SETTINGS, {}, "d:1", "val_loss", 1, ())


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return connect_store(tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def promotion(connection: Store) -> Iterator[Promotion]:
    """A promotion of one configuration in a store with an empty registry."""
    connection.client.create_registered_model(MODEL_NAME)
    request = PromotionRequest(PromotionTarget(), compose_job(["search=grid"]).config, None, False, False, "promote")
    unused: Any = None  # a terminal, a stop, candidates
    yield Promotion(connection, request, unused, unused, unused, [CONFIGURATION])
    connection.client.delete_registered_model(MODEL_NAME)


def register(promotion: Promotion, **other_tags: str) -> str:
    """Register a version with the tags of this promotion's decision, and return its number."""
    tags = {
        DECISION_TAG: promotion.decision,
        RULE_TAG: promotion.rule_json,
        SEEDS_TAG: "5",
        AGAINST_TAG: "nobody",
        WHY_TAG: "it was the best.",
        CONFIG_HASH_TAG: CONFIGURATION.key,
    }
    client = promotion.store.client
    return str(client.create_model_version(MODEL_NAME, source="file:///no/model", tags={**tags, **other_tags}).version)


def move(promotion: Promotion, number: str, kind: MoveKind = "promoted", alias: str = CHAMPION) -> None:
    with lock_registry(promotion.store):
        move_alias(promotion.store, alias, number, kind=kind, why="a test.", command="fmnist-sweep")


def ask(promotion: Promotion, *, open_again: bool = False, seeds: int | None = None) -> Promotion:
    """The same promotion, requested with other options."""
    base = promotion.request.base
    base = replace(base, promote=base.promote.model_copy(update={"seeds": seeds}))
    return replace(promotion, request=replace(promotion.request, base=base, open_again=open_again))


def test_a_champion_of_the_same_decision_is_the_outcome(promotion: Promotion) -> None:
    assert find_earlier_outcome(promotion, "nobody") is None
    number = register(promotion)
    assert find_earlier_outcome(promotion, "nobody") is None
    move(promotion, number)
    outcome = find_earlier_outcome(promotion, number)
    assert outcome is not None
    assert (outcome.code, outcome.version) == (ExitCode.DONE, number)
    assert outcome.lines == (f"models:/{MODEL_NAME}@{CHAMPION} is still version {number}", "  it was the best.")


def test_a_challenger_is_the_outcome_only_against_the_same_champion(promotion: Promotion) -> None:
    champion = register(promotion, **{DECISION_TAG: "another"})
    challenger = register(promotion, **{AGAINST_TAG: champion})
    move(promotion, champion)
    move(promotion, challenger, "challenger", CHALLENGER)
    outcome = find_earlier_outcome(promotion, champion)
    assert outcome is not None
    assert (outcome.code, outcome.version) == (ExitCode.NOT_BETTER, challenger)
    assert find_earlier_outcome(promotion, "7") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda promotion: ask(promotion, open_again=True),
        lambda promotion: ask(promotion, seeds=6),
        lambda promotion: replace(promotion, configurations=[replace(CONFIGURATION, data_tag="d:2")]),
    ],
    ids=["opened again", "more seeds", "another configuration"],
)
def test_another_decision_is_made_anew(promotion: Promotion, change: Callable[[Promotion], Promotion]) -> None:
    number = register(promotion)
    move(promotion, number)
    assert find_earlier_outcome(ask(promotion, seeds=5), number) is not None
    assert find_earlier_outcome(change(promotion), number) is None


def test_a_rule_is_stored_as_earlier_releases_store_it(promotion: Promotion) -> None:
    assert promotion.rule_json == '{"class_drop": 0.05, "level": 0.95, "min_gain": 0.001}'


def test_another_rule_makes_another_decision(promotion: Promotion) -> None:
    number = register(promotion, **{RULE_TAG: "{}"})
    move(promotion, number)
    assert find_earlier_outcome(promotion, number) is None


def test_a_configuration_that_was_rolled_back_is_promoted_again_only_on_purpose(promotion: Promotion) -> None:
    first, second = register(promotion, **{CONFIG_HASH_TAG: "another"}), register(promotion)
    move(promotion, first)
    move(promotion, second)
    refuse_rolled_back(promotion)
    move(promotion, first, "rolled back")
    with pytest.raises(PromotionRefused, match=rf"version {second}, .* fmnist-sweep rollback --to {second}"):
        refuse_rolled_back(promotion)
    refuse_rolled_back(ask(promotion, open_again=True))
    move(promotion, register(promotion, **{CONFIG_HASH_TAG: "a third"}))
    refuse_rolled_back(promotion)


def test_an_alias_is_described_by_where_it_was_and_is() -> None:
    assert (
        describe_alias(MODEL_NAME, CHAMPION, "2", None)
        == f"models:/{MODEL_NAME}@champion is now version 2 (before: nothing)"
    )
    assert describe_alias(MODEL_NAME, CHAMPION, "2", "1").endswith("is now version 2 (before: version 1)")
    assert describe_alias(MODEL_NAME, CHAMPION, "2", "2").endswith("is still version 2")


def test_a_champion_that_changed_meanwhile_ends_the_command_as_locked() -> None:
    refuse_changed_champion("1", "1")
    with pytest.raises(Locked, match="another command changed the champion meanwhile: type the command again"):
        refuse_changed_champion("1", "2")
