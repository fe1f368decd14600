"""The registered model's versions, with a real store, real models and processes that register at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.errors import Locked, PromotionRefused, StoreError
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import store_lock
from fmnist_sweep.tracking.models import KERAS_FILE, UnusableModel, download_model, log_model
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION
from fmnist_sweep.tracking.store import Store, open_store, point_mlflow_at
from fmnist_sweep.tracking.store_lock import lock_registry
from fmnist_sweep.tracking.version_files import load_version
from tests.support.process import LIMIT_SECONDS
from tests.support.small import splits


@dataclass(frozen=True)
class Logged:
    """A run with a model: what a version is registered of."""

    run_id: str
    model_id: str
    content: bytes

    @property
    def tags(self) -> dict[str, str]:
        """What a registration must say at least."""
        return {SHA256_TAG: hashlib.sha256(self.content).hexdigest()}


def network(folder: Path, bias: int) -> bytes:
    """The .keras file of a model that takes every image for the label `bias`."""
    import keras

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.layers[-1].set_weights([np.zeros((784, 10)), 50 * np.eye(10)[bias]])
    model.save(folder / "model.keras")
    return (folder / "model.keras").read_bytes()


def logged(store: Store, content: bytes) -> Logged:
    """A new finished run with this model, logged as a sweep logs it."""
    run = store.client.create_run(store.experiment_id, run_name="filters 4")
    model = log_model(store, run, content, splits().validation, FASHION_MNIST)
    store.client.set_terminated(run.info.run_id, "FINISHED")
    return Logged(run.info.run_id, model.model_id, content)


def connected(folder: Path) -> Store:
    """A store in a folder, made where it is not there."""
    return open_store(f"sqlite:///{folder}/mlruns/mlflow.db", "fashion-mnist")


def register(store: Store, one: Logged, **tags: str) -> str:
    """The number of the version of a run's model."""
    with lock_registry(store):
        found = versions.register_version(
            store, one.run_id, one.model_id, tags={**one.tags, **tags}, description="a test"
        )
    return found.number


def clear(store: Store) -> None:
    """Forget everything registered; the runs and their models stay."""
    if versions.get_registered_model(store) is not None:
        store.client.delete_registered_model(MODEL_NAME)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Logged]]:
    """A store with three runs and their models."""
    folder = tmp_path_factory.mktemp("versions")
    store = connected(folder)
    return store, [logged(store, network(folder, bias)) for bias in range(3)]


@pytest.fixture
def store(filled: tuple[Store, list[Logged]]) -> Iterator[Store]:
    """That store, with nothing registered."""
    clear(filled[0])
    yield filled[0]


@pytest.fixture
def models(filled: tuple[Store, list[Logged]]) -> list[Logged]:
    """Its runs."""
    return filled[1]


def _location(store: Store, one: Logged) -> Path:
    return Path(store.client.get_logged_model(one.model_id).artifact_location.removeprefix("file://"))


@pytest.fixture
def altered(store: Store, models: list[Logged]) -> Iterator[Path]:
    """The folder of the first run's model, put right again afterwards."""
    place = _location(store, models[0])
    shutil.copytree(place, f"{place}.kept")
    yield place
    shutil.rmtree(place, ignore_errors=True)
    Path(f"{place}.kept").rename(place)


def test_a_runs_model_is_one_version_however_often_it_is_registered(store: Store, models: list[Logged]) -> None:
    assert versions.list_versions(store) == []
    assert register(store, models[0], verdict="first") == "1"
    assert register(store, models[1]) == "2"
    assert register(store, models[0], verdict="second") == "1"
    newest, oldest = versions.list_versions(store)
    assert [newest.number, oldest.number] == ["2", "1"]
    assert (oldest.run_id, oldest.source) == (models[0].run_id, f"models:/{models[0].model_id}")
    assert oldest.tags == {**models[0].tags, "verdict": "second"}
    assert oldest.description == "a test"


