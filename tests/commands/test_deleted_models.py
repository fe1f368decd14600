"""Models, versions and the registered model, once deleted: what stands alone works, the rest is named in a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.aliases import move_alias
from fmnist_sweep.tracking.models import UnusableModel, download_model
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import CHAMPION
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.support.in_process import clean_environment, run_verb
from tests.support.versions import Logged, clear_registry, connect_store, log_run, make_network, register_run


@dataclass(frozen=True)
class Registered:
    """A store with three versions, of which each was champion in turn, and a picture beside it."""

    folder: Path
    store: Store
    models: list[Logged]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = run_verb(*words, cwd=self.folder, environment=clean_environment())
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def refuse(self, *words: str) -> str:
        """The sentence with which a verb ends."""
        done = self.run(*words)
        assert done.returncode in (ExitCode.STORE, ExitCode.REFUSED), done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered")
    picture = Image.new("L", (28, 28))
    picture.paste(200, (6, 6, 20, 22))
    picture.save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def contents(folder: Path) -> list[bytes]:
    return [make_network(folder, bias) for bias in range(3)]


@pytest.fixture
def registered(folder: Path, contents: list[bytes]) -> Iterator[Registered]:
    store = connect_store(folder)
    models = [log_run(store, content) for content in contents]
    for model in models:
        number = register_run(store, model)
        with lock_registry(store):
            move_alias(store, CHAMPION, number, kind="promoted", why="a test.", command="fmnist-sweep promote")
    yield Registered(folder, store, models)
    clear_registry(store)


def test_a_version_stands_on_its_own_though_its_run_and_its_logged_model_were_deleted(registered: Registered) -> None:
    for model in registered.models:
        registered.store.client.delete_logged_model(model.model_id)
        registered.store.client.delete_run(model.run_id)
    assert "Pullover    100.0%" in registered.run("predict", "a.png").stdout
    assert registered.run("rollback").returncode == 0
    assert "Trouser     100.0%" in registered.run("predict", "a.png").stdout
    history = registered.run("history")
    assert (history.returncode, history.stderr) == (0, "")
    assert "was deleted" not in history.stdout


def test_a_deleted_version_is_named_by_each_verb_that_is_given_it_and_once_by_the_history(
    registered: Registered,
) -> None:
    registered.store.client.delete_model_version(MODEL_NAME, "2")
    for words in (("predict", "a.png", "--model", "2"), ("reproduce", "2"), ("rollback", "--to", "2")):
        assert "has no version 2 of models:/fashion-mnist any more, as it was deleted: there are versions 3, 1" in (
            registered.refuse(*words)
        )
    history = registered.run("history").stdout
    assert history.count("deleted") == 2, history
    assert "version 2 was deleted, and MLflow cannot restore what is deleted" in history
    assert "Pullover    100.0%" in registered.run("predict", "a.png").stdout
    assert "is now version 1 (before: version 3)" in registered.run("rollback").stdout


def test_a_deleted_champion_is_named_once_by_the_history_and_can_be_rolled_back_from(registered: Registered) -> None:
    registered.store.client.delete_model_version(MODEL_NAME, "3")
    history = " ".join(registered.run("history").stdout.split())
    assert "version 3, to which it was moved last, was deleted, and MLflow cannot restore it" in history
    assert history.count("was deleted") == 1
    assert "and of aliases: none." in registered.refuse("predict", "a.png")
    assert "is now version 2" in registered.run("rollback").stdout


@pytest.mark.parametrize("verdict", [None, "worse", "first"])
def test_a_deleted_registered_model_is_told_from_one_that_never_was(
    registered: Registered, verdict: str | None
) -> None:
    client, experiment = registered.store.client, registered.store.experiment_id
    tags = {"fmnist.kind": "promotion", "fmnist.sweep_id": "s", "fmnist.journal": "j", "fmnist.journals": "k"}
    tags |= {"fmnist.data": "drawn:0", "mlflow.source.name": "fmnist-sweep promote"}
    run = client.create_run(experiment, tags=tags | ({} if verdict is None else {"fmnist.verdict": verdict}))
    client.delete_registered_model(MODEL_NAME)
    told = "was deleted, and MLflow cannot restore it" if verdict == "first" else "nothing is registered yet"
    try:
        for words in (("predict", "a.png"), ("reproduce",), ("rollback", "--to", "2")):
            assert told in registered.refuse(*words)
        assert told in registered.run("history").stdout
    finally:
        client.delete_run(run.info.run_id)


def test_a_runs_deleted_model_is_refused_in_a_sentence(registered: Registered, tmp_path: Path) -> None:
    model = registered.models[0]
    registered.store.client.delete_logged_model(model.model_id)
    with pytest.raises(UnusableModel, match="has no model any more: it was deleted: train it again"):
        download_model(registered.store, model.run_id, tmp_path)
