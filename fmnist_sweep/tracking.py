"""The one place that writes runs to MLflow: sweep > study > trial, one log_batch an epoch."""

from __future__ import annotations

import getpass
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep import plots
from fmnist_sweep.data import LABELS
from fmnist_sweep.evaluate import most_confused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow.entities import Dataset, LoggedModel, Run

    from fmnist_sweep.data import Split, Splits
    from fmnist_sweep.evaluate import Evaluation
    from fmnist_sweep.store import Store
    from fmnist_sweep.trial import TrialFailure, TrialResult

MODEL_NAME = "model"
_MOST_PARAMS = 100  # in one batch, by MLflow's own limit
_LONGEST_PARAM = 6000
SHIRT = LABELS.index("Shirt")


@dataclass(frozen=True)
class RunInfo:
    """What a run is called and marked with; tags without the prefix `fmnist.`."""

    kind: str
    name: str
    tags: Mapping[str, str]
    command: str
    parent: str | None = None


def start_run(store: Store, info: RunInfo, params: Mapping[str, Any], opened: list[str]) -> str:
    """A new RUNNING run with its tags and parameters; returns its id, and adds it to `opened` as soon as it exists."""
    from mlflow.entities import Param

    tags = {f"fmnist.{key}": value for key, value in {"kind": info.kind, **info.tags}.items()}
    tags |= {
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": info.command,
    }
    if info.parent is not None:
        tags["mlflow.parentRunId"] = info.parent
    run_id = str(store.client.create_run(store.experiment_id, tags=tags, run_name=info.name).info.run_id)
    opened.append(run_id)
    entries = [Param(key, _parameter(value)) for key, value in params.items()]
    for first in range(0, len(entries), _MOST_PARAMS):
        store.client.log_batch(run_id, params=entries[first : first + _MOST_PARAMS])
    return run_id


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return str(os.getuid())


