"""The one place that writes runs to MLflow: sweep > study > trial, one log_batch an epoch."""

from __future__ import annotations

import getpass
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking.models import delete_model, fail_pending_models, find_ready_model, log_model
from fmnist_sweep.tracking.names import (
    ATTEMPT_TAG,
    FAILURE_TAG,
    FOLLOWED_BY_TAG,
    FOLLOWS_TAG,
    JOURNAL_TAG,
    KIND_TAG,
    MODEL_NOT_KEPT,
    MODEL_TAG,
    NOTE_TAG,
    PARENT_RUN_TAG,
    PREDICTIONS_FILE,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    TAG_PREFIX,
    TRIAL_ID_TAG,
    USER_TAG,
)
from fmnist_sweep.training.evaluation import find_most_confused
from fmnist_sweep.training.events import Epoch

if TYPE_CHECKING:
    from mlflow.entities import Dataset
    from mlflow.entities import Run as Run  # other rooms import it from here, to annotate with

    from fmnist_sweep.data import Split, Splits
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.evaluation import Evaluation
    from fmnist_sweep.training.events import TrialResult

_MAX_BATCH_PARAMS, _MAX_BATCH_METRICS = 100, 1000  # in one batch, by MLflow's own limits
# No two runs have all of these alike.
_IDENTITY_TAGS: tuple[str, ...] = (KIND_TAG, JOURNAL_TAG, TRIAL_ID_TAG, ATTEMPT_TAG)
_MAX_PARAM_LENGTH = 6000


@dataclass(frozen=True)
class RunInfo:
    """What a run is called and marked with; tags without the prefix `fmnist.`."""

    kind: str
    name: str
    tags: Mapping[str, str]
    command: str
    parent: str | None = None


def start_run(store: Store, info: RunInfo, *, may_exist: bool, start_time: int | None = None) -> str:
    """The id of a new RUNNING run with its tags; begun: when, in ms since 1970 (default: now).

    may_exist: look first for a run with the same marks, which an earlier process or a lost answer may have left.
    """
    tags = {f"{TAG_PREFIX}{key}": value for key, value in {"kind": info.kind, **info.tags}.items()}
    if may_exist:
        identity = {key: value for key, value in tags.items() if key in _IDENTITY_TAGS}
        for run in search_runs(store, identity):
            return str(run.info.run_id)
    tags |= {
        USER_TAG: get_user_name(),
        SOURCE_TYPE_TAG: "LOCAL",
        SOURCE_NAME_TAG: info.command,
    }
    if info.parent is not None:
        tags[PARENT_RUN_TAG] = info.parent
    return str(store.client.create_run(store.experiment_id, start_time, tags, info.name).info.run_id)


def search_runs(store: Store, tags: Mapping[str, str]) -> list[Run]:
    """The active runs with these tags; a key that begins with `attributes.` is no tag."""
    return filter_runs(store, _build_condition(tags))


def filter_runs(store: Store, condition: str) -> list[Run]:
    """All active runs that meet a condition in MLflow's own language."""
    return _query_runs(store, [store.experiment_id], condition)


