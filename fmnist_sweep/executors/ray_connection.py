"""The connection to a Ray cluster as its driver, or one sentence that says why there is none."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.process.environ import find_home

_CONNECT_TIMEOUT_SECONDS = 5.0


def refuse_without_ray(address: str | None) -> None:
    """ConfigError where Ray is not installed, or the address is of a kind that cannot work."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("executor=ray (executor.name): Ray is not installed; pip install 'fmnist_sweep[ray]'.")
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            f"executor.address={address}: Ray's client protocol (ray://) passes nothing on while a trial trains; "
            "run this command on a node of the cluster, with executor.address=auto or HOST:PORT of its head."
        )


@contextmanager
def connect_to_ray(address: str, **options: Any) -> Iterator[None]:
    """Be a driver of the cluster at an address; ConfigError where no cluster there accepts one."""
    _refuse_unreachable(address)
    if "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"  # as `ray start` does; Ray would not do it for a given address
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what nodes report is not for this terminal
    import ray

    is_main_thread = threading.current_thread() is threading.main_thread()
    earlier_handler = signal.getsignal(signal.SIGTERM)
    try:
        with _stand_elsewhere():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise ConfigError(_describe_unreachable(address, " ".join(str(error).split())[:300])) from error
    finally:
        if is_main_thread:
            signal.signal(signal.SIGTERM, earlier_handler)  # Ray's would end this process in the middle of anything
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _stand_elsewhere() -> Iterator[None]:
    """Be in a folder without files for a while: Ray puts a driver's working directory first on its workers' path.

    For a clone that is not installed it is the clone, from which workers on this machine then import the package.
    """
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).absolute())
    clone = Path(__file__).resolve().parents[2]
    with TemporaryDirectory() as empty, chdir(empty if clone.name in ("site-packages", "dist-packages") else clone):
        yield


def _has_token() -> bool:
    variables = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return bool(variables) or (find_home() / ".ray" / "auth_token").exists()


def _refuse_unreachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(_describe_unreachable(address, str(error))) from error


def _describe_unreachable(address: str, reason: str) -> str:
    return (
        f"executor.address={address}: no Ray cluster accepts this machine there ({reason.rstrip('.')}); check that its "
        "head runs there, that this machine is one of its nodes (ray start --address) and has its token "
        "(RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH), and the versions of Ray and Python."
    )
