"""A real MLflow tracking server on 127.0.0.1 that can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests.support.process import ANSWER_SECONDS, LIMIT_SECONDS


class Server:
    """`with Server(folder) as server:`; it keeps runs and artifacts in that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return self.folder / "server.db"

    def begin(self) -> None:
        """Start it, without waiting for its first answer."""
        where = ["--backend-store-uri", f"sqlite:///{self.database}"]
        where += ["--artifacts-destination", str(self.folder / "artifacts")]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", *where),
                *("--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"),
            ],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(self) -> None:
        """Start it; it answers when this returns."""
        self.begin()
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not answer in time"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/health", timeout=ANSWER_SECONDS).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """End it and its workers at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(LIMIT_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
