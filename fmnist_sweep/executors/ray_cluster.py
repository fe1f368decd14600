"""Trials as tasks on a Ray cluster: an existing one of any number of machines, or one started on this machine.

A task is one attempt of one trial and keeps nothing. Ray never repeats it: what is repeated, and from which checkpoint,
is the supervisor's decision. Its events stream back as they come. The images go through Ray's object store, once for
each study's data, so that no other node needs the files.
"""

from __future__ import annotations

import os
import re
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

from fmnist_sweep.config.schema import RayConfig
from fmnist_sweep.data import load_splits
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.executors import ray_node, ray_task
from fmnist_sweep.executors.concurrent import ConcurrentExecutor
from fmnist_sweep.executors.ray_connection import connect_to_ray, refuse_without_ray
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.training import backend
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialSpec, TrialStart, WorkerLost

_FETCH_TIMEOUT_SECONDS = 60.0  # after which an event that a task has sent counts as lost


@dataclass(eq=False)
class _Task:
    """One attempt under way. stream: its events. worker: the one that has it, None while it waits for one."""

    trial_id: str
    stream: Any
    worker: str | None = None

    def __str__(self) -> str:
        return "a worker of the Ray cluster" if self.worker is None else self.worker


class RayExecutor(ConcurrentExecutor):
    """As many slots as the cluster has room for trials at the moment: nodes may join it and leave it."""

    def __init__(self, config: RayConfig, threads: int, stop: Stop) -> None:
        super().__init__(stop)
        self._config, self._threads = config, threads
        self.uses_own_cores = config.address is None
        self._tasks: dict[str, _Task] = {}
        self._images: dict[str, Any] = {}
        self._resources = ExitStack()
        self._max_slots = 0
        self._stop_key = uuid.uuid4().hex.encode()
        self._has_stop_request = False

    @property
    def slots(self) -> int:
        """How many trials the cluster has room for now. The most that it ever had is remembered, for `submit`."""
        slots = self._config.workers or max(1, _count_slots(self._threads, self._config.gpus))
        self._max_slots = max(self._max_slots, slots)
        return slots

    def submit(self, spec: TrialSpec) -> None:
        import ray

        # Not the slots of this moment: a trial whose node is gone is submitted again, and waits until there is room.
        if len(self._tasks) >= self._max_slots:
            raise RuntimeError(f"ray has {self._max_slots} slots, and a trial is under way in each")
        splits = load_splits(spec.data)
        if splits.sha256 not in self._images:
            self._images[splits.sha256] = ray.put(splits)
        train = ray.remote(ray_task.train_trial).options(
            name=f"trial {spec.trial_id}",
            num_cpus=self._threads,
            num_gpus=self._config.gpus,
            max_retries=0,
            num_returns="streaming",
        )
        images, gpus = self._images[splits.sha256], self._config.gpus
        stream = train.remote(spec, images, self._threads, gpus, ray_task.read_node_versions(), self._stop_key)
        self._tasks[spec.trial_id] = _Task(spec.trial_id, stream)

    def abandon(self, trial_id: str) -> None:
        import ray

        self._drop_events(trial_id)
        task = self._tasks.pop(trial_id, None)
        if task is not None:
            ray.cancel(task.stream, force=True)

    # What tasks say

    def _has_trials(self) -> bool:
        return bool(self._tasks)

    def _receive_event(self, seconds: float) -> TrialEvent | None:
        import ray

        ready, _ = ray.wait([task.stream for task in self._tasks.values()], timeout=seconds)
        if not ready:
            return None
        task = next(task for task in self._tasks.values() if task.stream is ready[0])
        try:
            event: TrialEvent = ray.get(next(task.stream), timeout=_FETCH_TIMEOUT_SECONDS)
        except (ray.exceptions.RayError, TimeoutError) as error:
            return self._handle_lost_task(task, error)
        # The task goes to the end of the line, so that every task gets its turn; or out of it.
        del self._tasks[task.trial_id]
        if isinstance(event, TrialStart):
            task.worker = event.worker
        if isinstance(event, TrialStart) or (isinstance(event, EpochEnd) and not event.last):
            self._tasks[task.trial_id] = task
        return event

    def _handle_lost_task(self, task: _Task, error: Exception) -> WorkerLost:
        """Describe the loss of a worker. Raises any other error, which every attempt would meet."""
        from ray import exceptions

        match error:
            case exceptions.OutOfMemoryError():
                reason = f"{task} was ended by Ray, because memory ran out there: fewer trials at once need less"
            case exceptions.NodeDiedError():
                reason = f"{task} is gone with its node"
            case exceptions.ObjectLostError():
                reason = f"what {task} needed or said was lost with a node"
                self._images.clear()
            case TimeoutError():
                reason = f"what {task} said did not arrive within {_FETCH_TIMEOUT_SECONDS:.0f} s"
            case exceptions.WorkerCrashedError() | exceptions.LocalRayletDiedError() | exceptions.TaskCancelledError():
                reason = f"{task} died"
            case _:
                _raise_task_error(error)
        self.abandon(task.trial_id)
        return WorkerLost(task.trial_id, reason)

    def _announce_stop(self) -> None:
        if self._has_stop_request:
            return
        from ray.experimental import internal_kv

        self._has_stop_request = True
        # The cluster's head has the key-value store, so the loss of another node does not touch it. Ray's own way
        # (cancel) raises in the middle of an epoch and ends the stream.
        internal_kv._internal_kv_put(self._stop_key, b"", namespace=ray_task.NAMESPACE)
        for task in [task for task in self._tasks.values() if task.worker is None]:
            self.abandon(task.trial_id)
            self._events.append(WorkerLost(task.trial_id, f"{task} was not there before the end was asked for"))

    # The cluster

    def __enter__(self) -> Self:
        address, gpus = self._config.address, self._config.gpus
        refuse_without_ray(address)
        with ExitStack() as stack:
            if address is None:
                os.environ.update(ray_node.make_ray_settings())
                address = stack.enter_context(ray_node.run_ray_node(backend.count_usable_cores()))
                stack.enter_context(connect_to_ray(address, _node_ip_address=ray_node.LOOPBACK))
            else:
                stack.enter_context(connect_to_ray(address))
            if not _count_slots(self._threads, gpus):
                raise ConfigError(_describe_missing_slots(self._threads, gpus))
            self._max_slots = self.slots
            stack.callback(self._drop_tasks)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _drop_tasks(self) -> None:
        from ray.exceptions import RayError
        from ray.experimental import internal_kv

        with suppress(RayError):  # the cluster may be gone
            for trial_id in list(self._tasks):
                self.abandon(trial_id)
            if self._has_stop_request:
                internal_kv._internal_kv_del(self._stop_key, namespace=ray_task.NAMESPACE)
        self._tasks.clear()
        self._events.clear()
        self._images.clear()


