"""Entrants of a promotion: the configurations to train with fresh seeds, and with how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.promotion.confirmation import EarlierPlan, read_confirmations, read_earlier_plans
from fmnist_sweep.promotion.foresight import foresee
from fmnist_sweep.promotion.image_sources import choose_data_dir, refuse_unknown_order
from fmnist_sweep.promotion.look_journal import list_studies_with_looks, read_look_record
from fmnist_sweep.promotion.look_text import describe_plan
from fmnist_sweep.promotion.looks import LookRule
from fmnist_sweep.promotion.opening import refuse_more_seeds
from fmnist_sweep.promotion.shares import compute_power, describe_chance, describe_exhaustion, foresee_share
from fmnist_sweep.tracking.store import locate_state_folder

if TYPE_CHECKING:
    from fmnist_sweep.config.job import Job
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.configuration import TrialConfiguration
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.preparation import Promotion

_TEST_IMAGE_COUNT = 10_000


@dataclass(frozen=True)
class Entrant:
    """A configuration and its number of seeds.

    is_champion: whether it is the one to beat. least_seeds: that it has already. drop: why a look dropped it, or empty.
    """

    configuration: TrialConfiguration
    seeds: int
    is_champion: bool = False
    least_seeds: int = 0
    drop: str = ""


@dataclass(frozen=True)
class GroupPlan:
    """Seeds trained in groups. key: of the promotion's journal. studies: ids of the finalists' studies."""

    key: str
    rule: LookRule
    studies: tuple[str, ...]


@dataclass(frozen=True)
class EntrantPlan:
    """The entrants with the most seeds that they get. groups: None for the fixed design, without looks."""

    entrants: tuple[Entrant, ...]
    groups: GroupPlan | None


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
) -> EntrantPlan:
    """Choose the finalists' seeds, and add the champion if it has fewer.

    Errors: PromotionRefused, before anything is trained.
    """
    refuse_unknown_order(promotion, finalists, champion)
    needed_seeds = _count_needed_seeds(promotion, finalists, champion)
    drafts = [Entrant(configuration, needed_seeds) for configuration in finalists]
    earlier_plans = read_earlier_plans(make_jobs(promotion, drafts), promotion.view)
    studies_with_looks = list_studies_with_looks(locate_state_folder(promotion.store.uri))
    # How far looks came with a study is a number of seeds that nobody asked for.
    asked_plans = [replace(plan, seeds=0) if plan.study in studies_with_looks else plan for plan in earlier_plans]
    entrants = [
        replace(draft, seeds=choose_seeds(promotion, draft, asked_plan, champion))
        for draft, asked_plan in zip(drafts, asked_plans, strict=True)
    ]
    if champion is None:
        return EntrantPlan(tuple(entrants), None)
    groups = plan_groups(promotion, entrants, champion, asked_plans)
    if groups is not None:
        entrants = [replace(entrant, seeds=groups.rule.most) for entrant in entrants]
    max_seeds = max(entrant.seeds for entrant in entrants)
    champion_seeds = champion.seeds
    if groups is not None:
        _announce_groups(promotion, groups, champion_seeds)
    if champion_seeds >= max_seeds:
        return EntrantPlan(tuple(entrants), groups)
    promotion.view.say(
        f"version {champion.number} (the champion) has {champion_seeds} fresh seeds and will get "
        f"{'' if groups is None else 'up to '}{max_seeds}, like the finalists"
    )
    champion_entrant = Entrant(champion.configuration, max_seeds, is_champion=True, least_seeds=champion_seeds)
    return EntrantPlan((*entrants, champion_entrant), groups)


def plan_groups(
    promotion: Promotion, entrants: Sequence[Entrant], champion: Champion, earlier_plans: Sequence[EarlierPlan]
) -> GroupPlan | None:
    """Plan to train in groups with looks; None where the fixed design is kept."""
    rules, studies = promotion.rules, tuple(sorted(plan.study for plan in earlier_plans))
    if rules.seeds is not None or rules.include_validation or promotion.request.open_again:
        return None
    key = hash_content(["looks", champion.number, promotion.store.experiment_name, *studies])
    begun = read_look_record(locate_state_folder(promotion.store.uri), key)
    if begun is not None:
        if (rules.gain, rules.power) != (begun.rule.gain, begun.rule.power):
            promotion.view.say(
                f"this promotion was begun with promote.gain={begun.rule.gain:g} promote.power={begun.rule.power:g} "
                "and keeps its looks; promote.seeds=N trains so many seeds without one",
                "yellow",
            )
        return GroupPlan(key, begun.rule, studies)
    # Whoever was begun or scored with a fixed number of seeds goes on with it.
    has_fixed = any(plan.seeds for plan in earlier_plans) or any(
        read_confirmations(promotion.store, entrant.configuration, plan.journal).scored_runs
        for entrant, plan in zip(entrants, earlier_plans, strict=True)
    )
    data = {entrant.configuration.data_tag for entrant in entrants} | {champion.configuration.data_tag}
    has_images = len(data) == 1 and not champion.configuration.includes_validation
    if not has_images:
        promotion.view.say(
            "finalists and champion have other validation images, so there is nothing to look at before the end"
        )
    if has_fixed or not has_images:
        return None
    share = foresee_share(promotion, champion)
    rule = LookRule(
        most=max(entrant.seeds for entrant in entrants),
        comparisons=len(entrants),
        gain=rules.gain,
        min_gain=rules.min_gain,
        class_drop=rules.class_drop,
        power=rules.power,
        level=share.correct_level(rules.level),
        validation_images=earlier_plans[0].validation_images,
        test_images=_assume_spread(promotion)[0],
    )
    return GroupPlan(key, rule, studies) if rule.looks else None


def _announce_groups(promotion: Promotion, groups: GroupPlan, champion_seeds: int) -> None:
    equal, gain = (foresee(groups.rule, value, champion_seeds) for value in (0.0, groups.rule.gain))
    durations = [trial.metrics.get("fit_seconds") for trial in promotion.candidates.finalists]
    known = [seconds for seconds in durations if seconds is not None]
    seconds = sum(known) / len(known) if known else None
    promotion.view.say(describe_plan(groups.rule, champion_seeds, equal, gain, seconds))


def describe_failure(confirmations: Confirmations) -> str:
    """Describe why a finalist that failed with a seed is out."""
    seeds = ", ".join(run.params["seed"] for run in confirmations.failed_runs)
    return f"{confirmations.configuration.name} is out: its training failed with seed {seeds}."


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
    image_count, assumption = _assume_spread(promotion)
    share = foresee_share(promotion, champion)
    exhaustion = describe_exhaustion(promotion, share, len(finalists), image_count)
    if exhaustion is not None:
        say(exhaustion, "yellow")
    if rules.seeds is not None:
        say(describe_chance(rules, rules.seeds, len(finalists), share, image_count))
        return rules.seeds
    power = compute_power(rules, rules.gain, len(finalists), share, image_count)
    say(power.text)
    if assumption is not None:
        say(assumption)
    return power.seeds


def _assume_spread(promotion: Promotion) -> tuple[int, str | None]:
    """How many test images the power is computed for, and what is assumed that was not measured on these images."""
    trial = promotion.candidates.finalists[0]
    if trial.description.is_fashion_mnist:
        return _TEST_IMAGE_COUNT, None
    count = trial.images or _TEST_IMAGE_COUNT
    return count, (
        f"how trainings of {trial.description.name} spread was not measured: it is taken as on Fashion-MNIST, with as "
        f"many test images as validation images ({count:,}); promote.seeds sets another number of seeds"
    )


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
