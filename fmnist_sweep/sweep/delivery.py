"""Delivery of what trials leave behind to the tracking store: at once while it answers, later when it is away.

Every step can be repeated, by this process or the next one, without a second effect: a run is searched for before it is
created again, metrics keep the time they were measured at, and a complete model is not logged twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.connection import explain_outage
from fmnist_sweep.tracking.deleted import check_experiment
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.runs import describe_run, kill_run, link_attempts, log_epochs, read_clock_ms, start_run
from fmnist_sweep.tracking.store import refuse_replaced_file

if TYPE_CHECKING:
    from fmnist_sweep.data import Splits
    from fmnist_sweep.study.record import Attempt
    from fmnist_sweep.tracking.runs import RunInfo
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.events import Epoch

_FIRST_DELAY, _MAX_DELAY = 1.0, 30.0  # seconds between two tries, doubled each time
PATIENCE_SECONDS = 60.0  # how long the end of a study, or a call that cannot be put off, waits for a store that is away

_Answer = TypeVar("_Answer")

# Closes a run, given its id and whether an earlier try may have done part of it.
RunCloser = Callable[[str, bool], None]


@dataclass(eq=False)
class Parcel:
    """What the store is to know of one attempt.

    on_run_id: called with the id of the attempt's run once the run exists. on_delivered: called once the store has
    everything and the run is closed. closer: closes the run; None while the trial trains. dead_attempts: earlier
    attempts of the trial that have a run. is_retry: whether an earlier try, here or in a process that died, may have
    delivered a part.
    """

    attempt: Attempt
    info: RunInfo
    params: Mapping[str, Any]
    files: Mapping[str, bytes]
    splits: Splits
    on_run_id: Callable[[str], None]
    on_delivered: Callable[[], None]
    start_time: int = field(default_factory=read_clock_ms)
    epochs: list[Epoch] = field(default_factory=list)
    closer: RunCloser | None = None
    dead_attempts: Sequence[Attempt] = ()
    is_retry: bool = False
    _has_description: bool = False
    _logged_count: int = 0

    def deliver(self, store: Store) -> None:
        """Bring the store up to date with the attempt. After any error, calling again continues.

        Nothing more is logged to a run that somebody deleted.
        """
        try:
            self._deliver(store)
        except Exception as error:
            run_id = self.attempt.run_id
            if run_id is None or explain_outage(error) is not None or is_run_active(store, run_id):
                raise
            check_experiment(store)  # with which all its runs are deleted: those are delivered once it is restored
            if self.closer is not None:
                self.on_delivered()

    def _deliver(self, store: Store) -> None:
        is_retry, self.is_retry = self.is_retry, True
        if self.attempt.run_id is None:
            self.on_run_id(self._start_run(store, may_exist=is_retry))
        run_id = str(self.attempt.run_id)
        if not self._has_description:
            # The files go first: whoever looks at a failed or killed trial wants to repeat it.
            describe_run(store, run_id, self.params, self.splits, self.files)
            self._link_attempts(store)
            self._has_description = True
        log_epochs(store, run_id, self.epochs[self._logged_count :])
        self._logged_count = len(self.epochs)
        if self.closer is not None:
            self.closer(run_id, is_retry)
            self.on_delivered()
        self.is_retry = False

    def _start_run(self, store: Store, *, may_exist: bool) -> str:
        return start_run(store, self.info, may_exist=may_exist, start_time=self.start_time, params=self.params)

    def _link_attempts(self, store: Store) -> None:
        """Link each dead attempt's run to the next one; an attempt that died at once never linked those before it."""
        attempts = [attempt for attempt in self.dead_attempts if is_run_active(store, str(attempt.run_id))]
        for dead, follower in pairwise((*attempts, self.attempt)):
            link_attempts(store, str(dead.run_id), str(follower.run_id), follower.number)


class _StoreAway(Exception):
    """The tracking store did not answer; the delivery has backed off."""


