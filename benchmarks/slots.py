"""How busy the slots of a sweep of several studies are: as one queue, and with one study after the other.

In turn in one run, with the same trials in each, which only wait: the real supervisor, oracle and journal, without the
store. The share is that of the slots' time between the first start of a trial and the last one.

    python benchmarks/slots.py --rounds 5 --studies 3 --trials 5 --seconds 2
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.training.events import TrialEvent, TrialResult, TrialSpec, TrialStart
from tests.support.simulated import simulated, trained

SPACE = (
    *("data=drawn", "data.images=400", "data.validation=0.5", "train.precision=float32", "train.epochs=1"),
    *("model.filters={tune: int, min_value: 1, max_value: 512}", "model.conv_layers=1", "regularization=none"),
    "search=random",
)


def compose_studies(studies: int, trials: int) -> list[Job]:
    return [compose_job([*SPACE, f"seed={number}", f"search.max_trials={trials}"]) for number in range(studies)]


def measure_share(sweeps: list[list[Job]], slots: int, seconds: float) -> float:
    """The busy share of the slots, in percent, over sweeps that run one after the other, without what is between."""
    busy_seconds = open_seconds = 0.0
    for number, jobs in enumerate(sweeps, 1):
        starts, ends = run_waiting(jobs, slots, seconds)
        last = max(starts.values() if number == len(sweeps) else ends.values())
        busy_seconds += sum(min(ends[key], last) - start for key, start in starts.items())
        open_seconds += slots * (last - min(starts.values()))
    return 100 * busy_seconds / open_seconds


def run_waiting(jobs: list[Job], slots: int, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Run a sweep of trials that only wait; when each began and ended."""
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}

    def find_seconds(spec: TrialSpec) -> float:
        return random.Random(f"{spec.config['seed']} {spec.config['model']['filters']}").uniform(0.5, 1.5) * seconds

    def hear(event: TrialEvent) -> None:
        if isinstance(event, TrialStart | TrialResult):
            (starts if isinstance(event, TrialStart) else ends)[event.trial_id] = time.monotonic()

    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        simulated(slots, find_seconds, hear, stored=False, drawn=False),
    ):
        run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=io.StringIO()), None))
    return starts, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=3)
    parser.add_argument("--trials", type=int, default=5, help="of each study")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a trial, half as many to half as many more")
    given = parser.parse_args()
    trained()
    shares: dict[str, list[float]] = {"one queue": [], "one after the other": []}
    for _ in range(given.rounds):
        jobs = compose_studies(given.studies, given.trials)
        shares["one queue"].append(measure_share([jobs], given.slots, given.seconds))
        shares["one after the other"].append(measure_share([[job] for job in jobs], given.slots, given.seconds))
    for name, found in shares.items():
        print(
            f"{name}: slots {statistics.median(found):.1f}% busy ({min(found):.1f} to {max(found):.1f}, n={len(found)})"
        )


if __name__ == "__main__":
    main()
