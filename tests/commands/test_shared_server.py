"""Many sweeps into one tracking server: deploy/tracking-server.sh, with its PostgreSQL, on 127.0.0.1.

Real commands, real servers. What they leave is read back from the server alone, through its own interface. The figures
of trials are stand-ins (tests/support/altered.py).
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.journal import read_events
from fmnist_sweep.tracking import datasets
from fmnist_sweep.tracking.store import Store, open_existing_store, open_store, point_mlflow_at
from tests.support import ROOT
from tests.support.process import ANSWER_SECONDS, LIMIT_SECONDS, Running
from tests.support.small import DROPOUT, FILTERS, SMALLEST
from tests.support.small import splits as small_splits
from tests.support.steering import Steering
from tests.support.zygote import Zygote

SCRIPT = ROOT / "deploy" / "tracking-server.sh"
AS_OWNER = ("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()
WORKERS = ("executor=local", "executor.workers=2", "executor.threads=1")
SMALL_SWEEP = (*SMALLEST, FILTERS, DROPOUT)
PER_EPOCH = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds", "epoch_cpu_seconds")
FILES = {
    *("curves.png", "confusion_matrix.png", "confusion_matrix.json", "classification_report.json", "config.yaml"),
    *("misclassified.png", "misclassified_shirt.png", "overrides.txt", "predictions.npz"),
}


def _missing() -> str | None:
    """What this machine lacks to run the script, and how to get it."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *filter(None, [shutil.which("initdb")])]
    if not programs:
        return "needs PostgreSQL: apt-get install postgresql"
    if importlib.util.find_spec("psycopg2") is None:
        return "needs psycopg2: pip install -e '.[server]'"
    return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_missing() is not None, reason=_missing() or ""),
    pytest.mark.usefixtures("plain_figures"),
]


class SharedServer:
    """The script at two free ports; it can be stopped or killed, and started again on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as one, socket.socket() as other:
            for probe in (one, other):
                probe.bind(("127.0.0.1", 0))
            self.port, self.database_port = (probe.getsockname()[1] for probe in (one, other))
        self.address = f"http://127.0.0.1:{self.port}"
        self._script: subprocess.Popen[bytes] | None = None

    def command(self, *options: str) -> list[str]:
        ports = ("--port", str(self.port), "--database-port", str(self.database_port))
        return [str(SCRIPT), *ports, *options, str(self.folder)]

    def start(self) -> None:
        """Start both servers; they answer when this returns."""
        environment = {**os.environ, "PYTHON": sys.executable}
        with (self.folder / "said.log").open("ab") as said:
            self._script = subprocess.Popen(self.command(), env=environment, stdout=said, stderr=said)
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self._answers():
            assert self._script.poll() is None, (self.folder / "said.log").read_text()
            assert time.monotonic() < deadline, "the servers did not answer in time"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/health", timeout=ANSWER_SECONDS).status_code == 200
        except requests.RequestException:
            return False

    def stop(self) -> int:
        """Stop both by one signal; the script's exit code."""
        assert self._script is not None
        self._script.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit code of a script that is about to end."""
        assert self._script is not None
        code, self._script = self._script.wait(LIMIT_SECONDS), None
        return code

    def kill_mlflow(self) -> None:
        """SIGKILL for `mlflow server` and its processes; the script is left to notice."""
        os.killpg(int((self.folder / "mlflow.pid").read_text()), signal.SIGKILL)

    @property
    def postmaster(self) -> list[str]:
        """How PostgreSQL was called."""
        return shlex.split((self.folder / "postgres" / "postmaster.opts").read_text())

    def pg_ctl(self, *arguments: str) -> None:
        """Control PostgreSQL as its owner does."""
        program = str(Path(self.postmaster[0]).with_name("pg_ctl"))
        given = (program, "-D", str(self.folder / "postgres"), "-w", "-s", "-l", os.devnull, *arguments)
        subprocess.run([*AS_OWNER, *given], cwd="/", check=True, timeout=LIMIT_SECONDS, stdin=subprocess.DEVNULL)

    def sql(self, text: str) -> None:
        """Statements as the database's owner, then an end to every session, so that they hold for all."""
        text += "; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mlflow'"
        program = str(Path(self.postmaster[0]).with_name("psql"))
        where = ("-h", str(self.folder / "postgres"), "-p", str(self.database_port), "-d", "postgres")
        given = [*AS_OWNER, program, "-qX", "-v", "ON_ERROR_STOP=1", *where]
        subprocess.run(
            given, input=text, text=True, cwd="/", check=True, timeout=LIMIT_SECONDS, stdout=subprocess.DEVNULL
        )

    def close(self) -> None:
        """Stop what still runs, whatever state it is in."""
        if self._script is not None:
            self.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[SharedServer]:
    # Below a folder that all may enter, as pytest's own is not: as root, PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o711)
    started = SharedServer(folder)
    try:
        started.start()
        yield started
        assert started.stop() == 0
        assert not (folder / "postgres" / "postmaster.pid").exists()  # it had time to end by itself
    finally:
        started.close()
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Sweep:
    """One sweep command under way."""

    folder: Path
    process: Running

    def end(self) -> str:
        """What it said; it must have ended with 0."""
        done = self.process.end(LIMIT_SECONDS)
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-4000:])
        assert "Traceback" not in done.output
        return done.stdout