def _parameter(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text[:_LONGEST_PARAM]


def log_data(store: Store, run_id: str, splits: Splits) -> None:
    """The train and validation inputs of a run, as MLflow datasets."""
    from mlflow.entities import InputTag

    inputs = [
        _dataset_input(splits, part, context, InputTag)
        for context, part in (("train", splits.train), ("validation", splits.validation))
    ]
    store.client.log_inputs(run_id, datasets=inputs)


def _dataset_input(splits: Splits, part: Split, context: str, input_tag: Any) -> Any:
    from mlflow.entities import Dataset, DatasetInput

    origin = splits.origin
    dataset = Dataset(
        name=f"{origin.source} {context}",
        digest=splits.sha256[:12],  # as in the tag fmnist.data; a longer one fills the UI's columns
        source_type="fmnist_sweep",
        source=json.dumps({"location": origin.location, "canonical": origin.canonical, "sha256": splits.sha256}),
        schema=_dataset_schema(),
        profile=json.dumps({"images": len(part.labels), "shape": list(part.images.shape)}),
    )
    return DatasetInput(dataset, tags=[input_tag("mlflow.data.context", context)])


def _dataset_schema() -> str:
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.types import Schema, TensorSpec

    features = Schema([TensorSpec(np.dtype("uint8"), (-1, 28, 28, 1), "pixels")])
    targets = Schema([TensorSpec(np.dtype("int64"), (-1,), "label")])
    return json.dumps({"mlflow_tensorspec": TensorDatasetSchema(features, targets).to_dict()})


def log_epoch(store: Store, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """The figures of one epoch, in one batch, at step = epoch."""
    store.client.log_batch(run_id, metrics=_metrics(metrics, step=epoch))


def _metrics(
    values: Mapping[str, float], *, step: int = 0, model_id: str | None = None, dataset: Dataset | None = None
) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
    return [Metric(key, float(value), now, step, model_id, name, digest) for key, value in values.items()]


def trial_artifacts(name: str, result: TrialResult, evaluation: Evaluation, validation: Split) -> dict[str, bytes]:
    """What a finished trial leaves behind beside its config, by name: figures, tables, predictions."""
    predicted = result.probabilities.argmax(axis=1)
    confidence = result.probabilities.max(axis=1)
    wrong = predicted != validation.labels
    shirts = wrong & (validation.labels == SHIRT)
    report = {"accuracy": evaluation.accuracy, **evaluation.report}

    def gallery(chosen: Any, what: str) -> bytes:
        title = f"{what}: {int(chosen.sum())} of {len(chosen)}, most confident first · {name}"
        images, labels = validation.images[chosen], validation.labels[chosen]
        return plots.png(plots.misclassified(images, labels, predicted[chosen], confidence[chosen], LABELS, title))

    matrix_title = f"Validation accuracy {evaluation.accuracy:.4f} · {name}"
    return {
        "curves.png": plots.png(plots.curves(result.history, result.best_epoch, name)),
        "confusion_matrix.png": plots.png(plots.confusion_matrix(evaluation.confusion, LABELS, matrix_title)),
        "confusion_matrix.json": _json({"labels": list(LABELS), "matrix": evaluation.confusion}),
        "classification_report.json": _json(report),
        "misclassified.png": gallery(wrong, "Wrong"),
        "misclassified_shirt.png": gallery(shirts, "Shirts taken for something else"),
        "predictions.npz": _predictions(result, validation),
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _predictions(result: TrialResult, validation: Split) -> bytes:
    # Kept so that trials can later be compared image by image.
    with tempfile.TemporaryFile() as file:
        np.savez(file, index=validation.index, labels=validation.labels, probabilities=result.probabilities)
        file.seek(0)
        return file.read()


def finish_trial(
    store: Store,
    run_id: str,
    result: TrialResult,
    evaluation: Evaluation,
    artifacts: Mapping[str, bytes],
    example: Split,
) -> str:
    """Log what a finished trial leaves behind, its model last, and close the run; returns the model's id."""
    from mlflow.entities import RunTag

    scores = {
        "best_val_accuracy": evaluation.accuracy,
        **{f"val_f1.{label}": value for label, value in evaluation.f1.items()},
    }
    costs = {
        "best_epoch": result.best_epoch,
        "parameters": result.parameters,
        "fit_seconds": result.fit_seconds,
    }
    log_files(store, run_id, artifacts)
    run = store.client.get_run(run_id)
    model = _log_model(store, run, result.model, example)
    metrics = [
        *_metrics(scores, model_id=model.model_id, dataset=_validation_data(run)),
        *_metrics(costs, model_id=model.model_id),
    ]
    note = RunTag("mlflow.note.content", _trial_note(result, evaluation))
    store.client.log_batch(run_id, metrics=metrics, tags=[note])
    store.client.set_terminated(run_id, "FINISHED")
    return str(model.model_id)


def _validation_data(run: Run) -> Dataset | None:
    """The dataset that a run's scores are of, so that the UI can say so beside each."""
    for logged in run.inputs.dataset_inputs:
        if any(tag.value == "validation" for tag in logged.tags):
            return logged.dataset
    return None


def _trial_note(result: TrialResult, evaluation: Evaluation) -> str:
    hardest = min(evaluation.f1, key=lambda label: evaluation.f1[label])
    confused = [
        f"{true} taken for {taken} ({count})" for true, taken, count in most_confused(evaluation.confusion, LABELS)
    ]
    return (
        f"Validation accuracy **{evaluation.accuracy:.4f}** after epoch {result.best_epoch} of {len(result.history)}, "
        f"{result.parameters:,} parameters. Hardest label: **{hardest}**, F1 {evaluation.f1[hardest]:.2f}. "
        f"Most confused: {', '.join(confused) or 'nothing'}."
    )


def fail_trial(store: Store, run_id: str, failure: TrialFailure) -> None:
    """Close a run as FAILED, with the reason and the traceback."""
    store.client.set_tag(run_id, "fmnist.failure", failure.reason)
    store.client.set_tag(run_id, "mlflow.note.content", f"**Failed:** {failure.reason}")
    log_files(store, run_id, {"traceback.txt": failure.traceback.encode()})
    store.client.set_terminated(run_id, "FAILED")


def close(
    store: Store,
    run_id: str,
    *,
    status: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Mapping[str, bytes],
) -> None:
    """Close a sweep's or study's run with what is rolled up to it."""
    from mlflow.entities import RunTag

    log_files(store, run_id, files)
    store.client.log_batch(run_id, metrics=_metrics(metrics), tags=[RunTag(key, value) for key, value in tags.items()])
    store.client.set_terminated(run_id, status)


def kill(store: Store, run_ids: Iterable[str]) -> None:
    """Close runs that were interrupted."""
    for run_id in list(run_ids):
        store.client.set_terminated(run_id, "KILLED")


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


class _KerasFile:
    """The bytes of a .keras file where MLflow expects a model to save: the supervisor need not rebuild it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def save(self, path: str) -> None:
        Path(path).write_bytes(self._content)


def _log_model(store: Store, run: Run, content: bytes, example: Split) -> LoggedModel:
    """Log a model that takes raw pixels; READY only once all of its files are in place.

    Written with the client's own calls instead of `log_model`, which would import the model to guess its
    requirements and run it once more, and works on a process-wide current run.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput

    client, run_id = store.client, run.info.run_id
    model = client.create_logged_model(
        store.experiment_id,
        name=MODEL_NAME,
        source_run_id=run_id,
        model_type="classifier",
        tags={"flavor": "keras"},
        params=run.data.params,  # else the UI's table of models has nothing to compare them by
    )
    with tempfile.TemporaryDirectory() as folder:
        mlflow.keras.save_model(
            _KerasFile(content),
            folder,
            mlflow_model=mlflow.models.Model(
                artifact_path=model.artifact_location,
                run_id=run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            ),
            signature=_signature(),
            input_example=example.images[:1],
            pip_requirements=requirements(),
        )
        client.log_model_artifacts(model.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, 28, 28, 1))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(LABELS)))]),
    )


def requirements() -> list[str]:
    """What a saved model needs to be loaded, as it was here."""
    return [f"{name}=={version(name)}" for name in ("keras", "tensorflow", "numpy")]


def environment() -> dict[str, str]:
    """The machine and interpreter, for a parent run's tags."""
    return {"python": platform.python_version(), "platform": platform.platform(terse=True)}
