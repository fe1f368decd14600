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
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import store as stores

if TYPE_CHECKING:
    from fmnist_sweep.data import Splits
    from fmnist_sweep.study.record import Attempt
    from fmnist_sweep.tracking.runs import RunInfo
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.training.events import Epoch

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds between two tries, doubled each time
PATIENCE_SECONDS = 60.0  # how long the end of a study, or a call that cannot wait, waits for a store that is away

# Closes the run of this id; the flag: an earlier try may have got part of the way.
Ending = Callable[[str, bool], None]


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
    found: Callable[[str], None]
    delivered: Callable[[], None]
    begun: int = field(default_factory=lambda: now())
    epochs: list[Epoch] = field(default_factory=list)
    ending: Ending | None = None
    follows: Sequence[Attempt] = ()
    # Whether an earlier try, here or in a process that died, may have got part of the way.
    again: bool = False
    _described: bool = False
    _logged: int = 0

    def bring(self, store: Store) -> None:
        """Make the store know all there is so far; whatever it raises, calling again goes on.

        Of a run that somebody deleted, nothing more is to be said.
        """
        try:
            self._bring(store)
        except Exception as error:
            run_id = self.attempt.run_id
            if run_id is None or stores.explain_outage(error) is not None or tracking.is_run_active(store, run_id):
                raise
            if self.ending is not None:
                self.delivered()

    def _bring(self, store: Store) -> None:
        again, self.again = self.again, True
        if self.attempt.run_id is None:
            self.found(tracking.start_run(store, self.info, may_exist=again, start_time=self.begun))
        run_id = str(self.attempt.run_id)
        if not self._described:
            # Its files at once, because whoever looks at a failed or killed trial wants to repeat it.
            tracking.describe_run(store, run_id, self.params, self.splits, self.files)
            self._link(store)
            self._described = True
        tracking.log_epochs(store, run_id, self.epochs[self._logged :])
        self._logged = len(self.epochs)
        if self.ending is not None:
            self.ending(run_id, again)
            self.delivered()
        self.again = False

    def _link(self, store: Store) -> None:
        """Link each dead attempt's run with the next one: one that died at once had no time to link those before it."""
        there = [attempt for attempt in self.follows if tracking.is_run_active(store, str(attempt.run_id))]
        for dead, follower in pairwise((*there, self.attempt)):
            tracking.link_attempts(store, str(dead.run_id), str(follower.run_id), follower.number)


class Delivery:
    """The parcels of one sweep; those that a store which is away has not taken yet wait here in order."""

    def __init__(self, store: Store, say: Callable[[str, str], None]) -> None:
        self._store, self._say = store, say
        self._waiting: list[Parcel] = []
        self._not_before = 0.0
        self._wait = 0.0
        self._reason = ""

    def bring(self, parcel: Parcel) -> None:
        """Hand a parcel over as it is now, or keep it for later."""
        if parcel not in self._waiting:
            self._waiting.append(parcel)
        self.retry()

    def forget(self, parcel: Parcel) -> None:
        """Hand this one over no more: its run is closed in another way."""
        if parcel in self._waiting:
            self._waiting.remove(parcel)

    def retry(self) -> None:
        """Try what waits, unless the store was found away a moment ago."""
        while self._waiting and time.monotonic() >= self._not_before:
            try:
                self._waiting[0].bring(self._store)
            except Exception as error:
                reason = stores.explain_outage(error)
                if reason is None:
                    raise
                self._back_off(reason)
            else:
                self._waiting.pop(0)
                if self._wait:
                    self._say("the tracking store answers again", "green")
                self._wait = self._not_before = 0.0

    def _back_off(self, reason: str) -> None:
        if not self._wait:
            self._say(f"the tracking store is away ({reason}): training goes on, results are kept here", "yellow")
        self._reason = reason
        self._wait = min(_LONGEST_WAIT, 2 * self._wait or _FIRST_WAIT)
        self._not_before = time.monotonic() + self._wait

    def flush(self, sleep: Callable[[float], None]) -> None:
        """Wait for what is still missing; StoreError when the store stays away for PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._not_before = 0.0
        self.retry()
        while self._waiting:
            if time.monotonic() >= deadline:
                raise self.gave_up()
            sleep(min(1.0, max(0.05, self._not_before - time.monotonic())))
            self.retry()

    def gave_up(self) -> StoreError:
        """What to say when the store did not come back."""
        return StoreError(
            f"the tracking store is away ({self._reason}); what was trained is kept here: type the same command again "
            "when it is back, and all that is missing is logged, once."
        )

    def tried(self, call: Callable[[], Any]) -> bool:
        """Whether a call that can wait for later went through; it is not tried while the store is known to be away."""
        if time.monotonic() < self._not_before:
            return False
        try:
            call()
        except Exception as error:
            reason = stores.explain_outage(error)
            if reason is None:
                raise
            self._back_off(reason)
            return False
        return True

    def insist(self, call: Callable[[], Any], sleep: Callable[[float], None]) -> Any:
        """A call that cannot wait for later, tried until the store answers; StoreError after PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = call()
            except Exception as error:
                reason = stores.explain_outage(error)
                if reason is None:
                    raise
                self._back_off(reason)
                if time.monotonic() >= deadline:
                    raise self.gave_up() from None
                sleep(min(self._wait, 5.0))
            else:
                if self._wait:
                    self._say("the tracking store answers again", "green")
                    self._wait = self._not_before = 0.0
                return answer


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
