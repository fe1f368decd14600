"""What was deleted in a store, in the MLflow UI for instance: it counts nowhere, and is named with what restores it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.errors import StoreError
from fmnist_sweep.masking import mask_address
from fmnist_sweep.text import echo, quote_text
from fmnist_sweep.tracking.names import FOLLOWED_BY_TAG, JOURNAL_TAG, KIND_TAG
from fmnist_sweep.tracking.queries import StoredRun, search_deleted_runs

if TYPE_CHECKING:
    from mlflow.entities import Experiment

    from fmnist_sweep.tracking.store import Store

_MOST_NAMED = 3  # runs in a sentence; the command restores all that were read


class DeletedExperiment(StoreError):
    """An experiment that was deleted, and can be restored."""


def refuse_deleted_experiment(uri: str, experiment: Experiment) -> None:
    """Raise DeletedExperiment for an experiment that was deleted. uri: of its store."""
    if experiment.lifecycle_stage != "active":
        command = _build_command(uri, "experiments", "restore", "--experiment-id", experiment.experiment_id)
        raise DeletedExperiment(
            f"the experiment {quote_text(experiment.name)} was deleted in {mask_address(uri)}, and nothing of it "
            f"counts: restore it ({command}), or name another experiment."
        )


def check_experiment(store: Store) -> None:
    """Raise DeletedExperiment if a store's experiment was deleted since the store was opened."""
    refuse_deleted_experiment(store.uri, store.client.get_experiment(store.experiment_id))


def list_deleted_runs(
    store: Store, journals: Sequence[str] = (), tags: Mapping[str, str] | None = None
) -> list[StoredRun]:
    """The deleted runs of sweeps, studies, trials and confirmations; not of attempts that another one followed.

    journals: the tokens of these studies and sweeps only; default: all of the experiment. tags: that they have.
    """
    own_tags: list[dict[str, str]] = [{JOURNAL_TAG: journal} for journal in journals] or [{}]
    runs = [run for own in own_tags for run in search_deleted_runs(store, {**(tags or {}), **own})]
    return [run for run in runs if KIND_TAG in run.tags and FOLLOWED_BY_TAG not in run.tags]


def describe_deleted_runs(store: Store, runs: Sequence[StoredRun]) -> str:
    """Name deleted runs in a sentence, with the command that restores them."""
    named = [f"{run.tags[KIND_TAG]} {run.run_id} ({quote_text(run.name)})" for run in runs[:_MOST_NAMED]]
    remainder = f" and {len(runs) - len(named)} more" if len(runs) > len(named) else ""
    verb = "was deleted and counts" if len(runs) == 1 else "were deleted and count"
    return (
        f"{', '.join(named)}{remainder} {verb} nowhere; to restore: "
        f"{build_restore_command(store.uri, [run.run_id for run in runs])}"
    )


def build_restore_command(uri: str, run_ids: Sequence[str]) -> str:
    """The command, to paste into a shell, that restores these runs. The store's address comes without credentials."""
    if len(run_ids) == 1:
        return _build_command(uri, "runs", "restore", "--run-id", run_ids[0])
    return f"for run in {' '.join(run_ids)}; do {_build_command(uri, 'runs', 'restore', '--run-id')} $run; done"


def describe_deleted_matches(store: Store, is_match: Callable[[StoredRun], bool]) -> str | None:
    """Name the deleted runs that somebody asked for, with the command that restores them; None if there are none."""
    runs = [run for run in list_deleted_runs(store) if is_match(run)]
    return f"{describe_deleted_runs(store, runs)}." if runs else None


def name_deleted_runs(store: Store) -> None:
    """Name the deleted runs of the experiment on standard error, if there are any."""
    runs = list_deleted_runs(store)
    if runs:
        echo(describe_deleted_runs(store, runs), err=True)


def _build_command(uri: str, *words: str) -> str:
    return f"MLFLOW_TRACKING_URI={shlex.quote(mask_address(uri))} {shlex.join(['mlflow', *words])}"
