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

from fmnist_sweep.config import identity as studies
from fmnist_sweep.config.commands import continuing, typed
from fmnist_sweep.config.job import SEARCH, Job, Kinds, flat
from fmnist_sweep.errors import DISK_ERRORS, ConfigError, ExitCode, StoreError
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report import leaderboard as report
from fmnist_sweep.report import publish as publishing
from fmnist_sweep.report.leaderboard import TrialRecord
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study import folder as folders
from fmnist_sweep.study.folder import OpenStudy, OpenSweep, StudyFolder
from fmnist_sweep.sweep import closing as rollup
from fmnist_sweep.sweep import forecast
from fmnist_sweep.sweep import placement as arranging
from fmnist_sweep.sweep import plan as plans
from fmnist_sweep.sweep import recovery as reaping
from fmnist_sweep.sweep.context import Sweep
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.plan import Planned
from fmnist_sweep.sweep.supervisor import Supervisor
from fmnist_sweep.text import format_duration, format_trial_count, mask_credentials
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.training import backend
from fmnist_sweep.training.environment import read_source_commit


def run_sweep(jobs: Sequence[Job], command: str, view: View, stop: Stop | None = None) -> ExitCode:
    """Run every job as a study of one sweep, or go on with it where it stood, and say how it ended.

    command: as typed; the one that continues is this without fresh=true.
    """
    config, command, stop = jobs[0].config, continuing(command), stop or Stop()
    _refuse_several_stores(jobs)
    state = stores.locate_state_folder(config.tracking.uri)
    plan = plans.plan_studies(jobs, state, view)
    plans.announce(plan, view)
    over = all(planned.over for planned in plan)
    if over and folders.is_sweep_closed(state, _sweep_id(plan)):
        return _nothing_to_do(plan, view)
    with ExitStack() as entered:
        if over:  # only the sweep's own run is still to be closed
            executor, arrangement = entered.enter_context(arranging.idle(stop))
        else:
            view.say("starting TensorFlow ...")
            backend.import_tensorflow()
            with _full_disk_said(Path(tempfile.gettempdir())):  # workers' images
                executor, arrangement, expected = entered.enter_context(arranging.arranged(plan, config, stop, view))
            _say_costs(expected, config.tracking.uri, state, view)
        if config.plan:
            return ExitCode.DONE
        store = stores.open_store(config.tracking.uri, config.tracking.experiment)
        # Memory is collected between trials; what is imported by now stays and need not be looked through each time.
        gc.freeze()
        sweep = Sweep(command, store, executor, arrangement, view, stop, Delivery(store, view.say))
        with stop.defer(), _full_disk_said(state), ExitStack() as held:
            running = _take_up(sweep, plan, state, held)
            return _run(running)


@dataclass(frozen=True)
class Standing:
    """Where a sweep that was run is to be found: its run, and what marks the runs of each of its jobs' trials."""

    run_id: str
    journals: tuple[str, ...]


def standing(jobs: Sequence[Job], view: View) -> Standing:
    """Where the runs of jobs are that were run before, in this order. Errors: StoreError where they were not."""
    state = stores.locate_state_folder(jobs[0].config.tracking.uri)
    plan = plans.plan_studies(jobs, state, view)
    run_id = folders.read_sweep_run_id(state, _sweep_id(plan))
    tokens = [planned.record.about["token"] for planned in plan if planned.record is not None]
    if run_id is None or len(tokens) < len(jobs):
        raise StoreError(f"{state} does not know of these studies: type the command again.")
    return Standing(run_id, tuple(tokens))


def _say_costs(expected: Forecast, uri: str | None, state: Path, view: View) -> None:
    """Say what is to be expected; StoreError when the disk cannot hold it."""
    view.say(f"expected: {forecast.text(expected)} in {state}")
    # What goes to a server fills that one's disk.
    is_server = stores.is_server(stores.resolve_store_uri(uri))
    forecast.refuse_full_disk(state, replace(expected, megabytes=0.0) if is_server else expected)


def _sweep_id(plan: Sequence[Planned]) -> str:
    """Studies of one earlier sweep go on under its run; any other set is a sweep of its own."""
    homes = {planned.record.sweep_id if planned.record else None for planned in plan}
    home = homes.pop() if len(homes) == 1 else None
    names = sorted(planned.folder.name for planned in plan)
    return home or studies.short_hash([*names, *sorted(plans.place(plan[0].study.job).items())])


