"""The MLflow store: its address and folders, and how it is opened. One that cannot be used raises StoreError."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fmnist_sweep.errors import Locked, StoreError
from fmnist_sweep.masking import mask_address, mask_reason
from fmnist_sweep.process.environ import restore_environment
from fmnist_sweep.study.folder import SQLITE_PREFIX
from fmnist_sweep.text import make_printable
from fmnist_sweep.tracking.connection import (
    call_store,
    connect_to_server,
    connect_to_sqlite,
    create_client,
    quiet_mlflow,
)
from fmnist_sweep.tracking.data_names import build_data_name_tags, read_data_name, refuse_other_name
from fmnist_sweep.tracking.deleted import refuse_deleted_experiment
from fmnist_sweep.tracking.foreign_settings import name_unused_settings, refuse_unfit_settings
from fmnist_sweep.tracking.moved_artifacts import find_moved_folders, open_store_file
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.ui_pages import build_experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_FOLDER = "mlruns"
LEDGER_FILE = "test_openings.jsonl"
_SERVER_SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql")


def build_default_uri(folder: Path | None = None) -> str:
    """The SQLite store below a folder (default: the working directory), as an absolute address."""
    return f"{SQLITE_PREFIX}{(folder or Path.cwd()).resolve() / DEFAULT_FOLDER / 'mlflow.db'}"


def locate_ledger(folder: Path | None = None) -> Path:
    """The ledger below a folder (default: the working directory): it records each opening of the test images."""
    return (folder or Path.cwd()).resolve() / DEFAULT_FOLDER / LEDGER_FILE


def is_server(uri: str | None) -> bool:
    """Whether an address is that of a server or database, and not of a SQLite file."""
    return not resolve_store_uri(uri).startswith(SQLITE_PREFIX)


def has_store_file(uri: str | None) -> bool:
    """Whether the SQLite file of a store exists; always true of a server."""
    return is_server(uri) or _is_file(locate_store_file(resolve_store_uri(uri)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): name a store that you may read.") from None


def locate_store_file(uri: str) -> Path:
    """The file that the absolute address of a SQLite store names."""
    return Path(uri.removeprefix(SQLITE_PREFIX))


def locate_state_folder(uri: str | None) -> Path:
    """The folder of journals and checkpoints: that of a SQLite store's file, or mlruns/ here for a server."""
    uri = resolve_store_uri(uri)
    return locate_store_file(uri).parent if uri.startswith(SQLITE_PREFIX) else Path.cwd().resolve() / DEFAULT_FOLDER


class MissingExperiment(StoreError):
    """An experiment that a store does not have, or not any more."""


@dataclass(frozen=True)
class Store:
    """An open store: its address, a client for it, and one of its experiments.

    left_out: what was named as left out since it was opened. model_name: of the registered model, which is called after
    the data of the experiment.
    """

    uri: str = field(repr=False)  # with the user and password that it needs
    client: MlflowClient
    experiment_id: str
    experiment_name: str
    left_out: set[tuple[str, ...]] = field(default_factory=set, compare=False, repr=False)
    model_name: str = MODEL_NAME
    file_id: tuple[int, int] | None = None  # device and inode of a SQLite file as it was opened

    @property
    def state_folder(self) -> Path:
        """The folder of its journals and checkpoints."""
        return locate_state_folder(self.uri)

    @property
    def masked_uri(self) -> str:
        """The address without credentials, to be shown and written."""
        return mask_address(self.uri)


def resolve_store_uri(uri: str | None) -> str:
    """The address of a store, with the path of a SQLite file made absolute. Raises StoreError for other addresses."""
    if uri is None or uri.startswith(SQLITE_PREFIX):
        return f"{SQLITE_PREFIX}{_resolve_path((uri or build_default_uri()).removeprefix(SQLITE_PREFIX))}"
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in _SERVER_SCHEMES or not _names_host(uri):
        raise StoreError(
            f"tracking.uri={mask_address(uri)}: expected sqlite:///FILE, or http://HOST:PORT of an "
            "MLflow tracking server."
        )
    return uri.rstrip("/")


