"""What one supervisor can take: results per second with trials that only wait, and its cost as a study grows.

The supervisor, its oracle, journal, checkpoints, screen lines and store (SQLite in a new folder below --folder) are
real; training is simulated (tests/support/simulated.py). Its own work (making figures' values, packing checkpoints) is
left out of all costs. What is in each row (--what):

    all       everything a trial leaves behind
    models=1  tracking.keep_models=1: models are logged only while they are the best
    undrawn   all but drawing: a few bytes stand for the figures, tables and predictions
    loop      no tracking store: proposals, journal, result files, checkpoints, scores and screen alone

    python benchmarks/scale.py [--slots 1,10,100] [--seconds 0.001,0.01,0.1,1] [--trials 30] [--what all,loop]
    python benchmarks/scale.py --growth 10,100,1000,10000 [--search random,hyperband] [--what all,loop]

--growth: the journal is filled with so many finished trials (real events, written without a wait for the disk), the
store with as many copies of one trial's rows; then the study goes on for --trials more, which are timed.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import Progress

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search.ask_and_tell import Proposal, Search, Wait
from fmnist_sweep.study.checkpoints import Checkpoints
from fmnist_sweep.study.folder import list_study_folders, lock_study
from fmnist_sweep.study.journal import Journal
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import context, figures, parcels, study_run
from fmnist_sweep.sweep.delivery import Delivery
from fmnist_sweep.sweep.proposals import Proposals
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.sweep.study_run import StudyRun
from fmnist_sweep.sweep.supervisor import Supervisor
from fmnist_sweep.tracking import trial_runs
from fmnist_sweep.training.events import TrialEvent, TrialResult
from tests.support.simulated import Simulated, simulated, trained
from tests.support.small import search_of

SPACE = (
    *("data=drawn", "data.validation=0.5", "train.precision=float32", "regularization.dropout.step=null"),
    *(f"model.{name}={{tune: int, min_value: 8, max_value: 512}}" for name in ("filters", "dense_units")),
)
OWN = {"random": (), "grid": ("regularization.dropout.step=0.01",), "hyperband": ("search.iterations=10000",)}
# (owner, its functions, what they are told as)
SIMULATION = ((Simulated, "next_event submit", "simulation"),)
PHASES = (
    *((Supervisor, "run", "rest"), (StudyRun, "_restore_study", "restore"), (study_run, "close_study", "close")),
    *((StudyRun, "_begin", "begin"), (StudyRun, "_record_epoch", "epoch"), (StudyRun, "_finish", "result")),
    *((Proposals, "take_next", "proposal"), *SIMULATION),
)
PARTS = (
    *((Supervisor, "run", "rest"), (StudyRun, "_restore_study", "restore"), *SIMULATION),
    (study_run, "close_study", "close"),
    *((Search, "ask tell", "oracle"), (Journal, "append", "journal"), (Delivery, "deliver", "store")),
    *((Checkpoints, "save drop drop_older", "files"), (study_run, "write_file_atomically", "files")),
    *((context, "evaluate_predictions", "scores"), (parcels.StudyParcels, "make_parcel", "parcel")),
    *(
        (parcels, "make_trial_artifacts", "tables"),
        (figures, "log_figures", "figures"),
        (trial_runs, "log_model", "model"),
    ),
    (View, "begin_trial show_worker show_epoch end_trial refresh", "screen"),
)
# Of these all is counted as theirs, whatever they call.
WHOLE = ("restore", "close", "simulation")


class Clock:
    """Seconds of each call of some functions, by name, without what other named functions took in between."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._inner: list[float] = []
        self._whole = False

    @contextmanager
    def of(self, functions: Sequence[tuple[Any, str, str]]) -> Iterator[None]:
        with ExitStack() as patched:
            for owner, attributes, name in functions:
                for attribute in attributes.split():
                    timed = self._timed(getattr(owner, attribute), name)
                    patched.enter_context(mock.patch.object(owner, attribute, timed))
            yield

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._whole:
                return function(*arguments, **named)
            began, self._whole = time.perf_counter(), name in WHOLE
            self._inner.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                took, inner, self._whole = time.perf_counter() - began, self._inner.pop(), False
                self.seconds[name].append(took - inner)
                if self._inner:
                    self._inner[-1] += took

        return timed


