"""What a sweep of long trials costs beyond the sum of their bare fits.

In turn in one run, with the same configurations on the same images: the real command with worker processes, everything
logged, and as many processes as it has workers, which only fit: the project's own training, without supervisor,
journal, store, checkpoints and figures. Of the sweep counts all from the start of its first trial to the end of the
command, its closing and its report included. CPU seconds are of all its processes; wall seconds are beside whatever
else the machine does.

    python benchmarks/thirty_seconds.py [--pairs 3] [--trials 6] [--images 12000] [--epochs 10]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executors import children_of, overrides, proposed, shown, workers_of

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import load_splits
from fmnist_sweep.training import backend

BARE = "--bare-fits"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds that trials took in all processes (cpu), and from the first one's start to the end (wall)."""

    cpu: float
    wall: float


def run_sweep(given: Sequence[str], workers: int) -> Cost:
    """The cost of the real command, from the start of its first trial."""
    executor = ("executor=local", f"executor.workers={workers}", "executor.threads=1")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fmnist_sweep", *given, *executor]
        before = read_children_seconds()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        while not list(Path(folder).glob("mlruns/studies/*/journal.db")):
            if process.poll() is not None:
                raise SystemExit(f"the sweep ended with code {process.returncode}")
            time.sleep(0.05)
        begun, preparing = time.perf_counter(), sum(map(read_seconds, list_processes(process.pid)))
        if process.wait():
            raise SystemExit(f"the sweep ended with code {process.returncode}")
        # The workers' seconds come to those of the command once it has waited for them.
        return Cost(read_children_seconds() - before - preparing, time.perf_counter() - begun)


def list_processes(pid: int) -> list[int]:
    return [pid, *children_of(pid), *workers_of(pid)]


def read_seconds(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def read_children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fit_bare(configs: Sequence[dict[str, Any]], given: Sequence[str], workers: int) -> tuple[Cost, list[float]]:
    """The cost of the fits alone, in as many processes at once, and the wall seconds of each fit."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, BARE, json.dumps([configs[number::workers], list(given)])],
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
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in processes]
    wall = time.perf_counter() - begun
    if any(process.returncode for process in processes):
        raise SystemExit("a bare fit failed")
    return Cost(sum(cpu for cpu, _ in answers), wall), [seconds for _, fits in answers for seconds in fits]


def fit_all(configs: Sequence[dict[str, Any]], given: Sequence[str]) -> None:
    """Train one configuration after the other; print the CPU seconds, and the wall seconds of each fit."""
    backend.set_threads(1)
    backend.import_tensorflow()
    from fmnist_sweep.training import trial
    from fmnist_sweep.training.events import TrialResult, TrialSpec

    job = compose_job(given)
    splits = load_splits(job.config.data)
    print("ready", flush=True)
    sys.stdin.readline()
    cpu, fits = time.process_time(), []
    for number, config in enumerate(configs):
        config["train"]["precision"] = backend.resolve_precision(config["train"]["precision"])
        *_, result = trial.run_trial(
            TrialSpec(str(number), config, job.config.search.objective, job.config.data), splits
        )
        assert isinstance(result, TrialResult)
        fits.append(result.fit_seconds)
    print(json.dumps([time.process_time() - cpu, fits]), flush=True)


def main() -> None:
    if sys.argv[1:2] == [BARE]:
        fit_all(*json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=backend.count_usable_cores())
    arguments = parser.parse_args()
    backend.import_tensorflow()
    given = overrides(arguments)
    configs = proposed(given, arguments.trials)
    sweeps, bare, fits = list[Cost](), list[Cost](), list[float]()
    for number in range(arguments.pairs):
        if number % 2 == 0:
            sweeps.append(run_sweep(given, arguments.workers))
        cost, seconds = fit_bare(configs, given, arguments.workers)
        bare.append(cost)
        fits += seconds
        if number % 2:
            sweeps.append(run_sweep(given, arguments.workers))
        print(
            f"pair {number + 1}: sweep {sweeps[-1].cpu:.1f} s of CPU in {sweeps[-1].wall:.1f} s, fits {cost.cpu:.1f} "
            f"in {cost.wall:.1f}, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    print(f"{arguments.trials} trials, {arguments.workers} workers; a fit takes {statistics.median(fits):.1f} s")
    cpu = [100 * (ours.cpu / fit.cpu - 1) for ours, fit in zip(sweeps, bare, strict=True)]
    shown("CPU seconds beyond the bare fits", cpu, " %", 1)
    wall = [100 * (ours.wall / fit.wall - 1) for ours, fit in zip(sweeps, bare, strict=True)]
    shown("wall seconds beyond the bare fits", wall, " %", 1)
    a_trial = [(ours.cpu - fit.cpu) / arguments.trials for ours, fit in zip(sweeps, bare, strict=True)]
    shown("CPU seconds a trial beyond its fit", a_trial, " s", 2)


if __name__ == "__main__":
    main()
