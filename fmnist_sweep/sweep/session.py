"""A session of a sweep: this process holds its studies, has them trained, and closes what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fmnist_sweep.analysis.diagnosis import SearchedStudy
from fmnist_sweep.config.changed_defaults import DEFAULTS_VERSION
from fmnist_sweep.config.commands import build_study_command
from fmnist_sweep.config.job import SEARCH, RunKinds
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.advice import Advice
from fmnist_sweep.report.leaderboard import LeaderboardEntry
from fmnist_sweep.report.publish import prepare_validation_images
from fmnist_sweep.study.folder import StudyFolder, find_unused_folder, lock_study
from fmnist_sweep.study.nonces import draw_secret
from fmnist_sweep.study.sweep_journal import OpenSweep, lock_sweep
from fmnist_sweep.sweep.closing import (
    RunSummary,
    close_run,
    describe_searched,
    find_exit_code,
    format_refused_draws,
    read_entries,
)
from fmnist_sweep.sweep.context import StudyContext, SweepContext
from fmnist_sweep.sweep.costs import estimate_epochs_left
from fmnist_sweep.sweep.figures import draw_owed_figures
from fmnist_sweep.sweep.parent_runs import open_parent_run
from fmnist_sweep.sweep.plan import PlannedStudy, compute_sweep_id, list_splits, locate_runs
from fmnist_sweep.sweep.recovery import close_dead_runs
from fmnist_sweep.sweep.run_info import describe_sweep_run
from fmnist_sweep.sweep.supervisor import Supervisor
from fmnist_sweep.text import format_trial_count
from fmnist_sweep.tracking.datasets import log_datasets


@dataclass
class Session:
    """A sweep under way in this process.

    results: the trials of its studies so far, by the study's folder name. advice: what is said at its end.
    """

    sweep: SweepContext
    studies: Sequence[StudyContext]
    opened: OpenSweep
    state_folder: Path
    results: dict[str, list[LeaderboardEntry]] = field(default_factory=dict)
    advice: Sequence[Advice] = ()

    @property
    def kinds(self) -> RunKinds:
        return self.studies[0].kinds

    @property
    def plan(self) -> list[PlannedStudy]:
        return [study.planned for study in self.studies]

    @property
    def report_name(self) -> str:
        return f"{self.kinds.sweep}-{self.opened.record.about['id']}"

    @property
    def exit_code(self) -> ExitCode:
        return find_exit_code(self.results)

    def take_done(self, study: StudyContext, entries: list[LeaderboardEntry]) -> None:
        """Take in what a study came to, and show it."""
        self.results[study.opened.folder.name] = entries
        # Which trials are as good as the best depends on how many are compared: in a sweep of several studies only
        # the table of all of them says so, or it would contradict those of the studies.
        shown = entries if len(self.studies) == 1 else [replace(entry, tied=None) for entry in entries]
        self.sweep.view.show_leaderboard(f"{study.label}: {format_trial_count(len(entries))}", shown)
        refused_draws = format_refused_draws(study)
        if refused_draws is not None:
            self.sweep.view.say(refused_draws)


def lock_session(sweep: SweepContext, plan: Sequence[PlannedStudy], state_folder: Path, stack: ExitStack) -> Session:
    """Lock the sweep and every study of it, and close what dead processes left open. The stack releases the locks."""
    # Two commands lock the studies that they share in the same order, so that one of them gets all.
    ordered_plan = sorted(plan, key=lambda planned: planned.folder.name)
    studies_by_id = {planned.study.id: _lock_study(sweep, planned, state_folder, stack) for planned in ordered_plan}
    studies = [studies_by_id[planned.study.id] for planned in plan]
    location, sweep_id = locate_runs(plan[0].study.job), compute_sweep_id([study.planned for study in studies])
    has_begun = any(study.record.sweep_id == sweep_id for study in studies)
    tokens = {study.opened.folder.name: study.opened.token for study in studies}
    members = {"studies": sorted(tokens), "journals": [tokens[name] for name in sorted(tokens)]}
    opened = stack.enter_context(lock_sweep(state_folder, sweep_id, {**members, **asdict(location)}, has_begun))
    own_names = {*tokens, sweep_id}
    sweep.delivery.call_with_retries(
        lambda: close_dead_runs(sweep.store, state_folder, location, own_names, sweep.view.say)
    )
    return Session(sweep, studies, opened, state_folder)


def _lock_study(sweep: SweepContext, planned: PlannedStudy, state_folder: Path, stack: ExitStack) -> StudyContext:
    """Lock a study's folder, and bring its plan up to date with its journal, which nobody else changes from now on."""
    study, folder = planned.study, planned.folder
    about = {
        "id": study.id,
        "label": study.label,
        "mark": planned.name_prefix,
        "data": planned.splits.tag,
        "identity": study.identity,
        "command": build_study_command(study),
        "defaults": DEFAULTS_VERSION,
        **({} if study.like is None else {"like": dict(study.like)}),
        **asdict(locate_runs(study.job)),
    }
    opened = stack.enter_context(lock_study(folder, about, sweep.view.say))
    if planned.config.fresh and opened.record.sweep_id is not None:
        # Since this was planned, another command with fresh=true has used the folder; take the next one.
        folder = find_unused_folder(state_folder, study.id)
        opened = stack.enter_context(lock_study(folder, about, sweep.view.say))
    return StudyContext(sweep, replace(planned, folder=folder, record=opened.record), opened)


