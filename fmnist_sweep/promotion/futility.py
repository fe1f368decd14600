"""The end of a promotion whose looks left no finalist: no test image is opened, and their account is not spent."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.promotion.confirmation import read_confirmation_set
from fmnist_sweep.promotion.cost import count_cost
from fmnist_sweep.promotion.entrants import make_jobs
from fmnist_sweep.promotion.look_text import describe_look
from fmnist_sweep.promotion.outcome import Outcome
from fmnist_sweep.report.promotion_page import FreshTraining, PromotionDecision, render_promotion_page
from fmnist_sweep.tracking.names import NOTE_TAG, VERDICT_TAG
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import set_tags

if TYPE_CHECKING:
    from fmnist_sweep.promotion.groups import Training
    from fmnist_sweep.promotion.preparation import Promotion

VERDICT = "futile"


def end_without_test(promotion: Promotion, training: Training, champion_number: str) -> Outcome:
    """Write down that no finalist is left, with all that the looks saw. A repetition changes nothing."""
    store, entrants = promotion.store, training.entrants
    configurations = [entrant.configuration for entrant in entrants]
    trained = read_confirmation_set(store, make_jobs(promotion, entrants), configurations, promotion.view)
    cost = count_cost(entrants, trained.confirmations, training.most_seeds)
    seeds = training.looks[-1].look.seeds
    why = (
        f"The champion keeps its place: after {seeds} seeds no finalist is likely enough to pass the test on the test "
        "images, which stay closed, and their account is not spent."
    )
    drops = [entrant.drop for entrant in entrants if entrant.drop]
    folder = f"promotion/{promotion.decision}/against-{champion_number}"
    decision = PromotionDecision(
        verdict=VERDICT,
        command=promotion.request.command,
        reasons=drops,
        remarks=(),
        rule=f"promote.seeds={training.most_seeds} trains all of them without a look.",
        openings=(),
        standings=(),
        champion=None,
        trainings=[
            FreshTraining(
                confirmations.configuration.name,
                run.params["seed"],
                run.metrics.get("best_val_accuracy"),
                None,
                run.run_id,
            )
            for confirmations in trained.confirmations
            for run in confirmations.finished_runs
        ],
        why=why,
        cost=cost.text,
        looks=[line for recorded in training.looks for line in describe_look(recorded)],
    )
    evidence = {
        "decision": promotion.decision,
        "command": promotion.request.command,
        "verdict": VERDICT,
        "why": why,
        "rule": json.loads(promotion.rule_json),
        "cost": asdict(cost),
        "looks": [recorded.as_body() for recorded in training.looks],
    }
    files = {
        f"{folder}/evidence.json": json.dumps(evidence, indent=1).encode(),
        f"{folder}/evidence.html": render_promotion_page(decision, None, {}).encode(),
    }
    log_files(store, trained.run_id, files)
    note = "\n".join([f"**Promotion**: {VERDICT}", "", *(f"- {line}" for line in (why, *drops))])
    set_tags(store, trained.run_id, {VERDICT_TAG: VERDICT, NOTE_TAG: note})
    return Outcome(
        ExitCode.REFUSED,
        (
            f"nothing is registered. {why}",
            f"  {cost.text}",
            f"  promote.seeds={training.most_seeds} trains all of them without a look",
            f"  evidence: {folder}/evidence.html of run {trained.run_id}",
        ),
    )
