"""Safety: the test images stay closed, no pickle is loaded, servers answer this machine only, names are no paths."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pytest
import requests
import yaml
from numpy.typing import NDArray
from rich.console import Console

from fmnist_sweep.analysis.table import build_table
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import clear_splits_cache, idx, open_test, sources
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.data.splits import ImageTable
from fmnist_sweep.errors import ExitCode, StoreError, UserError
from fmnist_sweep.promotion import candidates
from fmnist_sweep.promotion.candidates import PromotionTarget
from fmnist_sweep.report.publish import rebuild_report
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.run_files import log_files, read_artifact
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.tracking.store import (
    Store,
    build_default_uri,
    locate_ledger,
    locate_state_folder,
    locate_store_file,
    open_existing_store,
    open_store,
    resolve_store_uri,
)
from fmnist_sweep.tracking.trial_search import find_trial, select_trials
from tests.conftest import Command
from tests.support import ROOT
from tests.support.served import Served
from tests.support.servers import Server

PACKAGE = ROOT / "fmnist_sweep"
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALL = (
    *("model.filters=4", "model.conv_layers=1", "model.dense_units=8", "regularization=none", "search.max_trials=2"),
    *("train.precision=float32", "train.batch_size=16", "train.epochs=1", "executor=in_process"),
    "optimizer.learning_rate={tune: choice, values: [0.001, 0.002]}",
)


def _train_pair(folder: Path) -> Path:
    """A folder with 200 learnable training images in Fashion-MNIST's own format, and no test files."""
    images, labels = draw_images(200, 7, stream="train")
    folder.mkdir(parents=True)
    sizes = b"".join(number.to_bytes(4, "big") for number in (2051, len(images), 28, 28))
    (folder / TRAIN_IMAGES).write_bytes(sizes + images.tobytes())
    header = (2049).to_bytes(4, "big") + len(labels).to_bytes(4, "big")
    (folder / TRAIN_LABELS).write_bytes(header + labels.astype(np.uint8).tobytes())
    return folder


# --- the test images


class Touched(BaseException):
    """Somebody looked at a poisoned array; no `except Exception` may swallow it."""


def _touched(*_: object, **__: object) -> NoReturn:
    raise Touched("the test images were read")


