"""Record the table: configurations of the default space, each trained to the end of the longest schedule.

A random search of the product draws them, and its own training trains them, on all of Fashion-MNIST (FMNIST_DATA_DIR);
the test images stay closed. What is measured after every epoch is what a rung shows where a promoted trial goes on
(search.restart=false): after one epoch of nine it is at the beginning of a cycle of nine, and no short training.

    python benchmarks/replay/record.py [--configurations 120] [--epochs 9] [--processes 2] [--table FILE] [OVERRIDE ...]

With 1 or 3 epochs it trains the same configurations by a shorter schedule, into a table beside that of the longest one:
the rungs of a search that restarts.

It is nice, trains each configuration in one process of one thread, may be killed at any time, and goes on where it
stopped when it is started again, also for more configurations. A table of less than all images says so in its title.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.data import Splits, load_splits
from fmnist_sweep.search.ask_and_tell import Proposal, Search
from fmnist_sweep.sweep.live_trial import resolve_trial_config
from fmnist_sweep.text import format_duration
from fmnist_sweep.training import backend
from fmnist_sweep.training.environment import describe_machine, read_source_commit
from fmnist_sweep.training.events import EpochEnd, TrialFailure, TrialResult, TrialSpec
from replay.table import TABLE, DamagedTable, Row, name_shorter_table, open_table

# No search that is replayed has this seed: it would draw the table's rows in their order.
DRAWING_SEED = 1_000_000
LONGEST = 9  # epochs of the longest schedule
_LIBRARIES = ("tensorflow", "keras", "keras-tuner", "numpy")


@dataclass(frozen=True)
class Task:
    """A configuration to train. number: its place among the draws."""

    number: int
    values: Mapping[str, Any]
    config: dict[str, Any]


def draw_tasks(settings: Mapping[str, Any], count: int) -> list[Task]:
    """The first so many configurations that a random search of the product draws."""
    search = Search("random", {}, {**settings, "seed": DRAWING_SEED}, "val_accuracy")
    tasks = list[Task]()
    while len(tasks) < count and isinstance(answer := search.ask(), Proposal):
        tasks.append(Task(len(tasks), answer.values, resolve_trial_config(settings, answer)))
    return tasks


def describe_table(job: Job, splits: Splits, overrides: Sequence[str]) -> dict[str, Any]:
    """What all rows of the table share."""
    data, origin = job.config.data, splits.origin
    is_whole = origin.canonical and data.limit is None
    images = f"{len(splits.train.labels):,} images of {'drawn garments' if origin.is_drawn else 'Fashion-MNIST'}"
    return {
        "title": images if is_whole else f"NOT THE REAL TABLE: {images}",
        "overrides": list(overrides),
        "settings": job.config.settings,
        "precision": backend.resolve_precision(job.config.settings["train"]["precision"]),
        "images": [splits.sha256, len(splits.train.labels), len(splits.validation.labels)],
        "drawing_seed": DRAWING_SEED,
        "machine": describe_machine(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "commit": read_source_commit(),
        "command": shlex.join(["python", "benchmarks/replay/record.py", *sys.argv[1:]]),
    }


def train(task: Task, job: Job) -> Row | None:
    """Train a configuration in this process; None if the process that asked for it is gone."""
    parent, begun = os.getppid(), time.process_time()
    config = {**task.config, "train": dict(task.config["train"])}
    config["train"]["precision"] = backend.resolve_precision(config["train"]["precision"])
    # With the checkpoint that a promotion goes on from.
    spec = TrialSpec(str(task.number), config, job.config.search.objective, job.config.data, keep_final=True)
    accuracies, cpu_seconds, parameters, failure = list[float](), list[float](), 0, None
    for event in _run_trial(spec, load_splits(job.config.data)):
        if os.getppid() != parent:
            return None
        match event:
            case EpochEnd():
                if math.isfinite(event.metrics["loss"]) and math.isfinite(event.metrics["val_loss"]):
                    accuracies.append(event.metrics["val_accuracy"])
                cpu_seconds.append(event.metrics["epoch_cpu_seconds"])
            case TrialResult():
                parameters = event.parameters
            case TrialFailure():
                failure = event.reason
            case _:
                raise RuntimeError(f"configuration {task.number}: {event}")
    other = time.process_time() - begun - sum(cpu_seconds)
    return Row(task.number, task.values, tuple(accuracies), tuple(cpu_seconds), max(0.0, other), parameters, failure)


def _run_trial(spec: TrialSpec, splits: Splits) -> Iterator[object]:
    from fmnist_sweep.training.trial import run_trial

    return run_trial(spec, splits)


def work(connection: Connection, job: Job) -> None:
    """Train what is asked for, in a process of its own, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the recorder, with which this process ends
    backend.set_threads(1)
    load_splits(job.config.data)
    try:
        while True:
            row = train(connection.recv(), job)
            if row is None:
                return
            connection.send(row)
    except (EOFError, OSError):
        return


