"""Placement of a sweep's trials: which executor and how many at once, as configured or as measured on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fmnist_sweep import executors
from fmnist_sweep.config.schema import Config, ExecutorConfig, RayConfig
from fmnist_sweep.executors import Executor, Placement
from fmnist_sweep.executors.in_process import InProcessExecutor
from fmnist_sweep.executors.local import LocalExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.sweep.costs import forecast_plan, measure_in_process, measure_in_workers
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.training import backend

# Workers are tried only where one process would need longer than this: starting them takes five to ten seconds.
_MIN_MINUTES_TO_MEASURE = 1.0
# What each worker needs besides what workers share (benchmarks/executors.py), with a margin.
_WORKER_BYTES = 1.5e9
# Where a container finds its own limit: control groups of version 2 and 1.
_CGROUP_MEMORY_FILES = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def make_idle_executor(stop: Stop) -> tuple[Executor, Placement]:
    """Make an executor for a sweep that has nothing to train."""
    return InProcessExecutor(stop), Placement("in_process", 1, backend.count_usable_cores())


@contextmanager
def open_executor(
    plan: Sequence[PlannedStudy], config: Config, stop: Stop, say: Callable[[str, str], None]
) -> Iterator[tuple[Executor, Placement, Forecast]]:
    """Choose and start the executor; also forecast what is left to do with it. It settles TensorFlow's threads.

    TensorFlow is imported here once the workers that are sure to be needed import it, too. say: prints a line in a
    style.
    """
    placement = _choose_without_measuring(config.executor, plan)
    with ExitStack() as stack:
        if placement is None:
            yield _choose_by_measuring(plan, config, stop, say, stack)
            return
        if config.plan or placement.name != "local":
            backend.set_threads(placement.threads)
            costs = measure_in_process(plan)
        if config.plan:
            executor: Executor = InProcessExecutor(stop)
        else:
            executor = stack.enter_context(executors.make_executor(placement, config.executor, stop))
            placement = replace(placement, workers=executor.slots)
            backend.import_tensorflow()
        say(f"executor: {placement}", "")
        if isinstance(executor, LocalExecutor):
            costs = measure_in_workers(plan, executor)
        yield executor, placement, forecast_plan(plan, costs, max(1, placement.workers))


def dump_placement(placement: Placement) -> dict[str, Any]:
    """A placement as a study's journal keeps it."""
    return asdict(placement)


def _choose_without_measuring(config: ExecutorConfig, plan: Sequence[PlannedStudy]) -> Placement | None:
    """Choose what the config, or an earlier session, settles; None where measuring has to decide."""
    cores = backend.count_usable_cores()
    trials_left = sum(planned.trials_left for planned in plan)  # of all studies, which share the workers
    threads = config.threads
    if config.name == "in_process":
        return Placement("in_process", 1, threads or cores)
    if isinstance(config, RayConfig):
        return Placement("ray", config.workers or 0, threads or 1)
    if config.name == "local" or (config.workers or 1) > 1:
        workers = config.workers or _count_workers(cores, threads, math.inf)
        return Placement("local", workers, threads or max(1, cores // workers))
    earlier_placement = _find_earlier_placement(plan, cores)
    if earlier_placement is not None and threads in (None, earlier_placement.threads):
        workers = config.workers or _count_workers(cores, earlier_placement.threads, trials_left)
        return (
            earlier_placement if earlier_placement.name == "in_process" else replace(earlier_placement, workers=workers)
        )
    if config.workers == 1 or _count_workers(cores, threads, trials_left) == 1:
        return Placement("in_process", 1, threads or cores)
    return None


def _find_earlier_placement(plan: Sequence[PlannedStudy], cores: int) -> Placement | None:
    """The placement that a continued study was measured with, or that a trial of it was begun with.

    With another number of threads, results would differ in their last bits.
    """
    for planned in plan:
        if planned.record is None or planned.is_done:
            continue
        fields = planned.record.about.get("executor")
        if fields is None or fields["name"] == "ray" or fields["threads"] > cores:
            continue
        if fields["measured"] or planned.record.count_trials("running"):
            return Placement(**fields)
    return None


def _count_workers(cores: int, threads: int | None, trials: float) -> int:
    """One worker per core, or per `threads` cores, as far as memory and trials suffice."""
    return int(max(1, min(cores // (threads or 1), _read_free_bytes() // _WORKER_BYTES, trials)))


def _read_free_bytes() -> float:
    """Memory that is free for new processes, on the machine and in their control group; math.inf where unknown."""
    free_bytes = math.inf
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text(encoding="utf-8", errors="replace").splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            free_bytes = 1024.0 * int(line.split()[1])
    for folder, limit, used in _CGROUP_MEMORY_FILES:
        try:
            limit_bytes, used_bytes = (
                Path(folder, name).read_text(encoding="utf-8", errors="replace").strip() for name in (limit, used)
            )
        except OSError:
            continue
        if limit_bytes.isdecimal():
            free_bytes = min(free_bytes, max(0.0, int(limit_bytes) - int(used_bytes)))
    return free_bytes


def _choose_by_measuring(
    plan: Sequence[PlannedStudy],
    config: Config,
    stop: Stop,
    say: Callable[[str, str], None],
    stack: ExitStack,
) -> tuple[Executor, Placement, Forecast]:
    """Try one trial at a time on all cores, then several at once, and choose what takes less time."""
    cores = backend.count_usable_cores()
    single = Placement("in_process", 1, config.executor.threads or cores)
    single_executor = executors.make_executor(single, config.executor, stop)
    single_forecast = forecast_plan(plan, measure_in_process(plan), 1)
    if config.plan or backend.has_gpu() or not single_forecast.minutes >= _MIN_MINUTES_TO_MEASURE:
        may_use_workers = single_forecast.minutes >= _MIN_MINUTES_TO_MEASURE and config.plan
        say(f"executor: {single}{', or workers if they turn out to be quicker' if may_use_workers else ''}", "")
        return single_executor, single, single_forecast
    single = replace(single, measured=True)
    workers = _count_workers(cores, config.executor.threads, sum(planned.trials_left for planned in plan))
    parallel = Placement("local", workers, config.executor.threads or cores // workers, measured=True)
    say(f"measuring whether {parallel} take less time than {single} ...", "")
    try:
        with ExitStack() as parallel_stack:
            parallel_executor = parallel_stack.enter_context(LocalExecutor(workers, parallel.threads, stop))
            parallel_forecast = forecast_plan(
                plan, measure_in_workers(plan, parallel_executor), parallel_executor.slots
            )
            speedup = _compute_speedup(single_forecast, parallel_forecast)
            if speedup > 1:
                stack.push(parallel_stack.pop_all())
                say(f"executor: {parallel} (measured: {speedup:.2f} times as quick as {single})", "")
                return parallel_executor, parallel, parallel_forecast
    except (RuntimeError, OSError) as error:  # the sweep can do without workers
        say(f"executor: {single}, because workers cannot be used here ({error})", "yellow")
        return single_executor, single, single_forecast
    say(f"executor: {single} (measured: {parallel} would take {1 / speedup:.2f} times as long)", "")
    return single_executor, single, single_forecast


def _compute_speedup(single: Forecast, parallel: Forecast) -> float:
    """How many times faster several trials at once are; where time limits the work, how many times more they do."""
    if math.isinf(single.minutes) or single.trials != parallel.trials:
        return parallel.trials / single.trials if math.isfinite(parallel.trials) else 1.0
    return single.minutes / parallel.minutes
