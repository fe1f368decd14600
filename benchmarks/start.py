"""How long it takes from a command to its first training step, beside what a bare `import tensorflow` takes.

In each round, in turn, in new processes: `python -c "import tensorflow"`; a new sweep on a machine where nothing was
measured yet; a new sweep where that was measured before; and the same command continued, in a folder where it was
killed after its first trial. Each is killed as soon as the first step of its first trial is done. That moment is noted
in the process that trains, by a module that Python imports at its start. Processor seconds are of the command and its
workers together until then: other work on the machine slows the clock more.

    python benchmarks/start.py [--rounds 5] [--executor auto] [--only cold,warm,continued] [OVERRIDE ...]

With FMNIST_DATA_DIR the sweeps are on all of Fashion-MNIST, else on as many drawn images.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.training.environment import describe_machine

ROOT = Path(__file__).resolve().parents[1]
BARE = ("-c", "import tensorflow")
SWEEP = ("-m", "fmnist_sweep", "search.max_trials=8")
DRAWN = ("data=drawn", "data.images=60000")
KINDS = ("cold", "warm", "continued")
LIMIT_SECONDS = 300.0
# Imported by every interpreter that has its folder on PYTHONPATH.
WATCH = """
import os, time
import sys
from importlib.machinery import PathFinder


def watch(module):
    train_epoch = module._Fit.train_epoch

    def note_first_step(self, history):
        self._trainer.make_train_function()
        step = self._trainer.train_function

        def note(iterator):
            result = step(iterator)
            mark = os.environ["START_MARK"]
            if not os.path.exists(mark):
                with open(f"{mark}.{os.getpid()}", "w") as file:
                    file.write(repr(time.time()))
                os.replace(file.name, mark)
            return result

        self._trainer.train_function = note
        return train_epoch(self, history)

    module._Fit.train_epoch = note_first_step


class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name != "fmnist_sweep.training.trial":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_watch(module):
            execute(module)
            watch(module)

        spec.loader.exec_module = execute_and_watch
        return spec


sys.meta_path.insert(0, Watcher())
"""


@dataclass(frozen=True)
class Seconds:
    """What something took: on the clock, and of the processor."""

    clock: float
    processor: float


def time_import() -> Seconds:
    """A bare import of TensorFlow, to the end of its process."""
    began = time.time()
    process = subprocess.Popen([sys.executable, *BARE], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    clock = time.time() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"import tensorflow ended with code {process.returncode}")
    return Seconds(clock, usage.ru_utime + usage.ru_stime)


def time_start(words: Sequence[str], folder: Path, cache: Path, watch: Path) -> Seconds:
    """Start a sweep, and kill it once the first step is done."""
    mark = watch / "mark"
    mark.unlink(missing_ok=True)
    began = time.time()
    with run_sweep(words, folder, cache, watch) as process:
        wait_for(mark.exists, process)
        processor = count_processor_seconds(process.pid)
    return Seconds(float(mark.read_text()) - began, processor)


def prepare_continued(words: Sequence[str], folder: Path, cache: Path, watch: Path) -> None:
    """Run a sweep until its first trial is finished, and kill it."""
    with run_sweep(words, folder, cache, watch) as process:
        wait_for(lambda: count_finished(folder) > 0, process)


def count_finished(folder: Path) -> int:
    """The finished trials of the studies in a folder."""
    if not (folder / "mlruns" / "studies").is_dir():
        return 0
    return sum(study.read_record().count_trials("finished") for study in list_study_folders(folder / "mlruns"))


@contextmanager
def run_sweep(words: Sequence[str], folder: Path, cache: Path, watch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep under way, which is killed with its workers when this ends. What it says is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(watch), str(ROOT)]),
        "FMNIST_SWEEP_CACHE": str(cache),
        "START_MARK": str(watch / "mark"),
    }
    with (folder / "said.txt").open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # until its workers have ended, too


def wait_for(is_done: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_done():
        if process.poll() is not None or time.monotonic() > deadline:
            said = Path(f"/proc/{process.pid}/cwd/said.txt")
            raise RuntimeError(f"the sweep did not get so far: {said.read_text() if said.exists() else process}")
        time.sleep(0.01)


def count_processor_seconds(group: int) -> float:
    """Seconds that the processes of a group have computed so far, and those that they waited for."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def describe(kind: str, bare: Sequence[Seconds], taken: Sequence[Seconds]) -> str:
    clock, processor = [each.clock for each in taken], [each.processor for each in taken]
    later = [ours.clock - imported.clock for imported, ours in zip(bare, taken, strict=True)]
    ratio = [ours.clock / imported.clock for imported, ours in zip(bare, taken, strict=True)]
    return (
        f"{kind:18} {describe_spread(clock, '.1f')} s, CPU {describe_spread(processor, '.1f')} s; beyond the import "
        f"{describe_spread(later, '+.1f')} s, {describe_spread(ratio, '.2f')} times, n={len(taken)}"
    )


def describe_spread(values: Sequence[float], form: str) -> str:
    """The median, and the least and the greatest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of start, separated by commas")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    data = () if os.environ.get("FMNIST_DATA_DIR") else DRAWN
    words = (*SWEEP, *data, f"executor={given.executor}", *given.overrides)
    print(f"{describe_machine()}, Python {sys.version.split()[0]}: {' '.join(words)}", flush=True)
    taken: dict[str, list[Seconds]] = {
        kind: [] for kind in ("import tensorflow", *KINDS) if kind not in KINDS or kind in given.only.split(",")
    }
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        watch, cache = root / "watch", root / "cache"
        watch.mkdir()
        (watch / "sitecustomize.py").write_text(WATCH)
        time_import()  # the first one pays for what is then in memory
        prepare_continued(words, root / "continued", cache, watch)
        for number in range(given.rounds):
            for kind, found in taken.items():
                if kind == "import tensorflow":
                    found.append(time_import())
                    continue
                folder = root / (kind if kind == "continued" else f"{kind} {number}")
                found.append(time_start(words, folder, root / f"cache {number}" if kind == "cold" else cache, watch))
            shown = (f"{kind} {found[-1].clock:.1f} s (CPU {found[-1].processor:.1f})" for kind, found in taken.items())
            print(f"round {number + 1}: {', '.join(shown)}", flush=True)
    for kind, found in taken.items():
        print(describe(kind, taken["import tensorflow"], found))


if __name__ == "__main__":
    main()
