"""Writes runs to MLflow, from their start to their end: sweeps, their studies, and the trials of these."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.masking import mask_credentials, mask_values
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking.models import fail_pending_models
from fmnist_sweep.tracking.names import (
    EXECUTOR_TAG,
    FOLLOWED_BY_TAG,
    FOLLOWS_TAG,
    GIT_TAG,
    KIND_TAG,
    MACHINE_TAG,
    NONCE_TAG,
    NOTE_TAG,
    PARENT_RUN_TAG,
    PLATFORM_TAG,
    PYTHON_TAG,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    THREADS_TAG,
    USER_TAG,
)
from fmnist_sweep.tracking.queries import read_active_run, search_runs
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.training.events import Epoch

if TYPE_CHECKING:
    from mlflow.entities import Dataset

    from fmnist_sweep.data import Splits
    from fmnist_sweep.tracking.store import Store

_MAX_BATCH_PARAMS, _MAX_BATCH_METRICS = 100, 1000  # in one batch, by MLflow's own limits
# What may be another when the same run is begun again: elsewhere, or by another version.
_VARYING_TAGS = frozenset((EXECUTOR_TAG, THREADS_TAG, MACHINE_TAG, GIT_TAG, PYTHON_TAG, PLATFORM_TAG))
_MAX_PARAM_LENGTH = 6000


@dataclass(frozen=True)
class RunInfo:
    """The name and tags that a run starts with.

    tags: beside that of its kind. parent: id of the run above it. nonce: by which its journal knows it.
    may_be_unmarked: whether an older version may have begun it, without a nonce.
    """

    kind: str
    name: str
    tags: Mapping[str, str]
    command: str
    parent: str | None = None
    nonce: str | None = None
    may_be_unmarked: bool = False


def start_run(
    store: Store,
    info: RunInfo,
    *,
    may_exist: bool,
    start_time: int | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """Start a RUNNING run with its tags, and return its id.

    start_time: in ms since 1970; default: now. may_exist: look first for the run, which an earlier process, or a call
    whose answer was lost, may have left. params: that will be logged to it.
    """
    existing_run = find_begun_run(store, info, params or {}) if may_exist else None
    if existing_run is not None:
        return existing_run
    tags = {KIND_TAG: info.kind, **mask_values(info.tags)} | ({} if info.nonce is None else {NONCE_TAG: info.nonce})
    tags |= {
        USER_TAG: get_user_name(),
        SOURCE_TYPE_TAG: "LOCAL",
        SOURCE_NAME_TAG: mask_credentials(info.command),
    }
    if info.parent is not None:
        tags[PARENT_RUN_TAG] = info.parent
    return str(store.client.create_run(store.experiment_id, start_time, tags, info.name).info.run_id)


def find_begun_run(store: Store, info: RunInfo, params: Mapping[str, Any] | None = None) -> str | None:
    """The id of the run that was begun with this description, if there is one, and one alone.

    It is known by its nonce; without one, by all else that is said here, as anybody may copy the public tags. Of
    several with a nonce all but one are copies, and nothing tells which. info: an empty kind or name is not compared.
    params: that the run may have, and no others.
    """
    tags = {key: value for key, value in mask_values(info.tags).items() if key not in _VARYING_TAGS}
    tags |= {KIND_TAG: info.kind} if info.kind else {}
    tags |= {} if info.parent is None else {PARENT_RUN_TAG: info.parent}
    allowed_params = None if params is None else {key: _format_parameter(value) for key, value in params.items()}
    marks = [] if info.nonce is None else [{NONCE_TAG: info.nonce}]
    for mark in [*marks, *([{}] if info.may_be_unmarked else [])]:
        runs = [
            run
            for run in search_runs(store, tags | mark)
            if (mark or NONCE_TAG not in run.tags)
            and run.name == (info.name or run.name)
            and (allowed_params is None or run.params.items() <= allowed_params.items())
        ]
        if len(runs) == 1:
            return runs[0].run_id
    return None


def describe_run(
    store: Store, run_id: str, params: Mapping[str, Any], splits: Splits, files: Mapping[str, bytes]
) -> None:
    """Log a run's parameters, data and first files. Logging them again changes nothing."""
    from mlflow.entities import Param

    entries = [Param(key, _format_parameter(value)) for key, value in params.items()]
    for start in range(0, len(entries), _MAX_BATCH_PARAMS):
        store.client.log_batch(run_id, params=entries[start : start + _MAX_BATCH_PARAMS])
    datasets.log_datasets(store, run_id, splits)
    log_files(store, run_id, files)


def reopen_run(store: Store, run_id: str, command: str) -> None:
    """Set the run of a study or sweep to RUNNING again, when a command continues it."""
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, SOURCE_NAME_TAG, mask_credentials(command))


def set_tags(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run, one after the other."""
    for key, value in tags.items():
        store.client.set_tag(run_id, key, mask_credentials(value))


def link_attempts(store: Store, killed_run_id: str, next_run_id: str, attempt: int) -> None:
    """Link a killed attempt's run and the run of the attempt that followed it."""
    note = f"Interrupted; attempt {attempt} went on with it: run {next_run_id}."
    set_tags(store, killed_run_id, {FOLLOWED_BY_TAG: next_run_id, NOTE_TAG: note})
    set_tags(store, next_run_id, {FOLLOWS_TAG: killed_run_id})


def read_clock_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def get_user_name() -> str:
    """The name of the user who runs this process, or the number of a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return str(os.getuid())


def _format_parameter(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return mask_credentials(text)[:_MAX_PARAM_LENGTH]


def log_epochs(store: Store, run_id: str, epochs: Sequence[Epoch]) -> None:
    """Log the metrics of epochs, each at the step with the epoch's number, in as few batches as possible."""
    entries = [entry for epoch in epochs for entry in build_metrics(epoch.metrics, epoch.ended, step=epoch.number)]
    for start in range(0, len(entries), _MAX_BATCH_METRICS):
        store.client.log_batch(run_id, metrics=entries[start : start + _MAX_BATCH_METRICS])


def build_metrics(
    values: Mapping[str, float],
    now: int,
    *,
    step: int = 0,
    model_id: str | None = None,
    dataset: Dataset | None = None,
) -> list[Any]:
    """Metrics of one moment, as MLflow's client takes them. now: in ms since 1970. dataset: that they are of."""
    from mlflow.entities import Metric

    name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
    return [Metric(key, float(value), now, step, model_id, name, digest) for key, value in values.items()]


def kill_run(store: Store, run_id: str) -> None:
    """Close an interrupted run as KILLED, unless it has ended; a model that was still being logged becomes FAILED."""
    run = read_active_run(store, run_id)
    if run is not None and run.status in ("RUNNING", "SCHEDULED"):
        fail_pending_models(store, run_id)
        store.client.set_terminated(run_id, "KILLED")


def close_parent_run(
    store: Store,
    run_id: str,
    *,
    status: str,
    metrics: Mapping[str, float],
    step: int,
    ended: int,
    tags: Mapping[str, str],
    files: Mapping[str, bytes],
) -> None:
    """Close the run of a study or sweep with the metrics, tags and files that sum up its trials.

    step: how often it was closed before. ended: in ms since 1970. Repeating it changes nothing.
    """
    from mlflow.entities import RunTag

    log_files(store, run_id, files)
    entries = build_metrics(metrics, ended, step=step)
    store.client.log_batch(
        run_id, metrics=entries, tags=[RunTag(key, mask_credentials(value)) for key, value in tags.items()]
    )
    store.client.set_terminated(run_id, status, ended)
