"""From a sweep's best trials to the registry: confirm, open the test images once, judge, register, move an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.promotion.account import count_openings
from fmnist_sweep.promotion.champion import Champion, get_aliased_champion_number, get_champion_number, read_champion
from fmnist_sweep.promotion.confirmation import refuse_other_images
from fmnist_sweep.promotion.cost import count_cost
from fmnist_sweep.promotion.dossier import Dossier
from fmnist_sweep.promotion.earlier import find_earlier_outcome, refuse_rolled_back
from fmnist_sweep.promotion.entrants import EntrantPlan, plan_entrants
from fmnist_sweep.promotion.finalists import GateInput, score_entrants
from fmnist_sweep.promotion.futility import end_without_test
from fmnist_sweep.promotion.groups import Training, train_entrants
from fmnist_sweep.promotion.image_sources import choose_data_dir
from fmnist_sweep.promotion.judgement import correct_gain, judge_confirmations
from fmnist_sweep.promotion.outcome import Outcome, make_unchanged_outcome, refuse_changed_champion
from fmnist_sweep.promotion.preparation import Promotion, PromotionRequest, prepare_promotion
from fmnist_sweep.promotion.registration import register_winner
from fmnist_sweep.promotion.shares import claim_share, describe_share
from fmnist_sweep.promotion.spending import FIRST_SHARE
from fmnist_sweep.tracking.ledger_heads import check_ledger
from fmnist_sweep.tracking.names import TEST_OPENED_TAG
from fmnist_sweep.tracking.registry import CHAMPION, read_aliases
from fmnist_sweep.tracking.store_lock import lock_registry, lock_test_images

if TYPE_CHECKING:
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.report.terminal import View
    from fmnist_sweep.tracking.store import Store


def run_promotion(store: Store, request: PromotionRequest, view: View, stop: Stop) -> Outcome:
    """Train, score, judge and register whatever is not done yet; a step that is repeated changes nothing.

    Errors: PromotionRefused, and everything that a sweep raises.
    """
    promotion = prepare_promotion(store, request, view, stop)
    check_ledger(store, promotion.ledger)
    _announce_candidates(promotion)
    champion = read_champion(store)
    refuse_rolled_back(promotion)
    outcome = find_earlier_outcome(promotion, get_champion_number(champion))
    if outcome is not None:
        return outcome
    finalists = [
        configuration
        for configuration in promotion.configurations
        if champion is None or configuration.key != champion.configuration.key
    ]
    if champion is not None and not finalists:
        reason = "the champion has this configuration: there is nothing to compare it with."
        return make_unchanged_outcome(ExitCode.DONE, store.model_name, CHAMPION, champion.number, reason)
    refuse_other_images(finalists, lambda source: choose_data_dir(promotion, source))
    plan = plan_entrants(promotion, finalists, champion)
    _announce_entrants(promotion, plan)
    training = train_entrants(promotion, plan, champion)
    if not training.is_complete:
        return Outcome(training.code)
    if plan.groups is not None and not training.has_finalists:
        return end_without_test(promotion, training, get_champion_number(champion))
    with lock_test_images(store):
        gate_input = score_entrants(promotion, training.entrants, champion)
    with lock_registry(store):
        return _decide(promotion, gate_input, champion, training)


def _announce_candidates(promotion: Promotion) -> None:
    candidates = promotion.candidates
    for name in candidates.skipped_sweeps:
        promotion.view.say(f"skipped {name}: it has no finished trial on Fashion-MNIST")
    if candidates.rival_count > 1:
        promotion.view.say(candidates.describe_ties())


def _announce_entrants(promotion: Promotion, plan: EntrantPlan) -> None:
    most = "" if plan.groups is None else "up to "
    names = ", ".join(f"{entrant.configuration.name} ({most}{entrant.seeds} seeds)" for entrant in plan.entrants)
    promotion.view.say(f"to train with fresh seeds: {names}")


def _decide(promotion: Promotion, gate_input: GateInput, champion: Champion | None, training: Training) -> Outcome:
    """Judge the finalists and register the winner; the caller holds the lock of the registry."""
    current = get_aliased_champion_number(read_aliases(promotion.store))
    if current != get_champion_number(champion):
        outcome = find_earlier_outcome(promotion, current)  # by the same command, typed twice
        if outcome is not None:
            return outcome
    refuse_changed_champion(get_champion_number(champion), current)
    share = claim_share(promotion, gate_input.finalists, get_champion_number(champion))
    judgement = judge_confirmations(
        promotion.store,
        gate_input.finalists,
        gate_input.champion,
        f"version {get_champion_number(champion)}",
        promotion.rule,
        share=share or FIRST_SHARE,
        entered=sum(not entrant.is_champion for entrant in training.entrants) if training.looks else 1,
    )
    dossier = Dossier(
        decision=promotion.decision,
        command=promotion.request.command,
        candidates=promotion.candidates,
        finalists=gate_input.finalists,
        champion=champion,
        champion_confirmations=gate_input.champion,
        judgement=judgement,
        rule=promotion.rule_json,
        remarks=(*gate_input.exclusions, *_list_remarks(promotion, gate_input)),
        looks=training.looks,
        corrected=None
        if training.rule is None or not training.looks
        else correct_gain(judgement, training.rule, training.looks[-1].look, gate_input.champion),
        cost=count_cost(training.entrants, gate_input.trainings, training.most_seeds),
        account=() if share is None else (describe_share(share, promotion.rules.level),),
    )
    return register_winner(promotion, dossier, gate_input.run_id)


def _list_remarks(promotion: Promotion, gate_input: GateInput) -> list[str]:
    """What else a reader of the evidence should know: openings of the test images, known scores, mirror images."""
    opening_count = count_openings(check_ledger(promotion.store, promotion.ledger))
    known_names = [trial.name for trial in promotion.candidates.finalists if TEST_OPENED_TAG in trial.tags]
    return [
        f"Openings of the test images recorded in {promotion.ledger.name}, these included: {opening_count}.",
        *(f"The test accuracy of {name} itself was known before it was chosen." for name in known_names),
        *filter(None, (confirmations.describe_mirrored_accuracy() for confirmations in gate_input.finalists)),
    ]
