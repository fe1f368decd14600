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
from fmnist_sweep.sweep.costs import Costs, find_known_costs, forecast_plan, measure_in_process, measure_in_workers
from fmnist_sweep.sweep.executor_choice import ExecutorChoice
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.measurements import Measurements
from fmnist_sweep.sweep.plan import PlannedStudy, has_mixed_replicas
from fmnist_sweep.training import backend

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
    plan: Sequence[PlannedStudy],
    config: Config,
    stop: Stop,
    say: Callable[[str, str], None],
    announce: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Executor, Placement, Forecast]]:
    """Choose and start the executor; also forecast what is left to do with it. say: prints a line in a style.

    For a sweep in this process it settles TensorFlow's threads. Beside workers TensorFlow is imported only to measure,
    and once they import it, too. announce: called first, or while workers that are certain to be used are starting.
    """
    measurements = Measurements()
    placement = _choose_without_measuring(config.executor, plan)
    with ExitStack() as stack:
        if placement is None:
            announce()
            cores, threads = backend.count_usable_cores(), config.executor.threads
            workers = _count_workers(cores, threads, sum(planned.trials_left for planned in plan))
            single = Placement("in_process", 1, threads or cores)
            parallel = Placement("local", workers, threads or cores // workers)
            yield ExecutorChoice(plan, single, parallel, measurements, stop, say, config.plan).choose(stack)
            return
        starts_workers = placement.name == "local" and not config.plan
        costs = find_known_costs(plan, placement, measurements)
        if not starts_workers:
            announce()
            costs = costs or _measure_here(plan, placement.threads, measurements)
        executor: Executor = InProcessExecutor(stop)
        if not config.plan:
            executor = stack.enter_context(executors.make_executor(placement, config.executor, stop))
            placement = replace(placement, workers=executor.slots)
        if starts_workers:
            announce()
        say(f"executor: {placement}", "")
        if costs is None:
            assert isinstance(executor, LocalExecutor)
            backend.import_tensorflow()  # beside the workers, which import it, too
            costs = measure_in_workers(plan, executor, placement, measurements)
        yield executor, placement, forecast_plan(plan, costs, max(1, placement.workers))


def _measure_here(plan: Sequence[PlannedStudy], threads: int, measurements: Measurements) -> Costs:
    single = Placement("in_process", 1, threads)
    known_costs = find_known_costs(plan, single, measurements)
    if known_costs is not None:
        return known_costs
    backend.set_threads(threads)
    return measure_in_process(plan, single, measurements)


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
    if has_mixed_replicas(plan):  # workers are replaced by others that share out their cores otherwise
        threads = threads or (earlier_placement.threads if earlier_placement else None)
        workers = config.workers or _count_workers(cores, threads, trials_left)
        return Placement("local", workers, threads or max(1, cores // workers))
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