def _query_runs(store: Store, experiments: list[str], condition: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs(experiments, condition, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def search_all_experiments(store: Store, tags: Mapping[str, str]) -> list[Run]:
    """The active runs with these tags in all experiments of a store."""
    experiments: list[str] = []
    token = None
    while True:
        page = store.client.search_experiments(max_results=1000, page_token=token)
        experiments += [str(experiment.experiment_id) for experiment in page]
        token = page.token
        if not token:
            break
    return _query_runs(store, experiments, _build_condition(tags))


def list_newest_runs(store: Store, tags: Mapping[str, str], limit: int) -> list[Run]:
    """The active runs with these tags that began last."""
    order = ["attributes.start_time DESC"]
    return list(
        store.client.search_runs([store.experiment_id], _build_condition(tags), max_results=limit, order_by=order)
    )


def _build_condition(tags: Mapping[str, str]) -> str:
    names = {key: key if key.startswith("attributes.") else f"tags.`{key}`" for key in tags}
    return " and ".join(f"{names[key]} = {quote_value(value)}" for key, value in tags.items())


def quote_value(value: str) -> str:
    """A value as it stands in a condition; StoreError where it cannot: MLflow's language has no escapes."""
    quotes = [quote for quote in ("'", '"') if quote not in value]
    if not quotes:
        raise StoreError(f"{value!r} cannot be looked for in a store: it has both kinds of quotation marks.")
    return f"{quotes[0]}{value}{quotes[0]}"


def describe_run(
    store: Store, run_id: str, params: Mapping[str, Any], splits: Splits, files: Mapping[str, bytes]
) -> None:
    """A run's parameters, data and first files; saying them again changes nothing."""
    from mlflow.entities import Param

    entries = [Param(key, _format_parameter(value)) for key, value in params.items()]
    for start in range(0, len(entries), _MAX_BATCH_PARAMS):
        store.client.log_batch(run_id, params=entries[start : start + _MAX_BATCH_PARAMS])
    datasets.log_datasets(store, run_id, splits)
    log_files(store, run_id, files)


def reopen_run(store: Store, run_id: str, command: str) -> None:
    """Set a study's or sweep's run to RUNNING once more: it goes on."""
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, SOURCE_NAME_TAG, command)


def read_run(store: Store, run_id: str) -> Run | None:
    """The run with this id, deleted or not; None if the store has none."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def read_run_name(store: Store, run_id: str) -> str | None:
    """The name of a run; None if the store does not say."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_run(run_id).info.run_name)
    except MlflowException:
        return None


def read_run_params(store: Store, run_id: str) -> Mapping[str, str]:
    """The logged parameters of a run, all of them text."""
    params: Mapping[str, str] = store.client.get_run(run_id).data.params
    return params


def is_run_active(store: Store, run_id: str) -> bool:
    """Whether the store has this run and it is not deleted."""
    return _read_active_run(store, run_id) is not None


def is_run_finished(store: Store, run_id: str) -> bool:
    """Whether the store has this run, not deleted and with everything that belongs to it."""
    run = _read_active_run(store, run_id)
    return run is not None and bool(run.info.status == "FINISHED")


def _read_active_run(store: Store, run_id: str) -> Run | None:
    run = read_run(store, run_id)
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def set_tags(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run, one after the other."""
    for key, value in tags.items():
        store.client.set_tag(run_id, key, value)


def link_attempts(store: Store, killed_run_id: str, next_run_id: str, attempt: int) -> None:
    """Link a killed attempt's run and the run of the attempt that followed it."""
    note = f"Interrupted; attempt {attempt} went on with it: run {next_run_id}."
    set_tags(store, killed_run_id, {FOLLOWED_BY_TAG: next_run_id, NOTE_TAG: note})
    set_tags(store, next_run_id, {FOLLOWS_TAG: killed_run_id})


def get_user_name() -> str:
    """Who runs this, for what is kept where others read."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return str(os.getuid())


def _format_parameter(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text[:_MAX_PARAM_LENGTH]


def log_epochs(store: Store, run_id: str, epochs: Sequence[Epoch]) -> None:
    """The figures of epochs, at step = epoch, in as few batches as may be."""
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
    """How a trial's run is closed. ended: ms since 1970. again: an earlier try may have got part of the way."""

    ended: int
    is_retry: bool


def finish_trial(
    store: Store,
    run_id: str,
    result: TrialResult,
    evaluation: Evaluation,
    artifacts: Mapping[str, bytes],
    example: Split,
    closing: RunEnd,
    keep_model: bool,
) -> None:
    """Log what a finished trial leaves behind, its model last, and close the run; done again, it changes nothing."""
    from mlflow.entities import RunTag

    scores = {
        "best_val_accuracy": evaluation.accuracy,
        **{f"val_f1.{label}": value for label, value in evaluation.f1.items()},
    }
    costs = {
        "best_epoch": result.best_epoch,
        "parameters": result.parameters,
        "fit_seconds": result.fit_seconds,
        "cpu_seconds": sum(row.get("epoch_cpu_seconds", 0.0) for row in result.history),
    }
    log_files(store, run_id, artifacts)
    run = store.client.get_run(run_id)
    if run.info.status == "FINISHED":  # only the word of it was lost
        return
    model_id, existing_model = None, find_ready_model(store, run) if closing.is_retry else None
    if keep_model:
        model_id = (existing_model or log_model(store, run, result.model, example)).model_id
    elif existing_model is not None:
        delete_model(store, run_id)
    metrics = [
        *_build_metrics(scores, closing.ended, model_id=model_id, dataset=_find_validation_dataset(run)),
        *_build_metrics(costs, closing.ended, model_id=model_id),
    ]
    tags = [RunTag(NOTE_TAG, _compose_trial_note(result, evaluation))]
    if not keep_model:
        tags.append(RunTag(MODEL_TAG, MODEL_NOT_KEPT))
    store.client.log_batch(run_id, metrics=metrics, tags=tags)
    store.client.set_terminated(run_id, "FINISHED", closing.ended)


def _find_validation_dataset(run: Run) -> Dataset | None:
    """The dataset that a run's scores are of, so that the UI can say so beside each."""
    for dataset_input in run.inputs.dataset_inputs:
        if any(tag.value == "validation" for tag in dataset_input.tags):
            return dataset_input.dataset
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


def fail_trial(store: Store, run_id: str, reason: str, trace: str, closing: RunEnd) -> None:
    """Close a run as FAILED, with the reason and the traceback."""
    set_tags(store, run_id, {FAILURE_TAG: reason, NOTE_TAG: f"**Failed:** {reason}"})
    log_files(store, run_id, {"traceback.txt": trace.encode()})
    store.client.set_terminated(run_id, "FAILED", closing.ended)


def kill_run(store: Store, run_id: str) -> None:
    """Close a run that was interrupted, unless it ended by itself; whatever model it was logging is none."""
    run = _read_active_run(store, run_id)
    if run is not None and run.info.status in ("RUNNING", "SCHEDULED"):
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
    """Close a sweep's or study's run with what is rolled up to it.

    step: how often that was done before. ended: when, in ms since 1970. Done again, it changes nothing.
    """
    from mlflow.entities import RunTag

    log_files(store, run_id, files)
    entries = _build_metrics(metrics, ended, step=step)
    store.client.log_batch(run_id, metrics=entries, tags=[RunTag(key, value) for key, value in tags.items()])
    store.client.set_terminated(run_id, status, ended)


def read_artifacts(store: Store, run_id: str) -> dict[str, bytes]:
    """A finished trial's artifacts by name, without its predictions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(store.client.download_artifacts(run_id, "", folder))
        artifacts = {
            str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
        }
    return {name: content for name, content in artifacts.items() if name != PREDICTIONS_FILE}


def read_artifact(store: Store, run_id: str, name: str) -> bytes | None:
    """One file of a run's artifacts, by its path; None where the run has no such file."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_bytes()
        except FileNotFoundError:
            return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or isinstance(error.__cause__, FileNotFoundError):
                return None
            if "No such artifact" in str(error):
                return None
            raise


def log_files(store: Store, run_id: str, files: Mapping[str, bytes]) -> None:
    """Files of a run, by their path among its artifacts."""
    if not files:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        store.client.log_artifacts(run_id, folder)


def describe_platform() -> dict[str, str]:
    """The machine and interpreter, for a parent run's tags."""
    return {"python": platform.python_version(), "platform": platform.platform(terse=True)}