def _names_host(uri: str) -> bool:
    """Whether the address of a server has a host and no port that cannot be; a database may have a socket instead."""
    try:
        parts = urlsplit(uri)
        return parts.port != 0 and (bool(parts.hostname) or parts.scheme not in ("http", "https"))
    except ValueError:
        return False


def _resolve_path(path: str) -> Path:
    """The absolute path of a SQLite file. Raises StoreError for a path that no such file can have."""
    address = f"{SQLITE_PREFIX}{path}"
    printable = make_printable(mask_address(address).removeprefix(SQLITE_PREFIX))
    try:
        resolved = Path(path).resolve()
        str(resolved).encode()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a zero byte, bytes that are no text
        reason = make_printable(mask_reason(str(error), address))
        raise StoreError(f"{printable} cannot hold an MLflow store: {reason}.") from None
    if not resolved.name:
        raise StoreError(
            f"tracking.uri={SQLITE_PREFIX}{printable}: expected {SQLITE_PREFIX}FILE, with the name of a file."
        )
    if _is_special(resolved):  # root would replace even /dev/null
        raise StoreError(f"{resolved} cannot hold an MLflow store: it is a device or a pipe; name a file.")
    if {"?", "%"} & set(str(resolved)):
        raise StoreError(f"{printable} cannot hold an MLflow store: ? and % have another meaning in its address.")
    return resolved


