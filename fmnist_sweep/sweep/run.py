"""One command's sweep: its studies are planned, placed on an executor, run, and reported."""

from __future__ import annotations

import errno
import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fmnist_sweep.config.commands import build_continuing_command
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.overrides import is_override_of
from fmnist_sweep.data.data_config import DataConfig, OwnDataConfig
from fmnist_sweep.data.description import FASHION_MNIST
from fmnist_sweep.errors import DISK_ERRORS, ConfigError, ExitCode, StoreError
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search.ask_and_tell import Search
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.study.sweep_journal import is_sweep_closed, read_sweep_run_id
from fmnist_sweep.sweep.announcements import announce_costs, announce_results, announce_studies, show_earlier_results
from fmnist_sweep.sweep.context import SweepContext
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.sweep.earlier_defaults import announce_earlier_studies
from fmnist_sweep.sweep.earlier_runs import find_deleted
from fmnist_sweep.sweep.placement import make_idle_executor, open_executor
from fmnist_sweep.sweep.plan import PlannedStudy, compute_sweep_id, plan_studies
from fmnist_sweep.sweep.session import lock_session, run_studies
from fmnist_sweep.tracking.store import locate_state_folder, open_store, refuse_moved_store


def run_sweep(jobs: Sequence[Job], command: str, view: View, stop: Stop | None = None) -> ExitCode:
    """Run every job as a study of one sweep, or continue the sweep, and return how it ended.

    command: as typed. The command that continues the sweep is the same without fresh=true.
    """
    config, command, stop = jobs[0].config, build_continuing_command(command), stop or Stop()
    _refuse_several_stores(jobs)
    refuse_moved_store(config.tracking.uri, config.tracking.experiment)
    state_folder = locate_state_folder(config.tracking.uri)
    plan = plan_studies(jobs, state_folder, view.say)
    is_done = all(planned.is_done for planned in plan)
    deleted_ids: set[str] = set()

    def announce() -> None:
        deleted_ids.update(find_deleted(plan, view))
        announce_studies(plan, view)
        announce_earlier_studies(plan, command, view)
        if not is_done:
            view.say("starting TensorFlow ...")

    with ExitStack() as executor_stack:
        if is_done:
            announce()
            owes_figures = any(planned.owes_figures for planned in plan)
            if not owes_figures and is_sweep_closed(state_folder, compute_sweep_id(plan)):
                return show_earlier_results(plan, view, deleted_ids)
            # Only figures are still to be drawn, and the sweep's own run to be closed.
            executor, placement = make_idle_executor(stop)
        else:
            with _explain_disk_errors(Path(tempfile.gettempdir())):  # where workers' images are
                executor, placement, expected = executor_stack.enter_context(
                    open_executor(plan, config, stop, view.say, announce)
                )
            announce_costs(expected, config.tracking.uri, state_folder, view)
        if config.plan:
            return ExitCode.DONE
        _rehearse_own_code(plan, view)
        store = open_store(config.tracking.uri, config.tracking.experiment, plan[0].splits.description.name)
        # Memory is collected between trials. What is imported by now stays, and need not be looked through each time.
        gc.freeze()
        delivery = Delivery(store, view.say, stop.sleep)
        sweep = SweepContext(command, store, executor, placement, view, stop, delivery, deleted_ids=deleted_ids)
        with stop.defer(), _explain_disk_errors(state_folder), ExitStack() as lock_stack:
            session = lock_session(sweep, plan, state_folder, lock_stack)
            run_studies(session)
            announce_results(session)
            return session.exit_code


@dataclass(frozen=True)
class SweepRun:
    """Where the results of a sweep are: its run, and what marks the runs of each of its jobs' trials."""

    run_id: str
    journal_tokens: tuple[str, ...]


def find_sweep_run(jobs: Sequence[Job], say: Callable[[str, str], None]) -> SweepRun:
    """Find the runs of jobs that were run before, in the order of the jobs; StoreError where they were not run.

    say: prints a line in a style.
    """
    state_folder = locate_state_folder(jobs[0].config.tracking.uri)
    plan = plan_studies(jobs, state_folder, say)
    run_id = read_sweep_run_id(state_folder, compute_sweep_id(plan))
    tokens = [planned.record.about["token"] for planned in plan if planned.record is not None]
    if run_id is None or len(tokens) < len(jobs):
        raise StoreError(f"{state_folder} does not know of these studies: type the command again.")
    return SweepRun(run_id, tuple(tokens))


def _rehearse_own_code(plan: Sequence[PlannedStudy], view: View) -> None:
    """Rehearse the studies that begin with own code. Raises ConfigError for what fails in it."""
    begun = [planned for planned in plan if planned.study.job.code and planned.record is None]
    if begun:
        from fmnist_sweep.training import backend
        from fmnist_sweep.training.own_code import find_plugin
        from fmnist_sweep.training.rehearsal import rehearse_study

        view.say("rehearsing own code: build, train on one batch, save, load, predict ...")
        backend.import_tensorflow()
    for planned in begun:
        rehearse_study(planned.study.settings, planned.splits, planned.study.job.code)
        search = planned.config.search
        if find_plugin(ORACLES, search.name) is not None:  # its first answer
            Search(search.name, planned.config.oracle, planned.study.settings, search.objective).ask()


def _name_data(data: DataConfig) -> str:
    """What images are called, after which their experiment and registered model are."""
    return str(data.name) if isinstance(data, OwnDataConfig) else FASHION_MNIST.name


def _refuse_several_stores(jobs: Sequence[Job]) -> None:
    names = list(dict.fromkeys(_name_data(job.config.data) for job in jobs))
    if len(names) > 1:
        raise ConfigError(
            f"data.name: the studies of one command go to one experiment, and these images are called "
            f"{' and '.join(names)}: type a command for each."
        )
    for job in jobs:
        if (job.config.tracking, job.config.executor) == (jobs[0].config.tracking, jobs[0].config.executor):
            continue
        overrides = [override for override in job.overrides if is_override_of(override, ("tracking", "executor"))]
        raise ConfigError(
            f"{' '.join(overrides)} (command line): tracking and executor are one for a whole sweep; "
            "give each a single value."
        )


@contextmanager
def _explain_disk_errors(folder: Path) -> Iterator[None]:
    """Say in one sentence that a disk or folder cannot be written. What was finished is kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ENOTDIR}:
            raise
        raise StoreError(
            f"{error.filename or folder} cannot be written ({error.strerror}): fix that, then type the same command "
            "again; what was finished is kept, and the rest continues from there."
        ) from error
