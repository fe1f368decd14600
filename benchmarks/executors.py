"""Trials an hour: worker processes against as many independent plain scripts, the limit, and against one process.

In turn in one run, with the same configurations in each: `executor=local` (the real command, everything logged), plain
Keras scripts that share the configurations and log nothing, `executor=in_process`. Counted from the first trial's start
to the last one's end, without the start of processes. Also the memory each worker has for itself.

    python benchmarks/executors.py --rounds 3 --trials 6 --images 12000 --epochs 6
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal, Search
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from fmnist_sweep.training import backend

PLAIN = "--plain-script"


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The sweep's config: of real images where they are at hand, else of drawn ones."""
    data = [f"data.limit={arguments.images}"] if os.environ.get("FMNIST_DATA_DIR") else ["data=drawn"]
    given = [*data, f"train.epochs={arguments.epochs}", f"search.max_trials={arguments.trials}"]
    return [*given, "search=random", "train.early_stopping=null", "model.filters.values=[32,48]", "model.conv_layers=2"]


def sweep(given: Sequence[str], executor: Sequence[str]) -> tuple[float, list[float]]:
    """Trials an hour of the real command, and the megabytes each worker had for itself at most."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fmnist_sweep", *given, *executor]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        most: dict[int, float] = {}
        while process.poll() is None:
            for pid in workers_of(process.pid):
                most[pid] = max(most.get(pid, 0.0), private_megabytes(pid))
            time.sleep(0.5)
        if process.returncode:
            raise SystemExit(f"the sweep ended with code {process.returncode}")
        store = open_existing_store(build_default_uri(Path(folder)), "fashion-mnist")
        found = store.client.search_runs([store.experiment_id], filter_string="tags.`fmnist.kind` = 'trial'")
        begun = min(run.info.start_time for run in found)
        ended = max(run.info.end_time for run in found)
        return len(found) * 3_600_000 / (ended - begun), list(most.values())


def workers_of(pid: int) -> list[int]:
    """The workers of a sweep: the children of the process that they are forks of."""
    return [worker for server in children_of(pid) for worker in children_of(server)]


def children_of(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def private_megabytes(pid: int) -> float:
    """Memory of a process that it shares with none, or its part of what it shares (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def plain(configs: Sequence[dict[str, Any]], given: Sequence[str], workers: int, threads: int) -> float:
    """Trials an hour of so many scripts that train and do nothing else; begun together once all are ready."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, PLAIN, json.dumps([configs[number::workers], list(given), threads])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    begun = time.perf_counter()
    waiting = [threading.Thread(target=process.communicate, args=("go\n",)) for process in processes]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    seconds = time.perf_counter() - begun
    if any(process.returncode for process in processes):
        raise SystemExit("a plain script failed")
    return len(configs) * 3600 / seconds


def plain_script(configs: Sequence[dict[str, Any]], given: Sequence[str], threads: int) -> None:
    """What a person writes who wants nothing but training: one model after the other."""
    backend.set_threads(threads)
    import keras

    from fmnist_sweep.training import models
    from fmnist_sweep.training.optimization import build_optimizer

    splits = load_splits(compose_job(given).config.data)
    print("ready", flush=True)
    sys.stdin.readline()
    for config in configs:
        train = config["train"]
        keras.backend.clear_session()
        keras.utils.set_random_seed(config["seed"])
        keras.config.set_dtype_policy(backend.resolve_precision(train["precision"]))
        model = models.build_model(config["model"], config["regularization"])
        model.compile(
            optimizer=build_optimizer(config["optimizer"]),
            loss=train["loss"],
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.fit(
            splits.train.images,
            splits.train.labels,
            batch_size=train["batch_size"],
            epochs=train["epochs"],
            validation_data=(splits.validation.images, splits.validation.labels),
            verbose=0,
        )


def proposed(given: Sequence[str], trials: int) -> list[dict[str, Any]]:
    """The configurations that the sweep will train."""
    config = compose_job(given).config
    search = Search(config.search.name, config.oracle, config.settings, config.search.objective)
    found = []
    for _ in range(trials):
        answer = search.ask()
        assert isinstance(answer, Proposal), "the space holds fewer trials"
        found.append(space.resolve_tunables(config.settings, answer.values))
    return found


def shown(name: str, values: Sequence[float], unit: str = "", digits: int = 0) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:<42} {middle:10.{digits}f}{unit}  ({low:.{digits}f} to {high:.{digits}f}, n={len(values)})")


def main() -> None:
    if sys.argv[1:2] == [PLAIN]:
        plain_script(*json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=backend.count_usable_cores())
    arguments = parser.parse_args()
    backend.import_tensorflow()
    given, workers = overrides(arguments), arguments.workers
    threads = max(1, backend.count_usable_cores() // workers)
    configs = proposed(given, arguments.trials)
    local = ("executor=local", f"executor.workers={workers}", f"executor.threads={threads}")
    ours: list[float] = []
    limit: list[float] = []
    alone: list[float] = []
    memory: list[float] = []
    for number in range(arguments.rounds):
        measured: list[Callable[[], None]] = [
            lambda: ours.append(_with_memory(sweep(given, local), memory)),
            lambda: limit.append(plain(configs, given, workers, threads)),
            lambda: alone.append(sweep(given, ("executor=in_process",))[0]),
        ]
        for each in measured if number % 2 == 0 else reversed(measured):
            each()
        print(f"round {number + 1}: {ours[-1]:.0f}, {limit[-1]:.0f}, {alone[-1]:.0f} trials an hour", flush=True)
    print(
        f"{arguments.trials} trials of {arguments.epochs} epochs on {arguments.images} images, load {os.getloadavg()}"
    )
    shown(f"local, {workers} workers of {threads} thread(s)", ours, " an hour")
    shown(f"{workers} plain scripts of {threads} thread(s)", limit, " an hour")
    shown("in_process, all threads", alone, " an hour")
    shown("local : plain scripts", [a / b for a, b in zip(ours, limit, strict=True)], digits=3)
    shown("local : in_process", [a / b for a, b in zip(ours, alone, strict=True)], digits=3)
    shown("memory of a worker", memory, " MB")


def _with_memory(found: tuple[float, list[float]], memory: list[float]) -> float:
    memory.extend(found[1])
    return found[0]


if __name__ == "__main__":
    main()