def _refuse_several_stores(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if (job.config.tracking, job.config.executor) == (jobs[0].config.tracking, jobs[0].config.executor):
            continue
        own = [override for override in job.overrides if override.startswith(("tracking", "executor"))]
        raise ConfigError(
            f"{' '.join(own)} (command line): tracking and executor are one for a whole sweep; "
            "give each a single value."
        )


def _nothing_to_do(plan: Sequence[Planned], view: View) -> ExitCode:
    """Show what a finished sweep found; neither TensorFlow nor the tracking store is touched."""
    results = {planned.folder.name: rollup.recorded(planned.record) for planned in plan if planned.record}
    for planned in plan:
        view.show_leaderboard(f"{planned.study.label}: done before", results[planned.folder.name])
    if plan[0].study.job.kinds is SEARCH:
        view.say("Nothing to do: every study of this command is done. A larger search.max_trials extends it,")
        view.say("fresh=true begins anew beside it.")
    return rollup.ending(results)


@contextmanager
def _full_disk_said(state: Path) -> Iterator[None]:
    """A disk that takes no more ends the sweep with one sentence; what was finished stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ENOTDIR}:
            raise
        raise StoreError(
            f"{error.filename or state} cannot be written ({error.strerror}): mend that, then type the same command "
            "again; what was finished is kept, and the rest goes on from there."
        ) from error


@dataclass
class _Running:
    """A sweep under way: what this process holds and has found. results: by the study's folder name."""

    sweep: Sweep
    plan: Sequence[Planned]
    opened: Mapping[str, OpenStudy]
    own: OpenSweep
    state: Path
    results: dict[str, list[TrialRecord]] = field(default_factory=dict)

    @property
    def kinds(self) -> Kinds:
        return self.plan[0].study.job.kinds


def _take_up(sweep: Sweep, plan: Sequence[Planned], state: Path, held: ExitStack) -> _Running:
    """Hold every study and the sweep, in an order that two commands share, and close what dead processes left open."""
    opened: dict[str, OpenStudy] = {}
    for planned in sorted(plan, key=lambda planned: planned.folder.name):
        about = {
            "id": planned.study.id,
            "label": planned.study.label,
            "mark": planned.mark,
            "data": planned.splits.tag,
            "identity": planned.study.identity,
            "command": typed(planned.study.job),
            **plans.place(planned.study.job),
        }
        study = held.enter_context(folders.lock_study(planned.folder, about, sweep.view.say))
        if planned.study.job.config.fresh and study.record.sweep_id is not None:
            # Another command with fresh=true has begun and left it since: this one begins the next.
            planned.folder = folders.find_unused_folder(state, planned.study.id)
            study = held.enter_context(folders.lock_study(planned.folder, about, sweep.view.say))
        opened[planned.folder.name] = study
        planned.record = opened[planned.folder.name].record  # as it is now that nobody else changes it
    place, sweep_id = plans.place(plan[0].study.job), _sweep_id(plan)
    begun = any(study.record.sweep_id == sweep_id for study in opened.values())
    members = {"studies": sorted(opened), "journals": [opened[name].token for name in sorted(opened)]}
    own = held.enter_context(folders.lock_sweep(state, sweep_id, {**members, **place}, begun))
    ours = {*opened, sweep_id}
    sweep.delivery.insist(
        lambda: reaping.close_what_died(sweep.store, state, place, ours, sweep.view.say), sweep.stop.sleep
    )
    return _Running(sweep, plan, opened, own, state)


def _run(running: _Running) -> ExitCode:
    sweep, plan = running.sweep, running.plan
    with _sweep_run(running):
        sweep.view.begin_sweep(sum(plans.epochs_left(planned) for planned in plan), sweep.executor.slots)
        for number, planned in enumerate(plan, 1):
            opened = running.opened[planned.folder.name]
            if not planned.over:
                sweep.view.begin_study(planned.study.label, number, len(plan), planned.left)
                with _study_run(running, planned, opened):
                    supervisor = Supervisor(sweep, planned, opened)
                    supervisor.run()
                    records = rollup.close_study(sweep, planned, opened, supervisor.seconds())
            else:
                records = rollup.recorded(opened.record)
            running.results[planned.folder.name] = records
            sweep.view.show_leaderboard(
                f"{planned.study.label}: {format_trial_count(len(opened.record.trained_trials))}",
                running.results[planned.folder.name],
            )
        _close_sweep(running)
    return _say_how_it_ended(running)


@contextmanager
def _sweep_run(running: _Running) -> Iterator[None]:
    """The sweep's run: a new one, or the one there is set to RUNNING again; closed as KILLED where the block raises."""
    sweep, own = running.sweep, running.own
    labels = " | ".join(planned.study.label for planned in running.plan)
    kind = running.kinds.sweep
    info = tracking.RunInfo(
        kind=kind,
        name=f"{max(planned.mark for planned in running.plan)}{kind} · {labels}"[:250],
        tags={
            "sweep_id": own.record.about["id"],
            "studies": " ".join(own.record.about["studies"]),
            "journals": " ".join(own.record.about["journals"]),
            "journal": own.record.about["token"],
            "data": ", ".join(dict.fromkeys(planned.splits.tag for planned in running.plan)),
            "git": read_source_commit(),
            **tracking.describe_platform(),
        },
        command=sweep.command,
    )
    own.append_event("opened", command=sweep.command)
    try:
        _open_run(sweep, info, own)
        sweep.delivery.insist(lambda: _log_data(running), sweep.stop.sleep)
        yield
    except BaseException:
        _kill(sweep, own)
        raise


def _log_data(running: _Running) -> None:
    for splits in {planned.splits.sha256: planned.splits for planned in running.plan}.values():
        datasets.log_datasets(running.sweep.store, str(running.own.record.run_id), splits)


@contextmanager
def _study_run(running: _Running, planned: Planned, opened: OpenStudy) -> Iterator[None]:
    """The study's run below its sweep's, new or set to RUNNING again; closed as KILLED where the block raises."""
    study, sweep, record = planned.study, running.sweep, opened.record
    if record.sweep_run_id is None:
        home = {"sweep_id": running.own.record.about["id"], "sweep_run_id": running.own.record.run_id}
    else:
        home = {"sweep_id": record.sweep_id, "sweep_run_id": record.sweep_run_id}
    info = tracking.RunInfo(
        kind=running.kinds.study,
        name=f"{planned.mark}{running.kinds.study} · {record.about['label']}"[:250],
        tags={
            "sweep_id": str(home["sweep_id"]),
            "study_id": study.id,
            "journal": opened.token,
            "data": planned.splits.tag,
            "precision": study.settings["train"]["precision"],
            "git": read_source_commit(),
            "identity": json.dumps(study.identity, sort_keys=True)[:5000],
        },
        command=sweep.command,
        parent=home["sweep_run_id"],
    )
    most = None if math.isinf(planned.trials) else planned.trials
    executor = arranging.recorded(sweep.arrangement)
    opened.append_event("opened", command=typed(study.job), planned=most, executor=executor, **home)
    try:
        _open_run(sweep, info, opened)
        trials = running.kinds.trial
        sweep.delivery.insist(lambda: reaping.refuse_unknown_runs(sweep.store, opened, trials), sweep.stop.sleep)
        sweep.delivery.insist(lambda: _describe(sweep, planned, str(record.run_id)), sweep.stop.sleep)
        yield
    except BaseException:
        _kill(sweep, opened)
        raise


def _describe(sweep: Sweep, planned: Planned, run_id: str) -> None:
    study, config = planned.study, planned.study.job.config
    searched = {f"search.{key}": value for key, value in _search(config).items()}
    identity = {"identity.json": json.dumps(study.identity, indent=1, sort_keys=True).encode()}
    tracking.describe_run(sweep.store, run_id, {**flat(study.settings), **searched}, planned.splits, identity)


def _search(config: Any) -> dict[str, Any]:
    # Its budgets may be raised later, and a parameter of a run cannot be changed.
    given = config.search.model_dump(exclude={"max_trials", "max_minutes", "trial_minutes", "fail_fast"})
    return {**given, **config.oracle}


def _open_run(sweep: Sweep, info: tracking.RunInfo, opened: OpenStudy | OpenSweep) -> None:
    store, run_id = sweep.store, opened.record.run_id
    if run_id is None:
        # It may exist all the same, made by a process that died before it could write that down.
        begun = sweep.delivery.insist(lambda: tracking.start_run(store, info, may_exist=True), sweep.stop.sleep)
        opened.append_event("run", run_id=begun)
        return
    rollup.refuse_deleted(sweep, opened)
    sweep.delivery.insist(lambda: tracking.reopen_run(store, run_id, info.command), sweep.stop.sleep)


def _kill(sweep: Sweep, opened: OpenStudy | OpenSweep) -> None:
    """Close a run that is broken off. Where the store is away, the next start does it."""
    if opened.record.run_id is not None:
        try:
            tracking.kill_run(sweep.store, opened.record.run_id)
        except Exception as error:
            if stores.explain_outage(error) is None:
                raise
            return
    opened.append_event("interrupted")


def _close_sweep(running: _Running) -> None:
    """Roll up all studies of the sweep, those included that this command had nothing to do with."""
    names = running.own.record.about["studies"]
    others = [StudyFolder(running.state / "studies" / name) for name in names if name not in running.results]
    for folder in others:
        running.results[folder.name] = rollup.recorded(folder.read_record())
    records = [record for name in names for record in running.results[name]]
    labels = " | ".join(dict.fromkeys(planned.study.label for planned in running.plan))
    failed = sum(record.state == "failed" for record in records)
    of = f"{len(names)} {'study' if len(names) == 1 else 'studies'}"
    banner = next((planned.banner for planned in running.plan if planned.banner), None)
    summary = rollup.Summary(
        name=_report_name(running),
        title=f"{running.kinds.sweep.capitalize()} {labels}",
        kinds=running.kinds,
        banner=banner,
        records=records,
        searched=f"{of}, {format_trial_count(len(records))}, {failed} failed.",
        journals=running.own.record.about["journals"],
        images={planned.splits.tag: publishing.prepare_validation_images(planned.splits) for planned in running.plan},
        failed=rollup.ending(running.results) is ExitCode.ALL_FAILED,
    )
    rollup.close_run(running.sweep, running.own, summary)
    if len(names) > 1:
        running.sweep.view.show_leaderboard(f"sweep: {format_trial_count(len(records))} of {of}", records)


def _report_name(running: _Running) -> str:
    return f"{running.kinds.sweep}-{running.own.record.about['id']}"


def _say_how_it_ended(running: _Running) -> ExitCode:
    sweep, view = running.sweep, running.sweep.view
    records = [record for found in running.results.values() for record in found]
    failed = sum(record.state == "failed" for record in records)
    view.say(
        f"{format_trial_count(len(records))}, {format_duration(sweep.seconds_trained)} of training, {failed} failed."
    )
    view.say(f"store: {mask_credentials(sweep.store.uri)} (experiment {sweep.store.experiment_name})")
    if running.kinds is SEARCH:
        _say_what_next(running, records)
    return rollup.ending(running.results)


def _say_what_next(running: _Running, records: Sequence[TrialRecord]) -> None:
    sweep, plan = running.sweep, running.plan
    view, uri = sweep.view, sweep.store.uri
    named = {
        "--uri": None if uri == stores.build_default_uri() else mask_credentials(uri),
        "--experiment": None if sweep.store.experiment_name == "fashion-mnist" else sweep.store.experiment_name,
    }
    folder = plan[0].study.job.config.data.dir
    data = {"--data-dir": None if folder == os.environ.get("FMNIST_DATA_DIR") else folder}
    report_here = publishing.locate_report(sweep.store, _report_name(running))
    if report_here.is_file():
        view.say(f"report: {report_here}")
    view.say(
        f"browse: {mask_credentials(uri)}" if uri.startswith("http") else f"browse: fmnist-sweep ui{_flags(named)}"
    )
    if all(planned.splits.origin.source == "drawn" for planned in plan):
        view.say("drawn images: nothing of this sweep can be promoted.")
    elif report.find_best_record(records):
        view.say(f"promote the best: fmnist-sweep promote{_flags(named | data)}")


def _flags(values: Mapping[str, str | None]) -> str:
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in values.items() if value is not None)