def test_every_version_is_found_on_however_many_pages(
    store: Store, models: list[Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in models:
        register(store, one)
    whole = store.client.search_model_versions

    def paged(condition: str, *, max_results: int, page_token: str | None) -> Any:
        return whole(condition, max_results=1, page_token=page_token)

    monkeypatch.setattr(store.client, "search_model_versions", paged)
    assert [version.number for version in versions.list_versions(store)] == ["3", "2", "1"]


def test_what_is_too_long_for_the_registrys_databases_is_cut(store: Store, models: list[Logged]) -> None:
    one = models[0]
    with lock_registry(store):
        for _ in range(2):
            found = versions.register_version(
                store, one.run_id, one.model_id, tags={"long": "é" * 200_000}, description="a" * 9999
            )
    assert len(found.tags["long"]) == versions.MAX_TAG_LENGTH
    assert found.tags["long"].endswith("…")
    assert len(found.description) == 5000


def test_a_model_that_is_not_complete_is_refused(store: Store, models: list[Logged]) -> None:
    run = models[0].run_id
    pending = store.client.create_logged_model(store.experiment_id, name="model", source_run_id=run).model_id
    with pytest.raises(PromotionRefused, match="is PENDING"):
        versions.register_version(store, run, pending, tags={}, description="")
    with pytest.raises(PromotionRefused, match="not there any more"):
        versions.register_version(store, run, f"m-{'0' * 32}", tags={}, description="")
    assert versions.get_registered_model(store) is None


def test_a_version_is_found_by_address_alias_and_number(store: Store, models: list[Logged]) -> None:
    assert versions.find_aliased_version(store, CHAMPION) is None
    for one in models[:2]:
        register(store, one)
    assert versions.find_aliased_version(store, CHAMPION) is None
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, "1")
    champion = versions.find_aliased_version(store, CHAMPION)
    assert champion is not None
    assert champion.run_id == models[0].run_id
    for address in ("models:/fashion-mnist@champion", "models:/fashion-mnist/1", "champion", "1", "01"):
        assert versions.resolve_version(store, address).number == "1"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("models:/fashion-mnist/7", "there are versions 2, 1, and of aliases: champion (version 1)."),
        ("999999999", "there are versions 2, 1"),
        ("challenger", "there are versions 2, 1"),
        ("latest", "there are versions 2, 1"),
        ("models:/other/1", "another registered model"),
        ("models:/fashion-mnist/latest", "names no version"),
        ("models:/fashion-mnist/../1", "names no version"),
        ("champion' or name = 'other", "names no version"),
        ("../../etc/passwd", "names no version"),
        ("9" * 40 + "/", "names no version"),
        ("¹", "names no version"),
        ("", "names no version"),
        ("champion\n", "names no version"),
    ],
)
def test_an_address_of_nothing_is_refused_in_one_sentence(
    store: Store, models: list[Logged], address: str, told: str
) -> None:
    for one in models[:2]:
        register(store, one)
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, "1")
    with pytest.raises(StoreError) as refused:
        versions.resolve_version(store, address)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_registry_says_how_it_is_filled(store: Store) -> None:
    with pytest.raises(StoreError, match="fmnist-sweep promote"):
        versions.resolve_version(store, "champion")


def _first(store: Store, one: Logged, tags: Mapping[str, str] | None = None) -> Any:
    return versions.resolve_version(store, register(store, one, **(tags or {})))


def test_a_version_loads_and_is_the_model_that_was_registered(store: Store, models: list[Logged]) -> None:
    for bias, one in enumerate(models):
        model = load_version(store, _first(store, one))
        assert model.predict(np.zeros((1, 28, 28, 1), np.uint8), verbose=0).argmax() == bias


def _refusal(store: Store, version: versions.RegisteredVersion) -> str:
    with pytest.raises(PromotionRefused) as refused:
        load_version(store, version)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_that_is_altered_cut_short_or_gone_is_refused(store: Store, models: list[Logged], altered: Path) -> None:
    version = _first(store, models[0])
    file = altered / KERAS_FILE
    for content in (models[1].content, models[0].content[:1000], b""):
        file.write_bytes(content)
        assert "was altered" in _refusal(store, version)
    file.unlink()
    assert "is gone" in _refusal(store, version)
    shutil.rmtree(altered)
    assert "is gone" in _refusal(store, version)


