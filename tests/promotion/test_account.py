"""The account of the test images in a real registry: what counts, what is entered from ledgers, what edits show."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data.opening_ledger import append_entry
from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.promotion.account import (
    CANONICAL_PART,
    Account,
    describe_account,
    enter_ledger,
    find_part,
    list_accounts,
    read_account,
)
from fmnist_sweep.promotion.confirmation import Confirmations
from fmnist_sweep.promotion.shares import claim_share, describe_exhaustion, describe_share, foresee_share
from fmnist_sweep.promotion.spending import DecisionShare
from fmnist_sweep.tracking import ledger_heads
from fmnist_sweep.tracking.ledger_heads import check_ledger
from fmnist_sweep.tracking.names import (
    CANONICAL_TAG,
    LEDGER_TAG_PREFIX,
    MODEL_NAME,
    TEST_DECISION_TAG_PREFIX,
    TEST_OPENED_TAG,
    TEST_OPENING_TAG,
    TEST_PART_TAG,
)
from fmnist_sweep.tracking.registry import ensure_registered_model
from fmnist_sweep.tracking.store import LEDGER_FILE, Store
from fmnist_sweep.tracking.test_decisions import read_test_decisions
from fmnist_sweep.tracking.trials import StoredTrial
from tests.support.in_process import run_verb
from tests.support.versions import connect_store


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return connect_store(tmp_path_factory.mktemp("account"))


@pytest.fixture
def store(connection: Store) -> Iterator[Store]:
    """A store with an empty registry and no ledger."""
    ensure_registered_model(connection)
    yield connection
    connection.client.delete_registered_model(MODEL_NAME)
    ledger(connection).unlink(missing_ok=True)


def ledger(store: Store) -> Path:
    return store.state_folder / LEDGER_FILE


def opened(store: Store, name: str, *, part: str | None = CANONICAL_PART, images: int = 10_000) -> None:
    """Record an opening. part: None for one of an earlier release."""
    entry = {"time": "2026-11-29T10:00:00+00:00", "source": "fashion_mnist", "images": images}
    entry |= {} if part is None else {"part": part}
    entry["reason"] = f"opening {name} of the test images: runs a b"
    if part is not None:
        append_entry(ledger(store), entry)
        return
    with ledger(store).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def scored(opening: str, *, part: str | None = CANONICAL_PART) -> Confirmations:
    """A finalist that was scored in this opening."""
    tags = {TEST_OPENED_TAG: "2026-11-29", TEST_OPENING_TAG: opening, CANONICAL_TAG: "true"}
    tags |= {} if part is None else {TEST_PART_TAG: part}
    run = StoredTrial("r", "a trial", "finished", {}, {}, tags, 0, 1)
    unused: Any = None
    return Confirmations(unused, "journal", (run,))


def promotion(store: Store, decision: str, *, open_again: bool = False, **rules: Any) -> Any:
    """A promotion that decides this; only what the account asks of one."""
    base = compose_job(["search=grid"]).config.promote.model_copy(update=rules)
    trial = StoredTrial("t", "a trial", "finished", {}, {}, {CANONICAL_TAG: "true"}, 0, 1)
    return SimpleNamespace(
        store=store,
        ledger=ledger(store),
        decision=decision,
        rules=base,
        candidates=SimpleNamespace(finalists=(trial,)),
        request=SimpleNamespace(command="fmnist-sweep promote", open_again=open_again),
    )


def decide(store: Store, decision: str, against: str = "1", opening: int = 1, **rules: Any) -> DecisionShare | None:
    """Open the test images for a decision and claim its share."""
    name = f"{decision}-{opening}"
    opened(store, name)
    enter_ledger(store, ledger(store))
    return claim_share(promotion(store, decision, **rules), [scored(name)], against)


def count(store: Store) -> int:
    return read_account(store, check_ledger(store, ledger(store)), CANONICAL_PART).count


CHAMPION: Any = SimpleNamespace(number="1", confirmations=None)


def test_the_first_champion_spends_nothing_and_each_challenger_the_next_share(store: Store) -> None:
    assert decide(store, "a", against="nobody") is None
    assert count(store) == 0
    for number, decision in enumerate("bcd", 1):
        assert foresee_share(promotion(store, decision), CHAMPION) == DecisionShare(number)
        assert decide(store, decision) == DecisionShare(number)
        assert count(store) == number
    assert foresee_share(promotion(store, "e"), None) == DecisionShare(1)


def test_a_decision_that_is_repeated_keeps_its_share_and_one_against_another_champion_is_another(store: Store) -> None:
    assert decide(store, "a") == DecisionShare(1)
    assert decide(store, "b") == DecisionShare(2)
    assert claim_share(promotion(store, "a"), [scored("a-1")], "1") == DecisionShare(1)
    assert foresee_share(promotion(store, "a"), CHAMPION) == DecisionShare(1)
    assert claim_share(promotion(store, "a"), [scored("a-1")], "2") == DecisionShare(3)
    assert count(store) == 3


def test_another_opening_for_the_same_decision_is_another_decision(store: Store) -> None:
    assert decide(store, "a") == DecisionShare(1)
    assert foresee_share(promotion(store, "a", open_again=True), CHAMPION) == DecisionShare(2)
    assert decide(store, "a", opening=2) == DecisionShare(2)


def test_an_opening_that_was_cut_short_counts_for_others_and_once_for_its_own_decision(store: Store) -> None:
    opened(store, "a-1")
    enter_ledger(store, ledger(store))
    assert count(store) == 1
    assert foresee_share(promotion(store, "a"), CHAMPION) == DecisionShare(1)
    assert decide(store, "b") == DecisionShare(2)
    assert claim_share(promotion(store, "a"), [scored("a-1")], "1") == DecisionShare(2)
    assert count(store) == 2


def test_openings_of_earlier_releases_enter_the_account_as_they_are(store: Store) -> None:
    opened(store, "a-1", part=None)
    opened(store, "a-1", part=None)  # continued
    opened(store, "b-1", part=None)
    with ledger(store).open("a") as file:
        file.write(json.dumps({"reason": "fmnist-sweep data", "images": 10_000}) + "\n")
    assert count(store) == 2
    assert foresee_share(promotion(store, "c"), CHAMPION) == DecisionShare(3)
    assert read_test_decisions(store).decisions == []  # nothing is written before it is needed
    assert decide(store, "c") == DecisionShare(3)
    ledger(store).unlink()
    for tag in [tag for tag in store.client.get_registered_model(MODEL_NAME).tags if tag.startswith(LEDGER_TAG_PREFIX)]:
        store.client.delete_registered_model_tag(MODEL_NAME, tag)
    assert count(store) == 3  # for other machines too, whose ledger is another
    account = read_account(store, check_ledger(store, ledger(store)), CANONICAL_PART)
    assert account.earlier_count == 2


def test_each_part_has_an_account_of_its_own(store: Store) -> None:
    assert decide(store, "a") == DecisionShare(1)
    opened(store, "b-1", part="ab" * 32)
    opened(store, "c-1", part=None, images=100)  # nobody knows which
    enter_ledger(store, ledger(store))
    parts = {account.part: account.count for account in list_accounts(store, check_ledger(store, ledger(store)))}
    assert parts == {CANONICAL_PART: 2, "ab" * 32: 2}


def test_a_record_that_somebody_altered_is_named_and_counted(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    decide(store, "a")
    (tag,) = [
        f"{TEST_DECISION_TAG_PREFIX}{each.key}" for each in read_test_decisions(store).decisions if each.number == 1
    ]
    store.client.set_registered_model_tag(MODEL_NAME, tag, "nothing to see")
    store.left_out.clear()
    assert count(store) == 2  # with the opening, whose decision nobody knows any more
    assert tag in capsys.readouterr().err


def edit_first(path: Path) -> None:
    path.write_text(path.read_text().replace("runs a b", "runs a", 1))


def edit_last(path: Path) -> None:
    path.write_text(path.read_text().removesuffix("}\n") + ', "more": 1}\n')


def shorten(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit_first, "was edited before its line 2"),
        (edit_last, "its first 2 entries are not those"),
        (shorten, "was shortened to 1 of the 2 entries"),
        (Path.unlink, "was shortened to 0 of the 2 entries"),
        (lambda path: path.write_text(""), "was shortened to 0 of the 2 entries"),
    ],
)
def test_a_ledger_that_was_edited_or_shortened_is_noticed(store: Store, change: Any, words: str) -> None:
    for decision in "ab":
        decide(store, decision)
    change(ledger(store))
    for ask in (
        lambda: check_ledger(store, ledger(store)),
        lambda: enter_ledger(store, ledger(store)),
        lambda: foresee_share(promotion(store, "c"), CHAMPION),
    ):
        with pytest.raises(PromotionRefused, match=words) as refused:
            ask()
        assert "\n" not in str(refused.value)
    assert "put back a copy of it" in str(refused.value)
    done = run_verb("history", cwd=store.state_folder.parent)
    assert (done.returncode, done.stderr.count("\n")) == (8, 1)
    assert words in done.stderr


def test_lines_that_were_added_since_are_no_edit(store: Store) -> None:
    decide(store, "a")
    append_entry(ledger(store), {"reason": "fmnist-sweep data"})
    with ledger(store).open("a") as file:
        file.write('{"cut sh')
    check_ledger(store, ledger(store))
    assert decide(store, "b") == DecisionShare(2)


def test_a_head_that_somebody_altered_and_a_ledger_that_cannot_be_read_are_said_in_one_sentence(store: Store) -> None:
    decide(store, "a")
    tag = ledger_heads._name_tag(store, ledger(store))
    store.client.set_registered_model_tag(MODEL_NAME, tag, "{}")
    with pytest.raises(PromotionRefused, match=f"the tag {tag} .* delete it in the MLflow UI"):
        check_ledger(store, ledger(store))
    ledger(store).unlink()
    ledger(store).mkdir()
    try:
        with pytest.raises(StoreError, match="cannot be read"):
            check_ledger(store, ledger(store))
    finally:
        ledger(store).rmdir()


def test_each_machine_of_a_server_has_a_head_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ledger_heads._name_tag(store, ledger(store))
    assert own == f"{LEDGER_TAG_PREFIX}own"
    monkeypatch.setattr(ledger_heads, "is_server", lambda uri: True)
    here = ledger_heads._name_tag(store, ledger(store))
    monkeypatch.setattr(platform, "node", lambda: "another machine")
    assert len({own, here, ledger_heads._name_tag(store, ledger(store))}) == 3


def test_history_shows_the_account(store: Store) -> None:
    decide(store, "a", against="nobody")
    opened(store, "b-1", part=None)
    decide(store, "c")
    done = run_verb("history", cwd=store.state_folder.parent)
    assert done.returncode == 0, done.stderr
    assert "models:/fashion-mnist has no version" in done.stdout
    assert (
        "account of Fashion-MNIST's test images: 2 decisions (1 of them before there was an account, or not ended); "
        "of the 5% error that all may make together 1.67% is left, and the next is decided at 99.167%"
    ) in " ".join(done.stdout.split())


def test_an_account_is_described_by_what_the_next_decision_may_spend() -> None:
    assert describe_account(Account("ab" * 32, (), 1)).startswith(
        "account of the test images abababababab: 1 decision;"
    )
    assert describe_share(DecisionShare(2), 0.95) == (
        "This is decision 2 on these test images: of the 5% error that all decisions on them may make it spends 0.83%, "
        "and 1.7% is left for those after it."
    )


def test_an_account_that_is_used_up_says_what_remains(store: Store) -> None:
    asked = promotion(store, "a")
    assert describe_exhaustion(asked, DecisionShare(1), 1, 10_000) is None
    sentence = describe_exhaustion(asked, DecisionShare(20), 1, 10_000)
    assert sentence is not None
    assert "is used up for a gain of 0.50 points: 19 decisions were made on them, and 30 seeds, the most" in sentence
    assert "promote.gain=0.007" in sentence
    assert sentence.endswith("or test images that nothing was decided on.")
    assert describe_exhaustion(promotion(store, "a", gain=0.01), DecisionShare(20), 1, 10_000) is None


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ({TEST_PART_TAG: "p"}, "p"),
        ({CANONICAL_TAG: "true"}, CANONICAL_PART),
        ({CANONICAL_TAG: "true", TEST_PART_TAG: "p"}, "p"),
        ({CANONICAL_TAG: "false"}, "other"),
    ],
)
def test_runs_say_which_test_images_they_were_scored_on(tags: dict[str, str], part: str) -> None:
    assert find_part([StoredTrial("r", "a trial", "finished", {}, {}, tags, 0, 1)]) == part
