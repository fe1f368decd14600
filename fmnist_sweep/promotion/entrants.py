"""Entrants of a promotion: the configurations to train with fresh seeds, and with how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmnist_sweep.promotion.confirmation import EarlierPlan, read_confirmations, read_earlier_plans
from fmnist_sweep.promotion.image_sources import choose_data_dir, refuse_unknown_order
from fmnist_sweep.promotion.opening import refuse_more_seeds
from fmnist_sweep.promotion.shares import compute_power, describe_exhaustion, foresee_share

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.configuration import TrialConfiguration
    from fmnist_sweep.promotion.preparation import Promotion

_TEST_IMAGE_COUNT = 10_000


@dataclass(frozen=True)
class Entrant:
    """A configuration and its number of seeds; is_champion: whether it is the one to beat."""

    configuration: TrialConfiguration
    seeds: int
    is_champion: bool = False


def make_jobs(promotion: Promotion, entrants: Sequence[Entrant]) -> list[Job]:
    """The job that trains each entrant. All models are kept, because each is scored."""
    request, store = promotion.request, promotion.store
    settings = {"uri": store.uri, "experiment": store.experiment_name, "keep_models": "all"}
    base = replace(request.base, tracking=request.base.tracking.model_copy(update=settings))
    jobs = []
    for entrant in entrants:
        data_dir = choose_data_dir(promotion, entrant.configuration.data_source)
        jobs.append(entrant.configuration.make_job(base, entrant.seeds, data_dir, request.command))
    return jobs


def plan_entrants(
    promotion: Promotion, finalists: Sequence[TrialConfiguration], champion: Champion | None
) -> list[Entrant]:
    """Choose the finalists' seeds, and add the champion if it has fewer.

    Errors: PromotionRefused, before anything is trained.
    """
    refuse_unknown_order(promotion, finalists, champion)
    needed_seeds = _count_needed_seeds(promotion, finalists, champion)
    drafts = [Entrant(configuration, needed_seeds) for configuration in finalists]
    earlier_plans = read_earlier_plans(make_jobs(promotion, drafts), promotion.view)
    entrants = [
        replace(draft, seeds=choose_seeds(promotion, draft, earlier_plan, champion))
        for draft, earlier_plan in zip(drafts, earlier_plans, strict=True)
    ]
    if champion is None:
        return entrants
    max_seeds = max(entrant.seeds for entrant in entrants)
    champion_seeds = 0 if champion.confirmations is None else len(champion.confirmations.scored_runs)
    if champion_seeds >= max_seeds:
        return entrants
    promotion.view.say(
        f"version {champion.number} (the champion) has {champion_seeds} fresh seeds and will get {max_seeds}, like the "
        "finalists"
    )
    return [*entrants, Entrant(champion.configuration, max_seeds, is_champion=True)]


def _count_needed_seeds(
    promotion: Promotion, finalists: Sequence[TrialConfiguration], champion: Champion | None
) -> int:
    """Number of seeds that a promotion needs, and say why: those typed, a first champion's, or for the power wanted."""
    rules, say = promotion.rules, promotion.view.say
    if champion is None:
        if rules.seeds is None:
            say(
                f"there is no champion to beat, and no gain over it to find: {rules.first_seeds} fresh seeds each "
                "(promote.first_seeds)"
            )
        return rules.seeds or rules.first_seeds
    share = foresee_share(promotion, champion)
    exhaustion = describe_exhaustion(promotion, share, len(finalists), _TEST_IMAGE_COUNT)
    if exhaustion is not None:
        say(exhaustion, "yellow")
    if rules.seeds is not None:
        return rules.seeds
    power = compute_power(rules, rules.gain, len(finalists), share, _TEST_IMAGE_COUNT)
    say(power.text)
    return power.seeds


def choose_seeds(promotion: Promotion, draft: Entrant, earlier_plan: EarlierPlan, champion: Champion | None) -> int:
    """Choose the number of seeds for a finalist.

    Once test scores were seen, the number stays: changing it would be trying one's luck again.
    """
    requested_seeds = promotion.rules.seeds
    if promotion.request.open_again:
        return max(earlier_plan.seeds, draft.seeds)
    confirmations = read_confirmations(promotion.store, draft.configuration, earlier_plan.journal)
    refuse_more_seeds(confirmations, requested_seeds)
    if confirmations.scored_runs:
        return len(confirmations.opened_runs)
    # Begun when there was nobody to beat and continued when there is, it would find nothing with so few.
    began_as_first = champion is not None and earlier_plan.seeds == promotion.rules.first_seeds
    earlier_seeds = max(earlier_plan.seeds, draft.seeds) if began_as_first else earlier_plan.seeds
    return requested_seeds or earlier_seeds or draft.seeds