def _poison() -> Any:
    """An array that raises whatever is done with it, attributes included."""
    calls = ("getitem", "len", "iter", "array", "eq", "ne", "lt", "gt", "le", "ge", "bool", "add", "sub", "contains")
    members: dict[str, Any] = {f"__{name}__": _touched for name in calls}
    return type("Poison", (), {**members, "__getattr__": _touched, "__hash__": None})()


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A working directory and files of training images, where whatever reads test images gets poison.

    Gives the list of who asked for them.
    """
    asked: list[str] = []

    def read_test(*_: object) -> ImageTable:
        asked.append("read_test")
        return ImageTable(_poison(), _poison())

    def open_(folder: Path, part: str) -> Any:
        if part == "test":
            asked.append("read_part")
            _touched()
        return real(folder, cast(Any, part))

    real = idx.read_idx_part
    _train_pair(tmp_path / "idx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "read_test", read_test)
    monkeypatch.setattr(idx, "read_idx_part", open_)
    clear_splits_cache()
    yield asked
    clear_splits_cache()


def test_a_search_and_its_report_never_touch_poisoned_test_images_and_opening_them_does(
    poisoned: list[str], tmp_path: Path
) -> None:
    shown = io.StringIO()
    job = compose_job([*SMALL, f"data.dir={tmp_path / 'idx'}", "data.fallback=null"])
    code = run_sweep([job], "python -m fmnist_sweep", View(Console(file=shown), None))
    assert code is ExitCode.DONE, shown.getvalue()
    store = open_existing_store(None, "fashion-mnist")
    assert len(select_trials(store)) == 2
    rebuild_report(store, study_id=None, sweep_id=None, data_dir=str(tmp_path / "idx"), out=tmp_path / "again.html")
    ledger = locate_ledger()
    assert poisoned == []
    assert not ledger.exists()
    with pytest.raises(Touched):  # else the poison would be harmless
        open_test(job.config.data, reason="control", ledger=ledger)
    assert poisoned == ["read_test"]
    assert not ledger.exists()  # and nothing was opened


def _as_folders(path: Path) -> None:
    path.mkdir()


def _as_pipes(path: Path) -> None:
    os.mkfifo(path)  # whoever opens it waits for ever


def _as_garbage(path: Path) -> None:
    path.write_bytes(b"no IDX file")


def _as_loops(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_as_pipes, id="pipes"),
        pytest.param(_as_folders, id="folders", marks=pytest.mark.slow),
        pytest.param(_as_garbage, id="garbage", marks=pytest.mark.slow),
        pytest.param(_as_loops, id="loops", marks=pytest.mark.slow),
    ],
)
def test_the_real_command_sweeps_beside_test_files_that_nobody_can_read(
    spoil: Callable[[Path], None], sweep: Command, tmp_path: Path
) -> None:
    folder = _train_pair(tmp_path / "idx")
    for name in TEST_NAMES:
        spoil(folder / name)
    done = sweep(*SMALL, f"data.dir={folder}", "data.fallback=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
    assert not (tmp_path / "mlruns" / "test_openings.jsonl").exists()


# --- no pickle, no code from files


# Where a module that can run code from bytes may be imported, and why.
_ALLOWED = {
    ("executors/worker.py", "pickle"): "an exception is pickled and read back at once, to see whether it can be sent",
    ("executors/worker.py", "multiprocessing.connection"): "a worker reads the socket pair of the process that made it",
    ("executors/local.py", "multiprocessing.connection"): "a supervisor reads the socket pair of its own child",
}
_PICKLING = (
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle", "torch"),
    *("multiprocessing.connection", "multiprocessing.managers", "mlflow.pyfunc", "mlflow.sklearn"),
)
_UNSAFE = (
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("joblib.load", "pd.read_pickle", "pandas.read_pickle"),
)


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _says(call: ast.Call, name: str, value: object) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    return isinstance(found := given.get(name), ast.Constant) and found.value is value


def _faults(source: str) -> list[str]:
    """What in a module could run code out of bytes: the imports and calls, in words."""
    tree = ast.parse(source)
    imports = {name for name in _imported(tree) for bad in _PICKLING if name == bad or name.startswith(f"{bad}.")}
    found = [next(bad for bad in _PICKLING if name == bad or name.startswith(f"{bad}.")) for name in sorted(imports)]
    for name, call in _called(tree):
        last = name.rpartition(".")[2]
        if name in ("eval", "exec", "__import__") or name.startswith("mlflow.pyfunc."):
            found.append(name)
        elif name in ("np.load", "numpy.load", "np.fromfile") and not _says(call, "allow_pickle", False):
            found.append(f"{name} without allow_pickle=False")
        elif last in ("load_model", "clone_from_file", "deserialize_keras_object") and name != "trial.load_model":
            found += [] if _says(call, "safe_mode", True) else [f"{name} without safe_mode=True"]
        elif name in _UNSAFE or last.startswith("enable_unsafe"):
            found.append(name)
    return list(dict.fromkeys(found))


def test_no_module_loads_a_pickle_or_runs_code_from_a_file_but_for_workers_messages() -> None:
    found = {(str(path.relative_to(PACKAGE)), fault) for path in _modules() for fault in _faults(path.read_text())}
    assert found == set(_ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import cloudpickle as c", "import dill", "import shelve"),
        *("import marshal", "np.load(f)", "np.load(f, allow_pickle=True)", "joblib.load(f)", "pd.read_pickle(f)"),
        *("keras.models.load_model(f)", "keras.saving.load_model(f, safe_mode=False)", "yaml.load(f, Loader=L)"),
        *("yaml.unsafe_load(f)", "eval(x)", "exec(x)", "mlflow.pyfunc.load_model(u)", "import mlflow.pyfunc"),
        *("mlflow.keras.load_model(u)", "keras.config.enable_unsafe_deserialization()"),
    ],
)
def test_the_check_for_pickles_finds_each_way_to_load_one(source: str) -> None:
    assert len(_faults(source)) >= 1


def test_a_workers_messages_come_from_a_socket_pair_that_no_other_process_can_reach() -> None:
    """The one place where pickles are read: no address is listened to, so nobody else can send one."""
    for path in sorted((PACKAGE / "executors").glob("*.py")):
        names = {name.rpartition(".")[2] for name, _ in _called(ast.parse(path.read_text()))}
        assert names.isdisjoint({"Listener", "Client", "listen", "accept"}), path


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_predictions_that_hold_a_pickle_are_refused_and_nothing_in_them_runs(tmp_path: Path) -> None:
    from fmnist_sweep.files import pack_arrays
    from fmnist_sweep.tracking.prediction_files import unpack_predictions

    mark, content = tmp_path / "ran", io.BytesIO()
    bomb: NDArray[Any] = np.array([Bomb(mark)], dtype=object)
    np.savez(content, index=bomb, labels=bomb, probabilities=bomb)
    with pytest.raises(ValueError):
        unpack_predictions(content.getvalue())
    assert not mark.exists()
    np.load(io.BytesIO(content.getvalue()), allow_pickle=True)["index"]  # else the bomb would be harmless
    assert mark.exists()
    with pytest.raises(ValueError):
        pack_arrays({}, {"index": bomb})


# --- servers


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store without runs, in a folder of its own."""
    return open_store(build_default_uri(tmp_path_factory.mktemp("store")), "fashion-mnist")


