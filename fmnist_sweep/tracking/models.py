"""A trial's model in MLflow: logged so that only a complete one is READY, downloaded, checked and deleted."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.reading import open_regular_file
from fmnist_sweep.text import quote_text
from fmnist_sweep.tracking.connection import explain_outage
from fmnist_sweep.tracking.model_files import refuse_swollen_model
from fmnist_sweep.tracking.names import MODEL_NOT_KEPT, MODEL_TAG, SHA256_TAG
from fmnist_sweep.tracking.run_files import UnreadableArtifact, iterate_files
from fmnist_sweep.tracking.store import is_server, point_mlflow_at
from fmnist_sweep.training.compilation import PREDICTION_BATCH

if TYPE_CHECKING:
    import keras
    from mlflow.entities import LoggedModel, Run

    from fmnist_sweep.data import DataDescription, Split
    from fmnist_sweep.tracking.store import Store

LOGGED_MODEL_NAME = "model"
KERAS_FILE = Path("data", "model.keras")
# A sweep's largest network, 16 dense layers of 4,096 units, has 1 GB.
MAX_MODEL_BYTES = 2 * 2**30
_MAX_FILES = 100
# Another thread count or processor sums in another order. Differences between trained models are far larger.
_PROBABILITY_TOLERANCE = 2e-2
# What Keras raises for a file that is torn, carries code, or describes layers that do not exist.
_LOAD_ERRORS = (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile)


def find_ready_model(store: Store, run: Run) -> LoggedModel | None:
    """The complete model that an earlier try logged for a run; None if there is none."""
    output_ids = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()
    models = _list_models(store, run.info.run_id)
    return next((model for model in models if model.status == "READY" and model.model_id in output_ids), None)


def _list_models(store: Store, run_id: str) -> list[LoggedModel]:
    models = store.client.search_logged_models([store.experiment_id], f"source_run_id = '{run_id}'")
    return [model for model in models if model.status != "FAILED"]


def read_model_status(store: Store, model_id: str) -> str | None:
    """The status of a logged model, READY once it is complete; None if it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_logged_model(model_id).status)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def fail_pending_models(store: Store, run_id: str) -> None:
    """Mark models whose logging was cut short as FAILED, so that none of them ever looks complete."""
    for model in _list_models(store, run_id):
        if model.status == "PENDING":
            store.client.finalize_logged_model(model.model_id, "FAILED")


def delete_model(store: Store, run_id: str) -> bool:
    """Delete the model files of a run, but not its metrics. False for a registered model, which stays."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if store.client.search_model_versions(f"run_id = '{run_id}'"):
        return False
    for model in _list_models(store, run_id):
        get_artifact_repository(model.artifact_location, tracking_uri=store.uri).delete_artifacts()
        store.client.delete_logged_model(model.model_id)
    if store.client.get_run(run_id).info.lifecycle_stage == "active":  # MLflow refuses to tag a deleted run
        store.client.set_tag(run_id, MODEL_TAG, MODEL_NOT_KEPT)
    return True


class UnusableModel(Exception):
    """A saved model that is missing, incomplete, unsafe to load or not the one that was scored, as the message says."""


def download_model(store: Store, run_id: str, folder: Path) -> tuple[str, Path]:
    """Download the complete model of a run into a folder: its id and its .keras file. Raises UnusableModel."""
    from mlflow.exceptions import MlflowException

    run = store.client.get_run(run_id)
    if run.data.tags.get(MODEL_TAG) == MODEL_NOT_KEPT:
        raise UnusableModel(
            f"the model of {run.info.run_name} was {MODEL_NOT_KEPT}: train it again with the command in its "
            "overrides.txt and a tracking.experiment of its own."
        )
    outputs = run.outputs.model_outputs if run.outputs else []
    ids = [str(output.model_id) for output in outputs]
    statuses = {model_id: read_model_status(store, model_id) for model_id in ids}
    ready_ids = [model_id for model_id, status in statuses.items() if status == "READY"]
    if not ready_ids:
        reason = "has no model any more: it was deleted" if None in statuses.values() else "has no complete model"
        raise UnusableModel(f"{run.info.run_name} (run {run_id}) {reason}: train it again.")
    try:
        file = download_model_files(store, f"models:/{ready_ids[0]}", folder) / KERAS_FILE
    except (UnreadableArtifact, MlflowException, OSError) as error:
        if is_server(store.uri) and explain_outage(error) is not None:
            raise
        reason = quote_text((str(error).strip().splitlines() or [type(error).__name__])[-1], 200)
        raise UnusableModel(
            f"the saved model of {run.info.run_name} cannot be read ({reason}): train it again."
        ) from None
    expected = store.client.get_logged_model(ready_ids[0]).tags.get(SHA256_TAG)
    # Older models have no such tag; they are checked by their predictions alone.
    if expected is not None and hash_file(file) != expected:
        raise UnusableModel(
            f"the saved model of {run.info.run_name} was altered after it was trained: put {KERAS_FILE.name} of "
            f"{ready_ids[0]} back from a copy, or train it again."
        )
    return ready_ids[0], file


def download_model_files(store: Store, address: str, folder: Path) -> Path:
    """Download the files of a model into a folder, and return where they are in it. address: models:/...

    Raises UnreadableArtifact, before anything is downloaded, if they are far larger or more than those of a sweep.
    """
    import mlflow
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    # MLflow looks the model up with a client of its own, which must use this store.
    with point_mlflow_at(store):
        repository = get_artifact_repository(address, tracking_uri=store.uri)
        sizes = [listed.file_size or 0 for listed in iterate_files(repository.list_artifacts)]
        if len(sizes) > _MAX_FILES or sum(sizes) > MAX_MODEL_BYTES:
            raise UnreadableArtifact(
                f"it has {len(sizes)} files and {sum(sizes):,} bytes, more than {_MAX_FILES} and {MAX_MODEL_BYTES:,}"
            )
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))


def hash_file(file: Path) -> str:
    """The sha256 of a file's content, in hexadecimal; for a missing file, that of no bytes."""
    if not file.is_file():
        return hashlib.sha256().hexdigest()
    with open_regular_file(file) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def load_keras_file(file: Path) -> keras.Model:
    """Load a .keras file in Keras' safe mode, which runs nothing in it. Raises UnusableModel with the reason alone."""
    from fmnist_sweep.training import backend, trial

    backend.import_tensorflow()
    try:
        refuse_swollen_model(file)
        return trial.load_model(file)
    except _LOAD_ERRORS as error:
        raise UnusableModel((str(error).strip() or type(error).__name__).splitlines()[0]) from None


