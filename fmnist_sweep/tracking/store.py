"""The MLflow store: where it is, made ready by one process, and refused in one sentence when it cannot be used."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

from fmnist_sweep.environ import restore_environment
from fmnist_sweep.errors import StoreError
from fmnist_sweep.files import replace_file
from fmnist_sweep.tracking.names import KIND_TAG, NOTE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_FOLDER = "mlruns"
LEDGER_FILE = "test_openings.jsonl"
_SQLITE_PREFIX = "sqlite:///"
_TABLES_TIMEOUT_SECONDS = 120  # 2 to 7 s alone; several processes queue


def build_default_uri(folder: Path | None = None) -> str:
    """The SQLite store below a folder (default: the working directory), as an absolute address."""
    return f"{_SQLITE_PREFIX}{(folder or Path.cwd()).resolve() / DEFAULT_FOLDER / 'mlflow.db'}"


def locate_ledger(folder: Path | None = None) -> Path:
    """Where openings of the test split are recorded."""
    return (folder or Path.cwd()).resolve() / DEFAULT_FOLDER / LEDGER_FILE


def is_server(uri: str | None) -> bool:
    """Whether artifacts and runs are kept elsewhere than in a file here."""
    return not resolve_store_uri(uri).startswith(_SQLITE_PREFIX)


def has_store_file(uri: str | None) -> bool:
    """Whether a store's file is there; a server's is not looked for."""
    return is_server(uri) or locate_store_file(resolve_store_uri(uri)).is_file()


def locate_store_file(uri: str) -> Path:
    """The file of a SQLite store's absolute address."""
    return Path(uri.removeprefix(_SQLITE_PREFIX))


def locate_state_folder(uri: str | None) -> Path:
    """Where journals and checkpoints are: beside a store's SQLite file, or in mlruns/ here when it is a server."""
    uri = resolve_store_uri(uri)
    return (
        Path(uri.removeprefix(_SQLITE_PREFIX)).parent
        if uri.startswith(_SQLITE_PREFIX)
        else Path.cwd().resolve() / DEFAULT_FOLDER
    )


@dataclass(frozen=True)
class Store:
    """An open store: its address, a client on it, and one experiment of it."""

    uri: str
    client: MlflowClient
    experiment_id: str
    experiment_name: str


def resolve_store_uri(uri: str | None) -> str:
    """The address with a relative SQLite path made absolute, so that it means the same from anywhere."""
    if uri is None or uri.startswith(_SQLITE_PREFIX):
        path = Path((uri or build_default_uri()).removeprefix(_SQLITE_PREFIX)).resolve()
        if {"?", "%"} & set(str(path)):
            raise StoreError(f"{path} cannot hold an MLflow store: ? and % mean something else in its address.")
        return f"{_SQLITE_PREFIX}{path}"
    if uri.split(":", 1)[0] not in ("sqlite", "http", "https", "postgresql", "postgresql+psycopg2", "mysql"):
        raise StoreError(
            f"tracking.uri={uri}: expected sqlite:///FILE, or http://HOST:PORT of an MLflow tracking server."
        )
    return uri.rstrip("/")


def open_store(uri: str | None, experiment: str) -> Store:
    """Open a store to write to, making it where it does not exist yet; StoreError when that cannot be."""
    uri = resolve_store_uri(uri)
    _quiet_mlflow()
    if uri.startswith(_SQLITE_PREFIX):
        client, artifacts = _connect_to_sqlite(Path(uri.removeprefix(_SQLITE_PREFIX)), uri)
    else:
        client, artifacts = _connect_to_server(uri), None
    return Store(uri, client, _ensure_experiment(client, uri, experiment, artifacts), experiment)


def open_existing_store(uri: str | None, experiment: str) -> Store:
    """Open a store to read from; StoreError when there is none, or no such experiment in it."""
    uri = resolve_store_uri(uri)
    _quiet_mlflow()
    if uri.startswith(_SQLITE_PREFIX) and not Path(uri.removeprefix(_SQLITE_PREFIX)).is_file():
        raise StoreError(
            f"{uri.removeprefix(_SQLITE_PREFIX)} does not exist: run a sweep here first (python -m fmnist_sweep -m "
            "optimizer=rmsprop,adam), or name a store with --uri."
        )
    client = _create_client(uri) if uri.startswith(_SQLITE_PREFIX) else _connect_to_server(uri)
    stored_experiment = _call_store(uri, lambda: client.get_experiment_by_name(experiment))
    if stored_experiment is None:
        raise StoreError(f"{uri} has no experiment {experiment}: name another with --experiment.")
    _refuse_local_artifacts(uri, stored_experiment)
    return Store(uri, client, stored_experiment.experiment_id, experiment)