def test_the_ui_listens_on_this_machine_alone_and_refuses_every_other_name_for_it(empty_store: Store) -> None:
    folder = locate_store_file(empty_store.uri).parent.parent
    with Served(folder) as (root, _):
        port = int(root.rpartition(":")[2])
        assert _listening(port) == {"127.0.0.1"}
        own = {host: _status(root, host) for host in (f"127.0.0.1:{port}", f"localhost:{port}")}
        names = ("10.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", "127.0.0.1:1")
        others = {host: _status(root, host) for name in names for host in (name, f"{name.split(':')[0]}.x:{port}")}
        assert own == dict.fromkeys(own, 200)
        assert others == dict.fromkeys(others, 403)
        answer = requests.post(
            f"{root}/api/2.0/mlflow/experiments/create",
            json={"name": "theirs"},
            headers={"Origin": "http://evil.example"},
            timeout=30,
        )
        assert answer.status_code == 403
    assert empty_store.client.get_experiment_by_name("theirs") is None


def _status(root: str, host: str) -> int:
    address = f"{root}/api/2.0/mlflow/experiments/get?experiment_id=1"
    return requests.get(address, headers={"Host": host}, timeout=30).status_code


def _listening(port: int) -> set[str]:
    """The addresses that a TCP port of this machine is listened to on, as Linux' kernel lists them."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            address, at = line.split()[1].split(":")
            if int(at, 16) == port and line.split()[3] == "0A":
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


PASSWORD = "not-the-one-of-the-manual"


class _Guarded(Server):
    """A server that asks for users and passwords; its folder has the auth.ini."""

    def begin(self) -> None:
        hosts = self.address.removeprefix("http://")
        command = ["mlflow", "server", "--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", hosts.rpartition(":")[2], "--allowed-hosts", hosts]
        settings = {"MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env={**os.environ, **settings, "MLFLOW_FLASK_SERVER_SECRET_KEY": "a" * 48},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that asks for users and passwords, as docs/sharing.md says to start it."""
    pytest.importorskip("flask_wtf", reason="needs Flask-WTF: pip install -e '.[server]'")
    folder = tmp_path_factory.mktemp("guarded")
    settings = {"default_permission": "EDIT", "database_uri": f"sqlite:///{folder / 'users.db'}"}
    settings |= {"admin_username": "admin", "admin_password": PASSWORD}
    settings["authorization_function"] = "mlflow.server.auth:authenticate_request_basic_auth"
    lines = ["[mlflow]", *(f"{key} = {value}" for key, value in settings.items())]
    (folder / "auth.ini").write_text("\n".join(lines) + "\n")
    with _Guarded(folder) as server:
        yield server.address


