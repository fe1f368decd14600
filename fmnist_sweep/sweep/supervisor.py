"""The loop of a sweep: the trials of all its studies share the slots of one executor.

The studies come in their order: a free slot goes to the first study that has a trial to begin, so that a later one gets
what the earlier ones cannot use; the core of a slot that none can use draws figures. A study is opened when it gets its
first slot, and closed when its last trial is delivered, while the others go on. In one process it is closed before the
next one begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from fmnist_sweep.report.leaderboard import LeaderboardEntry
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.closing import read_entries
from fmnist_sweep.sweep.context import StudyContext, SweepContext
from fmnist_sweep.sweep.figures import draw_next_figures
from fmnist_sweep.sweep.live_trial import LiveTrial
from fmnist_sweep.sweep.study_run import StudyRun
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.training.events import TrialEvent

# How long to wait for an event of the workers before looking at the clock, and at a store that was away.
_EVENT_TIMEOUT_SECONDS = 1.0

# Takes a study that is done, with its trials.
StudyTaker = Callable[[StudyContext, list[LeaderboardEntry]], None]


class Supervisor:
    """Trains what is left of a sweep's studies.

    opened: the sweep's journal. take_done: called with each study once its run is closed, or was closed before.
    """

    def __init__(
        self, sweep: SweepContext, studies: Sequence[StudyContext], opened: OpenSweep, take_done: StudyTaker
    ) -> None:
        self._sweep, self._opened, self._take_done = sweep, opened, take_done
        self._study_count = len(studies)
        self._waiting = deque(enumerate(studies, 1))
        self._begun_studies: list[StudyContext] = []  # open or done
        self._runs: list[StudyRun] = []  # open, in the order of the studies
        self._error: Exception | None = None  # a study's, to be raised once those before it are closed
        self._failed_number = 0  # of that study

    def run(self) -> None:
        """Train what is left to train. KeyboardInterrupt when the user asked for an end; no run is left open then."""
        try:
            while self._waiting:
                self._train_until_idle()
                for run in [run for run in self._runs if run.has_ended]:
                    self._close(run)
                if self._error is not None:
                    raise self._error
        except BaseException:
            self._kill_running()
            raise

    def _train_until_idle(self) -> None:
        """Train until no trial is under way and none can begin: all are done, or the store is away."""
        self._fill_slots()
        while self._count_live_trials():
            self._process_event()
            if all(self._may_end(live) for run in self._runs for live in run.live_trials.values()):
                self._raise_if_asked()
            self._fill_slots()
        self._raise_if_asked()

    def _kill_running(self) -> None:
        with ExitStack() as stack:
            for run in reversed(self._runs):  # which the stack turns round
                stack.callback(run.kill_running)

    def _raise_if_asked(self) -> None:
        if self._sweep.stop.is_requested:
            raise KeyboardInterrupt

    def _count_live_trials(self) -> int:
        return sum(len(run.live_trials) for run in self._runs)

    def _may_end(self, live: LiveTrial) -> bool:
        """Whether a trial can be broken off now without a loss: its last epoch has ended and is kept."""
        return live.is_stopped or (not self._sweep.executor.concurrent and live.kept_epochs == len(live.epochs))

    # Events

    def _process_event(self) -> None:
        """Handle the next event, or do what can be done while no event waits.

        Overdue trials are looked for only then: the end of one that ended in time may be among the events that wait.
        """
        event = self._wait_for_event(0.0)
        if event is None and (
            self._fail_overdue()
            or any(run.deliver_waiting() for run in self._runs)
            or self._prepare_search()
            or self._draw_while_idle()
            or self._close_first_ended()
        ):
            return
        event = event or self._wait_for_event(_EVENT_TIMEOUT_SECONDS)
        if event is None:
            self._sweep.delivery.retry_queue()
            self._sweep.view.refresh()
            return
        run = next((run for run in self._runs if event.trial_id in run.live_trials), None)
        if run is not None:
            run.handle_event(event)
            if not self._sweep.executor.concurrent:
                self._fail_overdue()

    def _prepare_search(self) -> bool:
        """Make an oracle ready that is not; return False where all are, or none will be asked."""
        return not self._sweep.stop.is_requested and any(run.prepare_search() for run in self._runs)

    def _wait_for_event(self, timeout: float) -> TrialEvent | None:
        with self._sweep.stop.allow_interruption():
            return self._sweep.executor.next_event(timeout)

    def _fail_overdue(self) -> bool:
        """Fail the trials that have had search.trial_minutes; return False where there is none."""
        overdue_trials = [(run, live) for run in self._runs for live in run.find_overdue_trials()]
        for run, live in overdue_trials:
            run.fail_overdue(live)
        return bool(overdue_trials)

    def _draw_while_idle(self) -> bool:
        """Draw the figures of a trial on an idle core; return False where there is none, or nothing to draw.

        Idle is the core of a slot without a trial, and each of this machine's where trials train elsewhere.
        """
        executor = self._sweep.executor
        is_idle = executor.concurrent and (self._has_free_slot() or not executor.uses_own_cores)
        if not is_idle or self._sweep.stop.is_requested or self._sweep.delivery.is_behind:
            return False
        return any(draw_next_figures(study) for study in self._begun_studies)

    # Slots

    def _has_free_slot(self) -> bool:
        return self._count_live_trials() < self._sweep.executor.slots and not self._sweep.stop.is_requested

    def _fill_slots(self) -> None:
        """Begin trials while there are slots and proposals, those of earlier studies first."""
        if not self._has_free_slot():
            return
        for run in self._list_runs():
            while self._has_free_slot() and self._begin_next(run):
                pass
            if run.has_ended and not self._sweep.executor.concurrent:
                self._close(run)
            if not self._has_free_slot() or run.holds_slots:
                return

    def _list_runs(self) -> Iterator[StudyRun]:
        """The studies that may begin a trial; the next one is opened when it is asked for."""
        for run in list(self._runs):
            if self._error is None or run.number < self._failed_number:
                yield run
        while self._waiting and self._error is None and self._can_use_store():
            number, study = self._waiting.popleft()
            if study.planned.is_done:
                self._begun_studies.append(study)
                self._take_done(study, read_entries(self._sweep, study.record))
            elif (opened_run := self._open(study, number)) is not None:
                yield opened_run

    def _can_use_store(self) -> bool:
        """Whether a call that waits for the store may be made now: not beside an open study while the store is away."""
        if not self._runs:
            return True
        store, run_id = self._sweep.store, str(self._opened.record.run_id)
        return self._sweep.delivery.try_call(lambda: is_run_active(store, run_id))

    def _open(self, study: StudyContext, number: int) -> StudyRun | None:
        self._sweep.view.begin_study(study.label, number, self._study_count, study.planned.trials_left)
        try:
            run = StudyRun(study, number, self._fill_slots)
            self._runs.append(run)
            run.open(self._opened)
        except Exception as error:
            self._keep_error(error, number)
            return None
        self._begun_studies.append(study)
        return run

    def _begin_next(self, run: StudyRun) -> bool:
        try:
            return run.begin_next()
        except Exception as error:
            self._keep_error(error, run.number)
            return False

    def _keep_error(self, error: Exception, number: int) -> None:
        """Keep the error of a study until the studies before it are closed; raise it where no other study is open.

        Else a study that cannot be opened would break off the last trials of the one before it, time and again.
        """
        if all(run.number == number for run in self._runs):
            raise error
        self._error, self._failed_number = error, number

    # Closing

    def _close_first_ended(self) -> bool:
        """Close a study that has ended while others train; return False where there is none, or the store is away."""
        ended_run = next((run for run in self._runs if run.has_ended), None)
        if ended_run is None or self._sweep.stop.is_requested:
            return False
        if self._sweep.delivery.is_behind or not self._can_use_store():
            return False
        self._close(ended_run)
        return True

    def _close(self, run: StudyRun) -> None:
        self._raise_if_asked()
        entries = run.close(others_train=self._count_live_trials() > 0)
        self._runs.remove(run)
        self._take_done(run.study, entries)