@contextmanager
def start_workers(count: int, job: Job) -> Iterator[dict[Connection, BaseProcess]]:
    """Start processes that train; they end with the block, or with this process after their present epoch."""
    context, workers = multiprocessing.get_context("spawn"), dict[Connection, BaseProcess]()
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=work, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
        yield workers
    finally:
        for process in workers.values():
            process.terminate()


def train_all(tasks: Sequence[Task], job: Job, processes: int) -> Iterator[Row]:
    """Train configurations, some at once; each row as it ends."""
    left = list(reversed(tasks))
    with start_workers(min(processes, len(tasks)), job) as workers:
        busy = [connection for connection in workers if _give_task(connection, left)]
        while busy:
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                try:
                    row: Row = ready.recv()
                except (EOFError, OSError):
                    workers[ready].join()
                    raise SystemExit(
                        f"a process that trained ended by itself (exit code {workers[ready].exitcode}): start the "
                        "command again, and it goes on."
                    ) from None
                yield row
                if not _give_task(ready, left):
                    busy.remove(ready)


def _give_task(connection: Connection, left: list[Task]) -> bool:
    if left:
        connection.send(left.pop())
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configurations", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=LONGEST, help="of the schedule; the rungs of ASHA are 1, 3, 9")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", type=Path, help="default: table.jsonl, and table_3.jsonl for a schedule of 3 epochs")
    parser.add_argument("overrides", nargs="*", help="of the product's config, for a table of something else")
    given = parser.parse_args()
    if given.table is None:
        given.table = TABLE if given.epochs == LONGEST else name_shorter_table(TABLE, given.epochs)
    os.nice(10)
    backend.import_tensorflow()
    job = compose_job([*given.overrides, "search=random", f"train.epochs={given.epochs}"])
    splits = load_splits(job.config.data)
    if splits.origin.fallback_reason is not None:
        raise SystemExit(f"no Fashion-MNIST ({splits.origin.fallback_reason}): set FMNIST_DATA_DIR to its folder.")
    tasks = draw_tasks(job.config.settings, given.configurations)
    try:
        with open_table(given.table, describe_table(job, splits, given.overrides)) as recorded:
            record([task for task in tasks if task.number not in recorded.numbers], recorded.append_row, job, given)
    except DamagedTable as error:
        raise SystemExit(f"{error}.") from None
    except KeyboardInterrupt:
        raise SystemExit("stopped: the same command goes on.") from None


def record(tasks: Sequence[Task], keep: Callable[[Row], None], job: Job, given: argparse.Namespace) -> None:
    """Train what is missing, and say how far it is."""
    print(f"{given.table}: {len(tasks)} configurations are to be trained for {given.epochs} epochs", flush=True)
    begun = time.monotonic()
    for count, row in enumerate(train_all(tasks, job, given.processes) if tasks else (), 1):
        keep(row)
        left = (time.monotonic() - begun) / count * (len(tasks) - count)
        score = row.failure or f"{max(row.accuracies):.4f}"
        print(
            f"{row.number}: {score} for {row.compute_cost(0, given.epochs):.0f} CPU s; {len(tasks) - count} left, "
            f"about {format_duration(left)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
