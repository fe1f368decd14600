"""Sweeping into a real tracking server, artifacts through it as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.tracking.store import open_existing_store, point_mlflow_at
from tests.conftest import Command
from tests.support.own_images import write_idx
from tests.support.promotions import LEDGER, SMALL, TWO, swept
from tests.support.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on 127.0.0.1 that keeps artifacts itself."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server.address


@pytest.mark.slow
def test_a_sweep_into_a_server_leaves_the_same_as_into_a_file(server: str, warm_sweep: Command, tmp_path: Path) -> None:
    import mlflow

    small = ("data=drawn", "data.images=200", "train.epochs=1", "search.max_trials=1", "model.filters=4")
    done = warm_sweep("-m", "optimizer=rmsprop,adam", *small, f"tracking.uri={server}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"browse: {server}" in done.stdout
    here = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    reports = {path.name for path in tmp_path.glob("mlruns/reports/*.html")}
    assert len(reports) == 3
    kept_parts = {path.name for path in tmp_path.glob("mlruns/report_parts/*")}
    assert here - reports - kept_parts == {
        "journal.db",
        "journal.db-journal",
        "owner.lock",
        "owner.json",
    }  # all else is there
    store = open_existing_store(server, "fashion-mnist")
    runs = store.client.search_runs([store.experiment_id])
    kinds = [run.data.tags["fmnist.kind"] for run in runs]
    assert sorted(kinds) == ["study", "study", "sweep", "trial", "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    trial = next(run for run in runs if run.data.tags["fmnist.kind"] == "trial")
    files = Path(store.client.download_artifacts(trial.info.run_id, "", str(tmp_path)))
    assert (files / "confusion_matrix.png").is_file()
    with point_mlflow_at(store):
        model = mlflow.pyfunc.load_model(f"models:/{trial.outputs.model_outputs[0].model_id}")
    assert model.predict(np.zeros((2, 28, 28, 1), np.uint8)).shape == (2, 10)


@pytest.mark.slow
def test_promotions_of_two_folders_into_one_server_share_the_account_of_the_test_images(
    server: str, warm_sweep: Command, warm_verb: Command, tmp_path: Path
) -> None:
    data = tmp_path / "bars"
    write_idx(data)
    promote = ("promote", "--uri", server, "--experiment", "bars", *TWO)
    outputs = []
    for number, filters in enumerate((4, 6), 1):
        folder = tmp_path / f"machine {number}"
        folder.mkdir()
        where = ("data=idx", f"data.dir={data}", f"tracking.uri={server}")
        swept(folder, warm_sweep, *where, f"model.filters={filters}", "train.epochs=1", *SMALL)
        done = warm_verb(*promote, cwd=folder)
        assert done.returncode in (0, 8, 9), done.stdout + done.stderr
        assert len((folder / LEDGER).read_text().splitlines()) == 1
        outputs.append(done.stdout)
    assert "models:/bars@champion is now version 1 (before: nothing)" in outputs[0]
    assert "is decision" not in outputs[0]
    assert "This is decision 1 on these test images" in outputs[1]
    elsewhere = tmp_path / "machine 3"
    elsewhere.mkdir()
    history = warm_verb("history", "--uri", server, "--experiment", "bars", cwd=elsewhere)
    assert history.returncode == 0, history.stderr
    assert ": 1 decision; of the 5% error" in " ".join(history.stdout.split())
    # What one machine does to its ledger, it is asked about; the others are not.
    (tmp_path / "machine 1" / LEDGER).unlink()
    refused = warm_verb(*promote, cwd=tmp_path / "machine 1")
    assert (refused.returncode, refused.stderr.count("\n")) == (8, 1), refused.stderr
    assert "was shortened to 0 of the 1 entries" in refused.stderr
    assert warm_verb("history", "--uri", server, "--experiment", "bars", cwd=elsewhere).returncode == 0


@pytest.mark.slow
def test_the_ui_verb_says_where_a_servers_own_ui_is(server: str, warm_verb: Command, tmp_path: Path) -> None:
    done = warm_verb("ui", "--uri", server, cwd=tmp_path)
    assert done.returncode == 2
    assert "UI of its own" in done.stderr
