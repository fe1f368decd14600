"""Images are found again where a run read them, if they are still there; what only a store says is checked by hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.data import DataConfig, load_splits
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.data.loading import forget_splits
from fmnist_sweep.errors import DataError
from fmnist_sweep.tracking.data_places import find_data_dir
from fmnist_sweep.tracking.datasets import log_datasets
from fmnist_sweep.tracking.foreign import parse_location
from fmnist_sweep.tracking.store import Store, open_store
from tests.conftest import data_config
from tests.support.own_images import write_idx
from tests.support.promotions import idx_files


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('places')}/mlflow.db", "fashion-mnist")


def build_own(folder: str | None) -> DataConfig:
    values = {"name": "bars", "labels": None, "limit": None, "validation": 0.2, "include_validation": False}
    return choose_data_schema("idx").model_validate(
        {"source": "idx", "dir": folder, **values, "split_seed": 0, "test": 0.25, "test_seed": 0}
    )


def build_fashion_mnist(folder: str | None) -> DataConfig:
    return data_config(dir=folder, download=False, fallback=None, validation=0.1)


def run_on(store: Store, data: DataConfig) -> tuple[str, str]:
    """A run of these images, and their tag."""
    run = store.client.create_run(store.experiment_id)
    splits = load_splits(data)
    log_datasets(store, run.info.run_id, splits)
    return run.info.run_id, splits.tag


class Said(list[str]):
    """What was said."""

    def find(self, store: Store, run_id: str, build: Any, tag: str) -> str | None:
        return find_data_dir(store, run_id, build, tag, "it", self.append)


def test_own_images_are_found_where_they_were_and_never_where_fashion_mnist_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, place = Said(), tmp_path / "bars"
    write_idx(place)
    write_idx(tmp_path / "elsewhere")
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tmp_path / "elsewhere"))
    run_id, tag = run_on(store, build_own(str(place)))
    assert said.find(store, run_id, build_own, tag) == str(place)
    assert said == [f"images: from {place}, where those of it were read"]
    shutil.rmtree(place)
    forget_splits()  # as another process
    write_idx(place, train=60)
    with pytest.raises(DataError, match=rf"not in {place} any more; name their folder with --data-dir FOLDER\.$"):
        said.find(store, run_id, build_own, tag)
    with pytest.raises(DataError, match="these images are your own; name their folder"):
        said.find(store, "0" * 32, build_own, tag)
    assert len(said) == 1


def test_fashion_mnist_is_first_looked_for_where_its_variable_says(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    place, other, same = (idx_files(tmp_path / name, *counts) for name, counts in PLACES.items())
    run_id, tag = run_on(store, build_fashion_mnist(str(place)))
    monkeypatch.setenv("FMNIST_DATA_DIR", str(same))
    assert said.find(store, run_id, build_fashion_mnist, tag) == str(same)
    assert not said
    monkeypatch.setenv("FMNIST_DATA_DIR", str(other))
    assert said.find(store, run_id, build_fashion_mnist, tag) == str(place)
    monkeypatch.delenv("FMNIST_DATA_DIR")
    assert said.find(store, run_id, build_fashion_mnist, tag) == str(place)
    assert said == [f"images: from {place}, where those of it were read"] * 2
    shutil.rmtree(place)
    forget_splits()
    assert said.find(store, run_id, build_fashion_mnist, tag) is None  # as a sweep finds it
    monkeypatch.setenv("FMNIST_DATA_DIR", str(other))
    assert said.find(store, run_id, build_fashion_mnist, tag) == str(other)


PLACES = {"place": (200, 100), "other": (190, 100), "same": (200, 100)}


@pytest.mark.parametrize(
    "source",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        "9" * 20_000,
        *(json.dumps({"location": each}) for each in (7, "x", "/a\nb", "/" * 9999)),
    ],
)
def test_a_damaged_dataset_names_no_place(source: str | None) -> None:
    assert parse_location(source) is None
    assert parse_location('{"location": "/a b"}') == "/a b"
