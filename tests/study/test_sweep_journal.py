"""The journals of sweeps: which of them has a set of studies."""

from __future__ import annotations

from pathlib import Path

from fmnist_sweep.study.folder import RunLocation
from fmnist_sweep.study.journal import Journal
from fmnist_sweep.study.sweep_journal import find_sweep_id

HERE, THERE = RunLocation("sqlite:///a/mlflow.db", "x"), RunLocation("http://tracker:5000", "x")


def _write(state: Path, sweep_id: str, studies: list[str], location: RunLocation) -> Path:
    path = state / "sweeps" / sweep_id / "journal.db"
    path.parent.mkdir(parents=True)
    body = {"studies": studies, "journals": studies, "uri": location.uri, "experiment": location.experiment}
    body |= {"id": sweep_id, "token": "0a"}
    Journal.create(path, "sweep", body).close()
    return path


def test_a_sweep_is_found_by_its_studies_and_its_location_past_a_damaged_one(tmp_path: Path) -> None:
    assert find_sweep_id(tmp_path, ["a", "b"], HERE) is None
    _write(tmp_path, "0", ["a", "b"], HERE).write_bytes(b"noise")
    _write(tmp_path, "1", ["a", "b"], THERE)
    _write(tmp_path, "2", ["a"], HERE)
    _write(tmp_path, "3", ["a", "b"], HERE)
    assert find_sweep_id(tmp_path, ["a", "b"], HERE) == "3"
    assert find_sweep_id(tmp_path, ["b"], HERE) is None
