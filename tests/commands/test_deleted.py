"""What somebody deletes in the UI is named in every view, with the command that restores it, and counts nowhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

import fmnist_sweep
from fmnist_sweep.cli.registry import list_irregularities
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.aliases import AliasState, Move
from tests.conftest import Command
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.small import SMALLEST
from tests.support.steering import Steering
from tests.support.zygote import Zygote

TINY = (
    *("data=drawn", "data.images=100", "model.filters=4", "model.conv_layers=1", "model.dense_units=8"),
    *("train.epochs=1", "executor=in_process", "regularization=none"),
)
SWEEP = ("-m", *TINY, "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}")
HERE = clean_environment(FAULTS_PLAIN="1")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    return sweep_three(tmp_path_factory.mktemp("swept"), warm_sweep)


def sweep_three(folder: Path, warm_sweep: Command) -> Path:
    done = warm_sweep(*SWEEP, "search.max_trials=3", cwd=folder, environment={"FAULTS_PLAIN": "1"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def client(swept: Path) -> Iterator[MlflowClient]:
    """A client of the store, in which everything is restored at the end."""
    found = MlflowClient(f"sqlite:///{swept}/mlruns/mlflow.db")
    yield found
    if found.get_experiment("1").lifecycle_stage == "deleted":
        found.restore_experiment("1")
    for run in found.search_runs(["1"], run_view_type=ViewType.DELETED_ONLY):
        found.restore_run(run.info.run_id)


def paste(command: str, cwd: Path) -> None:
    """Run a printed command in a shell, with this interpreter's mlflow."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", command], cwd=cwd, env={**HERE, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


VERBS = {
    "compare": ("compare",),
    "report": ("report",),
    "promote": ("promote", "plan=true"),
    "history": ("history",),
    "rollback": ("rollback",),
    "reproduce": ("reproduce", "1"),
    "documented": ("documented", "render", "003"),
    "ui": ("ui",),
}


DELETED_RUN_VERBS = ("compare", "report", "promote", "documented")


