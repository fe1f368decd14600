"""An executor whose trials only wait: any number of slots, real events, a real supervisor that cannot tell.

What it hands up is valid in every part: figures that depend on the configuration and the epoch alone, checkpoints that
can be gone on from, and the .keras file of one tiny network that was really trained.
"""

from __future__ import annotations

import heapq
import io
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fmnist_sweep.analysis import importance
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.executors import Placement
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep import figures, parcels
from fmnist_sweep.sweep import run as sweep
from fmnist_sweep.sweep.delivery import Delivery, Parcel
from fmnist_sweep.sweep.forecast import Forecast
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.training import snapshot, trial
from fmnist_sweep.training.events import EpochEnd, TrialEvent, TrialResult, TrialSpec, TrialStart
from fmnist_sweep.training.optimization import find_best_epoch
from tests.support.altered import list_stand_ins
from tests.support.small import TINY, events, resolved
from tests.support.small import splits as small_splits

Metrics = dict[str, float]
_HOLD_SECONDS = 0.01  # after which it is looked at again whether a trial is to wait


@dataclass(frozen=True)
class Trained:
    """What one real trial left: its .keras file, its parameters, the state of model and optimizer."""

    model: bytes
    parameters: int
    state: list[tuple[str, NDArray[Any]]]


@cache
def trained() -> Trained:
    """A tiny network, trained once for all simulated trials."""
    job = compose_job(TINY)
    spec = TrialSpec("0", resolved(job), job.config.search.objective, job.config.data, checkpoint_seconds=0)
    (epoch,), result = events(spec, small_splits())
    assert isinstance(result, TrialResult) and epoch.checkpoint is not None
    return Trained(result.model, result.parameters, snapshot.unpack_snapshot(epoch.checkpoint).state)


def key(spec: TrialSpec) -> str:
    """The configuration a trial trains, whatever its number of epochs."""
    train = {**spec.config["train"], "epochs": None}
    return json.dumps({**spec.config, "train": train}, sort_keys=True)


def right(spec: TrialSpec, epoch: int, images: int) -> int:
    """How many validation images a trial gets right after an epoch; more epochs, more images."""
    talent = random.Random(key(spec)).uniform(0.4, 0.95)
    return round(images * talent * (1 - 0.4 / epoch))


def metrics(spec: TrialSpec, epoch: int, images: int, seconds: float) -> Metrics:
    """The figures of an epoch."""
    accuracy = right(spec, epoch, images) / images
    loss = 2.3 * (1 - accuracy) + random.Random(key(spec)).uniform(0, 0.1)
    rate = float(spec.config["optimizer"]["learning_rate"])
    figures = {"loss": loss, "accuracy": accuracy, "val_loss": 1.1 * loss, "val_accuracy": accuracy}
    return {**figures, "learning_rate": rate, "epoch_seconds": seconds, "epoch_cpu_seconds": seconds}


def probabilities(spec: TrialSpec, epoch: int) -> NDArray[np.float32]:
    """Predictions on the validation images that are right as often as the epoch's accuracy says."""
    labels = load_splits(spec.data).validation.labels
    generator = np.random.default_rng(random.Random(key(spec)).getrandbits(32))
    wrong = generator.permutation(len(labels))[right(spec, epoch, len(labels)) :]
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + generator.integers(1, 10, len(wrong))) % 10
    found = generator.uniform(0, 0.5, (len(labels), 10)).astype(np.float32)
    found[np.arange(len(labels)), predicted] = 1.0
    found /= found.sum(axis=1, keepdims=True)
    return found


@dataclass
class _Underway:
    spec: TrialSpec
    history: list[Metrics]
    epoch_seconds: float
    images: int
    started: bool = False


