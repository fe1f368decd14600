"""What came of a study's trials, rolled up to its run and to its sweep's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmnist_sweep.config.job import SEARCH, RunKinds
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.leaderboard import (
    TrialRecord,
    build_leaderboard,
    build_trial_record,
    count_states,
    find_best_record,
    format_note,
    mark_ties,
)
from fmnist_sweep.report.publish import (
    REPORT_FILE,
    ImagesByDataset,
    encode_report,
    locate_report,
    prepare_validation_images,
    read_findings,
    save_report,
)
from fmnist_sweep.study.folder import OpenStudy, OpenSweep
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import read_clock_ms
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking.names import BEST_NAME_TAG, BEST_RUN_TAG, NOTE_TAG
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.run_files import read_artifacts
from fmnist_sweep.tracking.runs import close_parent_run


def list_trial_records(record: StudyRecord) -> list[TrialRecord]:
    """A study's trials as tables and pages show them."""
    return [build_trial_record(history, record.about) for history in record.trained_trials]


def close_study(sweep: Sweep, planned: PlannedStudy, opened: OpenStudy, seconds: float) -> list[TrialRecord]:
    """Close a study's run with what its trials came to, and hand those back; seconds: spent on it in all."""
    study, record, config = planned.study, opened.record, planned.study.job.config
    records = list_trial_records(record)
    description = f"Searched {', '.join(study.tuned_keys) or 'nothing'} with {config.search.name}."
    if study.job.kinds is not SEARCH:
        description = "One configuration, trained again with fresh seeds."
    elif config.search.objective != "val_accuracy":
        description += f" The search went by {config.search.objective}; the ranking is by validation accuracy."
    summary = RunSummary(
        report_name=f"{study.job.kinds.study}-{opened.folder.name}",
        title=f"{study.job.kinds.study.capitalize()} {record.about['label']}",
        kinds=study.job.kinds,
        banner=planned.banner,
        records=records,
        description=description,
        journal_tokens=[opened.token],
        images={planned.splits.tag: prepare_validation_images(planned.splits)},
        failed=bool(records) and find_best_record(records) is None,
    )
    close_run(sweep, opened, summary, seconds=seconds)
    return records


def refuse_deleted_run(sweep: Sweep, opened: OpenStudy | OpenSweep) -> None:
    """StoreError when somebody deleted the run of a study or sweep, of which its journal knows."""
    store, run_id = sweep.store, str(opened.record.run_id)
    if not sweep.delivery.call_with_retries(lambda: is_run_active(store, run_id)):
        raise StoreError(
            f"{mask_credentials(store.uri)} has no run {run_id} any more, of which {opened.journal.path} knows: restore "
            "it there, or type the command with fresh=true to begin anew."
        )


@dataclass(frozen=True)
class RunSummary:
    """What the run of a study or sweep is closed with.

    name: what its report is called here. searched: what was searched, in a sentence. journals: of its studies, as their
    trials' runs are tagged. images: the validation images by data tag. kinds: of these runs. failed: a study has
    trials, and all failed.
    """

    report_name: str
    title: str
    banner: str | None
    records: Sequence[TrialRecord]
    description: str
    journal_tokens: Sequence[str]
    images: ImagesByDataset
    kinds: RunKinds
    failed: bool = False


def close_run(sweep: Sweep, opened: OpenStudy | OpenSweep, summary: RunSummary, **event_fields: float) -> None:
    """Roll up to the run of a study or sweep: the best trial, its figures, leaderboard, report, description.

    more: of the journal's last event.
    """
    records, store, run_id = summary.records, sweep.store, str(opened.record.run_id)
    winner = find_best_record(records)
    refuse_deleted_run(sweep, opened)
    opened.append_event("closing")
    # Settled before the first try: said again, a figure of the same step and time is not logged twice.
    step, end_time = opened.record.closings - 1, read_clock_ms()
    tags, metrics = {}, count_states(records)
    if winner is not None and winner.best_val_accuracy is not None:
        tags = {
            "best_trial": winner.trial_id,
            BEST_RUN_TAG: winner.run_id,
            BEST_NAME_TAG: winner.name,
        }
        metrics["best_val_accuracy"] = winner.best_val_accuracy
    status = "FAILED" if summary.failed else "FINISHED"

    def close_in_store() -> None:
        figures = {} if winner is None else read_artifacts(store, winner.run_id)
        findings = read_findings(
            store, summary.journal_tokens, summary.images, [record.run_id for record in records], summary.kinds.trial
        )
        mark_ties(records, findings)
        paragraphs = [summary.description, f"Command: `{sweep.command}`"]
        tags[NOTE_TAG] = format_note(summary.title, summary.banner, records, paragraphs)
        page = encode_report(findings, summary.title, summary.banner, sweep.command, summary.description)
        files = {
            "leaderboard.csv": build_leaderboard(records).to_csv(index=False).encode(),
            REPORT_FILE: page,
            **{f"best/{name}": content for name, content in figures.items()},
        }
        close_parent_run(
            store, run_id, status=status, metrics=metrics, step=step, ended=end_time, tags=tags, files=files
        )
        try:
            save_report(store, run_id, summary.report_name, page)
        except OSError as error:  # the run has it all the same, and nothing is to be trained again for it
            path = locate_report(store, summary.report_name)
            sweep.view.say(
                f"{path} cannot be written ({error.strerror or error}): the report is in the store", "yellow"
            )

    sweep.delivery.call_with_retries(close_in_store)
    opened.append_event("closed", **event_fields)


def find_exit_code(results: Mapping[str, Sequence[TrialRecord]]) -> ExitCode:
    """How a command ends whose studies came to these results."""
    states = [{record.state for record in records} for records in results.values()]
    if any(study_states == {"failed"} for study_states in states):
        return ExitCode.ALL_FAILED
    return ExitCode.SOME_FAILED if any("failed" in study_states for study_states in states) else ExitCode.DONE
