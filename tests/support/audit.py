"""What a sweep left behind, read from its journals, its tracking store and its files, and held against another's."""

from __future__ import annotations

import hashlib
import sqlite3
import zipfile
from collections import Counter
from dataclasses import asdict, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fmnist_sweep.study.folder import StudyFolder, list_study_folders
from fmnist_sweep.study.journal import read_events
from fmnist_sweep.training import snapshot

Found = dict[str, Any]  # plain values: it comes from another process

# The same trial has the same of all other figures, to the last bit. Keras writes an address in memory into the file of
# a model, so that its size may differ by a digit.
_TIMES = ("epoch_seconds", "epoch_cpu_seconds", "fit_seconds", "cpu_seconds", "ms_per_image", "size_bytes")
_PER_EPOCH = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds", "epoch_cpu_seconds")
_ALWAYS_THERE = {"journal.db", "journal.db-journal", "owner.lock", "owner.json"}


def look(folder: Path) -> Found:
    """All that is left of the sweeps run in a folder."""
    from fmnist_sweep.tracking.store import build_default_uri, open_existing_store

    state = folder / "mlruns"
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    runs = store.client.search_runs([store.experiment_id], run_view_type=3, max_results=5000)
    models = store.client.search_logged_models([store.experiment_id], max_results=1000)
    return {
        "studies": {each.name: _study(each) for each in list_study_folders(state)},
        "sweeps": {
            path.name: {"state": read_events(path / "journal.db")[-1].kind, "leftovers": _leftovers(path)}
            for path in sorted((state / "sweeps").iterdir())
        },
        "runs": {run.info.run_id: _run(run) for run in runs},
        "models": [
            {"run": model.source_run_id, "status": str(model.status), "content": _weights(model.artifact_location)}
            for model in models
        ],
        "metrics": read_metric_rows(state / "mlflow.db"),
        "rows": _row_counts(state / "mlflow.db"),
    }


def _study(folder: StudyFolder) -> Found:
    record = folder.read_record()
    return {
        "state": record.state,
        "run": record.run_id,
        "sweep_run": record.sweep_run_id,
        "exchanges": [asdict(each) if is_dataclass(each) else list(each) for each in record.exchanges],
        "trials": {
            history.trial_id: {
                "state": history.state,
                "same_as": history.duplicate_of,
                "outcome": {
                    key: (history.outcome or {}).get(key)
                    for key in ("score", "best_val_accuracy", "interval", "best_epoch", "parameters", "reason")
                },
                "attempts": [vars(attempt) for attempt in history.attempts],
            }
            for history in record.trials.values()
        },
        "leftovers": _leftovers(folder.path),
    }


def _leftovers(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in _ALWAYS_THERE)
    return sorted(str(path.relative_to(folder)) for path in files)


