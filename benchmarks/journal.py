"""What a study's record costs when it is long: with 10,000 recorded trials against 10, in turn.

Timed are the next proposal (ask, then make it durable), the next result (make it durable, then tell), and opening the
journal and restoring the oracle from it. Beside it, at the same numbers: KerasTuner's own saving of the same oracle,
which writes all its state at each of these steps, without waiting for the disk. The Gaussian process is left out by
drawing all values at random; what one fit of it takes, and what restoring without fits takes, is told at the end.

    python benchmarks/journal.py [--repeats 5] [--trials 10000] [--fits 50 200 500]
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search.ask_and_tell import Proposal, Search
from fmnist_sweep.study.journal import Journal
from fmnist_sweep.study.record import StudyRecord

FEW, STEPS = 10, 20
SPACE = (
    "model.filters={tune: int, min_value: 1, max_value: 512}",
    "model.dense_units={tune: int, min_value: 8, max_value: 512}",
    "regularization.dropout.step=null",
)
OWN = {
    "random": (),
    "grid": ("regularization.dropout.step=0.01",),
    "hyperband": ("train.epochs=9", "search.iterations=10000"),
    "bayesian": ("search.initial_points=1000000",),
}
Times = dict[str, list[float]]


def search_of(name: str, *overrides: str) -> Search:
    config = compose_job([f"search={name}", *SPACE, *OWN[name], *overrides]).config
    return Search(config.search.name, config.oracle, config.settings, config.search.objective)


def proposed(search: Search) -> Proposal:
    answer = search.ask()
    assert isinstance(answer, Proposal)
    return answer


def score_of(trial_id: str) -> float:
    return random.Random(trial_id).random()


def write(path: Path, proposals: list[Proposal]) -> None:
    """A journal of so many trials, with the events that a study has of each."""
    about = {
        "id": "0",
        "label": "a study",
        "mark": "",
        "command": "none",
        "token": "0",
        "uri": "none",
        "experiment": "none",
    }
    journal = Journal.create(path, "study", about)
    journal._database.execute("PRAGMA synchronous=OFF")  # no wait for the disk, 50,000 times
    for proposal in proposals:
        named = {"trial_id": proposal.trial_id, "attempt": 1}
        journal.append("asked", proposal=vars(proposal))
        journal.append("attempt", **named)
        journal.append("attempt_run", **named, run_id="0" * 32)
        journal.append("finished", **named, score=score_of(proposal.trial_id), ended=0)
        journal.append("delivered", **named)
    journal.close()


def restored(path: Path, search: Search) -> tuple[Journal, StudyRecord]:
    journal, events = Journal.open(path)
    record = StudyRecord.from_events(events, path)
    search.restore(record.exchanges)
    return journal, record


def ours(times: Times, prepared: Path, folder: Path, name: str) -> Iterator[None]:
    """One opening, and then one proposal and its result for each `next`, with the project's journal."""
    path = folder / "journal.db"
    shutil.copy(prepared / "journal.db", path)
    search = search_of(name)
    with timed(times, "restore"):
        journal, record = restored(path, search)
    while True:
        yield
        with timed(times, "proposal"):
            proposal = proposed(search)
            record.apply(journal.append("asked", proposal=vars(proposal)))
        record.apply(journal.append("attempt", trial_id=proposal.trial_id, attempt=1))
        score = score_of(proposal.trial_id)
        with timed(times, "result"):
            record.apply(journal.append("finished", trial_id=proposal.trial_id, attempt=1, score=score))
            search.tell(proposal.trial_id, score)


def saving(search: Search, folder: Path) -> Any:
    """The search's oracle, writing to a folder as KerasTuner does."""
    oracle: Any = search._oracle
    del oracle.save, oracle._save_trial, oracle._check_consecutive_failures
    oracle._set_project_dir(folder, "tuner")
    return oracle