@pytest.fixture
def trials(tmp_path: Path) -> Steering:
    """What the trials of this test's sweeps do."""
    return Steering(tmp_path)


@pytest.fixture
def begin(zygote: Zygote, server: SharedServer, trials: Steering) -> Iterator[Callable[..., Sweep]]:
    """Begins sweeps into the server; none outlives the test."""
    with ExitStack() as begun:

        def new(folder: Path, experiment: str, *arguments: str) -> Sweep:
            words = (*SMALL_SWEEP, f"tracking.uri={server.address}", f"tracking.experiment={experiment}", *arguments)
            environment = {**trials.environment, "FAULTS_DELAY": "1"}
            process = begun.enter_context(zygote.start(*words, cwd=folder, environment=environment))
            return Sweep(folder, process)

        yield new


def _wait_for_delivered(sweeps: Sequence[Sweep]) -> None:
    """Until every sweep has a trial on the server; none has ended by then."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not all(_delivered(sweep.folder) for sweep in sweeps):
        assert not any(sweep.process.has_ended for sweep in sweeps), "a sweep ended too early"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def _delivered(folder: Path) -> bool:
    try:
        return any(
            event.kind == "delivered"
            for path in folder.glob("mlruns/studies/*/journal.db")
            for event in read_events(path)
        )
    except StoreError:  # about to be made
        return False


def _check(
    server: SharedServer, experiment: str, where: set[Path], tmp_path: Path, *, studies: int, trials: int, epochs: int
) -> None:
    """All that these sweeps gave is on the server, once and whole, and nothing of it is kept here any more."""
    store = open_existing_store(server.address, experiment)
    runs = store.client.search_runs([store.experiment_id], run_view_type=3, max_results=5000)
    kinds = Counter((run.data.tags["fmnist.kind"], run.info.status) for run in runs)
    assert kinds == {
        ("sweep", "FINISHED"): studies,
        ("study", "FINISHED"): studies,
        ("trial", "FINISHED"): studies * trials,
    }
    assert {run.info.lifecycle_stage for run in runs} == {"active"}
    journaled = [each for folder in where for each in list_study_folders(folder / "mlruns")]
    assert len(journaled) == studies
    known = {run.info.run_id: run for run in runs}
    for study in journaled:
        record = study.read_record()
        assert known[str(record.run_id)].data.tags["mlflow.parentRunId"] == record.sweep_run_id
        assert len(record.trials) == trials
        for history in record.trials.values():
            (attempt,) = history.attempts
            _check_trial(store, known.pop(str(attempt.run_id)), str(record.run_id), history.outcome or {}, epochs)
        assert not [path for kept in ("results", "checkpoints") for path in (study.path / kept).rglob("*.npz")]
    assert not [run for run in known.values() if run.data.tags["fmnist.kind"] == "trial"], "a trial of no study"
    _check_models(store, tmp_path, {run.info.run_id for run in runs if run.data.tags["fmnist.kind"] == "trial"})
    _check_files(store, runs)


def _check_trial(store: Store, run: Any, parent: str, outcome: dict[str, Any], epochs: int) -> None:
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.metrics["best_val_accuracy"] == outcome["best_val_accuracy"]
    for name in run.data.metrics:
        steps = [entry.step for entry in store.client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == (list(range(1, epochs + 1)) if name in PER_EPOCH else [0]), name
    assert set(PER_EPOCH) < run.data.metrics.keys()
    assert len(run.inputs.dataset_inputs) == 2


def _check_models(store: Store, tmp_path: Path, trials: set[str]) -> None:
    import mlflow

    models = store.client.search_logged_models([store.experiment_id], max_results=1000)
    ready = [model for model in models if str(model.status) == "READY"]
    assert sorted(model.source_run_id for model in ready) == sorted(trials)
    assert "PENDING" not in {str(model.status) for model in models}
    with point_mlflow_at(store):
        for model in ready:
            files = mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{model.model_id}", dst_path=str(tmp_path / "models" / model.model_id)
            )
            assert zipfile.ZipFile(Path(files, "data", "model.keras")).testzip() is None


def _check_files(store: Store, runs: Sequence[Any]) -> None:
    for run in runs:
        sizes = {
            entry.path: entry.file_size for entry in store.client.list_artifacts(run.info.run_id) if not entry.is_dir
        }
        if run.data.tags["fmnist.kind"] == "trial":
            assert sizes.keys() == FILES
        assert sizes
        assert all(sizes.values()), sizes


def test_eight_studies_at_once_lose_nothing(server: SharedServer, begin: Callable[..., Sweep], tmp_path: Path) -> None:
    # Half of them in one working directory, the others in one each; the experiment is nobody's yet.
    where = [tmp_path / "together"] * 4 + [tmp_path / f"alone-{seed}" for seed in range(5, 9)]
    small = ("train.epochs=2", "search.max_trials=2", "executor=in_process", "executor.threads=1")
    sweeps = [begin(folder, "at-once", f"seed={seed}", *small) for seed, folder in enumerate(where, 1)]
    for sweep in sweeps:
        assert "the tracking store is away" not in sweep.end()
    _check(server, "at-once", set(where), tmp_path, studies=8, trials=2, epochs=2)


def test_commands_that_log_the_same_images_at_the_same_moment_all_have_them(server: SharedServer) -> None:
    images = small_splits()
    for repeat in range(5):
        store = open_store(server.address, f"same-images-{repeat}")
        runs = [store.client.create_run(store.experiment_id).info.run_id for _ in range(12)]
        together = threading.Barrier(len(runs))

        def log(run_id: str, store: Store = store, together: threading.Barrier = together) -> None:
            together.wait(LIMIT_SECONDS)
            datasets.log_datasets(store, run_id, images)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(log, runs))
        logged = [store.client.get_run(run_id).inputs.dataset_inputs for run_id in runs]
        assert [len(each) for each in logged] == [2] * len(runs)


EPOCHS = 5
LONGER = (*WORKERS, f"train.epochs={EPOCHS}", "search.max_trials=3")
HELD = "0001"  # of each sweep's trials the one that keeps it from ending


def _begin_and_deliver(
    begin: Callable[..., Sweep], trials: Steering, tmp_path: Path, experiment: str, optimizers: Sequence[str]
) -> list[Sweep]:
    """Sweeps of which a trial is on the server, and another waits after its second epoch."""
    trials.hold(2, HELD)
    sweeps = [begin(tmp_path / name, experiment, f"optimizer={name}", *LONGER) for name in optimizers]
    _wait_for_delivered(sweeps)
    return sweeps


def _wait_until_away(sweeps: Sequence[Sweep], trials: Steering) -> None:
    """Let the trials that wait train on until each sweep has noticed that its store is away."""
    trials.hold(4, HELD)
    for sweep in sweeps:
        sweep.process.wait_for("the tracking store is away")


def _check_ends(server: SharedServer, experiment: str, sweeps: Sequence[Sweep], trials: Steering, path: Path) -> None:
    """Let the sweeps end: each found the store again, and all that they gave is there once."""
    trials.release()
    said = [sweep.end() for sweep in sweeps]
    assert all("the tracking store answers again" in each for each in said), said
    where = {sweep.folder for sweep in sweeps}
    _check(server, experiment, where, path, studies=len(sweeps), trials=3, epochs=EPOCHS)


def test_a_tracking_server_killed_in_mid_sweep_and_started_again_loses_and_doubles_nothing(
    server: SharedServer, begin: Callable[..., Sweep], trials: Steering, tmp_path: Path
) -> None:
    sweeps = _begin_and_deliver(begin, trials, tmp_path, "killed", ("rmsprop", "adam"))
    server.kill_mlflow()
    assert server.wait() == 1  # the script ends PostgreSQL too, and says that its server died
    assert "mlflow server ended" in (server.folder / "said.log").read_text()
    _wait_until_away(sweeps, trials)
    server.start()
    _check_ends(server, "killed", sweeps, trials, tmp_path)


def test_a_database_that_goes_away_in_mid_sweep_and_comes_back_loses_and_doubles_nothing(
    server: SharedServer, begin: Callable[..., Sweep], trials: Steering, tmp_path: Path
) -> None:
    sweeps = _begin_and_deliver(begin, trials, tmp_path, "database", ("rmsprop", "adam"))
    options = shlex.join(server.postmaster[3:])  # after the program and -D FOLDER
    server.pg_ctl("stop", "-m", "immediate")
    _wait_until_away(sweeps, trials)
    assert requests.get(f"{server.address}/health", timeout=LIMIT_SECONDS).status_code == 200  # it has not noticed
    server.pg_ctl("start", "-o", options)
    _check_ends(server, "database", sweeps, trials, tmp_path)


def test_a_database_that_only_reads_for_a_while_as_in_a_failover_loses_and_doubles_nothing(
    server: SharedServer, begin: Callable[..., Sweep], trials: Steering, tmp_path: Path
) -> None:
    sweeps = _begin_and_deliver(begin, trials, tmp_path, "failover", ("adam",))
    server.sql("ALTER DATABASE mlflow SET default_transaction_read_only = on")
    _wait_until_away(sweeps, trials)
    server.sql("ALTER DATABASE mlflow RESET default_transaction_read_only")
    assert "cannot execute" in sweeps[0].process.stdout  # what MLflow's server calls this is a bad request
    _check_ends(server, "failover", sweeps, trials, tmp_path)


def test_the_password_is_on_no_command_line_and_a_second_start_on_the_folder_is_refused(server: SharedServer) -> None:
    passwords = server.folder / "pgpass"
    assert passwords.stat().st_mode & 0o777 == 0o600
    password = passwords.read_text().strip().rsplit(":", 1)[1]
    assert len(password) >= 32
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert any(b"postgresql+psycopg2://" in line for line in lines)
    assert not [line for line in lines if password.encode() in line]
    second = subprocess.run(
        server.command(),
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "another tracking-server.sh" in second.stderr


def test_a_request_by_another_host_name_is_refused(server: SharedServer) -> None:
    for name, status in ((f"localhost:{server.port}", 200), ("elsewhere.example.org", 403)):
        assert requests.get(server.address, headers={"Host": name}, timeout=LIMIT_SECONDS).status_code == status
