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
from fmnist_sweep.executors import Arrangement, Executor
from fmnist_sweep.executors.in_process import InProcess
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep import plan as plans
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.sweep.plan import Planned
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost, measure_training_cost

# Of work in one process, before workers are tried: to start them takes five to ten seconds.
_WORTH_MINUTES = 1.0
# A worker beside others: what it has for itself (benchmarks/executors.py), with room to breathe.
_WORKER_BYTES = 1.5e9
# Where a container finds its own limit: control groups of version 2 and 1.
_MEMORY_OF_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


@contextmanager
def idle(stop: Stop) -> Iterator[tuple[Executor, Arrangement]]:
    """For a sweep that has nothing to train."""
    yield InProcess(stop), Arrangement("in_process", 1, backend.count_usable_cores())


@contextmanager
def arranged(
    plan: Sequence[Planned], config: Config, stop: Stop, view: View
) -> Iterator[tuple[Executor, Arrangement, Forecast]]:
    """The executor to use, and what is left to do will take with it; TensorFlow's threads are settled here."""
    settled = _settled(config.executor, plan)
    with ExitStack() as held:
        if settled is None:
            yield _measured(plan, config, stop, view, held)
            return
        if config.plan or settled.name != "local":
            backend.set_threads(settled.threads)
            probes = _probes_here(plan)
        if config.plan:
            executor: Executor = InProcess(stop)
        else:
            executor = held.enter_context(executors.make(settled, config.executor, stop))
            settled = replace(settled, workers=executor.slots)
        view.say(f"executor: {settled}")
        if not config.plan and settled.name == "local":
            probes = _probes_there(plan, executor)
        yield executor, settled, plans.costs(plan, probes, max(1, settled.workers))


def recorded(arrangement: Arrangement) -> dict[str, Any]:
    """An arrangement as a study's journal keeps it."""
    return asdict(arrangement)


def _settled(config: ExecutorConfig, plan: Sequence[Planned]) -> Arrangement | None:
    """What is known without measuring; None where that is to be done."""
    cores = backend.count_usable_cores()
    most = max((planned.left for planned in plan), default=0)
    threads = config.threads
    if config.name == "in_process":
        return Arrangement("in_process", 1, threads or cores)
    if isinstance(config, RayConfig):
        return Arrangement("ray", config.workers or 0, threads or 1)
    if config.name == "local" or (config.workers or 1) > 1:
        workers = config.workers or _workers(cores, threads, math.inf)
        return Arrangement("local", workers, threads or max(1, cores // workers))
    before = _begun_with(plan, cores)
    if before is not None and threads in (None, before.threads):
        workers = config.workers or _workers(cores, before.threads, most)
        return before if before.name == "in_process" else replace(before, workers=workers)
    if config.workers == 1 or _workers(cores, threads, most) == 1:
        return Arrangement("in_process", 1, threads or cores)
    return None


def _begun_with(plan: Sequence[Planned], cores: int) -> Arrangement | None:
    """What was measured for a study that continues, or what a trial of it is to go on with.

    Another number of threads would find other last bits.
    """
    for planned in plan:
        if planned.record is None or planned.over:
            continue
        found = planned.record.about.get("executor")
        if found is None or found["name"] == "ray" or found["threads"] > cores:
            continue
        if found["measured"] or planned.record.count_trials("running"):
            return Arrangement(**found)
    return None


def _workers(cores: int, threads: int | None, trials: float) -> int:
    """One a core (or as many cores as it was given), as far as memory goes and there are trials."""
    return int(max(1, min(cores // (threads or 1), _free_bytes() // _WORKER_BYTES, trials)))


def _free_bytes() -> float:
    """Memory that is free for new processes, here and in their control group; math.inf where nobody says."""
    free = math.inf
    machine = Path("/proc/meminfo")
    for line in machine.read_text().splitlines() if machine.exists() else ():
        if line.startswith("MemAvailable:"):
            free = 1024.0 * int(line.split()[1])
    for folder, limit, used in _MEMORY_OF_GROUPS:
        try:
            most, taken = (Path(folder, name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdecimal():
            free = min(free, max(0.0, int(most) - int(taken)))
    return free


def _measured(
    plan: Sequence[Planned], config: Config, stop: Stop, view: View, held: ExitStack
) -> tuple[Executor, Arrangement, Forecast]:
    """One trial at a time on all cores, or several at once: each is tried, and what takes less time is taken."""
    cores = backend.count_usable_cores()
    alone = Arrangement("in_process", 1, config.executor.threads or cores)
    executor = executors.make(alone, config.executor, stop)
    expected = plans.costs(plan, _probes_here(plan), 1)
    if config.plan or backend.has_gpu() or not expected.minutes >= _WORTH_MINUTES:
        later = expected.minutes >= _WORTH_MINUTES and config.plan
        view.say(f"executor: {alone}{', or workers where they are found to be quicker' if later else ''}")
        return executor, alone, expected
    alone = replace(alone, measured=True)
    workers = _workers(cores, config.executor.threads, max(planned.left for planned in plan))
    together = Arrangement("local", workers, config.executor.threads or cores // workers, measured=True)
    view.say(f"measuring whether {together} take less time than {alone} ...")
    try:
        with ExitStack() as trial:
            several = trial.enter_context(executors.make(together, config.executor, stop))
            expected_together = plans.costs(plan, _probes_there(plan, several), several.slots)
            gain = _gain(expected, expected_together)
            if gain > 1:
                held.push(trial.pop_all())
                view.say(f"executor: {together} (measured: {gain:.2f} times as quick as {alone})")
                return several, together, expected_together
    except (RuntimeError, OSError) as error:  # one process does without them
        view.say(f"executor: {alone}, because workers cannot be used here ({error})", "yellow")
        return executor, alone, expected
    view.say(f"executor: {alone} (measured: {together} would take {1 / gain:.2f} times as long)")
    return executor, alone, expected


def _gain(alone: Forecast, together: Forecast) -> float:
    """How many times as quick the work is done by several at once; where time limits it, how many times as much."""
    if math.isinf(alone.minutes) or alone.trials != together.trials:
        return together.trials / alone.trials if math.isfinite(together.trials) else 1.0
    return alone.minutes / together.minutes


def _probes_here(plan: Sequence[Planned]) -> Mapping[str, TrainingCost]:
    return _probes(plan, lambda planned: measure_training_cost(planned.study.settings, planned.splits))


def _probes_there(plan: Sequence[Planned], executor: Any) -> Mapping[str, TrainingCost]:
    return _probes(plan, partial(_slowest, executor))


def _slowest(executor: Any, planned: Planned) -> TrainingCost:
    found: list[TrainingCost] = executor.measure(planned.study.settings, planned.study.job.config.data)
    mean = sum(each.epoch_seconds for each in found) / len(found)
    return TrainingCost(mean, found[0].parameters, max(each.start_seconds for each in found))


def _probes(plan: Sequence[Planned], probe: Any) -> Mapping[str, TrainingCost]:
    """One probe for each kind of study that is not over."""
    found: dict[str, TrainingCost] = {}
    for planned in plan:
        if not planned.over and plans.kind(planned) not in found:
            found[plans.kind(planned)] = probe(planned)
    return found