def test_a_version_without_a_checksum_is_refused(store: Store, models: list[Logged]) -> None:
    store.client.create_registered_model(MODEL_NAME)
    place = _location(store, models[0])
    store.client.create_model_version(MODEL_NAME, place.as_uri(), models[0].run_id)
    (version,) = versions.list_versions(store)
    assert SHA256_TAG in _refusal(store, version)


def _with_code(folder: Path, marker: Path) -> bytes:
    import keras

    code = str(marker)
    touch = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(code).touch(), x)[1], output_shape=(28, 28, 1))
    model = keras.Sequential([keras.Input((28, 28, 1)), touch, keras.layers.Flatten(), keras.layers.Dense(10)])
    model.save(folder / "evil.keras")
    marker.unlink(missing_ok=True)
    return (folder / "evil.keras").read_bytes()


def test_a_model_that_carries_code_or_was_torn_when_it_was_registered_is_refused(
    store: Store, models: list[Logged], altered: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    for content in (_with_code(tmp_path, marker), models[0].content[:1000], b"no archive"):
        (altered / KERAS_FILE).write_bytes(content)
        version = _first(store, models[0], {SHA256_TAG: hashlib.sha256(content).hexdigest()})
        assert "cannot be loaded safely" in _refusal(store, version)
    assert not marker.exists()


class _Runs:
    """What runs when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.marker),)


@pytest.mark.parametrize("flavours", [("python_function",), ("keras", "python_function"), ("sklearn",)])
def test_a_pickled_flavour_is_refused_and_nothing_of_it_runs(
    store: Store, tmp_path: Path, flavours: tuple[str, ...]
) -> None:
    import pickle

    import yaml

    marker, place = tmp_path / "ran", tmp_path / "model"
    (place / "data").mkdir(parents=True)
    content = pickle.dumps(_Runs(str(marker)))
    for name in ("python_model.pkl", "data/model.keras"):
        (place / name).write_bytes(content)
    loader = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "data": "data"}
    (place / "MLmodel").write_text(yaml.safe_dump({"flavors": dict.fromkeys(flavours, loader)}))
    store.client.create_registered_model(MODEL_NAME)
    run = store.client.create_run(store.experiment_id).info.run_id
    tags = {SHA256_TAG: hashlib.sha256(content).hexdigest()}

    def told() -> str:
        made = store.client.create_model_version(MODEL_NAME, place.as_uri(), run, tags=tags)
        return _refusal(store, versions.resolve_version(store, str(made.version)))

    assert "pickled objects (python_model.pkl)" in told()
    # Under another name it is the flavour that gives it away.
    (place / "python_model.pkl").rename(place / "python_model.bin")
    assert "is never loaded" in told()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sklearn": {}}, "its flavour is sklearn"),
        ({"keras": None}, "its flavour is python_function, not keras"),
        ({"keras": {"data": "data", "save_exported_model": True}}, "names other files"),
        ({"keras": {"data": "elsewhere"}}, "names other files"),
        ({"python_function": {"loader_module": "os"}}, "loaded by os"),
        ({"python_function": {"loader_module": "mlflow.keras", "code": "code"}}, "code of its own"),
    ],
)
def test_only_the_flavour_that_a_sweep_logs_is_loaded(
    store: Store, models: list[Logged], altered: Path, change: dict[str, Any], told: str
) -> None:
    import yaml

    described = yaml.safe_load((altered / "MLmodel").read_text())
    flavours = {**described["flavors"], **change}
    described["flavors"] = {name: settings for name, settings in flavours.items() if settings is not None}
    (altered / "MLmodel").write_text(yaml.safe_dump(described))
    assert told in _refusal(store, _first(store, models[0]))
    for damaged in ("[", "flavors: 3", ""):
        (altered / "MLmodel").write_text(damaged)
        assert "MLmodel cannot be read" in _refusal(store, _first(store, models[0]))


def test_who_waits_for_a_decision_for_too_long_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lock, "_PATIENCE_SECONDS", 0.2)
    with (
        lock_registry(store),
        pytest.raises(Locked, match=r"registry\.lock"),
        lock_registry(store),
    ):
        pass
    with lock_registry(store):
        pass


# Processes are forks of one that has imported what takes seconds, and has opened nothing yet.
FORKS = """
import os, sys, json, signal
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from fmnist_sweep.tracking import aliases as moves, registry as versions, store as stores
from fmnist_sweep.tracking.store_lock import lock_registry
uri, told = sys.argv[1], json.loads(sys.argv[2])
def fork(job):
    process = os.fork()
    if not process:
        try:
            job(stores.open_existing_store(uri, "fashion-mnist"))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    return process
def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
"""
_AT_ONCE = """
def one(run):
    def job(store):
        versions.ensure_registered_model(store)
        for _ in range(2):
            with lock_registry(store):
                run_id, model_id, tags = run["run_id"], run["model_id"], run["tags"]
                version = versions.register_version(store, run_id, model_id, tags=tags, description="x")
                moves.move_alias(store, "champion", version.number, kind="promoted", why="a test.", command="x")
    return job
processes = [fork(one(run)) for run in told * 2]
sys.exit(max(ended(process) for process in processes))
"""


def forked(store: Store, script: str, told: Any) -> str:
    """What a script of forks printed; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS + script, store.uri, json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_processes_that_register_and_move_at_once_agree_with_the_history(store: Store, models: list[Logged]) -> None:
    from fmnist_sweep.tracking.aliases import list_moves

    told = [{"run_id": one.run_id, "model_id": one.model_id, "tags": one.tags} for one in models]
    forked(store, _AT_ONCE, told)
    found = versions.list_versions(store)
    assert sorted(str(version.run_id) for version in found) == sorted(one.run_id for one in models)
    history = list_moves(store)
    assert [move.number for move in history] == list(range(1, len(history) + 1))
    assert len(history) >= len(models)
    assert [move.previous for move in history] == [None, *(move.version for move in history[:-1])]
    assert all(move.completed for move in history)
    champion = versions.find_aliased_version(store, CHAMPION)
    assert champion is not None
    assert champion.number == history[-1].version
    assert versions.find_aliased_version(store, CHALLENGER) is None


def test_mlflow_is_pointed_at_a_store_for_a_while_and_no_process_started_later_goes_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////elsewhere.db")
    store = open_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", "fashion-mnist")
    before = mlflow.get_tracking_uri()
    with point_mlflow_at(store):
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == store.uri
    assert mlflow.get_tracking_uri() == before
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["MLFLOW_REGISTRY_URI"] == "sqlite:////elsewhere.db"


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**42)  # takes no place on the disk


def make_many(path: Path) -> None:
    path.mkdir()
    for number in range(200):
        (path / str(number)).touch()


FOREIGN_FILES: dict[str, Callable[[Path], object]] = {
    "an endless file": make_large,
    "many files": make_many,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.parametrize("name", ["data/more", "data/model.keras", "MLmodel"])
@pytest.mark.parametrize("kind", FOREIGN_FILES)
def test_foreign_files_in_place_of_a_model_or_beside_it_are_never_copied_or_waited_for(
    store: Store, models: list[Logged], altered: Path, tmp_path: Path, kind: str, name: str
) -> None:
    number = register(store, models[0])
    (altered / name).unlink(missing_ok=True)
    FOREIGN_FILES[kind](altered / name)
    version = next(each for each in versions.list_versions(store) if each.number == number)
    (tmp_path / "version").mkdir()
    with pytest.raises((PromotionRefused, StoreError)) as refused:
        load_version(store, version)
    (tmp_path / "run").mkdir()
    with pytest.raises(UnusableModel) as unusable:
        download_model(store, models[0].run_id, tmp_path / "run")
    for sentence in (str(refused.value), str(unusable.value)):
        assert "\n" not in sentence and len(sentence) < 700, sentence
