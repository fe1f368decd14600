"""The champion of a folder, served by MLflow's own command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import CHAMPION
from fmnist_sweep.tracking.store import build_default_uri
from tests.support.process import ANSWER_SECONDS, LIMIT_SECONDS


@contextmanager
def serve_champion(folder: Path) -> Iterator[str]:
    """Start the server for the time of a block; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bin_folder = str(Path(sys.executable).parent)
    # What MLflow was told in this process is in its environment, too.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment = {
        **inherited,
        "MLFLOW_TRACKING_URI": build_default_uri(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),
    }
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL_NAME}@{CHAMPION}"),
                *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            ],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT_SECONDS)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(address, timeout=ANSWER_SECONDS).ok:
                return
        except requests.RequestException:
            time.sleep(0.05)
    raise TimeoutError(log.read_text())
