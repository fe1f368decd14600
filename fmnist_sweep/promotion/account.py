"""The account of the test images: how many decisions were made on them, and what the next one may spend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.data.kaggle_csv import CANONICAL_HASHES
from fmnist_sweep.promotion.spending import DecisionShare
from fmnist_sweep.tracking.ledger_heads import check_ledger, note_ledger_head
from fmnist_sweep.tracking.names import CANONICAL_TAG, NO_CHAMPION, TEST_PART_TAG
from fmnist_sweep.tracking.test_decisions import (
    KeptDecisions,
    TestDecision,
    make_decision_key,
    read_test_decisions,
    write_test_decision,
)

if TYPE_CHECKING:
    from fmnist_sweep.data.opening_ledger import OpeningLedger
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial

CANONICAL_PART = CANONICAL_HASHES["test"]
DEFAULT_LEVEL = 0.95  # promote.level as shipped, by which an account is described where no config is composed
_CANONICAL_COUNT = 10_000
OPENING_NAME = re.compile(r"opening (\S{1,200}) of the test images")  # in a line of the ledger
_FASHION_MNIST = ("fashion_mnist", "kaggle_csv")


@dataclass(frozen=True)
class Account:
    """Decisions on some test images.

    part: hash of the images in any order. decisions: those that count, the oldest first. unreadable_count: of what may
    have been decisions, and is counted too.
    """

    part: str
    decisions: Sequence[TestDecision]
    unreadable_count: int = 0

    @property
    def count(self) -> int:
        """Number of decisions made."""
        return len(self.decisions) + self.unreadable_count

    @property
    def earlier_count(self) -> int:
        """Number of openings without a known decision: from before there was an account, or undecided yet."""
        return sum(decision.against is None for decision in self.decisions)

    @property
    def next_share(self) -> DecisionShare:
        """What the next decision may spend."""
        return DecisionShare(self.count + 1)

    @property
    def remainder(self) -> float:
        """The fraction of the error that is left for all that follow."""
        return 1 / (self.count + 1)


def list_accounts(store: Store, ledger: OpeningLedger) -> list[Account]:
    """The account of each part that decisions were made on, that of Fashion-MNIST first."""
    kept = read_test_decisions(store)
    everything = [*kept.decisions, *_list_unknown_openings(kept, ledger)]
    parts = {decision.part for decision in everything if decision.against != NO_CHAMPION and decision.part is not None}
    if kept.unreadable_count or any(decision.part is None for decision in everything):
        parts.add(CANONICAL_PART)
    return [
        _build_account(kept, everything, part)
        for part in sorted(parts, key=lambda part: (part != CANONICAL_PART, part))
    ]


def read_account(store: Store, ledger: OpeningLedger, part: str, *, own_openings: Sequence[str] = ()) -> Account:
    """The account of a part. own_openings: of a decision that is still to come, which do not count."""
    kept = read_test_decisions(store)
    everything = [*kept.decisions, *_list_unknown_openings(kept, ledger)]
    others = [each for each in everything if each.against is not None or not set(each.openings) & set(own_openings)]
    return _build_account(kept, others, part)


def _build_account(kept: KeptDecisions, decisions: Sequence[TestDecision], part: str) -> Account:
    decided_openings = {name for each in decisions if each.against is not None for name in each.openings}
    counted = [
        each
        for each in decisions
        if each.part in (part, None)
        and each.against != NO_CHAMPION
        and not (each.against is None and set(each.openings) <= decided_openings)
    ]
    return Account(part, counted, kept.unreadable_count)


def enter_ledger(store: Store, path: Path) -> None:
    """Enter the openings of a ledger that no decision is known of into the registry, and keep the ledger's head there.

    So they count for every machine that shares the store, too. Raises PromotionRefused if the ledger was edited or
    shortened, StoreError if it cannot be read.
    """
    for opening in _list_unknown_openings(read_test_decisions(store), check_ledger(store, path)):
        write_test_decision(store, opening)
    note_ledger_head(store, path)


def count_openings(ledger: OpeningLedger) -> int:
    """Number of openings in a ledger. One that was interrupted and continued has several lines but counts once."""
    matches = ((OPENING_NAME.search(str(entry.get("reason"))), number) for number, entry in enumerate(ledger.entries))
    return len({match[1] if match else number for match, number in matches})


def describe_account(account: Account) -> str:
    """Describe how many decisions were made on test images, and what the next one may spend."""
    name = "Fashion-MNIST's test images" if account.part == CANONICAL_PART else f"the test images {account.part[:12]}"
    share = account.next_share
    noun = "decision" if account.count == 1 else "decisions"
    earlier = account.earlier_count
    aside = f" ({earlier} of them before there was an account, or not ended)" if earlier else ""
    error = 1 - DEFAULT_LEVEL
    return (
        f"account of {name}: {account.count} {noun}{aside}; of the {100 * error:.3g}% error that all may make together "
        f"{100 * error * account.remainder:.3g}% is left, and the next is decided at "
        f"{100 * share.correct_level(DEFAULT_LEVEL):.5g}%"
    )


def find_part(runs: Sequence[StoredTrial]) -> str:
    """Which test images some scored runs, or trials that are to be, belong to; "other" if nothing says so."""
    tags = [run.tags for run in runs]
    known = next((each[TEST_PART_TAG] for each in tags if TEST_PART_TAG in each), None)
    if known is not None:
        return known
    return CANONICAL_PART if any(each.get(CANONICAL_TAG) == "true" for each in tags) else "other"


def _list_unknown_openings(kept: KeptDecisions, ledger: OpeningLedger) -> Iterator[TestDecision]:
    """Openings for promotions in a ledger that the registry has nothing of, each once."""
    known = {name for decision in kept.decisions for name in decision.openings}
    for entry in ledger.entries:
        match = OPENING_NAME.search(str(entry.get("reason")))
        if match is None or match[1] in known:
            continue
        known.add(match[1])
        yield TestDecision(
            key=make_decision_key(match[1]),
            time=str(entry.get("time", ""))[:40],
            part=_find_part_of_entry(entry),
            decision=match[1].rpartition("-")[0][:40],
            against=None,
            openings=(match[1],),
        )


def _find_part_of_entry(entry: Mapping[str, Any]) -> str | None:
    """Which test images a line of the ledger is about; one of an earlier release says it by their source and number."""
    part = entry.get("part")
    if isinstance(part, str):
        return part
    is_canonical = entry.get("source") in _FASHION_MNIST and entry.get("images") == _CANONICAL_COUNT
    return CANONICAL_PART if is_canonical else None
