"""Closing of a study or sweep: what its trials came to is rolled up to its run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fmnist_sweep.analysis.diagnosis import SearchedStudy, diagnose
from fmnist_sweep.analysis.table_encoding import encode_csv
from fmnist_sweep.config.job import SEARCH
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.advice import Advice, encode_advice, word_diagnosis
from fmnist_sweep.report.leaderboard import (
    LeaderboardEntry,
    build_leaderboard,
    build_leaderboard_entry,
    count_states,
    find_best_entry,
    format_note,
    mark_ties,
)
from fmnist_sweep.report.page import ReportBody, ReportHeading, build_report_body, render_report
from fmnist_sweep.report.publish import (
    REPORT_FILE,
    ImagesByDataset,
    locate_report,
    open_kept_parts,
    prepare_validation_images,
    read_findings,
    save_report,
)
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.context import StudyContext, SweepContext
from fmnist_sweep.sweep.figures import draw_figures, draw_owed_figures
from fmnist_sweep.sweep.parent_runs import refuse_deleted_run
from fmnist_sweep.tracking.deleted import describe_deleted_runs, list_deleted_runs
from fmnist_sweep.tracking.names import BEST_NAME_TAG, BEST_RUN_TAG, DIAGNOSIS_FILE, NOTE_TAG
from fmnist_sweep.tracking.run_files import read_artifacts
from fmnist_sweep.tracking.runs import close_parent_run, read_clock_ms


def list_entries(record: StudyRecord, deleted_ids: Collection[str] = ()) -> list[LeaderboardEntry]:
    """A study's trials as tables and pages show them. deleted_ids: of runs that the store has as deleted."""
    entries = [build_leaderboard_entry(history, record.about) for history in record.trained_trials]
    return [entry for entry in entries if entry.run_id not in deleted_ids]


def read_entries(sweep: SweepContext, record: StudyRecord) -> list[LeaderboardEntry]:
    """A study's trials but for those whose runs were deleted in the store, which are named."""
    store, journal = sweep.store, str(record.about["token"])
    runs = sweep.delivery.call_with_retries(lambda: list_deleted_runs(store, [journal]))
    unnamed_runs = [run for run in runs if run.run_id not in sweep.deleted_ids]
    if unnamed_runs:
        sweep.view.say(describe_deleted_runs(store, unnamed_runs), "yellow")
    sweep.deleted_ids |= {run.run_id for run in runs}
    return list_entries(record, {run.run_id for run in runs})


def close_study(study: StudyContext, seconds: float, *, others_train: bool = False) -> list[LeaderboardEntry]:
    """Close a study's run with what its trials came to, and return the trials.

    seconds: spent on the study in all. others_train: only the figures of the best trial, which the study's run holds
    too, are drawn now; the others wait until no trial needs the core.
    """
    entries, opened = read_entries(study.sweep, study.record), study.opened
    winner = find_best_entry(entries)
    if not others_train:
        draw_owed_figures(study)
    elif winner is not None and winner.trial_id in study.record.undrawn_trials:
        draw_figures(study, study.record.undrawn_trials[winner.trial_id])
    summary = RunSummary(
        report_name=f"{study.kinds.study}-{opened.folder.name}",
        title=f"{study.kinds.study.capitalize()} {study.record.about['label']}",
        banner=study.planned.banner,
        entries=entries,
        description=_describe_search(study),
        images={study.splits.tag: prepare_validation_images(study.sweep.store, study.splits)},
        failed=bool(entries) and winner is None,
        studies=describe_searched(study.record, study),
        min_gain=study.config.promote.gain,
    )
    close_run(study.sweep, opened, summary, seconds=seconds)
    return entries


def _describe_search(study: StudyContext) -> str:
    if study.kinds is not SEARCH:
        return "One configuration, trained again with fresh seeds."
    search = study.config.search
    description = f"Searched {', '.join(study.tuned_keys) or 'nothing'} with {search.name}."
    if search.objective != "val_accuracy":
        description += f" The search went by {search.objective}; the ranking is by validation accuracy."
    refused_draws = format_refused_draws(study)
    return f"{description} {refused_draws}" if refused_draws else description


def format_refused_draws(study: StudyContext) -> str | None:
    """How many draws of a study were refused because of a limit, in a sentence; None if none were."""
    count, limit = study.record.refused_draws, study.config.search.max_parameters
    if limit is None or not count:
        return None
    action = "left out" if study.config.search.name == "grid" else "drawn again"
    models = "1 configuration was" if count == 1 else f"{count:,} configurations were"
    return f"{models} {action} for more than {limit:,} parameters (search.max_parameters)."


