"""Earlier decisions about the same finalists: one that still holds, or a rollback that must not be undone unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist_sweep.errors import ExitCode, PromotionRefused
from fmnist_sweep.promotion.outcome import Outcome, make_unchanged_outcome
from fmnist_sweep.tracking.aliases import list_moves
from fmnist_sweep.tracking.foreign import parse_parameter
from fmnist_sweep.tracking.names import (
    AGAINST_TAG,
    CONFIG_HASH_TAG,
    DECISION_TAG,
    RULE_TAG,
    SEEDS_TAG,
    WHY_TAG,
)
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION, list_versions, read_aliases

if TYPE_CHECKING:
    from fmnist_sweep.promotion.preparation import Promotion
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store


def find_earlier_outcome(promotion: Promotion, champion_number: str) -> Outcome | None:
    """Outcome of an earlier decision about these finalists by the same rule, if it still holds.

    champion_number: version that is champion (`champion.get_champion_number`).
    """
    if promotion.request.open_again:
        return None
    aliases, model = read_aliases(promotion.store), promotion.store.model_name
    min_seeds = promotion.rules.seeds or 0
    for version in list_versions(promotion.store):
        number, tags = version.number, version.tags
        is_same = (tags.get(DECISION_TAG), tags.get(RULE_TAG)) == (promotion.decision, promotion.rule_json)
        if not is_same or _count_seeds(version) < min_seeds:
            continue
        if aliases.get(CHAMPION) == number == champion_number:
            return make_unchanged_outcome(ExitCode.DONE, model, CHAMPION, number, tags.get(WHY_TAG, ""))
        if aliases.get(CHALLENGER) == number and tags.get(AGAINST_TAG) == champion_number:
            return make_unchanged_outcome(ExitCode.NOT_BETTER, model, CHALLENGER, number, tags.get(WHY_TAG, ""))
    return None


def _count_seeds(version: RegisteredVersion) -> int:
    """How many seeds a version was decided by, as its tag says."""
    seeds = parse_parameter(version.tags.get(SEEDS_TAG))
    return seeds if type(seeds) is int else 0


def refuse_rolled_back(promotion: Promotion) -> None:
    """Raise PromotionRefused if one of these configurations was rolled back and nothing was promoted since."""
    rollback_times = {} if promotion.request.open_again else _read_rollback_times(promotion.store)
    keys = {configuration.key for configuration in promotion.configurations}
    for version in list_versions(promotion.store) if rollback_times else ():
        number = version.number
        if number in rollback_times and version.tags.get(CONFIG_HASH_TAG) in keys:
            raise PromotionRefused(
                f"version {number}, which has one of these configurations, was rolled back on "
                f"{rollback_times[number]}: fmnist-sweep rollback --to {number} makes it champion again."
            )


def _read_rollback_times(store: Store) -> dict[str, str]:
    """Time of each rollback since the last promotion, by the number of the version that was champion before it."""
    rollback_times: dict[str, str] = {}
    for move in reversed([move for move in list_moves(store) if move.alias == CHAMPION]):
        if move.kind != "rolled back":
            break
        rollback_times[str(move.previous)] = move.time[:16]
    return rollback_times