def run_studies(session: Session) -> None:
    """Train what is left of every study, and close the sweep."""
    sweep, studies = session.sweep, session.studies
    secret = session.opened.record.secret or draw_secret()
    session.opened.append_event("opened", command=sweep.command, secret=secret)
    with open_parent_run(sweep, session.opened, describe_sweep_run(studies, session.opened)):
        sweep.delivery.call_with_retries(lambda: _log_data(session))
        sweep.view.begin_sweep(sum(estimate_epochs_left(planned) for planned in session.plan), sweep.executor.slots)
        Supervisor(sweep, studies, session.opened, session.take_done).run()
        _close_sweep(session)


def _log_data(session: Session) -> None:
    for splits in list_splits(session.plan):
        log_datasets(session.sweep.store, str(session.opened.record.run_id), splits)


def _close_sweep(session: Session) -> None:
    """Roll up all studies of the sweep, also those that this command had nothing to do with."""
    for own_study in session.studies:
        draw_owed_figures(own_study)
    names = session.opened.record.about["studies"]
    searched: dict[str, SearchedStudy] = {}
    own_studies = {study.opened.folder.name: study for study in session.studies}
    for folder in [StudyFolder(session.state_folder / "studies" / name) for name in names]:
        study = own_studies.get(folder.name)
        record = folder.read_record() if study is None else study.record
        searched |= describe_searched(record, study)
        if folder.name not in session.results:
            session.results[folder.name] = read_entries(session.sweep, record)
    entries = [entry for name in names for entry in session.results[name]]
    labels = " | ".join(dict.fromkeys(planned.study.label for planned in session.plan))
    failed_count = sum(entry.state == "failed" for entry in entries)
    count_text = f"{len(names)} {'study' if len(names) == 1 else 'studies'}"
    summary = RunSummary(
        report_name=session.report_name,
        title=f"{session.kinds.sweep.capitalize()} {labels}",
        banner=next((planned.banner for planned in session.plan if planned.banner), None),
        entries=entries,
        description=f"{count_text}, {format_trial_count(len(entries))}, {failed_count} failed.",
        images={
            planned.splits.tag: prepare_validation_images(session.sweep.store, planned.splits)
            for planned in session.plan
        },
        failed=session.exit_code is ExitCode.ALL_FAILED,
        studies=searched if session.kinds is SEARCH else {},
        min_gain=session.plan[0].config.promote.gain,
    )
    session.advice = close_run(session.sweep, session.opened, summary)
    if len(names) > 1:
        session.sweep.view.show_leaderboard(f"sweep: {format_trial_count(len(entries))} of {count_text}", entries)
