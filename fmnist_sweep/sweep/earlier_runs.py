"""What the store still has of a plan's studies that were begun earlier: deleted experiments and runs are named."""

from __future__ import annotations

from collections.abc import Sequence

from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.tracking.deleted import DeletedExperiment, describe_deleted_runs, list_deleted_runs
from fmnist_sweep.tracking.store import MissingExperiment, has_store_file, open_existing_store


def find_deleted(plan: Sequence[PlannedStudy], view: View) -> frozenset[str]:
    """The ids of a plan's runs that were deleted in the store; they are named.

    Raises DeletedExperiment and MissingExperiment. What a store that is away has deleted cannot be known: that is said.
    """
    tracking = plan[0].config.tracking
    journals = [str(planned.record.about["token"]) for planned in plan if planned.record]
    if not journals or not has_store_file(tracking.uri):
        return frozenset()
    try:
        store = open_existing_store(tracking.uri, tracking.experiment)
        runs = list_deleted_runs(store, journals)
    except (DeletedExperiment, MissingExperiment):
        raise
    except StoreError as error:
        view.say(f"{error} What was deleted there is not known.", "yellow")
        return frozenset()
    if runs:
        view.say(describe_deleted_runs(store, runs), "yellow")
    return frozenset(run.run_id for run in runs)