class Delivery:
    """The parcels of one sweep. Those that the store could not take yet wait in a queue.

    say: prints a line in a style. sleep: waits for a number of seconds.
    """

    def __init__(self, store: Store, say: Callable[[str, str], None], sleep: Callable[[float], None]) -> None:
        self._store, self._say, self._sleep = store, say, sleep
        self._queue: list[Parcel] = []
        self._retry_time = 0.0
        self._delay = 0.0
        self._reason = ""

    @property
    def is_behind(self) -> bool:
        """Whether parcels wait for a store that was away."""
        return bool(self._queue)

    def deliver(self, parcel: Parcel) -> None:
        """Deliver a parcel in its present state, or keep it for later."""
        if parcel not in self._queue:
            self._queue.append(parcel)
        self.retry_queue()

    def discard(self, parcel: Parcel) -> None:
        """Take a parcel out of the queue: its run is closed in another way."""
        if parcel in self._queue:
            self._queue.remove(parcel)

    def retry_queue(self) -> None:
        """Deliver what waits, unless the store was found away a moment ago."""
        while self._queue and time.monotonic() >= self._retry_time:
            try:
                self._call_once(lambda: self._queue[0].deliver(self._store))
            except _StoreAway:
                continue  # which ends the loop until the retry time has come
            self._queue.pop(0)
            self._end_outage()

    def flush(self) -> None:
        """Wait until everything is delivered; StoreError when the store stays away for PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._retry_time = 0.0
        self.retry_queue()
        while self._queue:
            if time.monotonic() >= deadline:
                raise self._make_timeout_error()
            self._sleep(min(1.0, max(0.05, self._retry_time - time.monotonic())))
            self.retry_queue()

    def try_call(self, call: Callable[[], Any]) -> bool:
        """Make a call that can be put off, unless the store is known to be away; return whether it succeeded."""
        if time.monotonic() < self._retry_time:
            return False
        try:
            self._call_once(call)
        except _StoreAway:
            return False
        return True

    def call_with_retries(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call that cannot be put off, repeated until the store answers; StoreError after PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._call_once(call)
            except _StoreAway:
                if time.monotonic() >= deadline:
                    raise self._make_timeout_error() from None
                self._sleep(min(self._delay, 5.0))
            else:
                self._end_outage()
                return answer

    def kill_run(self, run_id: str) -> bool:
        """Close a run that is broken off; return False if the store is away, so that the next start has to do it."""
        try:
            kill_run(self._store, run_id)
        except Exception as error:
            if explain_outage(error) is None:
                raise
            return False
        return True

    def _call_once(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call. Where the store is away, back off and raise _StoreAway; other errors pass.

        Raises StoreError where the store's file is gone, or its experiment was deleted: waiting would not help.
        """
        refuse_replaced_file(self._store)
        try:
            answer = call()
        except Exception as error:
            refuse_replaced_file(self._store)
            reason = explain_outage(error, self._store.uri)
            if reason is None:
                if hasattr(error, "error_code"):  # MLflow's own
                    check_experiment(self._store)
                raise
            self._back_off(reason)
            raise _StoreAway from error
        refuse_replaced_file(self._store)
        return answer

    def _back_off(self, reason: str) -> None:
        if not self._delay:
            self._say(f"the tracking store is away ({reason}): training goes on, results are kept here", "yellow")
        self._reason = reason
        self._delay = min(_MAX_DELAY, 2 * self._delay or _FIRST_DELAY)
        self._retry_time = time.monotonic() + self._delay

    def _end_outage(self) -> None:
        if self._delay:
            self._say("the tracking store answers again", "green")
            self._delay = self._retry_time = 0.0

    def _make_timeout_error(self) -> StoreError:
        return StoreError(
            f"the tracking store is away ({self._reason}); what was trained is kept here: type the same command again "
            "when it is back, and all that is missing is logged, once."
        )
