"""The files of a registered version: loaded where they are what was registered, refused where they are not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking.models import KERAS_FILE, UnusableModel, download_model
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.version_files import load_version
from tests.support.versions import Logged, locate_model, register_run


def _first(store: Store, one: Logged, tags: Mapping[str, str] | None = None) -> Any:
    return versions.resolve_version(store, register_run(store, one, **(tags or {})))


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
    place = locate_model(store, models[0])
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
    number = register_run(store, models[0])
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
