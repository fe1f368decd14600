"""The choice between one trial at a time on all cores and several at once, by what takes less time on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from fmnist_sweep.executors import Executor, Placement
from fmnist_sweep.executors.in_process import InProcessExecutor
from fmnist_sweep.executors.local import LocalExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.sweep.costs import (
    estimate_epochs_left,
    find_known_costs,
    forecast_plan,
    measure_in_process,
    measure_in_workers,
)
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.measurements import Measurements
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.training import backend
from fmnist_sweep.training.environment import list_gpu_models

# Workers are tried only where one process would need longer than this: starting them takes five to ten seconds.
_MIN_MINUTES = 1.0
# With so many images left to train on, one process is expected to need longer before anything is measured: the default
# models take 0.1 to 0.3 ms for each on two cores (benchmarks/engine.py).
_MANY_IMAGES = 500_000

Choice = tuple[Executor, Placement, Forecast]


class _WorkersUnusable(Exception):
    """Why workers cannot be used here, in words."""


@dataclass(frozen=True)
class ExecutorChoice:
    """The choice for what is left of a plan. What was measured earlier is not measured again.

    is_plan_only: nothing is to be trained, so that no workers are started. say: prints a line in a style.
    """

    plan: Sequence[PlannedStudy]
    single: Placement
    parallel: Placement
    measurements: Measurements
    stop: Stop
    say: Callable[[str, str], None]
    is_plan_only: bool

    def choose(self, stack: ExitStack) -> Choice:
        """Choose and start the executor, which the stack ends."""
        single_forecast = self._recall_forecast(self.single)
        if single_forecast is not None and _is_short(single_forecast):
            return self._use_single(single_forecast)
        parallel_forecast = self._recall_forecast(self.parallel)
        if single_forecast is not None and parallel_forecast is not None:
            return self._choose_from_memory(single_forecast, parallel_forecast, stack)
        if self.is_plan_only:
            forecast = single_forecast or self._measure_single()
            doubt = "" if _is_short(forecast) else ", or workers if they turn out to be quicker"
            return self._use_single(forecast, doubt)
        try:
            with ExitStack() as worker_stack:
                choice = self._choose_by_measuring(single_forecast, worker_stack)
                if choice[0].concurrent:
                    stack.push(worker_stack.pop_all())
                return choice
        except _WorkersUnusable as error:  # the sweep can do without them
            reason = f", because workers cannot be used here ({error})"
            return self._use_single(single_forecast or self._measure_single(), reason, style="yellow")

    def _choose_from_memory(self, single_forecast: Forecast, parallel_forecast: Forecast, stack: ExitStack) -> Choice:
        """Choose by what was measured earlier. Workers start before anything is imported here that they import, too."""
        speedup = _compute_speedup(single_forecast, parallel_forecast)
        advice = f"; remove {self.measurements.path} to measure again"
        if speedup <= 1:
            return self._use_single(single_forecast, self._describe_loss(speedup, "measured earlier", advice), True)
        if self.is_plan_only:
            executor: Executor = InProcessExecutor(self.stop)
        else:
            executor = stack.enter_context(self._make_workers())
        return self._use_parallel(executor, parallel_forecast, speedup, "measured earlier", advice)

    def _choose_by_measuring(self, single_forecast: Forecast | None, worker_stack: ExitStack) -> Choice:
        """Try one trial at a time, then several at once. Raises _WorkersUnusable."""
        workers, has_started = self._make_workers(), False
        if self._expects_workers(single_forecast):
            has_started = self._start(workers, worker_stack)
        backend.set_threads(self.single.threads)
        if single_forecast is None:
            if has_started:  # beside workers that still import, this process would look slow
                with _mark_worker_errors():
                    workers.wait_until_ready()
            single_forecast = self._measure_single()
        if backend.has_gpu() or _is_short(single_forecast):
            return self._use_single(single_forecast)
        if not has_started:
            self._start(workers, worker_stack)
        with _mark_worker_errors():
            costs = measure_in_workers(self.plan, workers, self.parallel, self.measurements)
        parallel_forecast = forecast_plan(self.plan, costs, workers.slots)
        speedup = _compute_speedup(single_forecast, parallel_forecast)
        if speedup > 1:
            return self._use_parallel(workers, parallel_forecast, speedup, "measured")
        return self._use_single(single_forecast, self._describe_loss(speedup, "measured"), True)

    def _expects_workers(self, single_forecast: Forecast | None) -> bool:
        """Whether workers are so likely to be tried that they start before it is certain, beside the import here."""
        if list_gpu_models():
            return False
        image_count = sum(
            estimate_epochs_left(planned) * len(planned.splits.train.labels)
            for planned in self.plan
            if not planned.is_done
        )
        return single_forecast is not None or image_count >= _MANY_IMAGES

    def _make_workers(self) -> LocalExecutor:
        return LocalExecutor(self.parallel.workers, self.parallel.threads, self.stop)

    def _start(self, workers: LocalExecutor, worker_stack: ExitStack) -> bool:
        self.say(f"measuring whether {self.parallel} take less time than {self.single} ...", "")
        with _mark_worker_errors():
            worker_stack.enter_context(workers)
        return True

    def _measure_single(self) -> Forecast:
        backend.set_threads(self.single.threads)
        return forecast_plan(self.plan, measure_in_process(self.plan, self.single, self.measurements), 1)

    def _recall_forecast(self, placement: Placement) -> Forecast | None:
        costs = find_known_costs(self.plan, placement, self.measurements)
        return None if costs is None else forecast_plan(self.plan, costs, placement.workers)

    def _describe_loss(self, speedup: float, how: str, advice: str = "") -> str:
        return f" ({how}: {self.parallel} would take {1 / speedup:.2f} times as long{advice})"

    def _use_single(self, forecast: Forecast, reason: str = "", is_measured: bool = False, style: str = "") -> Choice:
        if not self.is_plan_only:
            backend.set_threads(self.single.threads)
        self.say(f"executor: {self.single}{reason}", style)
        return InProcessExecutor(self.stop), replace(self.single, measured=is_measured), forecast

    def _use_parallel(
        self, executor: Executor, forecast: Forecast, speedup: float, how: str, advice: str = ""
    ) -> Choice:
        self.say(f"executor: {self.parallel} ({how}: {speedup:.2f} times as quick as {self.single}{advice})", "")
        return executor, replace(self.parallel, measured=True), forecast


@contextmanager
def _mark_worker_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise _WorkersUnusable(str(error)) from error


def _is_short(forecast: Forecast) -> bool:
    """Whether one process needs too little time for workers to be tried, or it is unknown how much."""
    return not forecast.minutes >= _MIN_MINUTES


def _compute_speedup(single: Forecast, parallel: Forecast) -> float:
    """How many times faster several trials at once are; where time limits the work, how many times more they do."""
    if math.isinf(single.minutes) or single.trials != parallel.trials:
        return parallel.trials / single.trials if math.isfinite(parallel.trials) else 1.0
    return single.minutes / parallel.minutes
