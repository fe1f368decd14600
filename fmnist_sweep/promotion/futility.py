"""The end of a promotion whose looks left no finalist: no test image is opened, and their account is not spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.promotion.entrants import make_jobs
from fmnist_sweep.promotion.look_text import describe_look
from fmnist_sweep.promotion.outcome import Outcome
from fmnist_sweep.sweep.run import find_sweep_run
from fmnist_sweep.tracking.names import NOTE_TAG, VERDICT_TAG
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import set_tags

if TYPE_CHECKING:
    from fmnist_sweep.promotion.groups import Training
    from fmnist_sweep.promotion.preparation import Promotion

VERDICT = "futile"


def end_without_test(promotion: Promotion, training: Training, champion_number: str, most_seeds: int) -> Outcome:
    """Write down that no finalist is left, with all that the looks saw. A repetition changes nothing.

    most_seeds: that the plan allows.
    """
    store = promotion.store
    run_id = find_sweep_run(make_jobs(promotion, training.entrants), promotion.view.say).run_id
    drops = [entrant.drop for entrant in training.entrants if entrant.drop]
    seeds = training.looks[-1].look.seeds
    why = (
        f"The champion keeps its place: after {seeds} seeds no finalist is likely enough to pass the test on the test "
        "images, which stay closed, and their account is not spent."
    )
    lines = [line for recorded in training.looks for line in describe_look(recorded)]
    folder = f"promotion/{promotion.decision}/against-{champion_number}"
    evidence = {
        "decision": promotion.decision,
        "command": promotion.request.command,
        "verdict": VERDICT,
        "why": why,
        "rule": json.loads(promotion.rule_json),
        "looks": [recorded.as_body() for recorded in training.looks],
    }
    log_files(store, run_id, {f"{folder}/evidence.json": json.dumps(evidence, indent=1).encode()})
    note = "\n".join([f"**Promotion**: {VERDICT}", "", *(f"- {line}" for line in (why, *lines))])
    set_tags(store, run_id, {VERDICT_TAG: VERDICT, NOTE_TAG: note})
    return Outcome(
        ExitCode.REFUSED,
        (
            f"nothing is registered. {why}",
            *(f"  {drop}" for drop in drops),
            f"  promote.seeds={most_seeds} trains all of them without a look",
            f"  evidence: {folder}/evidence.json of run {run_id}",
        ),
    )
