"""What came of a study's trials, rolled up to its run and to its sweep's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmnist_sweep.config.job import SEARCH, Kinds
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report import leaderboard as report
from fmnist_sweep.report import publish as publishing
from fmnist_sweep.report.leaderboard import TrialRecord
from fmnist_sweep.report.publish import ImagesByDataset
from fmnist_sweep.study.folder import OpenStudy, OpenSweep
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import now
from fmnist_sweep.sweep.plan import Planned
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking import runs as tracking


def recorded(record: StudyRecord) -> list[TrialRecord]:
    """A study's trials as tables and pages show them."""
    return [report.build_trial_record(history, record.about) for history in record.trained_trials]


def close_study(sweep: Sweep, planned: Planned, opened: OpenStudy, seconds: float) -> list[TrialRecord]:
    """Close a study's run with what its trials came to, and hand those back; seconds: spent on it in all."""
    study, record, config = planned.study, opened.record, planned.study.job.config
    records = recorded(record)
    searched = f"Searched {', '.join(study.tuned) or 'nothing'} with {config.search.name}."
    if study.job.kinds is not SEARCH:
        searched = "One configuration, trained again with fresh seeds."
    elif config.search.objective != "val_accuracy":
        searched += f" The search went by {config.search.objective}; the ranking is by validation accuracy."
    summary = Summary(
        name=f"{study.job.kinds.study}-{opened.folder.name}",
        title=f"{study.job.kinds.study.capitalize()} {record.about['label']}",
        kinds=study.job.kinds,
        banner=planned.banner,
        records=records,
        searched=searched,
        journals=[opened.token],
        images={planned.splits.tag: publishing.prepare_validation_images(planned.splits)},
        failed=bool(records) and report.find_best_record(records) is None,
    )
    close_run(sweep, opened, summary, seconds=seconds)
    return records


def refuse_deleted(sweep: Sweep, opened: OpenStudy | OpenSweep) -> None:
    """StoreError when somebody deleted the run of a study or sweep, of which its journal knows."""
    store, run_id = sweep.store, str(opened.record.run_id)
    if not sweep.delivery.insist(lambda: tracking.is_run_active(store, run_id), sweep.stop.sleep):
        raise StoreError(
            f"{mask_credentials(store.uri)} has no run {run_id} any more, of which {opened.journal.path} knows: restore "
            "it there, or type the command with fresh=true to begin anew."
        )


@dataclass(frozen=True)
class Summary:
    """What the run of a study or sweep is closed with.

    name: what its report is called here. searched: what was searched, in a sentence. journals: of its studies, as their
    trials' runs are tagged. images: the validation images by data tag. kinds: of these runs. failed: a study has
    trials, and all failed.
    """

    name: str
    title: str
    banner: str | None
    records: Sequence[TrialRecord]
    searched: str
    journals: Sequence[str]
    images: ImagesByDataset
    kinds: Kinds
    failed: bool = False


def close_run(sweep: Sweep, opened: OpenStudy | OpenSweep, summary: Summary, **more: float) -> None:
    """Roll up to the run of a study or sweep: the best trial, its figures, leaderboard, report, description.

    more: of the journal's last event.
    """
    records, store, run_id = summary.records, sweep.store, str(opened.record.run_id)
    winner = report.find_best_record(records)
    refuse_deleted(sweep, opened)
    opened.append_event("closing")
    # Settled before the first try: said again, a figure of the same step and time is not logged twice.
    step, ended = opened.record.closings - 1, now()
    tags, metrics = {}, report.count_states(records)
    if winner is not None and winner.best_val_accuracy is not None:
        tags = {
            "best_trial": winner.trial_id,
            "fmnist.best_run": winner.run_id,
            "fmnist.best_name": winner.name,
        }
        metrics["best_val_accuracy"] = winner.best_val_accuracy
    status = "FAILED" if summary.failed else "FINISHED"

    def close() -> None:
        figures = {} if winner is None else tracking.read_artifacts(store, winner.run_id)
        found = publishing.read_findings(
            store, summary.journals, summary.images, [record.run_id for record in records], summary.kinds.trial
        )
        report.mark_ties(records, found)
        said = [summary.searched, f"Command: `{sweep.command}`"]
        tags["mlflow.note.content"] = report.format_note(summary.title, summary.banner, records, said)
        page = publishing.encode_report(found, summary.title, summary.banner, sweep.command, summary.searched)
        files = {
            "leaderboard.csv": report.build_leaderboard(records).to_csv(index=False).encode(),
            publishing.REPORT_FILE: page,
            **{f"best/{name}": content for name, content in figures.items()},
        }
        tracking.close_parent_run(
            store, run_id, status=status, metrics=metrics, step=step, ended=ended, tags=tags, files=files
        )
        try:
            publishing.save_report(store, run_id, summary.name, page)
        except OSError as error:  # the run has it all the same, and nothing is to be trained again for it
            at = publishing.locate_report(store, summary.name)
            sweep.view.say(f"{at} cannot be written ({error.strerror or error}): the report is in the store", "yellow")

    sweep.delivery.insist(close, sweep.stop.sleep)
    opened.append_event("closed", **more)


def ending(results: Mapping[str, Sequence[TrialRecord]]) -> ExitCode:
    """How a command ends whose studies came to these results."""
    states = [{record.state for record in records} for records in results.values()]
    if any(found == {"failed"} for found in states):
        return ExitCode.ALL_FAILED
    return ExitCode.SOME_FAILED if any("failed" in found for found in states) else ExitCode.DONE
