"""A fuzz of shared stores: whatever a stranger leaves there, no verb ends in a traceback and no honest row is lost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.registry import ensure_registered_model
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from tests.support.hostile import Intruder, Planted
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.simulated import simulated
from tests.support.small import SMALLEST

SWEEP: tuple[str, ...] = (
    *(*SMALLEST, "model.filters={tune: choice, values: [2,3,4]}", "regularization=none", "train.epochs=2"),
    *("search=grid", "executor=in_process"),
)
CASES_EACH = 38  # hostile things in the store while each verb runs once
MORE_ROUNDS = 6


@dataclass(frozen=True)
class Honest:
    """A folder with a finished sweep. accuracies: by run id."""

    folder: Path
    accuracies: dict[str, float]
    study_id: str
    intruder: Intruder


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Honest]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with simulated(1, lambda spec: 0.0, drawn=False):
            view = View(Console(file=io.StringIO()), None)
            assert run_sweep([compose_job(SWEEP)], "python -m fmnist_sweep", view) is ExitCode.DONE
        patch.undo()
        store = open_existing_store(build_default_uri(folder), "fashion-mnist")
        runs = store.client.search_runs([store.experiment_id])
        ensure_registered_model(store)
        picture = Image.new("L", (28, 28))
        picture.paste(200, (6, 6, 20, 22))
        picture.save(folder / "a.png")
        by_kind = {run.data.tags["fmnist.kind"]: {**run.data.tags, "run_id": run.info.run_id} for run in runs}
        trials = [run for run in runs if run.data.tags["fmnist.kind"] == "trial"]
        yield Honest(
            folder,
            {run.info.run_id: run.data.metrics["best_val_accuracy"] for run in trials},
            trials[0].data.tags["fmnist.study_id"],
            Intruder(store, by_kind, trials[0].data.params),
        )


def _run_verb(honest: Honest, planted: Planted, *words: str) -> Any:
    done = run_verb(*words, cwd=honest.folder, environment=clean_environment())
    assert "Traceback" not in done.stderr, (words, planted.by_seed, done.stderr[-3000:])
    assert done.returncode != ExitCode.BUG, (words, planted.by_seed, done.stderr[-3000:])
    return done


def _check_tables(honest: Honest, planted: Planted) -> None:
    listed = _run_verb(honest, planted, "compare", "--json")
    rows = {row["run_id"]: row for row in json.loads(listed.stdout)}
    assert {run_id: rows[run_id]["best_val_accuracy"] for run_id in honest.accuracies} == honest.accuracies
    for run_id in honest.accuracies:
        row = rows[run_id]
        assert (row["kind"], row["state"], row["study_id"]) == ("trial", "finished", honest.study_id)
        assert row["images"] > 0 and 0 <= row["low"] <= row["high"] <= 1 and row["model.filters"] in (2, 3, 4)
    shown = _run_verb(honest, planted, "compare", "--limit", "1000")
    assert all(run_id[:8] in shown.stdout for run_id in honest.accuracies)
    for arguments in ((), ("--by-config",)):
        path = honest.folder / "table.csv"
        _run_verb(honest, planted, "compare", *arguments, "--export", str(path), "--force")
        for cells in csv.reader(io.StringIO(path.read_text())):
            assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and not _is_number(cell)]
    _run_verb(honest, planted, "compare", "--export", str(honest.folder / "table.parquet"), "--force")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_all_verbs(honest: Honest, seeds: range) -> None:
    planted, intruder = Planted(), honest.intruder
    for seed in seeds:
        intruder.plant(seed, planted)
    again = run_command(*SWEEP, cwd=honest.folder, environment=clean_environment())
    assert again.returncode == 0 and "Nothing to do" in again.stdout, (planted.by_seed, again.stderr)
    _check_tables(honest, planted)
    report = _run_verb(honest, planted, "report", "--study", honest.study_id)
    page = Path(report.stdout.strip()).read_text()
    assert all(run_id[:8] in page for run_id in honest.accuracies), planted.by_seed
    assert "<script>alert(1)" not in page
    _run_verb(honest, planted, "report")
    first, second, *_ = honest.accuracies
    explained = _run_verb(honest, planted, "compare", first, second, "--json")
    assert explained.returncode == 0
    _run_verb(honest, planted, "compare", first, (planted.run_ids or ["0" * 32])[0])
    assert honest.study_id in _run_verb(honest, planted, "studies").stdout
    _run_verb(honest, planted, "promote", "plan=true", "--any-data", "--study", honest.study_id)
    _run_verb(honest, planted, "promote", "plan=true", "--run", (planted.run_ids or ["0" * 32])[-1])
    for words in (("render",), ("test", "--data-dir", "nowhere")):
        _run_verb(honest, planted, "documented", *words, "004")
    assert _run_verb(honest, planted, "history").returncode == 0
    _run_verb(honest, planted, "rollback")
    number = (planted.versions or ["1"])[-1]
    _run_verb(honest, planted, "predict", "a.png", "--model", number)
    _run_verb(honest, planted, "reproduce", number)
    intruder.clear(planted)


@pytest.mark.slow
def test_what_a_stranger_leaves_in_a_store_hides_no_honest_row_and_breaks_no_verb(honest: Honest) -> None:
    _check_all_verbs(honest, range(CASES_EACH))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 1 + MORE_ROUNDS))
def test_more_of_what_a_stranger_leaves_hides_no_honest_row_either(honest: Honest, number: int) -> None:
    _check_all_verbs(honest, range(number * CASES_EACH, (number + 1) * CASES_EACH))