def load_verified_model(name: str, file: Path, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> keras.Model:
    """Load a saved model and check that it predicts for these images what was scored. Raises UnusableModel.

    name: of the model's trial, for messages.
    """
    try:
        model = load_keras_file(file)
    except UnusableModel as error:
        raise UnusableModel(f"the saved model of {name} cannot be loaded safely: {error}") from None
    refuse_other_predictions(name, model, images, expected)
    return model


def refuse_other_predictions(
    name: str, model: keras.Model, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    """Raise UnusableModel if a model does not predict for these images what was scored. name: of its trial."""
    from fmnist_sweep.training.batches import predict_images

    probabilities = predict_images(model, images, PREDICTION_BATCH)
    if probabilities.shape != expected.shape or not np.allclose(probabilities, expected, atol=_PROBABILITY_TOLERANCE):
        raise UnusableModel(f"the saved model of {name} does not predict what was scored for it: train it again.")


def hash_weights(model: keras.Model) -> str:
    """The sha256 of a model's weights, bit for bit. A hash of its file would depend on the time of saving."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def hash_predictions(probabilities: NDArray[np.float32]) -> str:
    """The sha256 of probabilities, bit for bit."""
    return hashlib.sha256(np.ascontiguousarray(probabilities, np.float32).tobytes()).hexdigest()


class _KerasFile:
    """The bytes of a .keras file, in place of a model that MLflow could save: the supervisor need not rebuild one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def save(self, path: str) -> None:
        Path(path).write_bytes(self._content)


def log_model(store: Store, run: Run, content: bytes, example: Split, description: DataDescription) -> LoggedModel:
    """Log a model that takes raw pixels. It is READY only once all of its files are in place.

    This uses the client's calls instead of MLflow's `log_model`, which would load the model to infer its requirements,
    run it, and use a current run that the whole process shares.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput

    from fmnist_sweep.training import backend

    if "keras" not in sys.modules:  # MLflow would import it, with the start-up notes of TensorFlow
        backend.import_tensorflow()
    client, run_id = store.client, run.info.run_id
    model = client.create_logged_model(
        store.experiment_id,
        name=LOGGED_MODEL_NAME,
        source_run_id=run_id,
        model_type="classifier",
        tags={"flavor": "keras", SHA256_TAG: hashlib.sha256(content).hexdigest()},
        params=run.data.params,  # which the UI's table of models compares
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
            signature=_build_signature(description),
            input_example=example.images[:1],
            pip_requirements=list_requirements(),
        )
        client.log_model_artifacts(model.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _build_signature(description: DataDescription) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *description.image_shape))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(description.labels)))]),
    )


def list_requirements() -> list[str]:
    """The libraries, with their versions here, that loading a saved model needs."""
    return [f"{name}=={version(name)}" for name in ("keras", "tensorflow", "numpy")]
