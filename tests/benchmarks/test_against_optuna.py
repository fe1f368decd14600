"""The benchmark against what a user would write: the same space and recipe, and what is made of its results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import against_optuna
import optuna_script

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.search import space, tunable
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.training.optimization import compute_batch_rates


def make_result(side: str, seed: int, *best: tuple[float, float]) -> dict[str, Any]:
    return {"side": side, "seed": seed, "conditions": {"minutes": 1}, "best": list(best)}


def test_the_script_draws_from_the_space_of_the_default_study() -> None:
    settings = compose_job([]).config.settings
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    names = [name for name, _ in find_tunables(settings)]
    assert names
    for _ in range(20):
        trial = study.ask()
        values = {name: optuna_script.suggest(trial, name, spec) for name, spec in find_tunables(settings)}
        for name, parameter in zip(names, space.build_hyperparameters(settings).space, strict=True):
            value = values[name]
            value = tunable.round_float(value) if isinstance(value, float) else value
            assert 0 <= parameter.value_to_prob(value) <= 1
        assert not list(find_tunables(space.resolve_tunables(settings, values)))


def test_the_scripts_rate_is_the_one_cycle_of_the_product() -> None:
    schedule = {"name": "one_cycle", "warmup": 0.25, "over_epochs": None}
    rate = optuna_script.make_rate(0.002, schedule, steps=40)
    for epoch in range(4):
        expected = compute_batch_rates(schedule, 0.002, 4, [{}] * epoch, 10)
        assert [float(rate(10 * epoch + batch)) for batch in range(10)] == pytest.approx(expected, abs=1.1e-3 * 0.002)
    assert optuna_script.make_rate(0.002, {"name": "constant"}, steps=40) == 0.002


def test_the_best_so_far_is_that_of_all_trainings_by_the_clock() -> None:
    best = against_optuna.list_improvements([(30.04, 0.91), (10, 0.8), (20, 0.7), (40, 0.9)])
    assert best == [(10, 0.8), (30.0, 0.91)]
    result = make_result("", 1, *best)
    assert [against_optuna.find_best(result, seconds) for seconds in (10, 29, 60)] == [0.8, 0.8, 0.91]
    assert against_optuna.find_best(result, 9) != against_optuna.find_best(result, 9)  # NaN: nothing yet


def test_sides_are_compared_in_pairs_and_an_unfinished_pair_is_left_out() -> None:
    ours, theirs = against_optuna.OURS, against_optuna.THEIRS
    results = [
        *(make_result(ours, seed, (10, 0.92 + 0.001 * seed)) for seed in (1, 2, 3)),
        *(make_result(theirs, seed, (30, 0.91 + 0.002 * seed)) for seed in (1, 2)),
    ]
    assert against_optuna.compare_at(results, 60) == (
        "| 1.0 | 0.9215 ± 0.0007 (n=2) | 0.9130 ± 0.0014 (n=2) | +0.0085 [+0.0021, +0.0149] |"
    )
    assert "fewer than two pairs" in against_optuna.compare_at(results, 20)


def test_results_of_other_conditions_are_neither_mixed_nor_lost(tmp_path: Path) -> None:
    path, line = tmp_path / "results.jsonl", json.dumps(make_result("fmnist_sweep", 1, (10, 0.9))) + "\n"
    path.write_text(line + line[:20])  # killed while it wrote
    assert len(against_optuna.read_results(path, {"minutes": 1})) == 1
    assert path.read_text() == line
    with pytest.raises(SystemExit, match="other conditions"):
        against_optuna.read_results(path, {"minutes": 2})
    assert path.read_text() == line