@pytest.mark.slow
def test_a_guarded_server_answers_nobody_without_a_password(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"max_results": 1}
    api = ("api/2.0/mlflow/experiments/search", "ajax-api/2.0/mlflow/experiments/search", "graphql")
    asked = [requests.post(f"{guarded}/{path}", json=body, timeout=30).status_code for path in api]
    assert [*asked, requests.get(f"{guarded}/", timeout=30).status_code] == [401] * 4
    for user in (("admin", "password1234"), ("admin", ""), ("ann", PASSWORD)):
        assert requests.post(f"{guarded}/{api[0]}", json=body, auth=user, timeout=30).status_code == 401
    with pytest.raises(StoreError, match="MLFLOW_TRACKING_USERNAME"):
        open_store(guarded, "fashion-mnist")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    store = open_store(guarded, "fashion-mnist")
    run_id = start_run(store, RunInfo("sweep", "a sweep", {}, "a test"), may_exist=False)
    log_files(store, run_id, {"a.txt": b"1"})
    assert read_artifact(store, run_id, "a.txt") == b"1"


@pytest.mark.slow
def test_an_experiment_that_would_write_into_a_folder_of_this_machine_is_refused(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    client = open_store(guarded, "fashion-mnist").client
    for name, place in {"uri": tmp_path.as_uri(), "path": str(tmp_path)}.items():
        client.create_experiment(name, artifact_location=place)
        for opened in (open_store, open_existing_store):
            with pytest.raises(StoreError, match="folder of this machine"):
                opened(guarded, name)
    assert list(tmp_path.iterdir()) == []


# --- names that could be paths or conditions


HOSTILE = (
    *("../x", "../../etc/passwd", "/etc/passwd", "..", ".", "~", "a/b", "x\\..\\y", "C:\\x", "x\x00y", "x\ny", ""),
    *("x' OR tags.a = 'b", "x'", "'", '"', "`", "%", "x'\"", ";--", "$HOME", "$(id)", "x" * 5000),
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_the_command_line_finds_nothing_and_is_refused_in_one_sentence(
    name: str, empty_store: Store
) -> None:
    before = _files(locate_state_folder(empty_store.uri))
    asked: list[Callable[[], object]] = [
        lambda: find_trial(empty_store, name),
        lambda: select_trials(empty_store, studies=[name]),
        lambda: select_trials(empty_store, sweep=name),
        lambda: rebuild_report(empty_store, study_id=name, sweep_id=None, data_dir=None, out=None),
        lambda: rebuild_report(empty_store, study_id=None, sweep_id=name, data_dir=None, out=None),
        lambda: candidates.find_candidates(empty_store, PromotionTarget(run_id=name), 3, False),
        lambda: candidates.find_candidates(empty_store, PromotionTarget(study_id=name), 3, False),
        lambda: candidates.find_candidates(empty_store, PromotionTarget(sweep_id=name), 3, False),
        lambda: open_existing_store(empty_store.uri, name),
    ]
    for ask in asked:
        with pytest.raises(UserError) as refused:
            ask()
        assert len(str(refused.value)) > 20
    assert _files(locate_state_folder(empty_store.uri)) == before


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.parent.rglob("*") if "mlflow.db" not in path.name}


@pytest.mark.parametrize(
    "override",
    [
        *("experiment=../../etc/passwd", "experiment=/etc/passwd", "model=../model/cnn", "model=/etc/passwd"),
        *("optimizer=../../../../etc/passwd", "data=../data/drawn", "seed=../x", "search.name=../x"),
        "model.builder=../x",
        *("executor.name=../x", "train.loss=../../x", "data.source=../x", "tracking.keep_models=../x"),
        *("tracking.uri=file:///tmp/x", "tracking.uri=/tmp/x", "tracking.uri=../x"),
    ],
)
def test_an_option_or_value_that_is_a_path_is_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=override.split("=")[0].split(".")[0]):
        config = compose_job(["data=drawn", override]).config
        resolve_store_uri(config.tracking.uri)