def _raise_task_error(error: Exception) -> NoReturn:
    """Raise a task's error as it was raised there. For a node that lacks a package, raise a ConfigError about that."""
    from ray.exceptions import RayTaskError

    missing = re.search(r"No module named '(\w+)", str(error))
    if missing is not None:
        raise ConfigError(
            f"executor=ray: a node of the cluster has no Python package {missing[1]}; give every node the environment "
            "of this one (docs/clusters.md)."
        ) from error
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        raise error.cause from RuntimeError(str(error))
    raise error


def _count_slots(threads: int, gpus: float) -> int:
    """How many trials the cluster's nodes have room for if they do nothing else. No trial is split between nodes."""
    import ray

    slots = 0
    for node in ray.nodes():
        resources = node["Resources"] if node["Alive"] else {}
        node_slots = int(resources.get("CPU", 0) // threads)
        slots += min(node_slots, int(resources.get("GPU", 0) / gpus + 1e-9)) if gpus else node_slots
    return slots


def _describe_missing_slots(threads: int, gpus: float) -> str:
    import ray

    resources = ray.cluster_resources()
    gpus_text = f" and executor.gpus={gpus:g}" if gpus else ""
    return (
        f"executor.threads={threads}{gpus_text} (executor=ray): no node of the cluster has room for such a trial (all "
        f"of them together have {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs); ask for less "
        "or add nodes."
    )
