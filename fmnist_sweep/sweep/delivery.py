"""Brings what trials leave behind to the tracking store: at once while it answers, later when it is away.

Every step may be taken again, in this process or the next, and then changes nothing: a run is looked for before it is
made a second time, figures keep the time they were measured at, a complete model is not logged twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.runs import describe_run, is_run_active, link_attempts, log_epochs, start_run
from fmnist_sweep.tracking.store import explain_outage

if TYPE_CHECKING:
    from fmnist_sweep.data import Splits
    from fmnist_sweep.study.record import Attempt
    from fmnist_sweep.tracking.runs import RunInfo
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.events import Epoch

_FIRST_DELAY, _MAX_DELAY = 1.0, 30.0  # seconds between two tries, doubled each time
PATIENCE_SECONDS = 60.0  # how long the end of a study, or a call that cannot wait, waits for a store that is away

# Closes the run of this id; the flag: an earlier try may have got part of the way.
RunCloser = Callable[[str, bool], None]


@dataclass(eq=False)
class Parcel:
    """What the store shall know of one attempt.

    found: called with the run's id when it has one. delivered: called when the store has everything and the run is
    closed. ending: how it is closed, None while it trains. follows: the dead attempts before it that have a run.
    """

    attempt: Attempt
    info: RunInfo
    params: Mapping[str, Any]
    files: Mapping[str, bytes]
    splits: Splits
    on_run_id: Callable[[str], None]
    on_delivered: Callable[[], None]
    start_time: int = field(default_factory=lambda: read_clock_ms())
    epochs: list[Epoch] = field(default_factory=list)
    closer: RunCloser | None = None
    dead_attempts: Sequence[Attempt] = ()
    # Whether an earlier try, here or in a process that died, may have got part of the way.
    is_retry: bool = False
    _has_description: bool = False
    _logged_count: int = 0

    def deliver(self, store: Store) -> None:
        """Make the store know all there is so far; whatever it raises, calling again goes on.

        Of a run that somebody deleted, nothing more is to be said.
        """
        try:
            self._deliver(store)
        except Exception as error:
            run_id = self.attempt.run_id
            if run_id is None or explain_outage(error) is not None or is_run_active(store, run_id):
                raise
            if self.closer is not None:
                self.on_delivered()

    def _deliver(self, store: Store) -> None:
        is_retry, self.is_retry = self.is_retry, True
        if self.attempt.run_id is None:
            self.on_run_id(start_run(store, self.info, may_exist=is_retry, start_time=self.start_time))
        run_id = str(self.attempt.run_id)
        if not self._has_description:
            # Its files at once, because whoever looks at a failed or killed trial wants to repeat it.
            describe_run(store, run_id, self.params, self.splits, self.files)
            self._link_attempts(store)
            self._has_description = True
        log_epochs(store, run_id, self.epochs[self._logged_count :])
        self._logged_count = len(self.epochs)
        if self.closer is not None:
            self.closer(run_id, is_retry)
            self.on_delivered()
        self.is_retry = False

    def _link_attempts(self, store: Store) -> None:
        """Link each dead attempt's run with the next one: one that died at once had no time to link those before it."""
        attempts = [attempt for attempt in self.dead_attempts if is_run_active(store, str(attempt.run_id))]
        for dead, follower in pairwise((*attempts, self.attempt)):
            link_attempts(store, str(dead.run_id), str(follower.run_id), follower.number)


class Delivery:
    """The parcels of one sweep; those that a store which is away has not taken yet wait here in order."""

    def __init__(self, store: Store, say: Callable[[str, str], None]) -> None:
        self._store, self._say = store, say
        self._queue: list[Parcel] = []
        self._retry_time = 0.0
        self._delay = 0.0
        self._reason = ""

    def deliver(self, parcel: Parcel) -> None:
        """Hand a parcel over as it is now, or keep it for later."""
        if parcel not in self._queue:
            self._queue.append(parcel)
        self.retry_queue()

    def discard(self, parcel: Parcel) -> None:
        """Hand this one over no more: its run is closed in another way."""
        if parcel in self._queue:
            self._queue.remove(parcel)

    def retry_queue(self) -> None:
        """Try what waits, unless the store was found away a moment ago."""
        while self._queue and time.monotonic() >= self._retry_time:
            try:
                self._queue[0].deliver(self._store)
            except Exception as error:
                reason = explain_outage(error)
                if reason is None:
                    raise
                self._back_off(reason)
            else:
                self._queue.pop(0)
                if self._delay:
                    self._say("the tracking store answers again", "green")
                self._delay = self._retry_time = 0.0

    def _back_off(self, reason: str) -> None:
        if not self._delay:
            self._say(f"the tracking store is away ({reason}): training goes on, results are kept here", "yellow")
        self._reason = reason
        self._delay = min(_MAX_DELAY, 2 * self._delay or _FIRST_DELAY)
        self._retry_time = time.monotonic() + self._delay

    def flush(self, sleep: Callable[[float], None]) -> None:
        """Wait for what is still missing; StoreError when the store stays away for PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._retry_time = 0.0
        self.retry_queue()
        while self._queue:
            if time.monotonic() >= deadline:
                raise self.make_timeout_error()
            sleep(min(1.0, max(0.05, self._retry_time - time.monotonic())))
            self.retry_queue()

    def make_timeout_error(self) -> StoreError:
        """What to say when the store did not come back."""
        return StoreError(
            f"the tracking store is away ({self._reason}); what was trained is kept here: type the same command again "
            "when it is back, and all that is missing is logged, once."
        )

    def try_call(self, call: Callable[[], Any]) -> bool:
        """Whether a call that can wait for later went through; it is not tried while the store is known to be away."""
        if time.monotonic() < self._retry_time:
            return False
        try:
            call()
        except Exception as error:
            reason = explain_outage(error)
            if reason is None:
                raise
            self._back_off(reason)
            return False
        return True

    def call_with_retries(self, call: Callable[[], Any], sleep: Callable[[float], None]) -> Any:
        """A call that cannot wait for later, tried until the store answers; StoreError after PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = call()
            except Exception as error:
                reason = explain_outage(error)
                if reason is None:
                    raise
                self._back_off(reason)
                if time.monotonic() >= deadline:
                    raise self.make_timeout_error() from None
                sleep(min(self._delay, 5.0))
            else:
                if self._delay:
                    self._say("the tracking store answers again", "green")
                    self._delay = self._retry_time = 0.0
                return answer


def read_clock_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