class Session:
    """One command on a study, timed."""

    def __init__(self, job: Job, what: str, slots: int, seconds: float, terminal: bool = False) -> None:
        self.phases, self.parts, self.waited = Clock(), Clock(), 0.0
        self.begun, self.results, self.cpu = 0.0, list[float](), 0.0
        with (
            simulated(slots, lambda spec: seconds, self._heard, stored=what != "loop", drawn=what != "undrawn"),
            self.phases.of((*PHASES, *SIMULATION)),
            self.parts.of((*PARTS, *SIMULATION)),
            mock.patch.object(time, "sleep", self._sleep),
            _view(terminal) as view,
        ):
            run_sweep([job], "python -m fmnist_sweep", view)

    def _heard(self, event: TrialEvent) -> None:
        if not self.begun:
            self.begun, self._cpu_before = time.perf_counter(), time.process_time()
        if isinstance(event, TrialResult):
            self.results.append(time.perf_counter())
            self.cpu = time.process_time() - self._cpu_before

    def _sleep(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        began = time.perf_counter()
        sleep(seconds)
        self.waited += time.perf_counter() - began

    def rate(self, slots: int) -> float:
        """Results per second once each slot has given one; of fewer trials than two a slot, of all of them."""
        first = slots if len(self.results) >= 2 * slots else 0
        return (len(self.results) - first) / (self.results[-1] - (self.results[first - 1] if first else self.begun))

    def busy(self) -> float:
        """The share of its time, once it hears of trials, that the supervisor does not wait for them."""
        return 1 - self.waited / (self.results[-1] - self.begun)

    def per_trial(self) -> float:
        """Milliseconds of the supervisor a trial, all but the simulation, restoring and closing."""
        phases = ("rest", "proposal", "begin", "epoch", "result")
        return 1000 * sum(sum(self.phases.seconds[name]) for name in phases) / len(self.results)

    def told(self, name: str) -> str:
        """The median call of a phase and its spread, in milliseconds."""
        # The shortest are questions that cannot be answered yet, no proposals.
        times = sorted(1000 * each for each in self.phases.seconds[name])[-len(self.results) :]
        low, middle, high = (times[int(share * (len(times) - 1))] for share in (0.1, 0.5, 0.9))
        return f"{middle:.1f} ({low:.1f} to {high:.1f})"

    def costs(self) -> str:
        """Milliseconds of the phases, and a trial's of each part, the largest first."""
        means = {name: 1000 * sum(times) / len(self.results) for name, times in self.parts.seconds.items()}
        parts = (
            f"{name} {means[name]:.1f}" for name in sorted(means, key=lambda name: -means[name]) if name not in WHOLE
        )
        cpu = 1000 * self.cpu / len(self.results)
        phases = ", ".join(f"{name} {self.told(name)}" for name in ("proposal", "begin", "result"))
        trial = f"ms a trial {self.per_trial():.1f} ({cpu:.1f} of CPU)"
        return f"{trial}; median ms: {phases}\n    ms by part: {', '.join(parts)}"


@contextmanager
def _view(terminal: bool) -> Iterator[View]:
    """Lines for a log or, as a person sees it, bars that are drawn ten times a second."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140, height=50)
    with Progress(*Progress.get_default_columns(), console=console, disable=not terminal) as progress:
        yield View(console, progress if terminal else None)


def composed(arguments: argparse.Namespace, search: str, what: str, trials: int, experiment: str) -> Job:
    keep = ["tracking.keep_models=1"] if what == "models=1" else []
    epochs = 9 if search == "hyperband" else arguments.epochs
    own = (f"search.max_trials={trials}", f"train.epochs={epochs}", f"data.images={arguments.images}")
    return compose_job([f"search={search}", *SPACE, *OWN[search], *keep, *own, f"tracking.experiment={experiment}"])


def matrix(arguments: argparse.Namespace) -> None:
    """Every number of slots with every length of trials."""
    for search, what in ((search, what) for search in arguments.search for what in arguments.what):
        for slots in map(int, arguments.slots.split(",")):
            for seconds in map(float, arguments.seconds.split(",")):
                name = f"{search}-{what}-{slots}-{seconds}".replace("=", "")
                job = composed(arguments, search, what, slots + arguments.trials, name)
                found = Session(job, what, slots, seconds, arguments.terminal)
                rate, ideal = found.rate(slots), slots / seconds
                print(
                    f"{search:9} {what:8} {slots:5} slots x {seconds:5g} s, n={len(found.results)}: "
                    f"{rate:7.2f} results/s of {ideal:9.1f} ideal, slots used {100 * min(1, rate / ideal):5.1f} %, "
                    f"busy {100 * found.busy():3.0f} %{', SATURATED' if found.busy() > 0.95 else ''}; {found.costs()}",
                    flush=True,
                )


def growth(arguments: argparse.Namespace) -> None:
    """The same steps of a study that has more and more trials behind it."""
    for search in arguments.search:
        job = composed(arguments, search, "all", 10, search)
        Session(job, "all", 4, 0.0)
        (study,) = (study for study in list_study_folders(Path("mlruns")) if study.read_location().experiment == search)
        for count in map(int, arguments.growth.split(",")):
            with lock_study(study, {}, print) as held:
                fill(held.journal, held.record, job, count)
            copies(count)
            for what in arguments.what:
                before = len(study.read_record().trained_trials)
                job = composed(arguments, search, what, before + arguments.trials, search)
                found = Session(job, what, 4, 0.0)
                once = {name: 1000 * sum(found.phases.seconds[name]) for name in ("restore", "close")}
                print(f"{search:9} {what:8} after {before:6} trials, n={len(found.results)}: {found.costs()}")
                print(f"    once: restoring {once['restore']:.0f} ms, closing {once['close']:.0f} ms", flush=True)


def fill(journal: Journal, record: StudyRecord, job: Job, count: int) -> None:
    """Go on with a study's journal to so many trials, as if they had been trained and logged."""
    search = search_of(job)
    search.restore(record.exchanges)
    first = next(iter(record.trials.values()))
    run_id, outcome = first.attempts[0].run_id, first.outcome or {}
    journal._database.execute("PRAGMA synchronous=OFF")

    def note(kind: str, **body: Any) -> None:
        record.apply(journal.append(kind, **body))

    while len(record.trials) < count:
        proposal = search.ask()
        if isinstance(proposal, Wait):
            note("waited")
            continue
        assert isinstance(proposal, Proposal)
        named = {"trial_id": proposal.trial_id, "attempt": 1}
        score = random.Random(proposal.trial_id).uniform(0, 0.1)
        note("asked", proposal=vars(proposal))
        note("attempt", **named)
        note("attempt_run", **named, run_id=run_id)
        note("finished", **{**outcome, **named, "score": score, "best_val_accuracy": score})
        search.tell(proposal.trial_id, score)
        note("delivered", **named)


def copies(count: int) -> None:
    """Let the store hold so many runs, by copies of the rows of one finished trial, its model's included."""
    with closing(connect("mlruns/mlflow.db", isolation_level=None)) as database:
        held = database.execute("SELECT count(*) FROM runs").fetchone()[0]
        run, model = database.execute("SELECT source_run_id, model_id FROM logged_models LIMIT 1").fetchone()
        numbers = f"WITH RECURSIVE n(i) AS (SELECT {held} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) "
        of_runs = dict.fromkeys(("runs", "params", "tags", "metrics", "latest_metrics"), "run_uuid")
        of_models = dict.fromkeys(("logged_models", *(f"logged_model_{of}" for of in ("params", "tags"))), "model_id")
        for table, key in {**of_runs, "inputs": "destination_id", **of_models}.items():
            if held >= count:
                continue
            fresh = {key: "printf('%032x', i)", "source_run_id": "printf('%032x', i)", "input_uuid": "input_uuid || i"}
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(fresh.get(column, column) for column in columns)
            template = model if key == "model_id" else run
            database.execute(
                f"INSERT INTO {table} {numbers} SELECT {chosen} FROM {table}, n WHERE {key} = ?", (template,)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", default="1,10,100")
    parser.add_argument("--seconds", default="0.001,0.01,0.1,1")
    parser.add_argument("--trials", type=int, default=30, help="beside one for each slot")
    parser.add_argument("--search", default="random", type=lambda text: text.split(","))
    parser.add_argument("--what", default="all,loop", type=lambda text: text.split(","))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=400, help="drawn; half of them are validation images")
    parser.add_argument("--growth", default="")
    parser.add_argument("--terminal", action="store_true", help="bars on a terminal instead of a log's lines")
    parser.add_argument("--folder", help="where the new folder for the store is made (default: where TMPDIR says)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        os.chdir(folder)
        trained()
        # What is imported and drawn for the first time is no part of the figures.
        Session(composed(arguments, "random", "all", 2, "first"), "all", 2, 0.0)
        (growth if arguments.growth else matrix)(arguments)
        os.chdir("/")


if __name__ == "__main__":
    main()
