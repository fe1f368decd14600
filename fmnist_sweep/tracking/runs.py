"""Writes runs to MLflow, from their start to their end: sweeps, their studies, and the trials of these."""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.data import LABELS
from fmnist_sweep.masking import mask_credentials, mask_values
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking.models import delete_model, fail_pending_models, find_ready_model, log_model
from fmnist_sweep.tracking.names import (
    EXECUTOR_TAG,
    FAILURE_TAG,
    FOLLOWED_BY_TAG,
    FOLLOWS_TAG,
    GIT_TAG,
    KIND_TAG,
    MACHINE_TAG,
    MODEL_NOT_KEPT,
    MODEL_TAG,
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
from fmnist_sweep.training.evaluation import find_most_confused
from fmnist_sweep.training.events import Epoch

if TYPE_CHECKING:
    from mlflow.entities import Dataset, Run

    from fmnist_sweep.data import Split, Splits
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult

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
    entries = [entry for epoch in epochs for entry in _build_metrics(epoch.metrics, epoch.ended, step=epoch.number)]
    for start in range(0, len(entries), _MAX_BATCH_METRICS):
        store.client.log_batch(run_id, metrics=entries[start : start + _MAX_BATCH_METRICS])


def _build_metrics(
    values: Mapping[str, float],
    now: int,
    *,
    step: int = 0,
    model_id: str | None = None,
    dataset: Dataset | None = None,
) -> list[Any]:
    from mlflow.entities import Metric

    name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
    return [Metric(key, float(value), now, step, model_id, name, digest) for key, value in values.items()]


@dataclass(frozen=True)
class RunEnd:
    """How a trial's run is closed. ended: in ms since 1970. is_retry: an earlier try may have done part of it."""

    ended: int
    is_retry: bool


@dataclass(frozen=True)
class FinishedTrial:
    """What the run of a finished trial holds in the end.

    files: by their path among the run's artifacts. validation: its first image becomes the model's input example.
    """

    result: TrialResult
    evaluation: Evaluation
    files: Mapping[str, bytes]
    validation: Split
    keep_model: bool

    @property
    def scores(self) -> dict[str, float]:
        """The metrics of the validation images."""
        return {
            "best_val_accuracy": self.evaluation.accuracy,
            **{f"val_f1.{label}": value for label, value in self.evaluation.f1.items()},
        }

    @property
    def costs(self) -> dict[str, float]:
        """The metrics of the training itself."""
        return {
            "best_epoch": self.result.best_epoch,
            "parameters": self.result.parameters,
            "fit_seconds": self.result.fit_seconds,
            "cpu_seconds": sum(row.get("epoch_cpu_seconds", 0.0) for row in self.result.history),
        }


def finish_trial(store: Store, run_id: str, trial: FinishedTrial, end: RunEnd) -> None:
    """Log everything of a finished trial, its model last, and close the run. Repeating it changes nothing."""
    from mlflow.entities import RunTag

    log_files(store, run_id, trial.files)
    run = store.client.get_run(run_id)
    if run.info.status == "FINISHED":  # an earlier try did everything, and only the answer was lost
        return
    model_id = _settle_model(store, run, trial, end)
    metrics = [
        *_build_metrics(trial.scores, end.ended, model_id=model_id, dataset=datasets.find_validation_dataset(run)),
        *_build_metrics(trial.costs, end.ended, model_id=model_id),
    ]
    tags = [RunTag(NOTE_TAG, _compose_trial_note(trial.result, trial.evaluation))]
    if not trial.keep_model:
        tags.append(RunTag(MODEL_TAG, MODEL_NOT_KEPT))
    store.client.log_batch(run_id, metrics=metrics, tags=tags)
    store.client.set_terminated(run_id, "FINISHED", end.ended)


def _settle_model(store: Store, run: Run, trial: FinishedTrial, end: RunEnd) -> str | None:
    """Log a trial's model unless an earlier try did, or delete it if it is not kept; returns the id of a kept model."""
    existing_model = None
    if end.is_retry:
        fail_pending_models(store, run.info.run_id)
        existing_model = find_ready_model(store, run)
    if trial.keep_model:
        return str((existing_model or log_model(store, run, trial.result.model, trial.validation)).model_id)
    if existing_model is not None:
        delete_model(store, run.info.run_id)
    return None


def _compose_trial_note(result: TrialResult, evaluation: Evaluation) -> str:
    hardest = min(evaluation.f1, key=lambda label: evaluation.f1[label])
    confusions = [
        f"{true} taken for {predicted} ({count})"
        for true, predicted, count in find_most_confused(evaluation.confusion, LABELS)
    ]
    return (
        f"Validation accuracy **{evaluation.accuracy:.4f}** after epoch {result.best_epoch} of {len(result.history)}, "
        f"{result.parameters:,} parameters. Hardest label: **{hardest}**, F1 {evaluation.f1[hardest]:.2f}. "
        f"Most confused: {', '.join(confusions) or 'nothing'}."
    )


def fail_trial(store: Store, run_id: str, reason: str, trace: str, end: RunEnd) -> None:
    """Close a trial's run as FAILED, with the reason and the traceback."""
    set_tags(store, run_id, {FAILURE_TAG: reason, NOTE_TAG: f"**Failed:** {reason}"})
    log_files(store, run_id, {"traceback.txt": mask_credentials(trace).encode()})
    store.client.set_terminated(run_id, "FAILED", end.ended)


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
    entries = _build_metrics(metrics, ended, step=step)
    store.client.log_batch(
        run_id, metrics=entries, tags=[RunTag(key, mask_credentials(value)) for key, value in tags.items()]
    )
    store.client.set_terminated(run_id, status, ended)
