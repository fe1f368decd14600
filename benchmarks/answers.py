"""How long the answers of verbs that only read take, beside what a bare `import mlflow` takes.

The stores are made by benchmarks/many_trials.py, and some of their trials are registered as versions. In each round
each command runs right after (or, in every other round, right before) `python -c "import mlflow"`, both in new
processes; the difference is of the two times of such a pair, its spread over the rounds. Of commands that train when
they have answered, only the time to their first line is measured. Seconds of processor time beside those on the
clock: other work on the machine slows the clock more. MLflow's telemetry is off.

    python benchmarks/answers.py [--rounds 5] [--sizes 8,200] [--folder DIR] [--only compare,history]

--folder: where the stores are made; those that are there already are used again. With FMNIST_DATA_DIR the trials are on
Fashion-MNIST, else on drawn images, of which a promotion says only that it does not take them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import many_trials

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.kept_parts import FOLDER
from fmnist_sweep.tracking.aliases import move_alias
from fmnist_sweep.tracking.models import find_ready_model
from fmnist_sweep.tracking.names import NAME_TAG, TEST_ACCURACY_TAG, VERDICT_TAG
from fmnist_sweep.tracking.registry import CHAMPION, register_version
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store
from fmnist_sweep.tracking.trials import read_trials
from fmnist_sweep.training.environment import describe_machine

VERSIONS = 3
VERB, SWEEP = ("-m", "fmnist_sweep.cli.main"), ("-m", "fmnist_sweep")
BARE = ("-c", "import mlflow")


@dataclass(frozen=True)
class Question:
    """A command.

    is_cut: whether it is ended after its first line. code: that it must exit with otherwise. is_first: whether the
    parts of reports that are kept are deleted before each time.
    """

    words: Sequence[str]
    is_cut: bool = False
    code: int = 0
    is_first: bool = False

    @property
    def name(self) -> str:
        shown = " ".join(word for word in self.words if word not in ("-m", "fmnist_sweep.cli.main"))
        return f"{shown}{' (first line)' if self.is_cut else ' (nothing kept)' if self.is_first else ''}"


@dataclass(frozen=True)
class Seconds:
    """What an answer took: on the clock, and of the processor."""

    clock: float
    processor: float


def list_questions(folder: Path) -> list[Question]:
    """What is asked in a folder with a store."""
    trials = [trial for trial in read_trials(open_store(folder), {}) if not trial.name.startswith("copy")]
    best, *_, worst = (trial.run_id[:8] for trial in sorted(trials, key=lambda trial: -(trial.accuracy or 0.0)))
    return [
        *(Question((*VERB, *words)) for words in (["--help"], ["compare", "--help"], ["studies"])),
        *(Question((*VERB, "compare", *words)) for words in ([], ["--by-config"], ["--json"], [best, worst])),
        Question((*VERB, "history")),
        Question((*VERB, "report"), is_first=True),
        Question((*VERB, "report")),
        Question((*VERB, "promote", "plan=true"), is_cut=True),
        Question((*VERB, "promote", "promote.seeds=none"), code=ExitCode.CONFIG),
        Question((*VERB, "data", "data=drawn", "data.images=200")),
        Question((*SWEEP, "model.filters=-3"), code=ExitCode.CONFIG),
        Question((*SWEEP, "--cfg", "job")),
        Question((*SWEEP, "data=drawn", "data.images=200", "plan=true"), is_cut=True),
    ]


def open_store(folder: Path) -> Store:
    return open_existing_store(build_default_uri(folder), "fashion-mnist")


def time_answer(question: Question, folder: Path) -> Seconds:
    """Ask in a new process, which must answer."""
    if question.is_first:
        shutil.rmtree(folder / "mlruns" / FOLDER, ignore_errors=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *question.words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    with process.stdout:
        answer = process.stdout.readline() if question.is_cut else process.stdout.read()
        if question.is_cut:
            seconds = time.perf_counter() - began
            process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it is waited for already
    if not question.is_cut:
        seconds = time.perf_counter() - began
    is_answered = question.is_cut or os.waitstatus_to_exitcode(status) == question.code
    if question.words != BARE and (not is_answered or not answer.strip() or b"Traceback" in answer):
        raise RuntimeError(f"{question.name}: {answer.decode(errors='replace')}")
    return Seconds(seconds, usage.ru_utime + usage.ru_stime)


def compare_answers(folder: Path, size: int, rounds: int, is_asked: Callable[[str], bool]) -> None:
    """Print what each question took, and how much more than the bare import that ran beside it."""
    bare = Question(BARE)
    for question in list_questions(folder):
        if not is_asked(question.name):
            continue
        time_answer(question, folder)  # the first call pays for what is then in memory
        pairs: list[tuple[Seconds, Seconds]] = []
        for number in range(rounds):
            order = (bare, question) if number % 2 == 0 else (question, bare)
            taken = {each.words: time_answer(each, folder) for each in order}
            pairs.append((taken[bare.words], taken[question.words]))
        print(f"{size:>5,} trials  {question.name:44} {describe_pairs(pairs)}", flush=True)


def describe_pairs(pairs: Sequence[tuple[Seconds, Seconds]]) -> str:
    clock, processor = [ours.clock for _, ours in pairs], [ours.processor for _, ours in pairs]
    later = [ours.clock - bare.clock for bare, ours in pairs]
    more = [ours.processor - bare.processor for bare, ours in pairs]
    return (
        f"{describe_spread(clock)} s, CPU {describe_spread(processor)} s; beyond import mlflow "
        f"{describe_spread(later, sign='+')} s, CPU {describe_spread(more, sign='+')} s, n={len(pairs)}"
    )


def describe_spread(values: Sequence[float], sign: str = "") -> str:
    """The median, and the least and the greatest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


@contextmanager
def make_stores(sizes: Sequence[int], folder: str | None) -> Iterator[Mapping[int, Path]]:
    """A store of each size, made where there is none."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = {size: Path(folder or temporary, str(size)) for size in sizes}
        for size, path in folders.items():
            if not (path / "mlruns").exists():
                path.mkdir(parents=True, exist_ok=True)
                many_trials.make(path, size, data=choose_data())
                register_versions(open_store(path))
        yield folders


def choose_data() -> Sequence[str]:
    """Fashion-MNIST where it is, else drawn images."""
    return ("data=fashion_mnist", "data.limit=2000") if os.environ.get("FMNIST_DATA_DIR") else ()


def register_versions(store: Store) -> None:
    """Make the first trials versions, and each champion once."""
    trials = [trial for trial in read_trials(store, {}) if not trial.name.startswith("copy")][:VERSIONS]
    for trial in trials:
        model = find_ready_model(store, store.client.get_run(trial.run_id))
        assert model is not None
        tags = {NAME_TAG: trial.name, TEST_ACCURACY_TAG: str(trial.accuracy), VERDICT_TAG: "better"}
        version = register_version(store, trial.run_id, str(model.model_id), tags=tags, description="")
        move_alias(
            store, CHAMPION, version.number, kind="promoted", why="it is better.", command="fmnist-sweep promote"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="8,200", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--folder", help="where the stores are made and kept (default: a temporary folder)")
    parser.add_argument("--only", default="", help="questions with one of these words, separated by commas")
    arguments = parser.parse_args()
    print(f"{describe_machine()}, Python {sys.version.split()[0]}", flush=True)
    words = [word for word in arguments.only.split(",") if word]
    with make_stores(arguments.sizes, arguments.folder) as folders:
        for size, folder in folders.items():
            compare_answers(
                folder, size, arguments.rounds, lambda name: not words or any(word in name for word in words)
            )


if __name__ == "__main__":
    main()
