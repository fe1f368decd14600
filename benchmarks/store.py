"""How reading a store grows with it: trials(), compare and reports on 500 and on 5,000 trials.

The stores are made by benchmarks/many_trials.py: SQLite, the first ten trials by the real supervisor with all their
artifacts, the rest as rows like theirs. Each round times each question on each store, in turn, the order of the stores
changing from round to round; the processes are new ones, imports included. The ratio is of the two times of one round,
its spread over the rounds. Seconds of processor time beside those on the clock: other work on the machine slows the
clock more.

    python benchmarks/store.py [--rounds 5] [--sizes 500,5000] [--images 12000] [--reading] [--folder DIR]

--reading: how MLflow is best asked, on the larger store: page sizes, threads, and the garbage collector on or off.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import many_trials

import fmnist_sweep
from fmnist_sweep.analysis.table import build_table
from fmnist_sweep.report.page import ReportHeading, build_report_body, render_report
from fmnist_sweep.report.publish import read_findings
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from fmnist_sweep.tracking.trials import read_trials

Seconds = tuple[float, float]  # on the clock, of the processor
_TRIALS = "tags.`fmnist.kind` = 'trial'"


def timed(question: Callable[[], object]) -> Seconds:
    """How long a question takes, child processes included."""
    clock, processor = time.perf_counter(), _processor()
    question()
    return time.perf_counter() - clock, _processor() - processor


def _processor() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


def questions(folder: Path) -> dict[str, Callable[[], object]]:
    """What is asked of the store in a folder."""
    uri = build_default_uri(folder)
    store = open_existing_store(uri, "fashion-mnist")
    real = [trial for trial in read_trials(store, {}) if not trial.name.startswith("copy")]
    best, *_, worst = sorted(real, key=lambda trial: -(trial.accuracy or 0.0))

    study = next(trial.study_id for trial in read_trials(store, {}) if trial.name.startswith("copy"))

    def verb(name: str, *words: str) -> Callable[[], object]:
        command = [sys.executable, "-m", "fmnist_sweep.cli.main", name, *words, "--uri", uri]
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=folder)

    def report_of_all() -> None:
        journals = dict.fromkeys(trial.tags["fmnist.journal"] for trial in read_trials(store, {}))
        render_report(build_report_body(read_findings(store, list(journals), {})), ReportHeading("All", "", ""))

    return {
        "trials()": lambda: fmnist_sweep.trials(uri),
        "compare": verb("compare"),
        "compare --by-config": verb("compare", "--by-config"),
        "compare A B": verb("compare", best.run_id, worst.run_id),
        "report of a study": verb("report", "--study", study),
        "report of all trials": report_of_all,
    }


def growth(folders: dict[int, Path], rounds: int) -> None:
    """Each question on each store, and the ratio."""
    asked = {size: questions(folder) for size, folder in folders.items()}
    small, large = min(folders), max(folders)
    for name in asked[small]:
        asked[small][name]()  # the first call pays for what is then in memory
        found: dict[int, list[Seconds]] = defaultdict(list)
        for number in range(rounds):
            for size in (small, large) if number % 2 == 0 else (large, small):
                found[size].append(timed(asked[size][name]))
        ratios = [
            [after[which] / before[which] for before, after in zip(found[small], found[large], strict=True)]
            for which in (0, 1)
        ]
        print(
            f"{name:20} {told(found, small)}; {told(found, large)}; ratio {spread(ratios[0], 1)} on the clock, "
            f"{spread(ratios[1], 1)} of processor time, n={rounds}",
            flush=True,
        )


def told(found: dict[int, list[Seconds]], size: int) -> str:
    clock, processor = zip(*found[size], strict=True)
    return f"{size:,} trials: {spread(clock, 2)} s, CPU {spread(processor, 2)} s"


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the least and the greatest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def reading(folder: Path, rounds: int) -> None:
    """Ways to ask MLflow for all trials, in turn."""
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")

    def pages(size: int) -> int:
        count, token = 0, None
        while True:
            page = store.client.search_runs([store.experiment_id], _TRIALS, max_results=size, page_token=token)
            count, token = count + len(page), page.token
            if not token:
                return count

    def by_study() -> int:
        studies = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'study'", max_results=50_000)
        marks = [{"fmnist.journal": study.data.tags["fmnist.journal"]} for study in studies]
        with ThreadPoolExecutor(2) as threads:
            return sum(len(found) for found in threads.map(lambda mark: read_trials(store, mark), marks))

    ways: dict[str, Callable[[], object]] = {}
    for size in (200, 1000, 50_000):
        ways[f"pages of {size}"] = lambda size=size: pages(size)  # type: ignore[misc]
        ways[f"pages of {size}, collector off"] = lambda size=size: _without_collector(lambda: pages(size))  # type: ignore[misc]
    ways["a search a study, two threads, collector off"] = by_study
    found = read_trials(store, {})
    ways["the table of what was read"] = lambda: build_table(found)
    times: dict[str, list[Seconds]] = defaultdict(list)
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(timed(way))
    for name, seconds in times.items():
        clock, processor = zip(*seconds, strict=True)
        print(f"{name:46} {spread(clock, 2)} s, CPU {spread(processor, 2)} s, n={rounds}", flush=True)


def _without_collector(question: Callable[[], object]) -> None:
    gc.disable()
    try:
        question()
    finally:
        gc.enable()


@contextmanager
def made(sizes: Sequence[int], images: int, folder: str | None) -> Iterator[dict[int, Path]]:
    """A new store of each size."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        folders = {size: Path(root, str(size)) for size in sizes}
        for size, path in folders.items():
            path.mkdir()
            began = time.perf_counter()
            many_trials.make(path, size, images)
            megabytes = (path / "mlruns" / "mlflow.db").stat().st_size / 1e6
            print(f"{size:,} trials: made in {time.perf_counter() - began:.0f} s, {megabytes:.0f} MB", flush=True)
        yield folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="500,5000", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--images", type=int, default=12_000, help="drawn; half of them are validation images")
    parser.add_argument("--reading", action="store_true", help="compare ways to read the larger store as well")
    parser.add_argument("--folder", help="where the stores are made (default: where TMPDIR says)")
    arguments = parser.parse_args()
    with made(arguments.sizes, arguments.images, arguments.folder) as folders:
        growth(folders, arguments.rounds)
        if arguments.reading:
            reading(folders[max(folders)], arguments.rounds)


if __name__ == "__main__":
    main()
