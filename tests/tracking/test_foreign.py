"""What is read from a store is checked in one place for type, shape, range and size; what does not fit is left out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.analysis.table import build_table, group_by_configuration
from fmnist_sweep.analysis.table_encoding import encode_csv
from fmnist_sweep.tracking.foreign import Misfit, check_predictions, check_run, check_version, parse_parameter
from fmnist_sweep.tracking.prediction_files import pack_predictions, unpack_predictions
from fmnist_sweep.tracking.queries import StoredRun, list_newest_runs, search_runs
from fmnist_sweep.tracking.registry import RegisteredVersion
from fmnist_sweep.tracking.store import Store, build_default_uri, open_store
from tests.support.stored import trial

TAGS = {"fmnist.kind": "trial", "fmnist.study_id": "0a", "fmnist.trial_id": "0000", "fmnist.attempt": "1"}
RUN = StoredRun("0a", "a name", "FINISHED", True, {"seed": "1"}, {"best_val_accuracy": 0.9}, TAGS, 1, 2, None)
PARENT = {"fmnist.journal": "0a", "fmnist.data": "drawn:0", "mlflow.source.name": "x", "fmnist.sweep_id": "0a"}


def test_what_a_sweep_writes_fits() -> None:
    check_run(RUN)
    check_run(replace(RUN, metrics={"val_loss": math.nan, "loss": math.inf}, end_time=None, status="FAILED"))
    check_run(replace(RUN, tags={"fmnist.kind": "sweep", "fmnist.journals": "0a 0b", **PARENT}))


@pytest.mark.parametrize(
    "changes",
    [
        *({"metrics": {"best_val_accuracy": value}} for value in (math.nan, math.inf, -0.1, 1.1, 1e308)),
        *({"metrics": {"best_epoch": value}} for value in (math.nan, -1.0, 1.5, 1e30)),
        *({"metrics": {key: -1.0}} for key in ("parameters", "fit_seconds", "cpu_seconds", "val_f1.Shirt")),
        *({"start_time": value} for value in (-1, 10**17, None, "0")),
        *({"end_time": value} for value in (-1, 10**17, "0")),
        *({"tags": {key: value for key, value in TAGS.items() if key != missing}} for missing in list(TAGS)[1:3]),
        *({"tags": {**TAGS, key: "a'b"}} for key in ("fmnist.study_id", "fmnist.trial_id", "fmnist.journal")),
        *({"tags": {**TAGS, "fmnist.attempt": value}} for value in ("0", "-1", "9" * 400, "٣", "")),
        *({"tags": {**TAGS, "mlflow.parentRunId": value}} for value in ("../x", "", "a b")),
        *({"tags": {"fmnist.kind": kind, **PARENT}} for kind in ("sweep", "study", "promotion", "finalist")),
        {"tags": {"fmnist.kind": "sweep", "fmnist.journals": "0a ../x", **PARENT}},
        {"params": {"x": "x" * 1_000_000}},
        {"params": {f"x{number}": "x" for number in range(10_000)}},
        {"status": "ODD"},
        {"run_id": "a' OR '1'='1"},
    ],
    ids=lambda changes: " ".join(f"{key} {value}" for key, value in changes.items())[:40],
)
def test_a_run_that_no_sweep_writes_does_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(Misfit) as refused:
        check_run(replace(RUN, **changes))
    assert len(str(refused.value)) < 300


ROWS = np.full((4, 10), 0.1, np.float32)
ARRAYS: dict[str, Any] = {"index": np.arange(4), "labels": np.arange(4), "probabilities": ROWS}


@pytest.mark.parametrize(
    "changes",
    [
        *({"index": value} for value in (np.arange(5), -np.arange(4), np.zeros((4, 1), int), np.array(3))),
        *({"index": value} for value in (np.arange(4.0), np.array(["1"] * 4), np.ones(4, np.complex64))),
        *({"labels": value} for value in (np.arange(4) + 7, np.arange(4) - 1, np.arange(3), np.array(1))),
        *({"probabilities": value} for value in (ROWS[:, :9], ROWS[:3], ROWS[0], ROWS * 2, ROWS * 0, -ROWS)),
        *({"probabilities": value} for value in (ROWS * np.nan, ROWS.astype(np.complex64), ROWS.astype(int))),
        {"index": np.arange(0), "labels": np.arange(0), "probabilities": ROWS[:0]},
    ],
    ids=lambda changes: " ".join(f"{key} {value.shape} {value.dtype}" for key, value in changes.items()),
)
def test_arrays_that_are_no_predictions_do_not_fit(changes: dict[str, Any]) -> None:
    check_predictions(ARRAYS)
    with pytest.raises(Misfit):
        check_predictions({**ARRAYS, **changes})
    with pytest.raises(ValueError):  # as every reader of such a file expects
        unpack_predictions(pack_predictions(**{**ARRAYS, **changes}))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[" * 6000,
            '{"a":' * 1200,
            "[" * 30 + "]" * 30,
            "9" * 400,
            "9" * 5000,
            str(2**63),
            "1e999",
            "NaN",
            "-Infinity",
        ),
        *('"\\ud800"', '[{"\\ud800": 1}]', "[1e999]", "x"),
    ],
    ids=lambda text: text[:10],
)
def test_a_parameter_that_cannot_be_counted_with_stays_text(text: str) -> None:
    assert parse_parameter(text) == text


def test_a_parameter_is_the_value_that_it_was() -> None:
    texts = {"-0.5": -0.5, "[2, 4]": [2, 4], "True": True, "None": None, "adam": "adam", str(2**63 - 1): 2**63 - 1}
    assert {text: parse_parameter(text) for text in texts} == texts


@pytest.mark.parametrize("changes", [{"number": "x"}, {"number": "0"}, {"run_id": "a/b"}, {"created": -1}])
def test_a_version_that_mlflow_does_not_make_does_not_fit(changes: dict[str, Any]) -> None:
    version = RegisteredVersion("1", None, "models:/m-0", "READY", {}, "", 0)
    check_version(version)
    with pytest.raises(Misfit):
        check_version(replace(version, **changes))


# --- tables


def test_own_columns_win_over_parameters_of_the_same_name() -> None:
    honest, odd = trial(0, 0.9, seed=1, model__filters=2), trial(1, 0.8, seed=1, model__filters=4)
    own = build_table([honest]).columns
    odd = replace(odd, params={**odd.params, **dict.fromkeys((*own, "val_f1.Shirt"), "stolen")})
    both = build_table([honest, odd])
    expected = [column for column in own if not column.startswith("model.") and column != "seed"]
    assert not (both[expected].astype(str) == "stolen").to_numpy().any()
    assert both["run_id"].tolist() == [honest.run_id, odd.run_id]
    grouped = group_by_configuration(
        [honest, replace(odd, params={**odd.params, "mean": "stolen", "run_ids": "stolen"})]
    )
    assert sorted(grouped["mean"]) == [0.8, 0.9]
    assert sorted(grouped["run_ids"]) == [honest.run_id, odd.run_id]


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "-", "\n@x"])
def test_text_that_is_a_formula_in_a_spreadsheet_is_none_in_csv(text: str) -> None:
    import csv
    import io

    import pandas as pd

    frame = pd.DataFrame({"x": [text, "plain"], text: ["-0.5", "1e-3"], "n": [-0.5, 2]})
    rows = list(csv.reader(io.StringIO(encode_csv(frame).decode(), newline="")))
    assert rows == [["x", f"'{text}", "n"], [f"'{text}", "-0.5", "-0.5"], ["plain", "1e-3", "2.0"]]


# --- look-ups


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(build_default_uri(tmp_path), "fashion-mnist")


HOSTILE = ("a\\", "\\", "'", '"', "'\"", "`", "%", "a' OR '1' = '1", "x\\' OR tags.a = 'b", "a\nb", "\ud800")


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_a_value_is_never_a_condition_of_a_search(value: str, store: Store) -> None:
    for name in ("one", "two"):
        run = store.client.create_run(store.experiment_id, None, {"fmnist.kind": "x", "fmnist.name": name}, name)
        store.client.log_param(run.info.run_id, "a", name)
    assert search_runs(store, {"fmnist.kind": "x", "fmnist.name": value}) == []
    assert search_runs(store, {"attributes.run_name": value}) == []
    assert search_runs(store, {"fmnist.kind": "x"}, {"a": value}) == []
    assert list_newest_runs(store, {"fmnist.name": value}, 1) == []
    if value != "\ud800":  # which no database takes
        kept = store.client.create_run(store.experiment_id, None, {"fmnist.kind": "x", "fmnist.name": value}, value)
        assert [run.run_id for run in search_runs(store, {"fmnist.name": value})] == [kept.info.run_id]
        assert [run.run_id for run in list_newest_runs(store, {"fmnist.name": value}, 1)] == [kept.info.run_id]


def test_a_newest_run_that_does_not_fit_hides_none_behind_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    honest = store.client.create_run(store.experiment_id, 1, TAGS)
    for number in range(25):
        store.client.create_run(store.experiment_id, 2 + number, {**TAGS, "fmnist.trial_id": "'"})
    assert [run.run_id for run in list_newest_runs(store, {"fmnist.kind": "trial"}, 1)] == [honest.info.run_id]
    assert [run.run_id for run in search_runs(store, {"fmnist.kind": "trial"})] == [honest.info.run_id]
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("left out ") and "fmnist.trial_id" in line for line in lines)
    assert sum(int(line.split()[2]) for line in lines) == 25  # each is named once
