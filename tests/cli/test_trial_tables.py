"""Tables of trials as files, and what the options that make them refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fmnist_sweep.analysis.table import SCORE_COLUMN, build_table
from fmnist_sweep.cli.trial_tables import export_table, filter_by_conditions, parse_conditions
from fmnist_sweep.errors import ConfigError
from tests.support.stored import trial

TRIALS = [
    trial(0, 0.90, model__filters=32, optimizer__name="adam", model__blocks=[[32], [64]], train__early=True, seed=1),
    trial(1, 0.91, model__filters=64, optimizer__name="sgd", optimizer__momentum=0.9, seed=1),
    trial(2, None, model__filters=64, optimizer__name="rmsprop", seed=2),
    trial(3, 0.88, state="running", model__filters=48, optimizer__name="adam", seed=3),
]


@pytest.mark.parametrize("text", ["model.filters", "modle.filters>=48", "optimizer.name>adam", "began>yesterday"])
def test_a_condition_that_does_not_fit_is_refused_with_the_option_it_came_from(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--where '?" + text):
        filter_by_conditions(build_table(TRIALS), parse_conditions([text]))


def test_every_kind_of_file_holds_every_row_and_setting(tmp_path: Path) -> None:
    frame = build_table(TRIALS)
    for ending in ("csv", "json", "parquet"):
        export_table(frame, tmp_path / f"trials.{ending}", force=False)
    csv = pd.read_csv(tmp_path / "trials.csv")
    parquet = pd.read_parquet(tmp_path / "trials.parquet")
    rows: list[dict[str, Any]] = json.loads((tmp_path / "trials.json").read_text())
    for read in (csv, parquet, pd.DataFrame(rows)):
        assert list(read.columns) == list(frame.columns)
        assert read["model.filters"].tolist() == [32, 64, 64, 48]
        assert read[SCORE_COLUMN].tolist()[:2] == [0.90, 0.91]
    assert rows[0]["model.blocks"] == json.loads(csv["model.blocks"][0]) == json.loads(parquet["model.blocks"][0])
    assert rows[2][SCORE_COLUMN] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.json", "trials.parquet"]


def test_a_file_that_is_there_is_replaced_only_on_purpose(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        export_table(build_table(TRIALS), path, force=False)
    assert path.read_text() == "mine"
    export_table(build_table(TRIALS), path, force=True)
    assert len(pd.read_csv(path)) == len(TRIALS)


@pytest.mark.parametrize("name", ["trials.xlsx", "trials", "no_such_folder/trials.csv"])
def test_a_file_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected"):
        export_table(build_table(TRIALS), tmp_path / name, force=False)
    assert not list(tmp_path.iterdir())
