"""A store of many trials, made in seconds: a few real ones, and the rest as rows like theirs.

The first study is run by the real supervisor on drawn images, with all artifacts; its trials only wait (see
tests/support/simulated.py). Of their rows in every table (parameters, metrics of three epochs, latest metrics, tags,
data inputs, models) copies are written with ids of their own, other values of what is tuned, other seeds and other
scores, in further studies of as many trials. The artifacts of a copy are those of its original.
"""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection, connect
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.run import run_sweep
from tests.support.simulated import simulated

ORIGINALS = 10
STUDY = 50  # trials of a study of copies
_TUNED = {
    "model.filters": (16, 24, 32, 48, 64),
    "model.conv_layers": (1, 2, 3),
    "regularization.dropout": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    "optimizer.learning_rate": (0.0003, 0.001, 0.003),
}
_SEEDS = (1, 2, 3)
_OF_RUNS = {"params": "run_uuid", "metrics": "run_uuid", "latest_metrics": "run_uuid", "tags": "run_uuid"}
_OF_MODELS = {f"logged_model_{of}": "model_id" for of in ("metrics", "params", "tags")}

Row = dict[str, Any]


def make(folder: Path, count: int, images: int = 2000, data: Sequence[str] = ()) -> None:
    """A store of so many trials in folder/mlruns; half of the images are for validation.

    data: overrides that choose other images than so many drawn ones.
    """
    originals(folder, data or ("data=drawn", f"data.images={images}"), min(count, ORIGINALS))
    add_copies(folder, count)


def originals(folder: Path, data: Sequence[str], count: int) -> None:
    """The first study, run here."""
    tuned = [f"{key}={{tune: choice, values: {list(values)}}}" for key, values in _TUNED.items()]
    given = (*data, "data.validation=0.5", "train.precision=float32", "train.epochs=3")
    search = ("search=random", f"search.max_trials={count}")
    with _within(folder), simulated(2, lambda spec: 0.0):
        run_sweep(
            [compose_job([*given, *tuned, *search])], "python -m fmnist_sweep", View(Console(file=io.StringIO()), None)
        )


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def add_copies(folder: Path, count: int) -> None:
    """Go on to so many trials in all; the same copies each time."""
    generator = random.Random(count)
    with closing(connect(folder / "mlruns" / "mlflow.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("BEGIN")
        trials = [run for (run,) in database.execute("SELECT run_uuid FROM tags WHERE value = 'trial' ORDER BY 1")]
        (study,) = next(database.execute("SELECT run_uuid FROM tags WHERE key = 'fmnist.kind' AND value = 'study'"))
        templates = [_Template(database, run) for run in (study, *trials)]
        parent, marks = "", Row()
        for number in range(count - len(trials)):
            if number % STUDY == 0:
                marks = {f"fmnist.{key}": f"{generator.getrandbits(48):012x}" for key in ("study_id", "journal")}
                parent = templates[0].copy(database, generator, number, marks, {}, 0.0)
            chosen = {key: generator.choice(values) for key, values in _TUNED.items()} | {"seed": number % len(_SEEDS)}
            own = marks | {"fmnist.trial_id": f"{number % STUDY:04d}", "mlflow.parentRunId": parent}
            template = templates[1 + number % len(trials)]
            template.copy(database, generator, number, own, chosen, generator.gauss(0, 0.02))
        database.execute("COMMIT")


class _Template:
    """The rows of one run."""

    def __init__(self, database: Connection, run: str) -> None:
        models = [
            model for (model,) in database.execute("SELECT model_id FROM logged_models WHERE source_run_id = ?", (run,))
        ]
        self.rows: dict[str, list[Row]] = {
            "runs": _rows(database, "runs", "run_uuid", (run,)),
            **{table: _rows(database, table, key, (run,)) for table, key in _OF_RUNS.items()},
            "logged_models": _rows(database, "logged_models", "model_id", models),
            **{table: _rows(database, table, key, models) for table, key in _OF_MODELS.items()},
            "inputs": _rows(database, "inputs", "destination_id", (run, *models)),
        }
        inputs = [row["input_uuid"] for row in self.rows["inputs"]]
        self.rows["input_tags"] = _rows(database, "input_tags", "input_uuid", inputs)
        self._ids = {*inputs, run, *models}
        self._run = run

    def copy(
        self,
        database: Connection,
        generator: random.Random,
        number: int,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        better: float,
    ) -> str:
        """Write a copy that began `number` seconds later; its run's id."""
        fresh = {old: f"{'m-' * old.startswith('m-')}{generator.getrandbits(128):032x}" for old in sorted(self._ids)}
        fresh_tags = {**tags, "mlflow.runName": f"copy {number}"}
        for table, rows in self.rows.items():
            written: list[Row] = [{key: fresh.get(value, value) for key, value in row.items()} for row in rows]
            for row in written:
                if table == "runs":
                    row["name"] = fresh_tags["mlflow.runName"]
                    row["start_time"] += 1000 * number
                    row["end_time"] += 1000 * number
                elif table == "tags":
                    row["value"] = fresh_tags.get(row["key"], row["value"])
                elif table == "params":
                    row["value"] = str(params.get(row["key"], row["value"]))
                elif table in ("metrics", "latest_metrics") and ("accuracy" in row["key"] or "f1" in row["key"]):
                    row["value"] = min(1.0, max(0.0, row["value"] + better))
            if written:
                columns, places = ", ".join(written[0]), ", ".join("?" * len(written[0]))
                database.executemany(
                    f"INSERT INTO {table} ({columns}) VALUES ({places})", [tuple(row.values()) for row in written]
                )
        return fresh[self._run]


def _rows(database: Connection, table: str, key: str, ids: Sequence[str]) -> list[Row]:
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    places = ", ".join("?" * len(ids))
    found = database.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {key} IN ({places})", ids)
    return [dict(zip(columns, row, strict=True)) for row in found]