def _run(run: Any) -> Found:
    files = _path(run.info.artifact_uri)
    return {
        "status": run.info.status,
        "stage": run.info.lifecycle_stage,
        "name": run.info.run_name,
        "ended": run.info.end_time is not None,
        "tags": run.data.tags,
        "params": run.data.params,
        "inputs": len(run.inputs.dataset_inputs),
        "files": {
            str(path.relative_to(files)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(files.rglob("*"))
            if path.is_file()
        },
    }


def _weights(location: str) -> str | None:
    """A hash of a logged model's weights, None where its file is not there."""
    path = _path(location) / "data" / "model.keras"
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as file:
            return hashlib.sha256(file.read("model.weights.h5")).hexdigest()
    except zipfile.BadZipFile:  # a full disk cut it short
        return None


def _path(address: str) -> Path:
    return Path(unquote(address.removeprefix("file://")))


def read_metric_rows(database: Path) -> list[tuple[str, str, int, float]]:
    """Run, metric, step and value of every entry of every metric's history."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return connection.execute("SELECT run_uuid, key, step, value FROM metrics ORDER BY 1, 2, 3").fetchall()


def _row_counts(database: Path) -> dict[str, int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in sorted(names)}


def check(found: Found, reference: Found, *, in_order: bool = True) -> None:
    """Hold a sweep that was killed and continued against one that never was; AssertionError: they differ.

    in_order: results were told in the same order too; of several trials at once, any may end first.
    """
    check_whole(found)
    assert found["studies"].keys() == reference["studies"].keys()
    for name, study in found["studies"].items():
        ours, others = study["exchanges"], reference["studies"][name]["exchanges"]
        if not in_order:
            # A grid whose last trials are under way says that it waits for them.
            ours, others = (sorted(filter(None, each), key=str) for each in (ours, others))
        assert ours == others, "the oracle was asked and told otherwise"
        _check_study(found, study, reference, reference["studies"][name])
    for kind in ("study", "sweep"):
        ours, others = (_parents(each, kind) for each in (found, reference))
        assert ours == others


def together(*found: Found) -> Found:
    """Sweeps of several folders as if they had been run in one."""
    maps = {
        key: {name: each for one in found for name, each in one[key].items()} for key in ("studies", "sweeps", "runs")
    }
    return maps | {key: [each for one in found for each in one[key]] for key in ("models", "metrics")}


def check_whole(found: Found) -> None:
    """What holds for every sweep that ended, however it came there."""
    runs = found["runs"]
    doubled = {key: count for key, count in Counter(tuple(row[:3]) for row in found["metrics"]).items() if count > 1}
    assert not doubled, "a metric has two entries at a step"
    assert {run["stage"] for run in runs.values()} == {"active"}
    assert not [run_id for run_id, run in runs.items() if run["status"] == "RUNNING"]
    assert all(run["ended"] for run in runs.values())
    assert "PENDING" not in {model["status"] for model in found["models"]}
    for model in found["models"]:
        if model["status"] == "READY":
            assert runs[model["run"]]["status"] == "FINISHED", "a model that looks ready, of a run that did not finish"
            assert model["content"] is not None
    for sweep in found["sweeps"].values():
        assert sweep == {"state": "closed", "leftovers": []}
    assert Counter(_kind(run) for run in runs.values())["sweep"] == len(found["sweeps"])
    for study in found["studies"].values():
        assert study["state"] == "closed"
        assert study["leftovers"] == []
        assert _kind(runs[study["run"]]) == "study"
        assert runs[study["run"]]["tags"]["mlflow.parentRunId"] == study["sweep_run"]
        assert "mlflow.parentRunId" not in runs[study["sweep_run"]]["tags"]
        for trial_id, trial in study["trials"].items():
            _check_attempts(found, study, trial_id, trial)
    expected = {attempt["run_id"] for study in found["studies"].values() for attempt in _attempts(study)} - {None}
    assert {run_id for run_id, run in runs.items() if _kind(run) == "trial"} == expected
    assert {study["run"] for study in found["studies"].values()} == {
        run_id for run_id, run in runs.items() if _kind(run) == "study"
    }


def _check_attempts(found: Found, study: Found, trial_id: str, trial: Found) -> None:
    runs, attempts = found["runs"], trial["attempts"]
    if trial["same_as"] is not None:
        assert attempts == []
        return
    assert [attempt["number"] for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert [attempt["state"] for attempt in attempts] == ["killed"] * (len(attempts) - 1) + [trial["state"]]
    assert all(attempt["is_delivered"] for attempt in attempts)
    there = [attempt for attempt in attempts if attempt["run_id"] is not None]
    assert there[-1:] == attempts[-1:]
    for attempt in there:
        run = runs[attempt["run_id"]]
        assert run["status"] == attempt["state"].upper()
        assert run["tags"]["mlflow.parentRunId"] == study["run"]
        assert (run["tags"]["fmnist.trial_id"], run["tags"]["fmnist.attempt"]) == (trial_id, str(attempt["number"]))
    # Each dead attempt that got as far as a run is linked with the next that did, both ways.
    for dead, follower in pairwise(there):
        assert runs[dead["run_id"]]["tags"].get("fmnist.followed_by") == follower["run_id"], (trial_id, dead)
        assert runs[follower["run_id"]]["tags"].get("fmnist.follows") == dead["run_id"], (trial_id, follower)


def _check_study(found: Found, study: Found, reference: Found, other: Found) -> None:
    assert list(study["trials"]) == list(other["trials"])
    for trial_id, trial in study["trials"].items():
        twin = other["trials"][trial_id]
        assert {key: trial[key] for key in ("state", "same_as", "outcome")} == {
            key: twin[key] for key in ("state", "same_as", "outcome")
        }
        if trial["same_as"] is None:
            _check_run(found, trial["attempts"][-1]["run_id"], reference, twin["attempts"][-1]["run_id"])


def _check_run(found: Found, run_id: str, reference: Found, twin_id: str) -> None:
    """A trial's last run has the figures, files and model of its twin in the uninterrupted sweep."""
    run, twin = found["runs"][run_id], reference["runs"][twin_id]
    for key in ("status", "name", "params", "inputs"):
        assert run[key] == twin[key], (run["name"], key)
    ours, others = _metrics(found, run_id), _metrics(reference, twin_id)
    assert [row[:2] for row in ours] == [row[:2] for row in others]
    assert [row for row in ours if row[0] not in _TIMES] == [row for row in others if row[0] not in _TIMES]
    epochs = max((step for name, step, _ in ours if name == "loss"), default=0)
    if run["status"] == "FINISHED":
        for name in _PER_EPOCH:
            assert [step for metric, step, _ in ours if metric == name] == list(range(1, epochs + 1))
    assert run["files"]
    assert run["files"].keys() == twin["files"].keys()
    different = {name for name, content in run["files"].items() if twin["files"][name] != content}
    assert different <= {"traceback.txt"}, run["name"]
    assert _models(found, run_id) == _models(reference, twin_id)


def _metrics(found: Found, run_id: str) -> list[tuple[str, int, float]]:
    return [(name, step, value) for run, name, step, value in found["metrics"] if run == run_id]


def _models(found: Found, run_id: str) -> list[str]:
    return [model["content"] for model in found["models"] if model["run"] == run_id and model["status"] == "READY"]


def _parents(found: Found, kind: str) -> list[Found]:
    """What does not depend on how often a study or sweep was interrupted."""
    parents = [(run_id, run) for run_id, run in found["runs"].items() if _kind(run) == kind]
    return sorted(
        (
            {
                "name": run["name"],
                "status": run["status"],
                "params": run["params"],
                "inputs": run["inputs"],
                "files": sorted(run["files"]),
                "best_trial": run["tags"].get("best_trial"),
                # Rolled up anew each time it is closed; the last time counts.
                "metrics": {name: value for name, _, value in _metrics(found, run_id) if name not in _TIMES},
            }
            for run_id, run in parents
        ),
        key=lambda parent: str(parent["name"]),
    )


def _attempts(study: Found) -> list[Found]:
    return [attempt for trial in study["trials"].values() for attempt in trial["attempts"]]


def _kind(run: Found) -> str:
    return str(run["tags"]["fmnist.kind"])


def checkpoints(folder: Path, batches: int) -> dict[tuple[str, str], int]:
    """The newest epoch of each study's trials that has a checkpoint, each of them looked into.

    batches: in an epoch; the optimizer of a checkpoint must have taken as many steps as its epochs have.
    """
    newest: dict[tuple[str, str], int] = {}
    for path in sorted((folder / "mlruns" / "studies").glob("*/checkpoints/*/[0-9]*.npz")):
        epoch, found = int(path.stem), snapshot.unpack_snapshot(path.read_bytes())
        assert len(found.history) == epoch
        (iterations,) = [int(value) for name, value in found.state if name.endswith(("/iteration", "/iterations"))]
        assert iterations == epoch * batches, f"{path}: {iterations} steps in {epoch} epochs of {batches}"
        newest[path.parent.parent.parent.name, path.parent.name] = epoch
    return newest
