"""One command's sweep: take up or begin its studies, run them one after the other, roll up what came of them."""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fmnist_sweep.config.commands import build_continuing_command, build_study_command
from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.config.job import SEARCH, Job, RunKinds
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.errors import DISK_ERRORS, ConfigError, ExitCode, StoreError
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.leaderboard import TrialRecord, find_best_record
from fmnist_sweep.report.publish import locate_report, prepare_validation_images
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import (
    OpenStudy,
    OpenSweep,
    StudyFolder,
    find_unused_folder,
    is_sweep_closed,
    lock_study,
    lock_sweep,
    read_sweep_run_id,
)
from fmnist_sweep.sweep import forecast
from fmnist_sweep.sweep.closing import (
    RunSummary,
    close_run,
    close_study,
    find_exit_code,
    list_trial_records,
    refuse_deleted_run,
)
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.placement import dump_placement, open_executor, open_idle_executor
from fmnist_sweep.sweep.plan import PlannedStudy, announce_studies, estimate_epochs_left, locate_runs, plan_studies
from fmnist_sweep.sweep.recovery import close_dead_runs, refuse_unknown_runs
from fmnist_sweep.sweep.supervisor import Supervisor
from fmnist_sweep.text import format_duration, format_trial_count, mask_credentials
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking.names import IDENTITY_FILE
from fmnist_sweep.tracking.runs import RunInfo, describe_platform, describe_run, reopen_run, start_run
from fmnist_sweep.training import backend
from fmnist_sweep.training.environment import read_source_commit


def run_sweep(jobs: Sequence[Job], command: str, view: View, stop: Stop | None = None) -> ExitCode:
    """Run every job as a study of one sweep, or go on with it where it stood, and say how it ended.

    command: as typed; the one that continues is this without fresh=true.
    """
    config, command, stop = jobs[0].config, build_continuing_command(command), stop or Stop()
    _refuse_several_stores(jobs)
    state_folder = stores.locate_state_folder(config.tracking.uri)
    plan = plan_studies(jobs, state_folder, view)
    announce_studies(plan, view)
    is_done = all(planned.is_done for planned in plan)
    if is_done and is_sweep_closed(state_folder, _compute_sweep_id(plan)):
        return _show_earlier_results(plan, view)
    with ExitStack() as executor_stack:
        if is_done:  # only the sweep's own run is still to be closed
            executor, placement = executor_stack.enter_context(open_idle_executor(stop))
        else:
            view.say("starting TensorFlow ...")
            backend.import_tensorflow()
            with _explain_disk_errors(Path(tempfile.gettempdir())):  # workers' images
                executor, placement, expected = executor_stack.enter_context(open_executor(plan, config, stop, view))
            _say_costs(expected, config.tracking.uri, state_folder, view)
        if config.plan:
            return ExitCode.DONE
        store = stores.open_store(config.tracking.uri, config.tracking.experiment)
        # Memory is collected between trials; what is imported by now stays and need not be looked through each time.
        gc.freeze()
        sweep = Sweep(command, store, executor, placement, view, stop, Delivery(store, view.say, stop.sleep))
        with stop.defer(), _explain_disk_errors(state_folder), ExitStack() as lock_stack:
            session = _lock_studies(sweep, plan, state_folder, lock_stack)
            return _run_studies(session)


@dataclass(frozen=True)
class SweepRun:
    """Where a sweep that was run is to be found: its run, and what marks the runs of each of its jobs' trials."""

    run_id: str
    journal_tokens: tuple[str, ...]


def find_sweep_run(jobs: Sequence[Job], view: View) -> SweepRun:
    """Where the runs of jobs are that were run before, in this order. Errors: StoreError where they were not."""
    state_folder = stores.locate_state_folder(jobs[0].config.tracking.uri)
    plan = plan_studies(jobs, state_folder, view)
    run_id = read_sweep_run_id(state_folder, _compute_sweep_id(plan))
    tokens = [planned.record.about["token"] for planned in plan if planned.record is not None]
    if run_id is None or len(tokens) < len(jobs):
        raise StoreError(f"{state_folder} does not know of these studies: type the command again.")
    return SweepRun(run_id, tuple(tokens))


def _say_costs(expected: Forecast, uri: str | None, state_folder: Path, view: View) -> None:
    """Say what is to be expected; StoreError when the disk cannot hold it."""
    view.say(f"expected: {forecast.describe_forecast(expected)} in {state_folder}")
    # What goes to a server fills that one's disk.
    is_server = stores.is_server(stores.resolve_store_uri(uri))
    forecast.refuse_full_disk(state_folder, replace(expected, megabytes=0.0) if is_server else expected)


