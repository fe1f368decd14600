"""`fmnist-sweep ui` as a process, for what looks at it with a browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from tests.support.process import ANSWER_SECONDS, LIMIT_SECONDS


class Served:
    """`fmnist-sweep ui` in a folder, ended by its own process group."""

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self._log = log or folder / "ui.log"
        command = [sys.executable, "-m", "fmnist_sweep.cli.main", "ui", "--port", str(port)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> tuple[str, str]:
        try:
            return self._root, self._answering()
        except BaseException:
            self.__exit__()
            raise

    def _answering(self) -> str:
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if requests.get(f"{self._root}/health", timeout=ANSWER_SECONDS).ok:
                    lines = self._log.read_text().splitlines()
                    return next(line.split()[0] for line in lines if line.startswith(self._root))
            except requests.RequestException:
                time.sleep(0.05)
        raise TimeoutError(f"fmnist-sweep ui did not answer:\n{self._log.read_text()}")

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT_SECONDS)
