"""Who is trained again for a promotion, and with how many seeds: the finalists, and where needed the champion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.analysis import comparison
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion import confirmation, opening

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job
    from fmnist_sweep.config.schema import PromoteConfig
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.configuration import TrialConfiguration
    from fmnist_sweep.promotion.confirmation import EarlierPlan
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store

_TEST_IMAGE_COUNT = 10_000


@dataclass(frozen=True)
class Entrant:
    """A configuration and how many seeds it is trained with; is_champion: it is to be beaten."""

    configuration: TrialConfiguration
    seeds: int
    is_champion: bool = False


def plan_entrants(
    store: Store,
    finalists: Sequence[TrialConfiguration],
    champion: Champion | None,
    rules: PromoteConfig,
    open_again: bool,
    make_jobs: Callable[[Sequence[Entrant]], list[Job]],
    view: View,
) -> list[Entrant]:
    """The finalists with their seeds, and the champion where it has fewer, by the same calculation.

    again: whether more seeds may be scored after figures were seen. jobs: what would train entrants. Errors:
    PromotionRefused, before anything is trained.
    """
    _refuse_other_source(finalists, champion)
    needed_seeds = rules.seeds or _compute_seeds(rules, len(finalists), view)
    drafts = [Entrant(configuration, needed_seeds) for configuration in finalists]
    earlier_plans = confirmation.read_earlier_plans(make_jobs(drafts), view)
    entrants = [
        Entrant(
            draft.configuration,
            _choose_seeds(store, draft.configuration, earlier_plan, rules.seeds, needed_seeds, open_again),
        )
        for draft, earlier_plan in zip(drafts, earlier_plans, strict=True)
    ]
    if champion is None:
        return entrants
    max_seeds = max(entrant.seeds for entrant in entrants)
    champion_seeds = 0 if champion.confirmations is None else len(champion.confirmations.scored_runs)
    if champion_seeds >= max_seeds:
        return entrants
    view.say(
        f"version {champion.number}, the champion, was trained with {champion_seeds} fresh seeds: it is with {max_seeds}, too"
    )
    return [*entrants, Entrant(champion.configuration, max_seeds, is_champion=True)]


def _choose_seeds(
    store: Store,
    configuration: TrialConfiguration,
    earlier_plan: EarlierPlan,
    requested_seeds: int | None,
    needed_seeds: int,
    open_again: bool,
) -> int:
    """How many seeds a finalist gets.

    Once figures were seen the number stays: with another one luck would be looked for.
    """
    confirmations = confirmation.read_confirmations(store, configuration, earlier_plan.journal)
    if open_again:
        return max(earlier_plan.seeds, needed_seeds)
    opening.refuse_more_seeds(confirmations, requested_seeds)
    if confirmations.scored_runs:
        return len(confirmations.opened_runs)
    return requested_seeds or earlier_plan.seeds or needed_seeds


def _compute_seeds(rules: PromoteConfig, finalists: int, view: View) -> int:
    power = comparison.count_seeds_needed(
        rules.gain,
        images=_TEST_IMAGE_COUNT,
        min_gain=rules.min_gain,
        class_drop=rules.class_drop,
        power=rules.power,
        comparisons=finalists,
        level=rules.level,
    )
    view.say(power.text)
    return power.seeds


def _refuse_other_source(finalists: Sequence[TrialConfiguration], champion: Champion | None) -> None:
    """Kaggle's files have the same images in another order: they cannot be paired with those of the IDX files."""
    if champion is None:
        return
    champion_source = champion.configuration.data_tag.partition(":")[0]
    for finalist in finalists:
        source = finalist.data_tag.partition(":")[0]
        if source != champion_source:
            raise PromotionRefused(
                f"{finalist.name} was trained on {source}, and version {champion.number}, the champion, on {champion_source}, whose "
                f"test images are in another order: train it again with data={champion_source}."
            )
