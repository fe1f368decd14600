"""Ctrl-C, SIGTERM and a closed terminal: the first finishes the epoch, the second ends the command at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether the user has asked to stop, and when a signal may interrupt the work."""

    def __init__(self, say: Callable[[str, str], None] = lambda text, style: None) -> None:
        self._say = say
        self._signal_count = 0
        self._is_deferred = False
        self._is_interruptible = False

    @property
    def is_requested(self) -> bool:
        """Whether to stop at the next opportunity."""
        return self._signal_count > 0

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Within the block, the first signal only requests a stop; a second one interrupts where that is allowed."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    @contextmanager
    def allow_interruption(self) -> Iterator[None]:
        """Let a second signal interrupt the block: training or waiting, never the writing of results."""
        self._is_interruptible = True
        try:
            self._interrupt_if_allowed()
            yield
        finally:
            self._is_interruptible = False

    def sleep(self, seconds: float) -> None:
        """Wait. Any signal ends it with KeyboardInterrupt."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            if self.is_requested:
                raise KeyboardInterrupt
            time.sleep(min(remaining, 0.2))

    def receive_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._signal_count += 1
        if not self._is_deferred:
            raise KeyboardInterrupt
        if self._signal_count == 1:
            self._say("Interrupted: stopping after this epoch, which is kept. Once more ends it at once.", "bold")
        self._interrupt_if_allowed()

    def _interrupt_if_allowed(self) -> None:
        if self._is_interruptible and self._signal_count > 1:
            raise KeyboardInterrupt


@contextmanager
def route_signals(stop: Stop) -> Iterator[None]:
    """Route the signals that end a process to `stop`. A signal that is ignored already (nohup) stays ignored."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.receive_signal)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def end_at_signals() -> Iterator[Callable[[], None]]:
    """Let each signal that ends a process end the block with KeyboardInterrupt, so that what it began is cleaned up.

    Gives a function to call before the block keeps anything: a library may have swallowed the interrupt, and it raises
    it again.
    """
    ended: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    def raise_if_ended() -> None:
        if ended:
            raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield raise_if_ended
    except Exception:
        raise_if_ended()  # it is what came of the interrupt
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