@pytest.mark.slow
def test_a_deleted_experiment_is_named_by_every_command_and_can_be_restored(swept: Path, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("fashion-mnist")
    client.delete_experiment(experiment.experiment_id)
    ended = {name: run_verb(*words, cwd=swept, environment=HERE) for name, words in VERBS.items()}
    for more in ((), ("plan=true",), ("search.max_trials=4",)):
        ended[f"sweep {more}"] = run_command(*SWEEP, "search.max_trials=3", *more, cwd=swept, environment=HERE)
    commands = set()
    for name, done in ended.items():
        assert done.returncode == ExitCode.STORE, (name, done.stdout, done.stderr)
        assert "the experiment fashion-mnist was deleted in sqlite:///" in done.stderr, name
        assert "nothing to do" not in done.stdout.lower()
        commands |= set(re.findall(r"restore it \((.*?)\), or name another", done.stderr))
    listed = run_verb("studies", cwd=swept, environment=HERE)
    assert "done; its experiment was deleted; 0 of 3, 3 deleted trials\n" in listed.stdout
    assert "was deleted in sqlite:///" in listed.stderr
    assert len(commands) == 1
    paste(commands.pop(), swept)
    assert run_verb("compare", cwd=swept, environment=HERE).returncode == 0
    done = run_command(*SWEEP, "search.max_trials=3", cwd=swept, environment=HERE)
    assert (done.returncode, "Nothing to do" in done.stdout) == (0, True), done.stderr


def find_runs(client: MlflowClient, kind: str) -> list[Run]:
    experiment = client.get_experiment_by_name("fashion-mnist")
    order = ["metrics.best_val_accuracy DESC"]
    return list(client.search_runs([experiment.experiment_id], f"tags.`fmnist.kind` = '{kind}'", order_by=order))


@pytest.mark.slow
def test_a_deleted_best_trial_counts_in_no_view(tmp_path: Path, warm_sweep: Command) -> None:
    swept = sweep_three(tmp_path, warm_sweep)
    client = MlflowClient(f"sqlite:///{swept}/mlruns/mlflow.db")
    best, *others = find_runs(client, "trial")
    client.delete_run(best.info.run_id)
    restore = f"mlflow runs restore --run-id {best.info.run_id}"
    accuracy = f"{best.data.metrics['best_val_accuracy']:.4f}"
    ended = {name: run_verb(*VERBS[name], cwd=swept, environment=HERE) for name in DELETED_RUN_VERBS}
    ended["studies"] = run_verb("studies", cwd=swept, environment=HERE)
    ended["done before"] = run_command(*SWEEP, "search.max_trials=3", cwd=swept, environment=HERE)
    ended["plan"] = run_command(*SWEEP, "search.max_trials=4", "plan=true", cwd=swept, environment=HERE)
    ended["extended"] = warm_sweep(*SWEEP, "search.max_trials=4", cwd=swept, environment={"FAULTS_PLAIN": "1"})
    for name, done in ended.items():
        assert restore in done.stdout + done.stderr, (name, done.stdout, done.stderr)
    assert "2 of 2 trials" in ended["compare"].stdout
    assert "2 of 3, 1 deleted trials" in ended["studies"].stdout
    assert ended["extended"].returncode == 0, ended["extended"].stderr
    assert "3 trials" in ended["extended"].stdout
    for kind in ("study", "sweep"):
        parent = find_runs(client, kind)[0]
        assert parent.data.tags["fmnist.best_run"] != best.info.run_id
        left = find_runs(client, "trial")
        assert parent.data.metrics["best_val_accuracy"] == left[0].data.metrics["best_val_accuracy"]
        assert parent.data.metrics["trials_finished"] == 3
    report = next((swept / "mlruns" / "reports").glob("sweep-*.html")).read_text()
    assert best.info.run_id not in report
    if accuracy not in {f"{run.data.metrics['best_val_accuracy']:.4f}" for run in others}:
        assert f"best validation accuracy {accuracy}" not in ended["studies"].stdout
    paste(f"MLFLOW_TRACKING_URI=sqlite:///{swept}/mlruns/mlflow.db {restore}", swept)
    assert "4 of 4 trials" in run_verb("compare", cwd=swept, environment=HERE).stdout


@pytest.mark.slow
def test_all_deleted_trials_are_restored_with_one_command(swept: Path, client: MlflowClient) -> None:
    for run in find_runs(client, "trial"):
        client.delete_run(run.info.run_id)
    done = run_verb("compare", cwd=swept, environment=HERE)
    assert "no trial matches, of 0" in done.stdout
    command = done.stderr.partition("to restore: ")[2].strip()
    assert shlex.split(command)[0] == "for"
    assert run_verb("promote", "plan=true", cwd=swept, environment=HERE).returncode == ExitCode.REFUSED
    paste(command, swept)
    assert "3 of 3 trials" in run_verb("compare", cwd=swept, environment=HERE).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["study", "sweep"])
def test_the_deleted_run_of_a_study_or_sweep_is_named(kind: str, swept: Path, client: MlflowClient) -> None:
    run = find_runs(client, kind)[0]
    client.delete_run(run.info.run_id)
    restore = f"mlflow runs restore --run-id {run.info.run_id}"
    extended = run_command(*SWEEP, "search.max_trials=4", "data.dir=null", cwd=swept, environment=HERE)
    report = run_verb("report", f"--{kind}", run.data.tags[f"fmnist.{kind}_id"], cwd=swept, environment=HERE)
    for done, code in ((extended, ExitCode.STORE), (report, ExitCode.CONFIG)):
        assert done.returncode == code, done.stdout + done.stderr
        assert restore in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_deleted_trial_that_is_asked_for_is_named_with_what_restores_it(swept: Path, client: MlflowClient) -> None:
    trial, other, _ = find_runs(client, "trial")
    client.delete_run(trial.info.run_id)
    restore = f"mlflow runs restore --run-id {trial.info.run_id}."
    names = (trial.info.run_id[:12], f"{trial.data.tags['fmnist.study_id']}/{trial.data.tags['fmnist.trial_id']}")
    for name in names:
        done = run_verb("compare", name, other.info.run_id, cwd=swept, environment=HERE)
        assert (done.returncode, done.stdout) == (ExitCode.CONFIG, ""), done.stderr
        assert done.stderr.splitlines()[-1].endswith(restore)
    done = run_verb("promote", "plan=true", "--run", trial.info.run_id, cwd=swept, environment=HERE)
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED, ""), done.stderr
    assert done.stderr.splitlines()[-1].endswith(restore)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["study", "sweep"])
