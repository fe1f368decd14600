"""Answers of a tracking server that drip: given up, however steadily their bytes come.

The time-outs of requests are for each read. A server, or a proxy before it, that sends a byte every few seconds would
hold a command for ever.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, Protocol

GRACE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 1_000.0


class RawReader(Protocol):
    """What a socket is read through."""

    def readinto(self, buffer: Any, /) -> int | None: ...
    def close(self) -> None: ...


class PacedReader(io.RawIOBase):
    """Bytes that come at a certain speed at least, on the average after a grace; else reading raises TimeoutError."""

    def __init__(self, raw: RawReader, grace: float, read_clock: Callable[[], float] = time.monotonic) -> None:
        self._raw, self._grace, self._read_clock = raw, grace, read_clock
        self._start, self._received = read_clock(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        seconds = self._read_clock() - self._start
        if self._received < (seconds - self._grace) * SLOWEST_BYTES_PER_SECOND:
            raise TimeoutError(f"the answer came too slowly: {self._received:,} bytes in {seconds:.0f} seconds")
        count = self._raw.readinto(buffer)
        self._received += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(HTTPResponse):
    """A response whose headers and body are read at a certain speed at least."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A user with a slow server raises this one.
        grace = max(GRACE_SECONDS, float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or 0))
        self.fp = io.BufferedReader(PacedReader(self.fp.detach(), grace))


def give_up_slow_answers() -> None:
    """Let the connections that this process opens give up answers that drip; to be repeated at will.

    MLflow makes its sessions itself, and has no hook for them. Where urllib3 takes its connections from is one.
    """
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class PacedConnection(HTTPConnection):
        response_class = _PacedResponse

    class PacedSecureConnection(HTTPSConnection):
        response_class = _PacedResponse

    HTTPConnectionPool.ConnectionCls = PacedConnection
    HTTPSConnectionPool.ConnectionCls = PacedSecureConnection