def _compute_sweep_id(plan: Sequence[PlannedStudy]) -> str:
    """Studies of one earlier sweep go on under its run; any other set is a sweep of its own."""
    sweep_ids = {planned.record.sweep_id if planned.record else None for planned in plan}
    sweep_id = sweep_ids.pop() if len(sweep_ids) == 1 else None
    names = sorted(planned.folder.name for planned in plan)
    return sweep_id or hash_content([*names, *sorted(locate_runs(plan[0].study.job).items())])


def _refuse_several_stores(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if (job.config.tracking, job.config.executor) == (jobs[0].config.tracking, jobs[0].config.executor):
            continue
        overrides = [override for override in job.overrides if override.startswith(("tracking", "executor"))]
        raise ConfigError(
            f"{' '.join(overrides)} (command line): tracking and executor are one for a whole sweep; "
            "give each a single value."
        )


def _show_earlier_results(plan: Sequence[PlannedStudy], view: View) -> ExitCode:
    """Show what a finished sweep found; neither TensorFlow nor the tracking store is touched."""
    results = {planned.folder.name: list_trial_records(planned.record) for planned in plan if planned.record}
    for planned in plan:
        view.show_leaderboard(f"{planned.study.label}: done before", results[planned.folder.name])
    if plan[0].study.job.kinds is SEARCH:
        view.say("Nothing to do: every study of this command is done. A larger search.max_trials extends it,")
        view.say("fresh=true begins anew beside it.")
    return find_exit_code(results)


@contextmanager
def _explain_disk_errors(folder: Path) -> Iterator[None]:
    """A disk that takes no more ends the sweep with one sentence; what was finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ENOTDIR}:
            raise
        raise StoreError(
            f"{error.filename or folder} cannot be written ({error.strerror}): mend that, then type the same command "
            "again; what was finished is kept, and the rest goes on from there."
        ) from error


@dataclass
class _SweepSession:
    """A sweep under way: what this process holds and has found. results: by the study's folder name."""

    sweep: Sweep
    plan: Sequence[PlannedStudy]
    open_studies: Mapping[str, OpenStudy]
    open_sweep: OpenSweep
    state_folder: Path
    results: dict[str, list[TrialRecord]] = field(default_factory=dict)

    @property
    def kinds(self) -> RunKinds:
        return self.plan[0].study.job.kinds


def _lock_studies(sweep: Sweep, plan: Sequence[PlannedStudy], state_folder: Path, stack: ExitStack) -> _SweepSession:
    """Hold every study and the sweep, in an order that two commands share, and close what dead processes left open."""
    open_studies: dict[str, OpenStudy] = {}
    for planned in sorted(plan, key=lambda planned: planned.folder.name):
        about = {
            "id": planned.study.id,
            "label": planned.study.label,
            "mark": planned.name_prefix,
            "data": planned.splits.tag,
            "identity": planned.study.identity,
            "command": build_study_command(planned.study.job),
            **locate_runs(planned.study.job),
        }
        study = stack.enter_context(lock_study(planned.folder, about, sweep.view.say))
        if planned.study.job.config.fresh and study.record.sweep_id is not None:
            # Another command with fresh=true has begun and left it since: this one begins the next.
            planned.folder = find_unused_folder(state_folder, planned.study.id)
            study = stack.enter_context(lock_study(planned.folder, about, sweep.view.say))
        open_studies[planned.folder.name] = study
        planned.record = open_studies[planned.folder.name].record  # as it is now that nobody else changes it
    place, sweep_id = locate_runs(plan[0].study.job), _compute_sweep_id(plan)
    has_begun = any(study.record.sweep_id == sweep_id for study in open_studies.values())
    members = {"studies": sorted(open_studies), "journals": [open_studies[name].token for name in sorted(open_studies)]}
    open_sweep = stack.enter_context(lock_sweep(state_folder, sweep_id, {**members, **place}, has_begun))
    own_names = {*open_studies, sweep_id}
    sweep.delivery.call_with_retries(
        lambda: close_dead_runs(sweep.store, state_folder, place, own_names, sweep.view.say)
    )
    return _SweepSession(sweep, plan, open_studies, open_sweep, state_folder)


def _run_studies(session: _SweepSession) -> ExitCode:
    sweep, plan = session.sweep, session.plan
    with _open_sweep_run(session):
        sweep.view.begin_sweep(sum(estimate_epochs_left(planned) for planned in plan), sweep.executor.slots)
        for number, planned in enumerate(plan, 1):
            open_study = session.open_studies[planned.folder.name]
            if not planned.is_done:
                sweep.view.begin_study(planned.study.label, number, len(plan), planned.trials_left)
                with _open_study_run(session, planned, open_study):
                    supervisor = Supervisor(sweep, planned, open_study)
                    supervisor.run()
                    records = close_study(sweep, planned, open_study, supervisor.count_seconds())
            else:
                records = list_trial_records(open_study.record)
            session.results[planned.folder.name] = records
            sweep.view.show_leaderboard(
                f"{planned.study.label}: {format_trial_count(len(open_study.record.trained_trials))}",
                session.results[planned.folder.name],
            )
        _close_sweep(session)
    return _announce_results(session)


@contextmanager
def _open_sweep_run(session: _SweepSession) -> Iterator[None]:
    """The sweep's run: a new one, or the one there is set to RUNNING again; closed as KILLED where the block raises."""
    sweep, open_sweep = session.sweep, session.open_sweep
    labels = " | ".join(planned.study.label for planned in session.plan)
    kind = session.kinds.sweep
    info = RunInfo(
        kind=kind,
        name=f"{max(planned.name_prefix for planned in session.plan)}{kind} · {labels}"[:250],
        tags={
            "sweep_id": open_sweep.record.about["id"],
            "studies": " ".join(open_sweep.record.about["studies"]),
            "journals": " ".join(open_sweep.record.about["journals"]),
            "journal": open_sweep.record.about["token"],
            "data": ", ".join(dict.fromkeys(planned.splits.tag for planned in session.plan)),
            "git": read_source_commit(),
            **describe_platform(),
        },
        command=sweep.command,
    )
    open_sweep.append_event("opened", command=sweep.command)
    try:
        _open_run(sweep, info, open_sweep)
        sweep.delivery.call_with_retries(lambda: _log_data(session))
        yield
    except BaseException:
        _kill_run(sweep, open_sweep)
        raise


def _log_data(session: _SweepSession) -> None:
    for splits in {planned.splits.sha256: planned.splits for planned in session.plan}.values():
        datasets.log_datasets(session.sweep.store, str(session.open_sweep.record.run_id), splits)


@contextmanager
def _open_study_run(session: _SweepSession, planned: PlannedStudy, open_study: OpenStudy) -> Iterator[None]:
    """The study's run below its sweep's, new or set to RUNNING again; closed as KILLED where the block raises."""
    study, sweep, record = planned.study, session.sweep, open_study.record
    if record.sweep_run_id is None:
        sweep_ids = {
            "sweep_id": session.open_sweep.record.about["id"],
            "sweep_run_id": session.open_sweep.record.run_id,
        }
    else:
        sweep_ids = {"sweep_id": record.sweep_id, "sweep_run_id": record.sweep_run_id}
    info = RunInfo(
        kind=session.kinds.study,
        name=f"{planned.name_prefix}{session.kinds.study} · {record.about['label']}"[:250],
        tags={
            "sweep_id": str(sweep_ids["sweep_id"]),
            "study_id": study.id,
            "journal": open_study.token,
            "data": planned.splits.tag,
            "precision": study.settings["train"]["precision"],
            "git": read_source_commit(),
            "identity": json.dumps(study.identity, sort_keys=True)[:5000],
        },
        command=sweep.command,
        parent=sweep_ids["sweep_run_id"],
    )
    trial_limit = None if math.isinf(planned.trial_count) else planned.trial_count
    executor_fields = dump_placement(sweep.placement)
    open_study.append_event(
        "opened", command=build_study_command(study.job), planned=trial_limit, executor=executor_fields, **sweep_ids
    )
    try:
        _open_run(sweep, info, open_study)
        trial_kind = session.kinds.trial
        sweep.delivery.call_with_retries(lambda: refuse_unknown_runs(sweep.store, open_study, trial_kind))
        sweep.delivery.call_with_retries(lambda: _describe_study(sweep, planned, str(record.run_id)))
        yield
    except BaseException:
        _kill_run(sweep, open_study)
        raise


def _describe_study(sweep: Sweep, planned: PlannedStudy, run_id: str) -> None:
    study, config = planned.study, planned.study.job.config
    search_params = {f"search.{key}": value for key, value in _list_search_params(config).items()}
    identity = {IDENTITY_FILE: json.dumps(study.identity, indent=1, sort_keys=True).encode()}
    describe_run(sweep.store, run_id, {**flatten_config(study.settings), **search_params}, planned.splits, identity)


def _list_search_params(config: Any) -> dict[str, Any]:
    # Its budgets may be raised later, and a parameter of a run cannot be changed.
    arguments = config.search.model_dump(exclude={"max_trials", "max_minutes", "trial_minutes", "fail_fast"})
    return {**arguments, **config.oracle}


def _open_run(sweep: Sweep, info: RunInfo, opened: OpenStudy | OpenSweep) -> None:
    store, run_id = sweep.store, opened.record.run_id
    if run_id is None:
        # It may exist all the same, made by a process that died before it could write that down.
        new_run_id = sweep.delivery.call_with_retries(lambda: start_run(store, info, may_exist=True))
        opened.append_event("run", run_id=new_run_id)
        return
    refuse_deleted_run(sweep, opened)
    sweep.delivery.call_with_retries(lambda: reopen_run(store, run_id, info.command))


def _kill_run(sweep: Sweep, opened: OpenStudy | OpenSweep) -> None:
    """Close a run that is broken off. Where the store is away, the next start does it."""
    run_id = opened.record.run_id
    if run_id is None or sweep.delivery.kill_run(run_id):
        opened.append_event("interrupted")


def _close_sweep(session: _SweepSession) -> None:
    """Roll up all studies of the sweep, those included that this command had nothing to do with."""
    names = session.open_sweep.record.about["studies"]
    other_folders = [
        StudyFolder(session.state_folder / "studies" / name) for name in names if name not in session.results
    ]
    for folder in other_folders:
        session.results[folder.name] = list_trial_records(folder.read_record())
    records = [record for name in names for record in session.results[name]]
    labels = " | ".join(dict.fromkeys(planned.study.label for planned in session.plan))
    failed_count = sum(record.state == "failed" for record in records)
    count_text = f"{len(names)} {'study' if len(names) == 1 else 'studies'}"
    banner = next((planned.banner for planned in session.plan if planned.banner), None)
    summary = RunSummary(
        report_name=_make_report_name(session),
        title=f"{session.kinds.sweep.capitalize()} {labels}",
        kinds=session.kinds,
        banner=banner,
        records=records,
        description=f"{count_text}, {format_trial_count(len(records))}, {failed_count} failed.",
        journal_tokens=session.open_sweep.record.about["journals"],
        images={planned.splits.tag: prepare_validation_images(planned.splits) for planned in session.plan},
        failed=find_exit_code(session.results) is ExitCode.ALL_FAILED,
    )
    close_run(session.sweep, session.open_sweep, summary)
    if len(names) > 1:
        session.sweep.view.show_leaderboard(f"sweep: {format_trial_count(len(records))} of {count_text}", records)


def _make_report_name(session: _SweepSession) -> str:
    return f"{session.kinds.sweep}-{session.open_sweep.record.about['id']}"


def _announce_results(session: _SweepSession) -> ExitCode:
    sweep, view = session.sweep, session.sweep.view
    records = [record for study_records in session.results.values() for record in study_records]
    failed_count = sum(record.state == "failed" for record in records)
    view.say(
        f"{format_trial_count(len(records))}, {format_duration(sweep.training_seconds)} of training, {failed_count} failed."
    )
    view.say(f"store: {mask_credentials(sweep.store.uri)} (experiment {sweep.store.experiment_name})")
    if session.kinds is SEARCH:
        _suggest_commands(session, records)
    return find_exit_code(session.results)


def _suggest_commands(session: _SweepSession, records: Sequence[TrialRecord]) -> None:
    sweep, plan = session.sweep, session.plan
    view, uri = sweep.view, sweep.store.uri
    store_options = {
        "--uri": None if uri == stores.build_default_uri() else mask_credentials(uri),
        "--experiment": None if sweep.store.experiment_name == "fashion-mnist" else sweep.store.experiment_name,
    }
    folder = plan[0].study.job.config.data.dir
    data_options = {"--data-dir": None if folder == os.environ.get("FMNIST_DATA_DIR") else folder}
    report_path = locate_report(sweep.store, _make_report_name(session))
    if report_path.is_file():
        view.say(f"report: {report_path}")
    view.say(
        f"browse: {mask_credentials(uri)}"
        if uri.startswith("http")
        else f"browse: fmnist-sweep ui{_format_flags(store_options)}"
    )
    if all(planned.splits.origin.source == "drawn" for planned in plan):
        view.say("drawn images: nothing of this sweep can be promoted.")
    elif find_best_record(records):
        view.say(f"promote the best: fmnist-sweep promote{_format_flags(store_options | data_options)}")


def _format_flags(values: Mapping[str, str | None]) -> str:
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in values.items() if value is not None)
