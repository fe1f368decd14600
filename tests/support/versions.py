"""A registered model in a real store: runs with models, their versions, and processes that work on it at once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking.models import log_model
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.store import Store, open_store
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.support.process import LIMIT_SECONDS
from tests.support.small import splits


@dataclass(frozen=True)
class Logged:
    """A run with a model: what a version is registered of."""

    run_id: str
    model_id: str
    content: bytes

    @property
    def tags(self) -> dict[str, str]:
        """What a registration must say at least."""
        return {SHA256_TAG: hashlib.sha256(self.content).hexdigest()}


def make_network(folder: Path, bias: int) -> bytes:
    """The .keras file of a model that takes every image for the label `bias`."""
    import keras

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.layers[-1].set_weights([np.zeros((784, 10)), 50 * np.eye(10)[bias]])
    model.save(folder / "model.keras")
    return (folder / "model.keras").read_bytes()


def log_run(store: Store, content: bytes) -> Logged:
    """A new finished run with this model, logged as a sweep logs it."""
    run = store.client.create_run(store.experiment_id, run_name="filters 4")
    model = log_model(store, run, content, splits().validation, FASHION_MNIST)
    store.client.set_terminated(run.info.run_id, "FINISHED")
    return Logged(run.info.run_id, model.model_id, content)


def connect_store(folder: Path) -> Store:
    """A store in a folder, made where it is not there."""
    return open_store(f"sqlite:///{folder}/mlruns/mlflow.db", "fashion-mnist")


def register_run(store: Store, one: Logged, **tags: str) -> str:
    """The number of the version of a run's model."""
    with lock_registry(store):
        found = versions.register_version(
            store, one.run_id, one.model_id, tags={**one.tags, **tags}, description="a test"
        )
    return found.number


def clear_registry(store: Store) -> None:
    """Forget everything registered; the runs and their models stay."""
    if versions.get_registered_model(store) is not None:
        store.client.delete_registered_model(MODEL_NAME)


def locate_model(store: Store, one: Logged) -> Path:
    """The folder of a run's model."""
    return Path(store.client.get_logged_model(one.model_id).artifact_location.removeprefix("file://"))


# Processes are forks of one that has imported what takes seconds, and has opened nothing yet.
FORKS = """
import os, sys, json, signal
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from fmnist_sweep.tracking import aliases as moves, registry as versions, store as stores
from fmnist_sweep.tracking.store_lock import lock_registry
uri, told = sys.argv[1], json.loads(sys.argv[2])
def fork(job):
    process = os.fork()
    if not process:
        try:
            job(stores.open_existing_store(uri, "fashion-mnist"))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    return process
def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
"""


def run_forks(store: Store, script: str, told: Any) -> str:
    """What a script of forks printed; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS + script, store.uri, json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
