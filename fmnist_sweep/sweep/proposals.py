"""Proposals of what to train next. Each answer of the oracle is journaled before anything depends on it.

An oracle that learns from results is usually told each result as it comes; what it proposes then depends on which of
several trials was quicker. In a synchronous search it is told the results in the order in which it proposed the trials,
and only those that it has to know for its next answer. Every run of such a search proposes the same.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property

from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.search.ask_and_tell import Exchange, Search, Wait
from fmnist_sweep.search.estimates import continues_beyond_budget
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.plan import has_trials_left, may_go_on
from fmnist_sweep.sweep.settling import awaits_results
from fmnist_sweep.sweep.size_limit import SizeLimit
from fmnist_sweep.training import backend


class Proposals:
    """The trials of one study that are still to begin, those of an earlier session first.

    count_seconds: returns the seconds spent on the study so far. A trial whose configuration another trial has is not
    trained: it takes over the outcome of that one, its twin.
    """

    def __init__(self, study: StudyContext, count_seconds: Callable[[], float]) -> None:
        config = study.config
        self._config, self._opened, self._record = config, study.opened, study.record
        self._count_seconds = count_seconds
        self._study = study.study
        self._limit = None if config.search.max_parameters is None else SizeLimit(study.study, study.description)
        self._earlier_exchanges: list[Exchange] = []
        self._lookahead = config.search.lookahead
        self._queue: deque[TrialHistory] = deque()
        self._unreported: deque[TrialHistory] = deque()  # in the order they were proposed
        self._trials_by_key: dict[str, TrialHistory] = {}
        self._waiting_twins: dict[str, list[TrialHistory]] = {}  # by the id of the trial that they wait for
        self._has_told_since_wait = True

    @property
    def is_synchronous(self) -> bool:
        """Whether the oracle is told of a trial's end in the trial's turn instead of at once."""
        return self._lookahead is not None

    @cached_property
    def _search(self) -> Search:
        """The oracle in the state that the journal described when the study was opened."""
        config = self._config
        backend.import_tensorflow()  # KerasTuner imports it, too, with its start-up notes
        with pause_while_importing():
            search = Search(
                config.search.name,
                config.oracle,
                self._study.settings,
                config.search.objective,
                None if self._limit is None else self._limit.admits,
                self._study.first,
            )
        search.restore(self._earlier_exchanges)
        self._keep_sizes()
        return search

    @property
    def is_at_hand(self) -> bool:
        """Whether a trial can be taken without seconds of making the oracle ready first."""
        return bool(self._queue) or "_search" in vars(self)

    def prepare_search(self) -> bool:
        """Make the oracle ready, which takes seconds, before it is needed; return False where it is ready."""
        is_ready = "_search" in vars(self)
        return not is_ready and self._search is not None

    def recall_exchanges(self) -> None:
        """Take up what the oracle answered and was told in earlier sessions."""
        self._earlier_exchanges = list(self._record.exchanges)
        last = self._record.exchanges[-1:]
        self._has_told_since_wait = not any(isinstance(exchange, Wait) for exchange in last)
        self._unreported.extend(history for history in self._record.trials.values() if not history.is_reported)

    def remember(self, history: TrialHistory) -> None:
        """Remember a trial of an earlier session, so that later trials can be recognized as its twins."""
        self._trials_by_key.setdefault(_make_key(history), history)

    def enqueue(self, histories: Iterable[TrialHistory]) -> None:
        """Let trials of an earlier session begin first. To be called once all its trials are remembered."""
        for history in histories:
            if history.attempts:
                self._queue.append(history)
            else:
                self._queue_unless_twin(history)

    def take_next(self, running_count: int, *, only_begun: bool = False) -> TrialHistory | None:
        """Take the next trial to begin beside `running_count` others; None if there is none now.

        With nothing running, None means that there will be none. only_begun: take only trials that an earlier session
        began.
        """
        if only_begun:
            self._queue = deque(history for history in self._queue if history.attempts)
            return self._queue.popleft() if self._queue else None
        while not self._queue:
            if awaits_results(self._config, self._record):
                return None
            if not self._has_budget() or not self._advance_search(running_count):
                return None
        return self._queue.popleft()

    def report_end(self, history: TrialHistory) -> None:
        """Take in that a trial's end is in the journal. The oracle is told, unless it is to be told later."""
        if history.is_reported:
            self._tell(history)
        if not self.is_synchronous:
            for twin in self._waiting_twins.pop(history.trial_id, []):
                self._copy_outcome(twin, history)

    def _has_budget(self) -> bool:
        return may_go_on(self._config, self._record, self._count_seconds())

    def _advance_search(self, running_count: int) -> bool:
        """Ask the oracle once, or first tell it a result that it must know; return False where neither can be done."""
        may_draw = has_trials_left(self._config, self._study.settings, self._record)
        if not may_draw and not continues_beyond_budget(self._config.search.name, self._study.settings):
            return False
        if not self._has_told_since_wait or (self._lookahead is not None and len(self._unreported) >= self._lookahead):
            return self._tell_next()
        answer = self._search.ask(may_draw=may_draw)
        self._keep_sizes()
        if isinstance(answer, Wait):
            self._opened.append_event("waited")  # an exchange, too: Hyperband may have opened a bracket
            self._has_told_since_wait = False
            return True
        if answer is None:
            if not running_count:
                while self._tell_next():
                    pass
                limit = {} if may_draw else {"configurations": self._record.configuration_count}
                self._opened.append_event("exhausted", **limit, **self._describe_refused_draws())
            return False
        self._opened.append_event("asked", proposal=answer.dump())
        history = self._record.trials[answer.trial_id]
        if self.is_synchronous:
            self._unreported.append(history)
        self._queue_unless_twin(history)
        return True

    def _keep_sizes(self) -> None:
        if self._limit is not None:
            self._limit.keep_sizes()

    def _describe_refused_draws(self) -> dict[str, int]:
        count = self._search.refused_count
        return {"refused": count} if count else {}

    def _tell_next(self) -> bool:
        """Tell the next result of a synchronous search; return False where it is not there yet."""
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

    def _queue_unless_twin(self, history: TrialHistory) -> None:
        """Queue a trial to be trained, unless its configuration was, or is being, trained for as many epochs."""
        twin = self._trials_by_key.setdefault(_make_key(history), history)
        if twin is history:
            self._queue.append(history)
        elif self.is_synchronous:
            pass  # `_tell_next` takes the outcome over in its turn
        elif twin.outcome is None:
            self._waiting_twins.setdefault(twin.trial_id, []).append(history)
        else:
            self._copy_outcome(history, twin)

    def _copy_outcome(self, history: TrialHistory, twin: TrialHistory) -> None:
        """Let a trial end with the score of its twin."""
        score = (twin.outcome or {}).get("score")
        self._opened.append_event(
            "known", trial_id=history.trial_id, same_as=twin.duplicate_of or twin.trial_id, score=score
        )
        self._tell(history)

    def _tell(self, history: TrialHistory) -> None:
        self._search.tell(history.trial_id, (history.outcome or {}).get("score"))
        self._has_told_since_wait = True


def _make_key(history: TrialHistory) -> str:
    """What two trials share that train the same."""
    return json.dumps([history.proposal.values, history.proposal.epochs], sort_keys=True)
