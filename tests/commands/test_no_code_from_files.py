"""No pickle is loaded and no code comes from a file, but for the messages of workers."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import ROOT

PACKAGE = ROOT / "fmnist_sweep"


# Where a module that can run code from bytes may be imported, and why.
_ALLOWED = {
    ("executors/worker.py", "pickle"): "an exception is pickled and read back at once, to see whether it can be sent",
    ("executors/worker.py", "multiprocessing.connection"): "a worker reads the socket pair of the process that made it",
    ("executors/local.py", "multiprocessing.connection"): "a supervisor reads the socket pair of its own child",
    ("training/own_code.py", "exec"): "a plugin's file, which the person who types the command names on it",
    ("executors/fork_server.py", "multiprocessing.connection"): "each end reads the socket pair of parent and child",
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
