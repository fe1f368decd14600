"""Real sweeps over the options of groups, with every oracle: trained, recorded, continued, repeated."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.search.factories import ORACLES
from tests.support.in_process import run_command, run_verb
from tests.support.small import DRAWN

WORDS = (
    *(*DRAWN, "train.precision=float32", "train.batch_size=64", "executor=in_process", "train.epochs=2"),
    "model={tune: option, of: [cnn, simple]}",
    *(
        "model.cnn.filters={tune: int, min_value: 2, max_value: 9}",
        "model.cnn.conv_layers=1",
        "model.cnn.dense_units=4",
    ),
    *("optimizer={tune: option, of: [adam, sgd]}", "optimizer.sgd.momentum.values=[0.5,0.9]"),
    "optimizer.learning_rate=0.001",
    "regularization.dropout={tune: choice, values: [0.1, 0.2], when: {optimizer: [sgd]}, otherwise: 0.0}",
)


def read_trials(folder: Path) -> Any:
    import fmnist_sweep

    return fmnist_sweep.trials(f"sqlite:///{folder}/mlruns/mlflow.db")


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLES)
def test_a_sweep_over_options_is_recorded_without_what_was_not_drawn_and_is_continued(
    name: str, tmp_path: Path
) -> None:
    own = {"bayesian": ("search.initial_points=2",), "hyperband": ("train.epochs=3",)}.get(name, ())
    for most in (2, 4) if name in ("random", "hyperband") else (4,):
        ended = run_command(*WORDS, f"search={name}", *own, f"search.max_trials={most}", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    table = read_trials(tmp_path)
    assert len(table) >= 4
    assert not table["trial_id"].duplicated().any()
    for _, trial in table.iterrows():
        is_simple, is_sgd = trial["model.builder"] == "mlp", trial["optimizer.name"] == "sgd"
        assert trial.isna()["model.filters"] == is_simple
        assert (trial["optimizer.momentum"] in (0.5, 0.9)) == is_sgd
        assert (trial["regularization.dropout"] in (0.1, 0.2)) == is_sgd
        assert is_sgd or trial["regularization.dropout"] == 0.0
        assert "None" not in trial["name"]
        assert f"· {'simple' if is_simple else 'cnn'} · {'sgd' if is_sgd else 'adam'}" in trial["name"]


@pytest.mark.slow
def test_the_command_of_a_trial_of_a_study_over_options_repeats_it_bit_for_bit(tmp_path: Path) -> None:
    ended = run_command(*WORDS, "search.max_trials=2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    before = read_trials(tmp_path)
    (command,) = {path.read_text() for path in tmp_path.glob("mlruns/**/overrides.txt")} & {
        path.read_text() for path in tmp_path.glob(f"mlruns/**/{before['run_id'].iloc[0]}/artifacts/overrides.txt")
    }
    assert "tune" not in command
    ended = run_command(*shlex.split(command)[3:], cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    first, *_, again = (row for _, row in read_trials(tmp_path).iterrows())
    assert again["last_val_loss"] == first["last_val_loss"]
    assert again["study_id"] != first["study_id"]
    compared = run_verb("compare", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
