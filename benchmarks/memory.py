"""Memory of a sweep and of each of its workers while it trains networks of ever other shapes.

The real command with worker processes, everything logged, on few drawn images. After each trial that ends, the memory
of the supervisor and of each worker is read: PSS (what a process has for itself, and its part of what it shares) from
/proc/PID/smaps_rollup. The slope is a least-squares line through the means of tenths of the sweep, without the first
one, in which libraries fill their caches; its 95 % interval is Student's, of those means about the line.

    python benchmarks/memory.py [--trials 200] [--workers 2] [--images 200] [OVERRIDE ...]
"""

from __future__ import annotations

import argparse
import math
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

# Every trial another graph: other shapes of every layer, other batches.
SHAPES = (
    *(
        "model.filters={tune: int, min_value: 2, max_value: 40}",
        "model.conv_layers={tune: int, min_value: 1, max_value: 3}",
    ),
    *("model.dense_units={tune: int, min_value: 8, max_value: 96}", "regularization.dropout=0.2"),
    "train.batch_size={tune: choice, values: [16, 24, 32, 48, 64]}",
)
TENTHS = 10
SUPERVISOR = "supervisor"
Sample = tuple[int, float]  # trials that have ended, megabytes


def sample_sweep(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Sample]]:
    """Run the sweep; the samples of each process, by its name."""
    command = [
        *(sys.executable, "-m", "fmnist_sweep", "data=drawn", f"data.images={arguments.images}", *SHAPES),
        *(f"train.epochs={arguments.epochs}", f"search.max_trials={arguments.trials}", "executor=local"),
        *(f"executor.workers={arguments.workers}", "executor.threads=1", *arguments.overrides),
    ]
    samples: dict[str, list[Sample]] = defaultdict(list)
    ended = -1
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if (now := count_ended(folder)) == ended or now == 0:
                    continue
                ended = now
                for name, pid in list_processes(process.pid):
                    if (megabytes := read_megabytes(pid)) is not None:
                        samples[name].append((ended, megabytes))
        except KeyboardInterrupt:  # what was measured until now is shown
            process.kill()
            process.wait()
            return samples
    if process.returncode:
        raise SystemExit((folder / "out.txt").read_text())
    return samples


def count_ended(folder: Path) -> int:
    """How many trials have been delivered to the store."""
    journals = list(folder.glob("mlruns/studies/*/journal.db"))
    if not journals:
        return 0
    with closing(sqlite3.connect(f"file:{journals[0]}?mode=ro", uri=True, timeout=20)) as database:
        return int(database.execute("SELECT count(*) FROM events WHERE kind = 'delivered'").fetchone()[0])


def list_processes(supervisor: int) -> Iterator[tuple[str, int]]:
    """The names and ids of a sweep's processes."""
    yield SUPERVISOR, supervisor
    for server in list_children(supervisor):
        workers = sorted(list_children(server))
        if workers:  # else it is some command that the supervisor waits for
            yield "fork server", server
            yield from ((f"worker {number}", pid) for number, pid in enumerate(workers, 1))


def list_children(pid: int) -> list[int]:
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    try:
        return [int(child) for path in paths for child in path.read_text().split()]
    except OSError:  # it has ended
        return []


def read_megabytes(pid: int) -> float | None:
    """The PSS of a process in megabytes; None where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), None)


def compute_slope(samples: Sequence[Sample], trials: int) -> tuple[float, float]:
    """Kilobytes a trial after the first tenth, and half the width of the 95 % interval."""
    from scipy.stats import linregress, t

    points = [cut for cut in cut_tenths(samples, trials)[1:] if cut]
    x = [statistics.mean(ended for ended, _ in cut) for cut in points]
    y = [1000 * statistics.mean(megabytes for _, megabytes in cut) for cut in points]
    if len(points) < 3:
        return math.nan, math.nan
    line = linregress(x, y)
    return float(line.slope), float(t.ppf(0.975, len(points) - 2) * line.stderr)


def cut_tenths(samples: Sequence[Sample], trials: int) -> list[list[Sample]]:
    tenths: list[list[Sample]] = [[] for _ in range(TENTHS)]
    for ended, megabytes in samples:
        tenths[min(TENTHS - 1, TENTHS * (ended - 1) // trials)].append((ended, megabytes))
    return tenths


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="below which the sweep gets a folder")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        began = time.perf_counter()
        samples = sample_sweep(arguments, Path(folder))
    trials = max(ended for found in samples.values() for ended, _ in found)
    print(f"{trials} trials in {time.perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'MB (PSS), medians of':20} {'1st tenth':>10} {'6th tenth':>10} {'last tenth':>10} {'most':>8}   kB a trial"
    )
    for name, found in samples.items():
        cuts = [[megabytes for _, megabytes in cut] for cut in cut_tenths(found, trials)]
        first, middle, last = (statistics.median(cuts[number] or [math.nan]) for number in (0, 5, 9))
        slope, half = compute_slope(found, trials)
        most = max(megabytes for _, megabytes in found)
        print(f"{name:20} {first:10.0f} {middle:10.0f} {last:10.0f} {most:8.0f}   {slope:.0f} ± {half:.0f}")


if __name__ == "__main__":
    main()
