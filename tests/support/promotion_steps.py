"""A promotion in a fork of the zygote: its steps counted, killed before one of them, and what it left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import replace_everywhere
from tests.support.small import PLAIN

SMALLEST = (
    *(*PLAIN, "data.limit=2000", "model.conv_layers=1", "model.dense_units=16", "regularization=none", "search=grid"),
    *("train.precision=float32", "executor=in_process", "executor.threads=1"),
)

Found = dict[str, Any]  # plain values: it comes from another process


def promoted(folder: Path) -> str:
    """The verb as it is typed, killed before the step that is asked for; the steps it took come to a file."""
    asked = json.loads(os.environ["PROMOTION"])
    _count_steps(folder, asked["name"])
    code = _typed(folder, asked["arguments"])
    _step("end")
    sys.stdout.flush()
    os._exit(code)


def promoted_with_a_failure(folder: Path) -> str:
    """The verb as it is typed; every training with the seed that is asked for and 8 filters fails."""
    from fmnist_sweep.training import trial
    from fmnist_sweep.training.events import TrialFailure

    asked = json.loads(os.environ["PROMOTION"])
    train = trial.run_trial

    def failing(spec: Any, *arguments: Any) -> Any:
        if (spec.config["seed"], spec.config["model"]["filters"]) == (asked["seed"], 8):
            yield TrialFailure(spec.trial_id, "a failure of this test", "", [])
        else:
            yield from train(spec, *arguments)

    trial.run_trial = failing  # type: ignore[assignment]
    code = _typed(folder, asked["arguments"])
    sys.stdout.flush()
    os._exit(code)


def completed(folder: Path) -> str:
    """What a killed command left; then the same command again, as often as asked: what there is after each."""
    asked = json.loads(os.environ["PROMOTION"])
    looked = [look(folder)]
    codes = []
    for _ in range(asked["times"]):
        codes.append(_typed(folder, asked["arguments"]))
        looked.append(look(folder))
    (folder / "looked.json").write_text(json.dumps({"codes": codes, "looked": looked}))
    return "done"


def _typed(folder: Path, arguments: list[str]) -> int:
    from fmnist_sweep.cli.main import main
    from fmnist_sweep.tracking.test_predictions import find_training_twins

    kept = folder / "seen.npy"
    if kept.is_file():  # the same for all of them, and two seconds' work
        import numpy as np

        seen = np.load(kept)
        replace_everywhere(find_training_twins, lambda data, images: seen)
    sys.argv = ["fmnist-sweep", *arguments]
    try:
        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


_step: Callable[[str], None] = lambda name: None  # noqa: E731 - replaced where steps are counted


def _count_steps(folder: Path, name: str | None) -> None:
    """Write down everything that is left behind, before it is; end this process before the first step of a name."""
    global _step
    log = os.open(folder / "steps.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def step(what: str) -> None:
        os.write(log, f"{what}\n".encode())
        if name is not None and what.startswith(name):
            os.kill(os.getpid(), signal.SIGKILL)

    _step = step
    _count_commits()
    _count_files(folder / "mlruns")
    _count_ledger()
    _count_looks()


def _count_commits() -> None:
    import mlflow
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    calls: list[str] = []  # the client's, the inmost last

    def called(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(client: Any, *given: Any, **named: Any) -> Any:
            keys = [value for value in given[1:] if isinstance(value, str)]
            calls.append(f"{name} {keys[0]}" if "set_" in name and keys else name)
            try:
                return function(client, *given, **named)
            finally:
                calls.pop()

        return call

    for name in dir(mlflow.MlflowClient):
        if name.startswith(("create_", "set_", "update_", "delete_", "log_", "finalize_")):
            setattr(mlflow.MlflowClient, name, called(name, getattr(mlflow.MlflowClient, name)))

    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            connection.info["changed"] = True

    def committing(connection: Any) -> None:
        if connection.info.pop("changed", False):
            _step(calls[-1] if calls else "commit")

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committing)


def _count_files(state: Path) -> None:
    """MLflow copies artifacts to where they are kept: a kill leaves a part of a file under its name."""
    copy = shutil.copyfile

    def copied(source: Any, target: Any, **named: Any) -> Any:
        if not Path(target).is_relative_to(state):
            return copy(source, target, **named)
        name = Path(target).relative_to(state)  # of two files of a kind, a continued promotion may have one already
        _step(f"file {name}")
        content = Path(source).read_bytes()
        Path(target).write_bytes(content[: len(content) // 2])
        _step(f"half of file {name}")
        return copy(source, target, **named)

    shutil.copyfile = copied  # type: ignore[assignment]


def _count_ledger() -> None:
    from fmnist_sweep.data import opening_ledger

    append = opening_ledger.append_entry

    def appended(path: Path, entry: Any) -> None:
        _step("ledger")
        append(path, entry)

    replace_everywhere(append, appended)


def _count_looks() -> None:
    """The journal of a promotion: before its plan or a look is on the disk, and after it."""
    from fmnist_sweep.study.journal import Journal

    append = Journal.append

    def appended(journal: Any, kind: str, **body: Any) -> Any:
        what = {"promotion": "journal plan", "look": f"journal look {body.get('after')}"}.get(kind)
        if what is not None:
            _step(what)
        event = append(journal, kind, **body)
        if what is not None:
            _step(f"{what} kept")
        return event

    Journal.append = appended  # type: ignore[assignment,method-assign]


def keep_seen(folder: Path) -> str:
    """Which test images stand among the training images, to a file."""
    import numpy as np

    from fmnist_sweep.config.compose import compose_job
    from fmnist_sweep.data import open_test
    from fmnist_sweep.tracking import test_predictions as tested

    data = compose_job(SMALLEST).config.data
    images = open_test(data, reason="a test", ledger=folder / "ledger of the test.jsonl")
    np.save(folder / "seen.npy", tested.find_training_twins(data, images))
    return "done"


def look(folder: Path) -> Found:
    """All that promotions left in a folder."""
    from fmnist_sweep.study.journal import read_events
    from fmnist_sweep.tracking.aliases import list_moves, read_alias_states
    from fmnist_sweep.tracking.models import hash_weights
    from fmnist_sweep.tracking.registry import (
        CHAMPION,
        find_aliased_version,
        list_versions,
        read_aliases,
    )
    from fmnist_sweep.tracking.store import build_default_uri, locate_ledger, open_existing_store
    from fmnist_sweep.tracking.version_files import load_version

    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    points = read_aliases(store)
    champion = find_aliased_version(store, CHAMPION)
    runs = store.client.search_runs([store.experiment_id], run_view_type=3, max_results=5000)
    ledger = locate_ledger(folder)
    return {
        "aliases": points,
        "loaded": None if champion is None else hash_weights(load_version(store, champion)),
        "versions": {
            version.number: {
                "run": version.run_id,
                "source": version.source,
                "status": version.status,
                "description": version.description,
                "tags": version.tags,
            }
            for version in list_versions(store)
        },
        "moves": [{**vars(move)} for move in list_moves(store)],
        "by_hand": [alias for alias, standing in read_alias_states(store).items() if standing.is_manual],
        "confirmations": {
            run.info.run_id: _confirmation(store, run)
            for run in runs
            if run.data.tags.get("fmnist.kind") == "confirmation"
        },
        "evidence": {
            run.info.run_id: _evidence(store, run.info.run_id)
            for run in runs
            if run.data.tags.get("fmnist.kind") == "promotion"
        },
        "looks": [
            [{"kind": event.kind, **event.body} for event in read_events(path)]
            for path in sorted((folder / "mlruns" / "promotions").glob("*/journal.db"))
        ],
        "ledger": [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.is_file() else [],
    }


def _confirmation(store: Any, run: Any) -> Found:
    from fmnist_sweep.tracking.names import TEST_OPENED_TAG, TEST_OPENING_TAG, TEST_PREDICTIONS_FILE
    from fmnist_sweep.tracking.run_files import read_artifact
    from fmnist_sweep.tracking.test_predictions import read_test_predictions

    tags, run_id = run.data.tags, run.info.run_id
    scored = TEST_OPENED_TAG in tags
    values = read_test_predictions(store, run_id, run_id) if scored else None
    history = store.client.get_metric_history
    content = read_artifact(store, run_id, TEST_PREDICTIONS_FILE) if scored else None
    return {
        "status": run.info.status,
        "stage": run.info.lifecycle_stage,
        "journal": tags["fmnist.journal"],
        "trial": tags["fmnist.trial_id"],
        "attempt": tags["fmnist.attempt"],
        "seed": run.data.params.get("seed"),
        "ended": run.info.end_time,
        "opening": tags.get(TEST_OPENING_TAG),
        "scored": scored,
        "accuracies": [metric.value for metric in history(run_id, "test_accuracy")],
        "losses": [metric.value for metric in history(run_id, "test_loss")],
        "epochs": [metric.step for metric in history(run_id, "val_accuracy")],
        "accuracy_of_file": None if values is None else float(values.correct_mask.mean()),
        "images": None if values is None else len(values.labels),
        "file": None if content is None else _arrays_sha256(content),
    }


def _arrays_sha256(content: bytes) -> str:
    import numpy as np

    digest = hashlib.sha256()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        for name in sorted(file.files):
            digest.update(file[name].tobytes())
    return digest.hexdigest()


def _evidence(store: Any, run_id: str) -> Found:
    """What a promotion's run says of its verdict, and whether each file of its evidence is whole."""
    from fmnist_sweep.tracking.store import locate_local_artifacts

    run = store.client.get_run(run_id)
    root = locate_local_artifacts(store, run_id)
    assert root is not None
    files = [path for path in sorted((root / "promotion").rglob("*")) if path.is_file()]
    return {
        "status": run.info.status,
        "verdict": run.data.tags.get("fmnist.verdict"),
        "note": run.data.tags.get("mlflow.note.content"),
        "whole": {
            str(path.relative_to(root)): path.read_bytes().rstrip().endswith(_ENDS[path.suffix]) for path in files
        },
    }


_ENDS = {".png": b"IEND\xaeB`\x82", ".html": b"</html>", ".json": b"\n}"}


def good_runs(folder: Path) -> list[str]:
    """The ids of the runs of the better sweep's trials."""
    from fmnist_sweep.tracking.store import build_default_uri, open_existing_store

    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    return sorted(run.info.run_id for run in runs if run.data.params["model.filters"] != "4")
