"""Names from the command line, a config or a shared store are no paths, conditions or scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from fmnist_sweep.analysis.table import build_table
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import UserError
from fmnist_sweep.promotion import candidates
from fmnist_sweep.promotion.candidates import PromotionTarget
from fmnist_sweep.report.publish import rebuild_report
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.tracking.store import (
    Store,
    build_default_uri,
    locate_state_folder,
    open_existing_store,
    open_store,
    resolve_store_uri,
)
from fmnist_sweep.tracking.trial_search import find_trial, select_trials
from tests.conftest import Command


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store without runs, in a folder of its own."""
    return open_store(build_default_uri(tmp_path_factory.mktemp("store")), "fashion-mnist")


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
    written = {path.parent for path in _files(state) - before if path.is_file()}
    assert written <= {state / "reports", state / "report_parts"}
    assert not [path for path in _outside(state) if path.name.endswith("-again.html")]


def _outside(state: Path) -> Iterator[Path]:
    """What lies in the folders above a store, in each of them."""
    for folder in (*state.parents, Path.cwd()):
        yield from folder.glob("*.html")


def test_a_report_of_a_hostile_store_runs_no_script_of_its_names(
    hostile_store: Callable[..., Store], tmp_path: Path
) -> None:
    script = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)>"
    store = hostile_store(name=script, failure=script, command=script)
    out = tmp_path / "report.html"
    rebuild_report(store, study_id=None, sweep_id=None, data_dir=None, out=out)
    assert "<script>alert" not in out.read_text()
    assert "<img src=x" not in out.read_text()
    assert "alert(1)" in out.read_text()
