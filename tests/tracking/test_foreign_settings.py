"""MLflow's own variables in the environment: named where they are not followed, refused where it cannot read them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fmnist_sweep.errors import ConfigError, StoreError
from fmnist_sweep.tracking import foreign_settings
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store, open_store
from tests.support.process import VERB, run

PLACES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_ID",
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    foreign_settings._said.clear()
    foreign_settings.refuse_unfit_settings.cache_clear()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return open_store(None, "fashion-mnist")


def test_another_place_is_named_once_with_what_is_used_and_what_to_type(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@tracker.example.org:5000/")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc\x1b[2J")
    for uri in (None, None, store.uri):
        open_existing_store(uri, "fashion-mnist")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "secret" not in said and "\x1b" not in said
    assert (
        "MLFLOW_TRACKING_URI=http://***@tracker.example.org:5000/, MLFLOW_EXPERIMENT_NAME=theirs, MLFLOW_RUN_ID=abc"
        in said
    )
    assert f"The store is {store.uri}, experiment fashion-mnist" in said
    for advice in ("tracking.uri=http://", "--uri http://", "tracking.experiment=theirs", "--experiment theirs"):
        assert advice in said


@pytest.mark.parametrize("name", PLACES)
def test_no_such_variable_moves_a_run_a_model_or_an_experiment(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, "sqlite:///elsewhere.db" if name.endswith("URI") else "elsewhere")
    opened = open_store(None, "fashion-mnist")
    assert (opened.uri, opened.experiment_id) == (store.uri, store.experiment_id)
    run = opened.client.create_run(opened.experiment_id)
    opened.client.create_registered_model("a-model")
    assert run.info.run_id != "elsewhere"
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}
    assert [each.name for each in open_existing_store(None, "fashion-mnist").client.search_registered_models()] == [
        "a-model"
    ]


def test_nothing_is_said_where_the_variable_names_the_store_or_somebody_typed_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for same in (store.uri, "sqlite:///mlruns/mlflow.db", "sqlite:///./mlruns/../mlruns/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", same)
        open_existing_store(None, "fashion-mnist")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    open_existing_store(build_default_uri(), "fashion-mnist")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    open_store(store.uri, "theirs")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("MLFLOW_LOGGING_LEVEL", "loud"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")),
        *(("MLFLOW_TRACKING_INSECURE_TLS", "perhaps"), ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "many")),
        ("MLFLOW_ENABLE_WORKSPACES", "maybe"),
    ],
)
def test_a_value_that_mlflow_cannot_read_is_refused_before_anything_is_made(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}={value}: .*unset it"):
        open_store(None, "fashion-mnist")
    assert list(tmp_path.iterdir()) == []


def test_what_mlflow_refuses_when_it_is_imported_is_told_in_a_sentence(tmp_path: Path) -> None:
    words = ("compare", "--uri", f"sqlite:///{tmp_path}/store.db")
    (tmp_path / "store.db").touch()
    ended = run(*VERB, *words, cwd=tmp_path, environment={"MLFLOW_CONFIGURE_LOGGING": "maybe"})
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended
    assert "MLFLOW_CONFIGURE_LOGGING" in ended.stderr and "unset it" in ended.stderr


def test_workspaces_which_would_hide_the_experiments_of_a_file_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    foreign_settings.refuse_unfit_settings.cache_clear()
    for opened in (open_store, open_existing_store):
        with pytest.raises(ConfigError, match="MLFLOW_ENABLE_WORKSPACES: a store in a file has no workspaces"):
            opened(None, "fashion-mnist")


def test_results_are_never_sent_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    opened = open_store(None, "fashion-mnist")
    run_id = opened.client.create_run(opened.experiment_id).info.run_id
    assert opened.client.log_metric(run_id, "accuracy", 0.5) is None  # an operation to wait for, if it were


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:1", "NO_PROXY=tracker.example.org"),
        ("HTTPS_PROXY", "http://127.0.0.1:1", "NO_PROXY=tracker.example.org"),
        ("REQUESTS_CA_BUNDLE", "/dev/null/none", "/dev/null/none; correct or unset"),
        ("CURL_CA_BUNDLE", "/dev/null/none", "/dev/null/none; correct or unset"),
        ("HTTPS_PROXY", "nonsense://x", "no tracking server answers there"),
    ],
)
def test_proxies_and_certificates_that_are_not_there_are_told_in_a_sentence(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(each, raising=False)
        monkeypatch.delenv(each.lower(), raising=False)
    monkeypatch.setenv(name, value)
    scheme = "http" if name == "HTTP_PROXY" else "https"
    with pytest.raises(StoreError, match=re.escape(said)):
        open_store(f"{scheme}://tracker.example.org:5000", "fashion-mnist")