def test_a_deleted_study_or_sweep_that_a_table_is_asked_for_is_named(
    kind: str, swept: Path, client: MlflowClient
) -> None:
    for run in [*find_runs(client, kind), *find_runs(client, "trial")]:
        client.delete_run(run.info.run_id)
    identifier = run_tag(client, kind)
    done = run_verb("compare", f"--{kind}", identifier, cwd=swept, environment=HERE)
    assert done.returncode == ExitCode.CONFIG, done.stdout + done.stderr
    assert f"{kind} " in done.stderr.splitlines()[-1]
    assert "was deleted and counts nowhere; to restore: " in done.stderr.splitlines()[-1]


def run_tag(client: MlflowClient, kind: str) -> str:
    """The id of the study or sweep whose run was deleted."""
    runs = client.search_runs(["1"], f"tags.`fmnist.kind` = '{kind}'", run_view_type=ViewType.DELETED_ONLY)
    return str(runs[0].data.tags[f"fmnist.{kind}_id"])


@pytest.mark.slow
def test_the_python_interface_warns_of_deleted_trials(swept: Path, client: MlflowClient) -> None:
    uri = f"sqlite:///{swept}/mlruns/mlflow.db"
    trial = find_runs(client, "trial")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fmnist_sweep.trials(uri)) == 3
    client.delete_run(trial.info.run_id)
    with pytest.warns(UserWarning, match=f"mlflow runs restore --run-id {trial.info.run_id}") as caught:
        table = fmnist_sweep.trials(uri)
    assert [warning.filename for warning in caught] == [__file__]
    assert trial.info.run_id not in set(table["run_id"])
    assert len(table) == 2


@pytest.mark.slow
def test_the_listing_of_studies_names_the_sweep_that_a_report_takes(swept: Path) -> None:
    listed = run_verb("studies", cwd=swept, environment=HERE)
    sweep_id = re.findall(r"; sweep (\w+)", listed.stdout)[0]
    assert run_verb("report", "--sweep", sweep_id, cwd=swept, environment=HERE).returncode == 0


def test_the_history_names_a_version_that_was_deleted() -> None:
    move = Move(1, "2026-01-01T00:00:00", "champion", "3", "2", "promoted", "why", "command", "ann", completed=True)
    deleted, kept = (
        list(list_irregularities({"champion": AliasState(version, move)}, numbers))
        for version, numbers in ((None, {"1", "2"}), ("3", {"1", "2", "3"}))
    )
    assert len(deleted) == 1
    assert "version 3, to which it was moved last, was deleted" in deleted[0]
    assert kept == []


@pytest.mark.parametrize("loss", ["the file", "the folder", "the experiment"])
def test_what_is_removed_while_a_sweep_runs_ends_it_in_a_sentence(loss: str, zygote: Zygote, tmp_path: Path) -> None:
    words = (*SMALLEST, "train.epochs=3", "search.max_trials=3", "executor=in_process")
    trials = Steering(tmp_path)
    trials.hold(1)
    given = {"FAULTS_PLAIN": "1", **trials.environment}
    with zygote.start(*words, cwd=tmp_path, environment=given) as running:
        running.wait_for(lambda: has_trial(tmp_path))
        if loss == "the experiment":
            MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db").delete_experiment("1")
        elif loss == "the file":
            for path in (tmp_path / "mlruns").glob("mlflow.db*"):
                path.unlink()
        else:
            shutil.rmtree(tmp_path / "mlruns")
        trials.release()
        done = running.end()
    assert done.returncode == ExitCode.STORE, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "was deleted" in done.stderr if loss == "the experiment" else "mlruns" in done.stderr


def has_trial(folder: Path) -> bool:
    if not (folder / "mlruns" / "mlflow.db").exists():
        return False
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("fashion-mnist")
    if experiment is None:
        return False
    runs = client.search_runs([experiment.experiment_id], "tags.`fmnist.kind` = 'trial'")
    return any("val_loss" in run.data.metrics for run in runs)
