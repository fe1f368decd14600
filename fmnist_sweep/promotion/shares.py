"""What a promotion may spend of the account of the test images: foreseen in its plan, claimed for its decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.analysis.comparison import Power, count_seeds_needed
from fmnist_sweep.promotion.account import find_part, read_account
from fmnist_sweep.promotion.gate_text import format_points
from fmnist_sweep.promotion.opening import collect_opening_names
from fmnist_sweep.promotion.spending import FIRST_SHARE, DecisionShare
from fmnist_sweep.text import format_utc_now
from fmnist_sweep.tracking.ledger_heads import check_ledger
from fmnist_sweep.tracking.names import NO_CHAMPION
from fmnist_sweep.tracking.test_decisions import (
    TestDecision,
    make_decision_key,
    read_test_decisions,
    write_test_decision,
)

if TYPE_CHECKING:
    from fmnist_sweep.config.schema import PromoteConfig
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.preparation import Promotion

_ALL_POWER = 0.9999  # more than is asked for, so that all seeds are counted on
_GAINS = tuple(points / 1000 for points in (*range(1, 11), 12, 15, 20, 30, 50))  # that are asked for in practice


def foresee_share(promotion: Promotion, champion: Champion | None) -> DecisionShare:
    """What the decision of a promotion will be able to spend, if no other is made before it.

    A decision that was made before, and is repeated, keeps its number.
    """
    if champion is None:
        return FIRST_SHARE
    store = promotion.store
    if not promotion.request.open_again:
        for made in reversed(read_test_decisions(store).decisions):
            if (made.decision, made.against) == (promotion.decision, champion.number) and made.number is not None:
                return DecisionShare(made.number)
    scored_runs = () if champion.confirmations is None else champion.confirmations.scored_runs
    part = find_part((*scored_runs, *promotion.candidates.finalists))
    own_openings = [f"{promotion.decision}-{number}" for number in range(1, 100)]
    ledger = check_ledger(store, promotion.ledger)
    return read_account(store, ledger, part, own_openings=own_openings).next_share


def claim_share(promotion: Promotion, finalists: Sequence[Confirmations], against: str) -> DecisionShare | None:
    """Enter a decision into the account, and return what it may spend; None if there is no champion to compare with.

    The caller holds `lock_registry`. A decision that is repeated keeps its number. against: number of the champion's
    version, or `nobody`.
    """
    store = promotion.store
    openings = sorted(collect_opening_names(finalists))
    key = make_decision_key(promotion.decision, against, *openings)
    made = next((each for each in read_test_decisions(store).decisions if each.key == key), None)
    if made is not None:
        return None if made.number is None else DecisionShare(made.number)
    part = find_part([run for confirmations in finalists for run in confirmations.scored_runs])
    share = None
    if against != NO_CHAMPION:
        ledger = check_ledger(store, promotion.ledger)
        share = read_account(store, ledger, part, own_openings=openings).next_share
    entry = TestDecision(
        key=key,
        time=format_utc_now(),
        part=part,
        decision=promotion.decision,
        against=against,
        openings=tuple(openings),
        number=None if share is None else share.number,
        error=None if share is None else share.compute_error(promotion.rules.level),
        command=promotion.request.command,
    )
    write_test_decision(store, entry)
    return share


def describe_share(share: DecisionShare, level: float) -> str:
    """Describe what a decision spends and what is left. level: of promote.level."""
    return (
        f"This is decision {share.number} on these test images: of the {100 * (1 - level):.3g}% error that all "
        f"decisions on them may make it spends {100 * share.compute_error(level):.2g}%, and "
        f"{100 * (1 - level) * share.remainder:.2g}% is left for those after it."
    )


def compute_power(rules: PromoteConfig, gain: float, finalist_count: int, share: DecisionShare, images: int) -> Power:
    """The number of seeds that detects a gain with the configured power, at the level of a decision with this share."""
    return count_seeds_needed(
        gain,
        images=images,
        min_gain=rules.min_gain,
        class_drop=rules.class_drop,
        power=rules.power,
        comparisons=finalist_count,
        level=share.correct_level(rules.level),
    )


def describe_chance(rules: PromoteConfig, seeds: int, finalist_count: int, share: DecisionShare, images: int) -> str:
    """Describe how probable promote.gain is found with a number of seeds that was asked for."""
    power = count_seeds_needed(
        rules.gain,
        images=images,
        min_gain=rules.min_gain,
        class_drop=rules.class_drop,
        power=_ALL_POWER,
        comparisons=finalist_count,
        level=share.correct_level(rules.level),
        most=seeds,
    )
    return (
        f"promote.seeds={seeds}: a gain of {format_points(rules.gain)} is found with a probability of "
        f"{math.floor(100 * power.power)}%"
    )


def describe_exhaustion(promotion: Promotion, share: DecisionShare, finalist_count: int, images: int) -> str | None:
    """Say that the account does not allow to find promote.gain any more, and what remains; None if it does."""
    rules = promotion.rules
    asked = compute_power(rules, rules.gain, finalist_count, share, images)
    if asked.is_sufficient or share.number == 1:
        return None
    higher = (compute_power(rules, gain, finalist_count, share, images) for gain in _GAINS if gain > rules.gain)
    remaining = next((power for power in higher if power.is_sufficient), None)
    remains = "test images that nothing was decided on"
    if remaining is not None:
        gain = f"promote.gain={remaining.gain:g}"
        remains = f"a higher gain ({remaining.seeds} seeds find {format_points(remaining.gain)}, {gain}), or {remains}"
    return (
        f"The account of the test images is used up for a gain of {format_points(rules.gain)}: {share.number - 1} "
        f"decisions were made on them, and {asked.seeds} seeds, the most, would find it with a power of "
        f"{asked.power:.0%}. What remains: {remains}."
    )
