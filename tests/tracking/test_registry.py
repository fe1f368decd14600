"""The registered model's versions, with a real store, real models and processes that register at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import Locked, PromotionRefused, StoreError
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import store_lock
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION
from fmnist_sweep.tracking.store import Store, open_store, point_mlflow_at
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.support.versions import Logged, register_run, run_forks


def test_a_runs_model_is_one_version_however_often_it_is_registered(store: Store, models: list[Logged]) -> None:
    assert versions.list_versions(store) == []
    assert register_run(store, models[0], verdict="first") == "1"
    assert register_run(store, models[1]) == "2"
    assert register_run(store, models[0], verdict="second") == "1"
    newest, oldest = versions.list_versions(store)
    assert [newest.number, oldest.number] == ["2", "1"]
    assert (oldest.run_id, oldest.source) == (models[0].run_id, f"models:/{models[0].model_id}")
    assert oldest.tags == {**models[0].tags, "verdict": "second"}
    assert oldest.description == "a test"


def test_every_version_is_found_on_however_many_pages(
    store: Store, models: list[Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in models:
        register_run(store, one)
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
        register_run(store, one)
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
        register_run(store, one)
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, "1")
    with pytest.raises(StoreError) as refused:
        versions.resolve_version(store, address)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_registry_says_how_it_is_filled(store: Store) -> None:
    with pytest.raises(StoreError, match="fmnist-sweep promote"):
        versions.resolve_version(store, "champion")


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


@pytest.mark.slow
def test_processes_that_register_and_move_at_once_agree_with_the_history(store: Store, models: list[Logged]) -> None:
    from fmnist_sweep.tracking.aliases import list_moves

    told = [{"run_id": one.run_id, "model_id": one.model_id, "tags": one.tags} for one in models]
    run_forks(store, _AT_ONCE, told)
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
