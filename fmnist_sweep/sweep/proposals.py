"""What to train next: the oracle is asked and told here, and each answer is journaled before anything depends on it.

An oracle that learns from results is usually told them as they come, so that what it proposes beside several trials
under way depends on which of them was quicker. In a synchronous search it is told in the order in which it proposed,
and only as much as it has to know for its next answer: then every run of the search proposes the same.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable

from fmnist_sweep.search.ask_and_tell import Search, Wait
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.plan import PlannedStudy


class Proposals:
    """The trials of one study that are still to be begun, those of an earlier session first."""

    def __init__(self, planned: PlannedStudy, opened: OpenStudy, seconds: Callable[[], float]) -> None:
        config = planned.study.job.config
        self._config, self._opened, self._record, self._seconds = config.search, opened, opened.record, seconds
        self._search = Search(config.search.name, config.oracle, planned.study.settings, config.search.objective)
        self._lookahead = config.search.lookahead
        self._queue: deque[TrialHistory] = deque()
        self._unreported: deque[TrialHistory] = deque()  # in the order proposed
        self._trials_by_key: dict[str, TrialHistory] = {}
        self._twins: dict[str, list[TrialHistory]] = {}  # that wait for the trial of this id
        self._has_told_since_wait = True

    @property
    def is_synchronous(self) -> bool:
        """Whether a trial's end is told to the oracle not at once, but in its turn."""
        return self._lookahead is not None

    def restore_oracle(self) -> None:
        """Bring the oracle to where the journal says it was."""
        for exchange in self._record.exchanges:
            if isinstance(exchange, tuple):
                self._search.tell(*exchange)
            else:
                self._search.replay(exchange)
        last = self._record.exchanges[-1:]
        self._has_told_since_wait = not any(isinstance(exchange, Wait) for exchange in last)
        self._unreported.extend(history for history in self._record.trials.values() if not history.is_reported)

    def enqueue(self, histories: Iterable[TrialHistory]) -> None:
        """Let these be begun first; to be called once all trials of earlier sessions are known to `known`."""
        for history in histories:
            if history.attempts or not self._defer_to_twin(history):
                self._queue.append(history)

    def remember(self, history: TrialHistory) -> None:
        """Remember a trial of an earlier session."""
        self._trials_by_key.setdefault(_make_key(history), history)

    def take_next(self, running_count: int, *, only_begun: bool = False) -> TrialHistory | None:
        """A trial to begin beside so many; None while there is none, or for good when none is running either.

        only_begun: none that has not been begun in an earlier session.
        """
        if only_begun:
            self._queue = deque(history for history in self._queue if history.attempts)
            return self._queue.popleft() if self._queue else None
        while not self._queue:
            if not self._has_budget() or not self._ask(running_count):
                return None
        return self._queue.popleft()

    def report_end(self, history: TrialHistory) -> None:
        """A trial's end is in the journal; unless that is for later, the oracle is told."""
        if history.is_reported:
            self._tell(history)
        if not self.is_synchronous:
            for twin in self._twins.pop(history.trial_id, []):
                self._copy_outcome(twin, history)

    def _has_budget(self) -> bool:
        max_trials, max_minutes = self._config.max_trials, self._config.max_minutes
        if self._record.trial_count >= (math.inf if max_trials is None else max_trials):
            return False
        return max_minutes is None or self._seconds() < 60 * max_minutes

    def _ask(self, running_count: int) -> bool:
        """Ask once, or tell what has to be told before; whether to go on."""
        if not self._has_told_since_wait or (self._lookahead is not None and len(self._unreported) >= self._lookahead):
            return self._tell_next()
        answer = self._search.ask()
        if isinstance(answer, Wait):
            self._opened.append_event("waited")  # it is an exchange too: Hyperband may have opened a bracket
            self._has_told_since_wait = False
            return True
        if answer is None:
            if not running_count:
                while self._tell_next():
                    pass
                self._opened.append_event("exhausted")
            return False
        self._opened.append_event("asked", proposal=vars(answer))
        history = self._record.trials[answer.trial_id]
        if self.is_synchronous:
            self._unreported.append(history)
        if not self._defer_to_twin(history):
            self._queue.append(history)
        return True

    def _tell_next(self) -> bool:
        """Where results are told in order: tell the next one; whether it is there."""
        if not self.is_synchronous or not self._unreported:
            return False
        history = self._unreported[0]
        twin = self._trials_by_key[_make_key(history)]
        if twin is not history and history.outcome is None and twin.outcome is not None and not history.attempts:
            self._unreported.popleft()
            self._copy_outcome(history, twin)
            return True
        if history.outcome is None:
            return False
        self._unreported.popleft()
        self._opened.append_event("told", trial_id=history.trial_id)
        self._tell(history)
        return True

    def _defer_to_twin(self, history: TrialHistory) -> bool:
        """Whether this configuration was, or is being, trained for as many epochs: its result is taken over."""
        twin = self._trials_by_key.setdefault(_make_key(history), history)
        if twin is history:
            return False
        if self.is_synchronous:
            return True
        if twin.outcome is None:
            self._twins.setdefault(twin.trial_id, []).append(history)
        else:
            self._copy_outcome(history, twin)
        return True

    def _copy_outcome(self, history: TrialHistory, twin: TrialHistory) -> None:
        score = (twin.outcome or {}).get("score")
        self._opened.append_event(
            "known", trial_id=history.trial_id, same_as=twin.duplicate_of or twin.trial_id, score=score
        )
        self._tell(history)

    def _tell(self, history: TrialHistory) -> None:
        self._search.tell(history.trial_id, (history.outcome or {}).get("score"))
        self._has_told_since_wait = True


def _make_key(history: TrialHistory) -> str:
    return json.dumps([history.proposal.values, history.proposal.epochs], sort_keys=True)