def _is_special(path: Path) -> bool:
    """Whether there is a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or nobody may look; who opens it says so
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def refuse_moved_store(uri: str | None, experiment: str | None) -> None:
    """Raise StoreError if a SQLite store was moved or copied, so that its artifacts are elsewhere than it says.

    experiment: the one that is needed; None: all of them. A file that is no store is left to those who open it.
    """
    uri = resolve_store_uri(uri)
    if is_server(uri) or not has_store_file(uri):
        return
    file = locate_store_file(uri)
    try:
        with open_store_file(file) as database:
            moved_folders = find_moved_folders(database, file, experiment)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise Locked(f"another process holds {file}: wait for it, then type the command again.") from None
        return
    if moved_folders:
        moved = moved_folders[0]
        raise StoreError(
            f"{file} was moved or copied: by its addresses, the artifacts of its experiment {moved.experiment} are in "
            f"{moved.old}; {format_relocate_command(uri)} rewrites them, then type the command again."
        )


def format_relocate_command(uri: str) -> str:
    """The command that rewrites the addresses of a SQLite store, given its absolute address."""
    return f"fmnist-sweep relocate{'' if uri == build_default_uri() else f' --uri {shlex.quote(uri)}'}"


def open_store(uri: str | None, experiment: str, data_name: str = MODEL_NAME) -> Store:
    """Open a store to write to, creating it if it does not exist. Raises StoreError if that is not possible.

    data_name: what the images are called whose trials the experiment is for.
    """
    typed_uri, uri = uri, resolve_store_uri(uri)
    refuse_moved_store(uri, experiment)
    quiet_mlflow()
    name_unused_settings(typed_uri, uri, experiment)
    refuse_unfit_settings(uri)
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"  # results that are sent later can be lost
    if uri.startswith(SQLITE_PREFIX):
        client, artifacts = connect_to_sqlite(locate_store_file(uri), uri)
    else:
        client, artifacts = connect_to_server(uri), None
    experiment_id = _ensure_experiment(client, uri, experiment, artifacts, data_name)
    return Store(uri, client, experiment_id, experiment, model_name=data_name, file_id=_read_file_id(uri))


def open_existing_store(uri: str | None, experiment: str) -> Store:
    """Open a store to read from. Raises StoreError if there is no such store, or no such experiment in it."""
    typed_uri, uri = uri, resolve_store_uri(uri)
    quiet_mlflow()
    name_unused_settings(typed_uri, uri, experiment)
    if not has_store_file(uri):
        raise StoreError(
            f"{locate_store_file(uri)} does not exist: run a sweep here first (python -m fmnist_sweep -m "
            "optimizer=rmsprop,adam), or name a store with --uri."
        )
    refuse_unfit_settings(uri)
    refuse_moved_store(uri, experiment)
    client = call_store(uri, lambda: create_client(uri)) if uri.startswith(SQLITE_PREFIX) else connect_to_server(uri)
    stored_experiment = call_store(uri, lambda: client.get_experiment_by_name(experiment))
    if stored_experiment is None:
        raise MissingExperiment(f"{mask_address(uri)} has no experiment {experiment}: name another with --experiment.")
    refuse_deleted_experiment(uri, stored_experiment)
    _refuse_local_artifacts(uri, stored_experiment)
    name = read_data_name(stored_experiment)
    return Store(uri, client, stored_experiment.experiment_id, experiment, model_name=name)


def _read_file_id(uri: str) -> tuple[int, int] | None:
    """What sets the file of a SQLite store apart from one that takes its place; None for a server, or no file."""
    if not uri.startswith(SQLITE_PREFIX):
        return None
    try:
        status = locate_store_file(uri).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def refuse_replaced_file(store: Store) -> None:
    """Raise StoreError if a store's file was removed or replaced since it was opened.

    SQLite would go on writing to a file that nobody can open any more.
    """
    if store.file_id is not None and _read_file_id(store.uri) != store.file_id:
        raise StoreError(
            f"{locate_store_file(store.uri)} was removed or replaced while it was written to, and what was logged "
            "since is lost with it: put it back and type the same command again, or begin anew with fresh=true."
        )


def _ensure_experiment(client: MlflowClient, uri: str, name: str, artifacts: str | None, data_name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = call_store(uri, lambda: client.get_experiment_by_name(name))
    if experiment is None:
        try:
            tags = build_experiment_tags() | build_data_name_tags(data_name)
            experiment_id = client.create_experiment(name, artifact_location=artifacts, tags=tags)
            experiment = call_store(uri, lambda: client.get_experiment(experiment_id))
        except MlflowException:  # another process has created it in between
            experiment = call_store(uri, lambda: client.get_experiment_by_name(name))
    if experiment is None:
        raise StoreError(f"{mask_address(uri)} has lost the experiment {name}: name another.")
    refuse_deleted_experiment(uri, experiment)
    _refuse_local_artifacts(uri, experiment)
    refuse_other_name(experiment, data_name)
    return str(experiment.experiment_id)


def _refuse_local_artifacts(uri: str, experiment: Experiment) -> None:
    """Raise StoreError if a server's experiment has its artifacts in a local folder, such as /home/ann/.ssh.

    Any user of the server can create such an experiment.
    """
    if uri.startswith("http") and urlsplit(experiment.artifact_location).scheme in ("", "file"):
        raise StoreError(
            f"tracking.experiment={experiment.name}: {mask_address(uri)} has its artifacts in "
            f"{experiment.artifact_location}, which would be a folder of this machine; name an experiment whose "
            "artifacts go through the server (mlflow server --serve-artifacts)."
        )


def locate_local_artifacts(store: Store, run_id: str) -> Path | None:
    """The folder of a run's artifacts, if it is on this machine; else None."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    uri = store.client.get_run(run_id).info.artifact_uri
    return Path(local_file_uri_to_path(uri)) if urlsplit(uri).scheme in ("", "file") else None


@contextmanager
def point_mlflow_at(store: Store) -> Iterator[None]:
    """Make `models:/` and `runs:/` addresses mean this store, for MLflow functions that take no client."""
    import mlflow

    previous = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    # MLflow sets these variables, and processes started later would use them.
    with restore_environment("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        mlflow.set_tracking_uri(store.uri)
        mlflow.set_registry_uri(store.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous[0])
            mlflow.set_registry_uri(previous[1])