def _quiet_mlflow() -> None:
    # To be set before MLflow is imported: its notes on migrations and telemetry are not for a sweep's user.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with the password of an address in it
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises as well
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Its own retries would hold up the training for minutes while a server is away; ours do not (delivery.py).
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _create_client(uri: str) -> MlflowClient:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _connect_to_sqlite(path: Path, uri: str) -> tuple[MlflowClient, str]:
    from filelock import FileLock, Timeout

    artifacts = path.parent / "artifacts"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        # Processes that make the tables at the same time break each other: one makes them, the others wait.
        with FileLock(f"{path}.lock", timeout=_TABLES_TIMEOUT_SECONDS):
            _make_tables(path)
            _use_wal(path)
            client = _call_store(uri, lambda: _create_client(uri))
            _call_store(uri, lambda: client.search_experiments(max_results=1))
    except Timeout:
        raise StoreError(
            f"{path} is held by another process for over {_TABLES_TIMEOUT_SECONDS} s: end that one, or wait."
        ) from None
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{path} cannot be written ({reason}): choose a folder you may write to, or tracking.uri=sqlite:///FILE."
        ) from None
    return client, artifacts.as_uri()


def _make_tables(path: Path) -> None:
    """Create a new store's tables, in a file that appears whole or not at all: MLflow cannot complete half of them."""
    if path.exists() and (path.is_dir() or path.stat().st_size):
        return
    for leftover in path.parent.glob(f".{path.name}.*"):  # of a process that was killed
        leftover.unlink()
    with replace_file(path) as temporary:
        temporary.touch()  # what cannot be written is known at once, not after MLflow's minutes of retries
        client = _create_client(f"{_SQLITE_PREFIX}{temporary}")
        _call_store(f"{_SQLITE_PREFIX}{path}", lambda: client.search_experiments(max_results=1))


def _use_wal(path: Path) -> None:
    # Readers (the UI) and the writer do not wait for each other. It also finds out at once what MLflow would try to
    # open for minutes: a folder, or a file that is no database.
    database = sqlite3.connect(path, timeout=20)
    try:
        database.execute("PRAGMA journal_mode=WAL")
    finally:
        database.close()


def _connect_to_server(uri: str) -> MlflowClient:
    """A client on a server that answered; its absence is known in seconds, not after MLflow's minutes of retries."""
    if uri.startswith("http"):
        import requests

        try:
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=(4, 10))
        except requests.RequestException as error:
            raise StoreError(
                f"tracking.uri={uri}: no tracking server answers there ({type(error).__name__}); start it or correct "
                "the address."
            ) from None
        if answer.status_code != 200:
            raise StoreError(
                f"tracking.uri={uri}: expected an MLflow tracking server, but {urlsplit(uri).netloc} answered /health "
                f"with status {answer.status_code}."
            )
        return _create_client(uri)
    try:
        return cast("MlflowClient", _call_store(uri, lambda: _create_client(uri)))
    except ImportError as error:
        raise StoreError(f"tracking.uri: the driver of that database is not installed ({error}).") from None


def _call_store(uri: str, call: Any) -> Any:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return call()
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(error, "error_code", None) in _DENIED_CODES:
            raise StoreError(
                f"{uri} does not let this user in: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user "
                "and password that it knows."
            ) from None
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"{uri} cannot be used as an MLflow store: {reason}") from None


_DENIED_CODES = frozenset(("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"))


