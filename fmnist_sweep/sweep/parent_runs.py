"""The run of a sweep or of a study: opened, set to RUNNING again, and closed as KILLED where work on it breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.context import SweepContext
from fmnist_sweep.tracking.deleted import build_restore_command
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.runs import RunInfo, reopen_run, start_run


@contextmanager
def open_parent_run(sweep: SweepContext, opened: OpenStudy | OpenSweep, info: RunInfo) -> Iterator[None]:
    """Start the run of a study or sweep, or set it to RUNNING again. Where the block raises, the run is KILLED."""
    try:
        start_parent_run(sweep, opened, info)
        yield
    except BaseException:
        kill_parent_run(sweep, opened)
        raise


def start_parent_run(sweep: SweepContext, opened: OpenStudy | OpenSweep, info: RunInfo) -> None:
    """Start the run of a study or sweep, or set it to RUNNING again."""
    store, run_id = sweep.store, opened.record.run_id
    if run_id is None:
        # The run may exist all the same, made by a process that died before it could write that down.
        new_run_id = sweep.delivery.call_with_retries(lambda: start_run(store, info, may_exist=True))
        opened.append_event("run", run_id=new_run_id)
        return
    refuse_deleted_run(sweep, opened)
    sweep.delivery.call_with_retries(lambda: reopen_run(store, run_id, info.command))


def refuse_deleted_run(sweep: SweepContext, opened: OpenStudy | OpenSweep) -> None:
    """StoreError when somebody deleted the run that the journal of a study or sweep names."""
    store, run_id = sweep.store, str(opened.record.run_id)
    if not sweep.delivery.call_with_retries(lambda: is_run_active(store, run_id)):
        raise StoreError(
            f"{store.masked_uri} no longer has run {run_id}, which {opened.journal.path} names: restore it "
            f"({build_restore_command(store.uri, [run_id])}), or type the command with fresh=true to begin anew."
        )


def kill_parent_run(sweep: SweepContext, opened: OpenStudy | OpenSweep) -> None:
    """Close the run of a study or sweep that is broken off. Where the store is away, the next start does it."""
    run_id = opened.record.run_id
    if run_id is None or sweep.delivery.kill_run(run_id):
        opened.append_event("interrupted")
