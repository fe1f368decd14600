"""Opening of a study in a session: the journal notes it, and its run stands in the store with what was searched."""

from __future__ import annotations

import json
import math
from typing import Any

from fmnist_sweep.config.commands import build_study_command
from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.study.nonces import draw_secret
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.parent_runs import start_parent_run
from fmnist_sweep.sweep.placement import dump_placement
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.sweep.recovery import check_unknown_runs
from fmnist_sweep.sweep.run_info import describe_study_run
from fmnist_sweep.tracking.names import IDENTITY_FILE
from fmnist_sweep.tracking.runs import describe_run


def note_opening(study: StudyContext, sweep: OpenSweep) -> None:
    """Note in a study's journal that a session begins, and the sweep that its run belongs to: the one that began it."""
    planned, record = study.planned, study.record
    if record.sweep_run_id is None:
        sweep_id, sweep_run_id = str(sweep.record.about["id"]), sweep.record.run_id
    else:
        sweep_id, sweep_run_id = str(record.sweep_id), record.sweep_run_id
    study.opened.append_event(
        "opened",
        command=build_study_command(planned.study),
        # With promotions beyond the budget (ASHA) their number is an estimate, of which nobody should miss any.
        planned=planned.trial_count if _is_known(planned) else None,
        executor=dump_placement(study.sweep.placement),
        sweep_id=sweep_id,
        sweep_run_id=sweep_run_id,
        secret=record.secret or draw_secret(),
    )


def _is_known(planned: PlannedStudy) -> bool:
    """Whether it is known how many trials there will be."""
    return math.isfinite(planned.trial_count) and planned.trial_count == planned.configuration_count


def open_study_run(study: StudyContext) -> None:
    """Start a study's run, or set it to RUNNING again, and describe it."""
    record, opened = study.record, study.opened
    start_parent_run(study.sweep, opened, describe_study_run(study, str(record.sweep_id), record.sweep_run_id))
    study.delivery.call_with_retries(lambda: check_unknown_runs(study.store, opened, study.kinds.trial))
    study.delivery.call_with_retries(lambda: _describe_study(study))


def _describe_study(study: StudyContext) -> None:
    search_params = {f"search.{key}": value for key, value in _list_search_params(study.study).items()}
    identity = {IDENTITY_FILE: json.dumps(study.identity, indent=1, sort_keys=True).encode()}
    sources = {f"plugins/{path}": content for plugin in study.study.job.plugins for path, content in plugin.files}
    params = {**flatten_config(study.settings), **search_params}
    describe_run(study.store, str(study.record.run_id), params, study.splits, {**identity, **sources})


def _list_search_params(study: Study) -> dict[str, Any]:
    # Budgets may be raised later, and a parameter of a run cannot be changed.
    budgets = {"max_trials", "max_minutes", "trial_minutes", "until", "fail_fast"}
    config = study.job.config
    arguments = config.search.model_dump(exclude={*budgets, "max_parameters", "first", "like"})
    if config.search.max_parameters is not None:
        arguments["max_parameters"] = config.search.max_parameters
    if study.first:
        arguments["first"] = list(study.first)
    return {**arguments, **config.oracle}