def test_a_config_of_a_users_own_folder_may_not_name_one_outside_either(sweep: Command, tmp_path: Path) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text(yaml.safe_dump({"builder": "cnn"}))
    (own / "mine.yaml").write_text("defaults:\n  - ../../outside\n")
    done = sweep("--config-dir", str(own.parent), "data=drawn", "model=mine", "plan=true", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["../../x", "x' OR tags.a = 'b"])
def test_an_experiments_name_is_a_name_and_no_path(name: str, tmp_path: Path) -> None:
    state = tmp_path / "a" / "mlruns"
    store = open_store(f"sqlite:///{state / 'mlflow.db'}", name)
    run_id = start_run(store, RunInfo("sweep", name, {}, "a test"), may_exist=False)
    log_files(store, run_id, {"a.txt": b"1"})
    assert (state / "artifacts" / run_id / "artifacts" / "a.txt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mlruns"]


@pytest.fixture
def hostile_store(empty_store: Store) -> Iterator[Callable[..., Store]]:
    """A store with one sweep and one finished trial whose tags somebody else wrote: hostile_store(sweep_id=...)."""
    client, made = empty_store.client, list[str]()

    def store(**tags: str) -> Store:
        told = {"sweep_id": "a", "study_id": "a", "trial_id": "0000", "attempt": "1", "journal": "j", "journals": "j"}
        told |= {"data": "fashion_mnist:000000000000", "canonical": "true"} | tags
        for kind in ("sweep", "trial"):
            marks = {f"fmnist.{key}": value for key, value in {"kind": kind, **told}.items()}
            marks["mlflow.source.name"] = tags.get("command", "python -m fmnist_sweep")
            run = client.create_run(empty_store.experiment_id, None, marks, tags.get("name", "a name"))
            client.log_metric(run.info.run_id, "best_val_accuracy", 0.9)
            client.set_terminated(run.info.run_id, "FINISHED")
            made.append(run.info.run_id)
        return empty_store

    yield store
    for run_id in made:
        client.delete_run(run_id)


@pytest.mark.parametrize(
    "name", ["../../../x", "/../../../../x", "../" * 12 + "tmp/x", "..", "x'", "'\"", "a/b", "\x1b[2J"]
)
def test_ids_and_names_from_a_shared_store_lead_nowhere(name: str, hostile_store: Callable[..., Store]) -> None:
    store = hostile_store(**dict.fromkeys(("sweep_id", "study_id", "trial_id", "journal", "journals", "name"), name))
    state = locate_state_folder(store.uri)
    before = _files(state)
    asked: list[Callable[[], object]] = [
        lambda: rebuild_report(store, study_id=None, sweep_id=None, data_dir=None, out=None),
        lambda: build_table(select_trials(store)),
        lambda: find_trial(store, name),
        lambda: candidates.find_candidates(store, PromotionTarget(), 3, False),
    ]
    for ask in asked:
        try:
            ask()
        except UserError as error:
            assert len(str(error)) > 20
    assert all(path.parent == state / "reports" for path in _files(state) - before if path.is_file())
    assert not [path for path in _outside(state) if path.name.endswith("-again.html")]


def _outside(state: Path) -> Iterator[Path]:
    """What lies in the folders above a store, in each of them."""
    for folder in (*state.parents, Path.cwd()):
        yield from folder.glob("*.html")


def test_a_report_of_a_hostile_store_runs_no_script_of_its_names(
    hostile_store: Callable[..., Store], tmp_path: Path
) -> None:
    script = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)>"
    store = hostile_store(name=script, failure=script, trial_id=script, command=script)
    out = tmp_path / "report.html"
    rebuild_report(store, study_id=None, sweep_id=None, data_dir=None, out=out)
    assert "<script>alert" not in out.read_text()
    assert "<img src=x" not in out.read_text()
    assert "alert(1)" in out.read_text()
