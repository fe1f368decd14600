"""What several of the tests of a store share: one with models that can be registered, one that can be moved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist_sweep.tracking.store import Store
from tests.support.relocations import run_forked, write_store
from tests.support.versions import Logged, clear_registry, connect_store, locate_model, log_run, make_network


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody has open: it was made by a process that has ended."""
    folder = tmp_path_factory.mktemp("template") / "project"
    folder.mkdir()
    run_forked(lambda: write_store(folder))
    return folder


@pytest.fixture
def copied(template: Path, tmp_path: Path) -> Path:
    """A copy of that store; the original is still there."""
    return Path(shutil.copytree(template, tmp_path / "copy"))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Logged]]:
    """A store with four runs and their models."""
    folder = tmp_path_factory.mktemp("versions")
    store = connect_store(folder)
    return store, [log_run(store, make_network(folder, bias)) for bias in range(4)]


@pytest.fixture
def store(filled: tuple[Store, list[Logged]]) -> Iterator[Store]:
    """That store, with nothing registered."""
    clear_registry(filled[0])
    yield filled[0]


@pytest.fixture
def models(filled: tuple[Store, list[Logged]]) -> list[Logged]:
    """Three of its runs."""
    return filled[1][:3]


@pytest.fixture
def altered(store: Store, models: list[Logged]) -> Iterator[Path]:
    """The folder of the first run's model, put right again afterwards."""
    place = locate_model(store, models[0])
    shutil.copytree(place, f"{place}.kept")
    yield place
    shutil.rmtree(place, ignore_errors=True)
    Path(f"{place}.kept").rename(place)
