"""Where a sweep's trials run and how many at once: as the config says, or as this machine does best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from fmnist_sweep import executors
from fmnist_sweep.config.schema import Config, ExecutorConfig, RayConfig
from fmnist_sweep.executors import Executor, Placement
from fmnist_sweep.executors.in_process import InProcessExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.plan import PlannedStudy, forecast_studies, hash_workload
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost, measure_training_cost

# Of work in one process, before workers are tried: to start them takes five to ten seconds.
_MIN_MINUTES_TO_MEASURE = 1.0
# A worker beside others: what it has for itself (benchmarks/executors.py), with room to breathe.
_WORKER_BYTES = 1.5e9
# Where a container finds its own limit: control groups of version 2 and 1.
_CGROUP_MEMORY_FILES = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


@contextmanager
def open_idle_executor(stop: Stop) -> Iterator[tuple[Executor, Placement]]:
    """For a sweep that has nothing to train."""
    yield InProcessExecutor(stop), Placement("in_process", 1, backend.count_usable_cores())


@contextmanager
def open_executor(
    plan: Sequence[PlannedStudy], config: Config, stop: Stop, view: View
) -> Iterator[tuple[Executor, Placement, Forecast]]:
    """The executor to use, and what is left to do will take with it; TensorFlow's threads are settled here."""
    placement = _choose_without_measuring(config.executor, plan)
    with ExitStack() as stack:
        if placement is None:
            yield _choose_by_measuring(plan, config, stop, view, stack)
            return
        if config.plan or placement.name != "local":
            backend.set_threads(placement.threads)
            probes = _probe_in_process(plan)
        if config.plan:
            executor: Executor = InProcessExecutor(stop)
        else:
            executor = stack.enter_context(executors.make_executor(placement, config.executor, stop))
            placement = replace(placement, workers=executor.slots)
        view.say(f"executor: {placement}")
        if not config.plan and placement.name == "local":
            probes = _probe_in_workers(plan, executor)
        yield executor, placement, forecast_studies(plan, probes, max(1, placement.workers))


def dump_placement(placement: Placement) -> dict[str, Any]:
    """An arrangement as a study's journal keeps it."""
    return asdict(placement)


def _choose_without_measuring(config: ExecutorConfig, plan: Sequence[PlannedStudy]) -> Placement | None:
    """What is known without measuring; None where that is to be done."""
    cores = backend.count_usable_cores()
    trial_limit = max((planned.trials_left for planned in plan), default=0)
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
        workers = config.workers or _count_workers(cores, earlier_placement.threads, trial_limit)
        return (
            earlier_placement if earlier_placement.name == "in_process" else replace(earlier_placement, workers=workers)
        )
    if config.workers == 1 or _count_workers(cores, threads, trial_limit) == 1:
        return Placement("in_process", 1, threads or cores)
    return None


def _find_earlier_placement(plan: Sequence[PlannedStudy], cores: int) -> Placement | None:
    """What was measured for a study that continues, or what a trial of it is to go on with.

    Another number of threads would find other last bits.
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
    """One a core (or as many cores as it was given), as far as memory goes and there are trials."""
    return int(max(1, min(cores // (threads or 1), _read_free_bytes() // _WORKER_BYTES, trials)))


def _read_free_bytes() -> float:
    """Memory that is free for new processes, here and in their control group; math.inf where nobody says."""
    free_bytes = math.inf
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            free_bytes = 1024.0 * int(line.split()[1])
    for folder, limit, used in _CGROUP_MEMORY_FILES:
        try:
            limit_bytes, used_bytes = (Path(folder, name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if limit_bytes.isdecimal():
            free_bytes = min(free_bytes, max(0.0, int(limit_bytes) - int(used_bytes)))
    return free_bytes


def _choose_by_measuring(
    plan: Sequence[PlannedStudy], config: Config, stop: Stop, view: View, stack: ExitStack
) -> tuple[Executor, Placement, Forecast]:
    """One trial at a time on all cores, or several at once: each is tried, and what takes less time is taken."""
    cores = backend.count_usable_cores()
    single = Placement("in_process", 1, config.executor.threads or cores)
    single_executor = executors.make_executor(single, config.executor, stop)
    single_forecast = forecast_studies(plan, _probe_in_process(plan), 1)
    if config.plan or backend.has_gpu() or not single_forecast.minutes >= _MIN_MINUTES_TO_MEASURE:
        may_use_workers = single_forecast.minutes >= _MIN_MINUTES_TO_MEASURE and config.plan
        view.say(f"executor: {single}{', or workers where they are found to be quicker' if may_use_workers else ''}")
        return single_executor, single, single_forecast
    single = replace(single, measured=True)
    workers = _count_workers(cores, config.executor.threads, max(planned.trials_left for planned in plan))
    parallel = Placement("local", workers, config.executor.threads or cores // workers, measured=True)
    view.say(f"measuring whether {parallel} take less time than {single} ...")
    try:
        with ExitStack() as parallel_stack:
            parallel_executor = parallel_stack.enter_context(executors.make_executor(parallel, config.executor, stop))
            parallel_forecast = forecast_studies(
                plan, _probe_in_workers(plan, parallel_executor), parallel_executor.slots
            )
            speedup = _compute_speedup(single_forecast, parallel_forecast)
            if speedup > 1:
                stack.push(parallel_stack.pop_all())
                view.say(f"executor: {parallel} (measured: {speedup:.2f} times as quick as {single})")
                return parallel_executor, parallel, parallel_forecast
    except (RuntimeError, OSError) as error:  # one process does without them
        view.say(f"executor: {single}, because workers cannot be used here ({error})", "yellow")
        return single_executor, single, single_forecast
    view.say(f"executor: {single} (measured: {parallel} would take {1 / speedup:.2f} times as long)")
    return single_executor, single, single_forecast


def _compute_speedup(single: Forecast, parallel: Forecast) -> float:
    """How many times as quick the work is done by several at once; where time limits it, how many times as much."""
    if math.isinf(single.minutes) or single.trials != parallel.trials:
        return parallel.trials / single.trials if math.isfinite(parallel.trials) else 1.0
    return single.minutes / parallel.minutes


def _probe_in_process(plan: Sequence[PlannedStudy]) -> Mapping[str, TrainingCost]:
    return _probe_each_workload(plan, lambda planned: measure_training_cost(planned.study.settings, planned.splits))


def _probe_in_workers(plan: Sequence[PlannedStudy], executor: Any) -> Mapping[str, TrainingCost]:
    return _probe_each_workload(plan, partial(_measure_in_workers, executor))


def _measure_in_workers(executor: Any, planned: PlannedStudy) -> TrainingCost:
    probes: list[TrainingCost] = executor.measure(planned.study.settings, planned.study.job.config.data)
    mean_epoch_seconds = sum(worker_probe.epoch_seconds for worker_probe in probes) / len(probes)
    return TrainingCost(
        mean_epoch_seconds, probes[0].parameters, max(worker_probe.start_seconds for worker_probe in probes)
    )


def _probe_each_workload(plan: Sequence[PlannedStudy], measure: Any) -> Mapping[str, TrainingCost]:
    """One probe for each kind of study that is not over."""
    probes: dict[str, TrainingCost] = {}
    for planned in plan:
        if not planned.is_done and hash_workload(planned) not in probes:
            probes[hash_workload(planned)] = measure(planned)
    return probes