def describe_searched(record: StudyRecord, study: StudyContext | None = None) -> dict[str, SearchedStudy]:
    """What a diagnosis needs to know of a study, by its journal; nothing of one that is no search.

    study: where this command runs it, which alone knows its budgets.
    """
    if study is not None and study.kinds is not SEARCH:
        return {}
    settings, minutes, planned = record.about["identity"]["settings"], None, math.inf
    if study is not None:
        limit = study.config.search.max_minutes
        planned = study.planned.trial_count
        minutes = limit if limit is not None and record.seconds >= 60 * limit else None
    return {str(record.about["token"]): SearchedStudy(settings, planned, minutes, record.is_exhausted)}


@dataclass(frozen=True)
class RunSummary:
    """What the run of a study or sweep is closed with.

    report_name: of the report's file. description: what was searched, in a sentence. images: the validation images by
    data tag. failed: whether a study has trials and all of them failed. studies: what is diagnosed, by their journals.
    min_gain: from which on more trials are worth it.
    """

    report_name: str
    title: str
    banner: str | None
    entries: Sequence[LeaderboardEntry]
    description: str
    images: ImagesByDataset
    failed: bool = False
    studies: Mapping[str, SearchedStudy] = field(default_factory=dict)
    min_gain: float = 0.0


def close_run(
    sweep: SweepContext, opened: OpenStudy | OpenSweep, summary: RunSummary, **event_fields: float
) -> list[Advice]:
    """Give the run of a study or sweep its best trial, figures, leaderboard, report and description, and close it.

    event_fields: of the journal's last event. Returns the diagnosis of its trials in sentences.
    """
    run_id = str(opened.record.run_id)
    refuse_deleted_run(sweep, opened)
    opened.append_event("closing")
    # Settled before the first try: when it is repeated, a metric of the same step and time is not logged twice.
    step, end_time = opened.record.closings - 1, read_clock_ms()
    advice = sweep.delivery.call_with_retries(lambda: _close_in_store(sweep, run_id, summary, step, end_time))
    opened.append_event("closed", **event_fields)
    return advice


def _close_in_store(sweep: SweepContext, run_id: str, summary: RunSummary, step: int, end_time: int) -> list[Advice]:
    store, entries = sweep.store, summary.entries
    winner = find_best_entry(entries)
    tags, metrics = {}, count_states(entries)
    if winner is not None and winner.best_val_accuracy is not None:
        tags = {
            "best_trial": winner.trial_id,
            BEST_RUN_TAG: winner.run_id,
            BEST_NAME_TAG: winner.name,
        }
        metrics["best_val_accuracy"] = winner.best_val_accuracy
    figures = {} if winner is None else read_artifacts(store, winner.run_id)
    body = _read_report_body(sweep, [entry.run_id for entry in entries], summary.images)
    mark_ties(entries, body.findings)
    paragraphs = [summary.description, f"Command: `{sweep.command}`"]
    tags[NOTE_TAG] = format_note(summary.title, summary.banner, entries, paragraphs)
    advice = word_diagnosis(diagnose(body.findings, summary.studies), summary.min_gain)
    heading = ReportHeading(summary.title, sweep.command, summary.description, summary.banner, advice)
    page = render_report(body, heading).encode()
    files = {
        "leaderboard.csv": encode_csv(build_leaderboard(entries)),
        REPORT_FILE: page,
        **({DIAGNOSIS_FILE: encode_advice(advice)} if summary.studies else {}),
        **{f"best/{name}": content for name, content in figures.items()},
    }
    status = "FAILED" if summary.failed else "FINISHED"
    close_parent_run(store, run_id, status=status, metrics=metrics, step=step, ended=end_time, tags=tags, files=files)
    try:
        save_report(store, run_id, summary.report_name, page)
    except OSError as error:  # the run has the report all the same, and nothing is to be trained again for it
        path = locate_report(store, summary.report_name)
        sweep.view.say(f"{path} cannot be written ({error.strerror or error}): the report is in the store", "yellow")
    return advice


def _read_report_body(sweep: SweepContext, run_ids: Sequence[str], images: ImagesByDataset) -> ReportBody:
    """What is to be said of trials. A study that is a sweep of its own is closed twice, a moment apart."""
    if sweep.last_report is None or sweep.last_report[0] != run_ids:
        findings = read_findings(sweep.store, run_ids, images)
        sweep.last_report = run_ids, build_report_body(findings, open_kept_parts(sweep.store))
    return sweep.last_report[1]


def find_exit_code(results: Mapping[str, Sequence[LeaderboardEntry]]) -> ExitCode:
    """The exit code of a command, given the trials of each of its studies."""
    states = [{entry.state for entry in entries} for entries in results.values()]
    if any(study_states == {"failed"} for study_states in states):
        return ExitCode.ALL_FAILED
    return ExitCode.SOME_FAILED if any("failed" in study_states for study_states in states) else ExitCode.DONE
