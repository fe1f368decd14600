"""Connecting to a store with MLflow's client: a SQLite file, made ready by one process, a database or a server."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from fmnist_sweep.errors import StoreError
from fmnist_sweep.files import LockHeld, hold_lock_file, replace_file
from fmnist_sweep.masking import MASK, mask_address, mask_reason
from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.study.folder import SQLITE_PREFIX
from fmnist_sweep.tracking.slow_answers import give_up_slow_answers

if TYPE_CHECKING:
    from mlflow import MlflowClient


_Answer = TypeVar("_Answer")
_TABLES_TIMEOUT_SECONDS = 120  # 2 to 7 s alone; several processes queue


def quiet_mlflow() -> None:
    """Set what MLflow logs, sends and retries, before it is imported."""
    # Its notes on migrations and telemetry are not for a sweep's user.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with the password of an address in it
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises as well
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Its own retries would hold up the training for minutes while a server is away; those of sweep/delivery do not.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def create_client(uri: str) -> MlflowClient:
    """A client for the runs and the registry of a store."""
    with pause_while_importing():
        import mlflow

        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def connect_to_sqlite(path: Path, uri: str) -> tuple[MlflowClient, str]:
    """Connect to a SQLite store, created if missing: a client, and the address of the folder for artifacts."""
    artifacts = path.parent / "artifacts"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        # Processes that create the tables at the same time break each other: one creates them, the others wait.
        with hold_lock_file(path.with_name(f"{path.name}.lock"), _TABLES_TIMEOUT_SECONDS):
            _make_tables(path)
            _use_wal(path)
            client = call_store(uri, lambda: create_client(uri))
            call_store(uri, lambda: client.search_experiments(max_results=1))
    except LockHeld:
        raise StoreError(
            f"{path} has been held by another process for over {_TABLES_TIMEOUT_SECONDS} s: end that process, or wait."
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
    for leftover in path.parent.glob(f".{path.name}.[0-9]*"):  # of a process that was killed
        leftover.unlink()
    with replace_file(path) as temporary, _skip_syncs():
        temporary.touch()  # what cannot be written is known at once, not after MLflow's minutes of retries
        client = create_client(f"{SQLITE_PREFIX}{temporary}")
        call_store(f"{SQLITE_PREFIX}{path}", lambda: client.search_experiments(max_results=1))


@contextmanager
def _skip_syncs() -> Iterator[None]:
    """Let SQLite wait for the disk at no commit of the connections that the block opens.

    MLflow commits dozens of times while it creates its tables, and their file is brought to the disk as a whole.
    """
    with pause_while_importing():
        from sqlalchemy import Engine, event

    def skip_syncs(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", skip_syncs)
    try:
        yield
    finally:
        event.remove(Engine, "connect", skip_syncs)


def _use_wal(path: Path) -> None:
    # Readers (the UI) and the writer do not wait for each other. This also reveals at once what MLflow would try to
    # open for minutes: a folder, or a file that is not a database.
    database = sqlite3.connect(path, timeout=20)
    try:
        database.execute("PRAGMA journal_mode=WAL")
    finally:
        database.close()


def connect_to_server(uri: str) -> MlflowClient:
    """A client for a server that answers, or a database. An absent server is known in seconds, not after minutes."""
    if MASK in uri:
        raise StoreError(f"tracking.uri={mask_address(uri)}: {MASK} stands for what was masked; type that instead.")
    if uri.startswith("http"):
        import requests

        give_up_slow_answers()

        try:
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=(4, 10))
        except requests.exceptions.ProxyError:
            raise StoreError(
                f"tracking.uri={mask_address(uri)}: the proxy that HTTP_PROXY or HTTPS_PROXY names does not lead "
                f"there; for a server that needs none, set NO_PROXY={urlsplit(mask_address(uri)).hostname}."
            ) from None
        except (requests.RequestException, ValueError) as error:  # ValueError: no name that a host can have
            raise StoreError(
                f"tracking.uri={mask_address(uri)}: no tracking server answers there ({type(error).__name__}); "
                "start it or correct the address."
            ) from None
        except OSError as error:  # a file of certificates that the environment names and that is not there
            raise StoreError(
                f"tracking.uri={mask_address(uri)}: {error}; correct or unset what names that file."
            ) from None
        if answer.status_code != 200:
            raise StoreError(
                f"tracking.uri={mask_address(uri)}: expected an MLflow tracking server, but it answered /health "
                f"with status {answer.status_code}."
            )
        return create_client(uri)
    try:
        return call_store(uri, lambda: create_client(uri))
    except ValueError:  # what stands where its port should be, a part of the password perhaps
        raise StoreError(
            f"tracking.uri={mask_address(uri)} cannot be read as an address: write the characters @ : / ? # % of a "
            "user or password as %40 %3A %2F %3F %23 %25."
        ) from None
    except ImportError as error:
        raise StoreError(
            f"tracking.uri: the driver of that database is not installed ({mask_reason(str(error), uri)})."
        ) from None


def call_store(uri: str, call: Callable[[], _Answer]) -> _Answer:
    """Call a function that uses the store. Raises StoreError, in a sentence, for what MLflow and databases raise."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return call()
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(error, "error_code", None) in _DENIED_CODES:
            raise StoreError(
                f"{mask_address(uri)} does not let this user in: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD to a user and password that it knows."
            ) from None
        reason = mask_reason(str(error), uri).strip().splitlines()[0]
        raise StoreError(f"{mask_address(uri)} cannot be used as an MLflow store: {reason}") from None


_DENIED_CODES = frozenset(("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"))


def explain_outage(error: Exception, uri: str = "") -> str | None:
    """The reason for which the store is unavailable for now, if that is what an error means; else None.

    uri: of the store, of whose credentials the reason has none.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    lines = mask_reason(str(error), uri).strip().splitlines() or [type(error).__name__]
    if isinstance(error, MlflowException) and error.error_code not in _TRANSIENT_CODES:
        outages = [line for line in lines if _DATABASE_OUTAGE.search(line)]
        return outages[0][:300] if error.error_code == "BAD_REQUEST" and outages else None
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, MlflowException | SQLAlchemyError | requests.RequestException | OSError):
        return lines[0][:300]
    return None


def explain_lost_store(error: Exception) -> str | None:
    """The sentence for a store that stopped answering while a command read from it; None for any other error.

    MLflow's own errors have the code INTERNAL_ERROR unless they say otherwise: what counts is that the network or the
    database is behind it.
    """
    if "mlflow" not in sys.modules:
        return None
    import requests
    from mlflow.exceptions import RestException
    from sqlalchemy.exc import OperationalError

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    is_lost = any(isinstance(cause, requests.RequestException | RestException | OperationalError) for cause in causes)
    reason = explain_outage(error) if is_lost else None
    if reason is None:
        return None
    return f"the tracking store does not answer any more ({reason}): type the same command again when it does."


# Answers of a server that is starting, stopping, overloaded or unreachable, and the client's codes for no answer.
_TRANSIENT_CODES = frozenset(
    (
        *("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"),
        "ENDPOINT_NOT_FOUND",  # from a proxy whose server is away
    )
)


# Errors that a server calls a bad request while its PostgreSQL is overloaded or in a failover.
_DATABASE_OUTAGE = re.compile(r"\(psycopg2\.(errors\.ReadOnlySqlTransaction|InterfaceError)\)|QueuePool limit of size")
