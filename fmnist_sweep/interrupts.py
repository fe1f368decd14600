"""Ctrl-C, SIGTERM and a closed terminal: once, the epoch is finished; twice, it ends at once. Nothing is torn."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the user asked for an end, and when that may interrupt what is being done."""

    def __init__(self, say: Callable[[str, str], None] = lambda text, style: None) -> None:
        self._say = say
        self._asked = 0
        self._deferred = False
        self._interruptible = False

    @property
    def asked(self) -> bool:
        """Whether to stop at the next good place."""
        return self._asked > 0

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While this lasts, the first signal only asks, and the second ends no more than an `interruptible` block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What the second signal may break off: training and waiting, never the writing of what came of it."""
        self._interruptible = True
        try:
            self._end_at_once()
            yield
        finally:
            self._interruptible = False

    def sleep(self, seconds: float) -> None:
        """Wait; any signal ends it by KeyboardInterrupt."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.asked:
                raise KeyboardInterrupt
            time.sleep(min(left, 0.2))

    def receive(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self._asked += 1
        if not self._deferred:
            raise KeyboardInterrupt
        if self._asked == 1:
            self._say("Interrupted: stopping after this epoch, which is kept. Once more ends it at once.", "bold")
        self._end_at_once()

    def _end_at_once(self) -> None:
        if self._interruptible and self._asked > 1:
            raise KeyboardInterrupt


@contextmanager
def heard(stop: Stop) -> Iterator[None]:
    """Let the signals that end a process ask `stop` instead; one that is ignored already (nohup) stays ignored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