class Simulated:
    """Slots that wait.

    seconds: how long a trial takes; heard: called with each event before it is handed up; fate: what it ends with at
    once, or None for its result; holds: whether a trial that has begun is to wait now.
    """

    concurrent = True
    uses_own_cores = True

    def __init__(
        self,
        slots: int,
        seconds: Callable[[TrialSpec], float],
        stop: Stop,
        heard: Callable[[TrialEvent], None] = lambda event: None,
        fate: Callable[[TrialSpec], TrialEvent | None] = lambda spec: None,
        holds: Callable[[TrialSpec], bool] = lambda spec: False,
    ) -> None:
        self._slots, self._seconds, self._stop, self._heard, self._fate = slots, seconds, stop, heard, fate
        self._holds = holds
        self._underway: dict[str, _Underway] = {}
        self._due: list[tuple[float, int, _Underway]] = []
        self._order = 0

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, spec: TrialSpec) -> None:
        if len(self._underway) >= self._slots:
            raise RuntimeError(f"simulated has {self._slots} slots, and a trial is under way in each")
        history = [] if spec.resume is None else trial.read_checkpoint_history(spec.resume)
        left = max(1, spec.config["train"]["epochs"] - len(history))
        images = len(load_splits(spec.data).validation.labels)
        begun = self._underway[spec.trial_id] = _Underway(spec, history, self._seconds(spec) / left, images)
        self._say_at(time.monotonic(), begun)

    def next_event(self, timeout: float | None = None) -> TrialEvent | None:
        if not self._underway:
            raise RuntimeError("no trial is under way")
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            while self._due and self._underway.get(self._due[0][2].spec.trial_id) is not self._due[0][2]:
                heapq.heappop(self._due)  # abandoned
            due = self._due[0][0] if self._due else deadline
            left = min(due, deadline) - time.monotonic()
            if left > 0:
                time.sleep(left)
            elif due <= deadline and self._due and self._due[0][2].started and self._holds(self._due[0][2].spec):
                self._say_at(time.monotonic() + _HOLD_SECONDS, heapq.heappop(self._due)[2])
            elif due <= deadline and self._due:
                event = self._event(*heapq.heappop(self._due))
                self._heard(event)
                return event
            else:
                return None

    def abandon(self, trial_id: str) -> None:
        self._underway.pop(trial_id, None)

    def _say_at(self, due: float, underway: _Underway) -> None:
        self._order += 1
        heapq.heappush(self._due, (due, self._order, underway))

    def _event(self, due: float, order: int, underway: _Underway) -> TrialEvent:
        """What a trial says at its time; the next time is as if it had been heard at once."""
        spec, history = underway.spec, underway.history
        epochs = spec.config["train"]["epochs"]
        if not underway.started:
            underway.started = True
            # `due` and not now: workers train on while the supervisor is busy.
            self._say_at(due + (underway.epoch_seconds if len(history) < epochs else 0), underway)
            return TrialStart(spec.trial_id, "a simulated worker")
        fate = self._fate(spec)
        if fate is not None or len(history) == epochs:
            del self._underway[spec.trial_id]
            return fate or self._result(spec, history)
        history.append(metrics(spec, len(history) + 1, underway.images, underway.epoch_seconds))
        is_last = self._stop.is_requested and len(history) < epochs
        if is_last:
            del self._underway[spec.trial_id]
        else:
            self._say_at(due + (underway.epoch_seconds if len(history) < epochs else 0), underway)
        return EpochEnd(spec.trial_id, len(history), history[-1], self._checkpoint(spec, history, is_last), is_last)

    def _checkpoint(self, spec: TrialSpec, history: list[Metrics], is_last: bool) -> bytes | None:
        due = spec.checkpoint_seconds is not None or (
            spec.keep_final and len(history) == spec.config["train"]["epochs"]
        )
        if not due and not is_last:
            return None
        best = find_best_epoch(history, spec.objective)
        return snapshot.pack_snapshot(snapshot.Snapshot(history, trained().state, None, probabilities(spec, best)))

    def _result(self, spec: TrialSpec, history: list[Metrics]) -> TrialResult:
        best = find_best_epoch(history, spec.objective)
        return TrialResult(
            trial_id=spec.trial_id,
            history=history,
            best_epoch=best,
            probabilities=probabilities(spec, best),
            model=trained().model,
            parameters=trained().parameters,
            fit_seconds=sum(row["epoch_seconds"] for row in history),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._underway.clear()
        self._due.clear()


class Unstored(Delivery):
    """Gives the store nothing and says that it has all: one run stands there for every trial."""

    _run_id: str | None = None

    def deliver(self, parcel: Parcel) -> None:
        if self._run_id is None:
            info = RunInfo("stand-in", "stands for every trial", {}, "none")
            self._run_id = start_run(self._store, info, may_exist=False)
            log_files(self._store, self._run_id, {"nothing.txt": b"nothing\n"})
        if parcel.attempt.run_id is None:
            parcel.on_run_id(self._run_id)
        if parcel.closer is not None:
            parcel.on_delivered()


@contextmanager
def simulated(
    slots: int,
    seconds: Callable[[TrialSpec], float],
    heard: Callable[[TrialEvent], None] = lambda event: None,
    stored: bool = True,
    drawn: bool = True,
    fate: Callable[[TrialSpec], TrialEvent | None] = lambda spec: None,
    holds: Callable[[TrialSpec], bool] = lambda spec: False,
) -> Iterator[None]:
    """Within this, sweeps train on a Simulated executor.

    stored=False: their trials are kept out of the store. drawn=False: one figure that is drawn already stands for all,
    and the figures of reports are stand-ins.
    """

    @contextmanager
    def arranged(
        plan: Sequence[Any], config: object, stop: Stop, view: object, announce: Callable[[], None]
    ) -> Iterator[Any]:
        announce()
        trained()
        with Simulated(slots, seconds, stop, heard, fate, holds) as executor:
            yield executor, Placement("simulated", slots, 1), Forecast(0, 0, 0, 0, 0)

    with ExitStack() as changed:
        changed.enter_context(mock.patch.object(sweep, "open_executor", arranged))
        changed.enter_context(mock.patch.object(importance, "_REFITS", 2))  # twenty take most of a report's time
        if not stored:
            changed.enter_context(mock.patch.object(sweep, "Delivery", Unstored))
        if not drawn:
            figure = {"curves.png": b"no figure"}
            changed.enter_context(mock.patch.object(parcels, "make_trial_artifacts", lambda *arguments: figure))
            for module, name, stand_in in list_stand_ins():
                changed.enter_context(mock.patch.object(module, name, stand_in))
        if not (stored and drawn):
            changed.enter_context(mock.patch.object(figures, "log_figures", lambda *arguments: None))
        yield


def sweep_waiting(*overrides: str) -> str:
    """What a sweep of one study says, whose trials only wait. It has to end well."""
    shown = io.StringIO()
    with simulated(1, lambda spec: 0.0, drawn=False):
        view = View(Console(file=shown, width=200), None)
        code = sweep.run_sweep([compose_job(overrides)], "python -m fmnist_sweep", view)
    assert code is ExitCode.DONE
    return shown.getvalue()
