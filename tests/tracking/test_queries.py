"""Runs looked up by their ids: which absent ones count as none, and which answers of a store are errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from fmnist_sweep.tracking.queries import find_run, is_run_active, is_run_finished, read_run
from fmnist_sweep.tracking.store import Store
from tests.support.versions import connect_store

ABSENT, MALFORMED = "0" * 32, "no/id"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("queries")
    return connect_store(folder)


def test_a_run_is_read_by_its_id(store: Store) -> None:
    run_id = store.client.create_run(store.experiment_id, run_name="filters 4").info.run_id
    for run in (read_run(store, run_id), find_run(store, run_id)):
        assert run is not None
        assert (run.run_id, run.name, run.is_active) == (run_id, "filters 4", True)


def test_an_absent_run_is_none(store: Store) -> None:
    assert read_run(store, ABSENT) is find_run(store, ABSENT) is None
    assert not is_run_active(store, ABSENT)
    assert not is_run_finished(store, ABSENT)


def test_only_an_id_from_outside_may_be_malformed(store: Store) -> None:
    assert find_run(store, MALFORMED) is None
    for read in (read_run, is_run_active, is_run_finished):
        with pytest.raises(MlflowException, match="no/id") as raised:
            read(store, MALFORMED)
        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"
