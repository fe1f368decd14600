"""Who is trained again for a promotion, and with how many seeds: the finalists, and where needed the champion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.analysis import comparison
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import confirming, opening

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job
    from fmnist_sweep.config.schema import PromoteConfig
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.configuration import Configuration
    from fmnist_sweep.promotion.confirming import Begun
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store

_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Entrant:
    """A configuration and how many seeds it is trained with; is_champion: it is to be beaten."""

    configuration: Configuration
    seeds: int
    is_champion: bool = False


def enter(
    store: Store,
    finalists: Sequence[Configuration],
    champion: Champion | None,
    rules: PromoteConfig,
    again: bool,
    jobs: Callable[[Sequence[Entrant]], list[Job]],
    view: View,
) -> list[Entrant]:
    """The finalists with their seeds, and the champion where it has fewer, by the same calculation.

    again: whether more seeds may be scored after figures were seen. jobs: what would train entrants. Errors:
    PromotionRefused, before anything is trained.
    """
    _refuse_other_source(finalists, champion)
    wanted = rules.seeds or _needed(rules, len(finalists), view)
    first = [Entrant(configuration, wanted) for configuration in finalists]
    begun = confirming.begun_before(jobs(first), view)
    found = [
        Entrant(each.configuration, _seeds(store, each.configuration, was, rules.seeds, wanted, again))
        for each, was in zip(first, begun, strict=True)
    ]
    if champion is None:
        return found
    most = max(entrant.seeds for entrant in found)
    has = 0 if champion.confirmations is None else len(champion.confirmations.scored)
    if has >= most:
        return found
    view.say(f"version {champion.number}, the champion, was trained with {has} fresh seeds: it is with {most}, too")
    return [*found, Entrant(champion.configuration, most, is_champion=True)]


def _seeds(
    store: Store, configuration: Configuration, begun: Begun, typed: int | None, wanted: int, again: bool
) -> int:
    """How many seeds a finalist gets.

    Once figures were seen the number stays: with another one luck would be looked for.
    """
    confirmed = confirming.of_journal(store, configuration, begun.journal)
    if again:
        return max(begun.seeds, wanted)
    opening.refuse_more(confirmed, typed)
    if confirmed.scored:
        return len(confirmed.opened)
    return typed or begun.seeds or wanted


def _needed(rules: PromoteConfig, finalists: int, view: View) -> int:
    found = comparison.seeds_needed(
        rules.gain,
        images=_TEST_IMAGES,
        min_gain=rules.min_gain,
        class_drop=rules.class_drop,
        power=rules.power,
        comparisons=finalists,
        level=rules.level,
    )
    view.say(found.text)
    return found.seeds


def _refuse_other_source(finalists: Sequence[Configuration], champion: Champion | None) -> None:
    """Kaggle's files have the same images in another order: they cannot be paired with those of the IDX files."""
    if champion is None:
        return
    theirs = champion.configuration.data_tag.partition(":")[0]
    for each in finalists:
        own = each.data_tag.partition(":")[0]
        if own != theirs:
            raise PromotionRefused(
                f"{each.name} was trained on {own}, and version {champion.number}, the champion, on {theirs}, whose "
                f"test images are in another order: train it again with data={theirs}."
            )