def kerastuners(times: Times, prepared: Path, folder: Path, name: str) -> Iterator[None]:
    """The same with KerasTuner's own saving; the steps with an oracle that never stopped: some end when reloaded."""
    shutil.copytree(prepared / "kerastuner", folder / "kerastuner")
    oracle = saving(search_of(name), folder / "kerastuner")
    with timed(times, "restore"):
        oracle.reload()
    search = search_of(name)
    restored(prepared / "journal.db", search)[0].close()
    saving(search, folder / "kerastuner")
    while True:
        yield
        with timed(times, "proposal"):
            proposal = proposed(search)
        with timed(times, "result"):
            search.tell(proposal.trial_id, score_of(proposal.trial_id))


@contextmanager
def timed(times: Times, what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.setdefault(what, []).append(1000 * (time.perf_counter() - began))


def run(search: Search, trials: int) -> list[Proposal]:
    """The first proposals, each told its score at once."""
    proposals = []
    for _ in range(trials):
        proposals.append(proposed(search))
        search.tell(proposals[-1].trial_id, score_of(proposals[-1].trial_id))
    return proposals


def prepare(folder: Path, name: str, trials: int) -> None:
    """The same trials in journal.db and in KerasTuner's own files."""
    folder.mkdir()
    search = search_of(name)
    proposals = run(search, trials)
    write(folder / "journal.db", proposals)
    oracle = saving(search, folder / "kerastuner")
    for trial in oracle.trials.values():
        oracle._save_trial(trial)
    oracle.save()


def told(times: list[float]) -> str:
    return f"{statistics.median(times):8.2f} ms ({min(times):.2f} to {max(times):.2f})"


def compare(name: str, trials: int, repeats: int) -> None:
    """Few and many trials, ours and KerasTuner's: step by step in turn."""
    ways = {"ours": ours, "kerastuner": kerastuners}
    found: dict[tuple[str, int], Times] = {(way, count): {} for way in ways for count in (FEW, trials)}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        for count in (FEW, trials):
            prepare(base / str(count), name, count)
        for number in range(repeats):
            opened = []
            for (way, count), times in found.items():
                folder = base / f"{number}-{way}-{count}"
                folder.mkdir()
                opened.append(ways[way](times, base / str(count), folder, name))
                next(opened[-1])
            for _ in range(STEPS):
                for study in opened:
                    next(study)
    for way in ways:
        for what in ("proposal", "result", "restore"):
            few, many = found[way, FEW][what], found[way, trials][what]
            print(
                f"{name:9} {way:10} {what:8} {FEW:6}: {told(few)}, {trials}: {told(many)}, "
                f"ratio {statistics.median(many) / statistics.median(few):.2f}",
                flush=True,
            )


def gaussian_process(trials: int, repeats: int, fits: list[int]) -> None:
    """Restoring model-based answers without a fit, and one real answer at some numbers of finished trials."""
    # Values drawn at random, which a process with fewer initial points takes as its own earlier answers.
    proposals = run(search_of("bayesian"), max(trials, *fits))
    with tempfile.TemporaryDirectory() as temporary:
        for count in (FEW, trials, *fits):
            write(Path(temporary) / f"{count}.db", proposals[:count])
        times: Times = {}
        for _ in range(repeats):
            for count in (FEW, trials):
                search = search_of("bayesian", "search.initial_points=5")
                with timed(times, str(count)):
                    restored(Path(temporary) / f"{count}.db", search)[0].close()
        for count in (FEW, trials):
            print(f"bayesian  restoring {count} model-based answers: {told(times[str(count)])}", flush=True)
        for count in fits:
            search = search_of("bayesian", "search.initial_points=5")
            restored(Path(temporary) / f"{count}.db", search)[0].close()
            began = time.perf_counter()
            proposed(search)
            print(f"bayesian  one answer of the process at {count}: {time.perf_counter() - began:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--fits", type=int, nargs="*", default=[50, 200, 500])
    arguments = parser.parse_args()
    for name in OWN:
        compare(name, arguments.trials, arguments.repeats)
    gaussian_process(arguments.trials, arguments.repeats, arguments.fits)


if __name__ == "__main__":
    main()
