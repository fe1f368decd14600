"""A trial's model in MLflow: logged whole or never READY, found again, dropped when it is not wanted."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.data import LABELS

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

    from fmnist_sweep.data import Split
    from fmnist_sweep.store import Store

NAME = "model"
TAG, NOT_KEPT = "fmnist.model", "not kept (tracking.keep_models)"


def ready(store: Store, run: Run) -> LoggedModel | None:
    """The complete model an earlier try left; one that it did not complete is closed as FAILED."""
    refuse_pending(store, run.info.run_id)
    linked = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()
    return next((model for model in _models(store, run.info.run_id) if model.model_id in linked), None)


def _models(store: Store, run_id: str) -> list[LoggedModel]:
    found = store.client.search_logged_models([store.experiment_id], f"source_run_id = '{run_id}'")
    return [model for model in found if model.status != "FAILED"]


def refuse_pending(store: Store, run_id: str) -> None:
    """Close models whose logging was cut short as FAILED: none of them may ever look ready."""
    for model in _models(store, run_id):
        if model.status == "PENDING":
            store.client.finalize_logged_model(model.model_id, "FAILED")


def drop(store: Store, run_id: str) -> bool:
    """Delete the model files of a run, never its figures; False for a registered one, which stays."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if store.client.search_model_versions(f"run_id = '{run_id}'"):
        return False
    for model in _models(store, run_id):
        get_artifact_repository(model.artifact_location, tracking_uri=store.uri).delete_artifacts()
        store.client.delete_logged_model(model.model_id)
    if store.client.get_run(run_id).info.lifecycle_stage == "active":  # nothing can be said of a deleted one
        store.client.set_tag(run_id, TAG, NOT_KEPT)
    return True


class _KerasFile:
    """The bytes of a .keras file where MLflow expects a model to save: the supervisor need not rebuild it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def save(self, path: str) -> None:
        Path(path).write_bytes(self._content)


def log(store: Store, run: Run, content: bytes, example: Split) -> LoggedModel:
    """Log a model that takes raw pixels; READY only once all of its files are in place.

    Written with the client's own calls instead of `log_model`, which would import the model to guess its
    requirements and run it once more, and works on a process-wide current run.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput

    client, run_id = store.client, run.info.run_id
    model = client.create_logged_model(
        store.experiment_id,
        name=NAME,
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