def explain_outage(error: Exception) -> str | None:
    """Why an error says that the store cannot be used for now, or None when it says something else."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, MlflowException) and error.error_code not in _TRANSIENT_CODES:
        outages = [line for line in lines if _DATABASE_OUTAGE.search(line)]
        return outages[0][:300] if error.error_code == "BAD_REQUEST" and outages else None
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, MlflowException | SQLAlchemyError | requests.RequestException | OSError):
        return lines[0][:300]
    return None


# What a server that is starting, stopping, overloaded or unreachable answers; the client's own words for no answer too.
_TRANSIENT_CODES = frozenset(
    (
        *("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"),
        "ENDPOINT_NOT_FOUND",  # by what stands before a server that is not there
    )
)
# What a server calls a bad request, though its PostgreSQL cannot do it for now: during a failover, or overloaded.
_DATABASE_OUTAGE = re.compile(r"\(psycopg2\.(errors\.ReadOnlySqlTransaction|InterfaceError)\)|QueuePool limit of size")


def _ensure_experiment(client: MlflowClient, uri: str, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = _call_store(uri, lambda: client.get_experiment_by_name(name))
    if experiment is None:
        try:
            experiment_id = client.create_experiment(name, artifact_location=artifacts, tags=_build_experiment_tags())
            experiment = _call_store(uri, lambda: client.get_experiment(experiment_id))
        except MlflowException:  # made by another process in between
            experiment = _call_store(uri, lambda: client.get_experiment_by_name(name))
    if experiment is None or experiment.lifecycle_stage != "active":
        raise StoreError(
            f"tracking.experiment={name} was deleted in {uri}: restore it (mlflow experiments restore) or name another."
        )
    _refuse_local_artifacts(uri, experiment)
    return str(experiment.experiment_id)


def _refuse_local_artifacts(uri: str, experiment: Experiment) -> None:
    """Any user of a server can make an experiment whose artifacts go to a folder of ours, such as /home/ann/.ssh."""
    if uri.startswith("http") and urlsplit(experiment.artifact_location).scheme in ("", "file"):
        raise StoreError(
            f"tracking.experiment={experiment.name}: {uri} has its artifacts in {experiment.artifact_location}, which "
            "would be a folder of this machine; name an experiment whose artifacts go through the server "
            "(mlflow server --serve-artifacts)."
        )


_EXPERIMENT_NOTE = (
    "Sweeps of image classifiers by fmnist_sweep: each sweep holds its studies, each study its trials. The menu at the "
    "top right has the view *Best trials*. `fmnist-sweep promote` takes the best one to the registry."
)
# Left to itself, the UI's table of runs has no column for any metric or parameter.
_METRIC_COLUMNS = ("best_val_accuracy", "best_epoch", "parameters", "fit_seconds")
_PARAM_COLUMNS = (
    "optimizer.name",
    "optimizer.learning_rate",
    "model.conv_layers",
    "model.filters",
    "model.dense_units",
    "regularization.dropout",
    "train.batch_size",
)
_VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    "fmnist-sweeps": ("Sweeps", {}),
    "fmnist-trials": (
        "Best trials",
        {
            "searchFilter": f"tags.`{KIND_TAG}` = 'trial'",
            "orderByKey": "metrics.`best_val_accuracy`",
            "orderByAsc": False,
        },
    ),
}
_VIEW_TAG_PREFIX = "mlflow.sharedViewState."


def _build_experiment_tags() -> dict[str, str]:
    """A description, the kind of experiment, and views of its runs for the UI's menu Views."""
    columns = [*(f"metrics.`{key}`" for key in _METRIC_COLUMNS), *(f"params.`{key}`" for key in _PARAM_COLUMNS)]
    order = ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"]  # the grid's own names
    widths = {"attributes.`Run Name`": 340, **dict.fromkeys(columns, 150)}
    now = int(time.time() * 1000)
    tags = {"mlflow.experimentKind": "custom_model_development", NOTE_TAG: _EXPERIMENT_NOTE}
    for key, (name, search) in _VIEWS.items():
        state = {**search, "selectedColumns": columns, "columnOrder": order, "columnWidths": widths}
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
        tags[f"{_VIEW_TAG_PREFIX}{key}"] = json.dumps(view)
    return tags


def locate_local_artifacts(store: Store, run_id: str) -> Path | None:
    """The folder of a run's artifacts where it is one of this machine's, else None."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    uri = store.client.get_run(run_id).info.artifact_uri
    return Path(local_file_uri_to_path(uri)) if urlsplit(uri).scheme in ("", "file") else None


def build_runs_page_path(store: Store) -> str:
    """The part of an address after the server's that opens the experiment's sweeps in the MLflow UI.

    It asks for model training, because the UI opens on its pages for language models, whatever the kind of experiment.
    """
    query = {"workflowType": "machine_learning"}
    view = next(iter(_VIEWS))
    if f"{_VIEW_TAG_PREFIX}{view}" in store.client.get_experiment(store.experiment_id).tags:
        query["viewStateShareKey"] = view
    return f"/#/experiments/{store.experiment_id}/runs?{urlencode(query)}"


def build_ui_command(store: Store, port: int) -> list[str]:
    """The command that serves the MLflow UI of a SQLite store to this machine alone."""
    hosts = f"127.0.0.1:{port},localhost:{port}"
    arguments = ["--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", hosts]
    return [sys.executable, "-m", "mlflow", "server", *arguments, "--workers", "1"]


@contextmanager
def point_mlflow_at(store: Store) -> Iterator[None]:
    """Let `models:/` and `runs:/` addresses mean this store, for the MLflow functions that take no client."""
    import mlflow

    previous = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    # MLflow sets these variables, and processes started later would go by them.
    with restore_environment("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        mlflow.set_tracking_uri(store.uri)
        mlflow.set_registry_uri(store.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous[0])
            mlflow.set_registry_uri(previous[1])
