"""The speed run: its recipe, the variants of it that are measured, and the benchmark that measures them."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import speedrun

from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.training.model_size import count_parameters


def test_the_recipe_has_its_ingredients_and_every_variant_differs_in_one_and_stays_small() -> None:
    recipe, data = speedrun.compose_variant(speedrun.RECIPE, [], 1)
    assert (data.source, data.fallback) == ("fashion_mnist", None)
    assert recipe["optimizer"]["name"] == "muon" and recipe["model"]["residual"] is True
    assert recipe["train"]["augmentation"]["name"] == "alternate_and_erase"
    assert recipe["train"]["schedule"]["name"] == "one_cycle"
    assert recipe["train"]["label_smoothing"] and recipe["train"]["averaging"] and recipe["train"]["replicas"] == 2
    found = {speedrun.RECIPE: flatten_config(recipe)}
    for ingredient in speedrun.INGREDIENTS:
        config, _ = speedrun.compose_variant(ingredient, [], 1)
        found[ingredient] = flatten_config(config)
        parameters = count_parameters(config, FASHION_MNIST)
        assert parameters is not None and parameters <= 300_000, ingredient
        # Images of any size need another head, so those that grow are measured beside that head alone.
        base = "flattening" if ingredient == "growing images" else speedrun.RECIPE
        changed = found[base].items() ^ found[ingredient].items()
        groups = {key.rpartition(".")[0] if key.count(".") > 1 else key.split(".")[0] for key, _ in changed}
        assert len(groups) == 1, (ingredient, changed)
    assert all(one != other for one, other in itertools.combinations(found.values(), 2))


def test_as_many_epochs_are_trained_as_the_seconds_suffice_for_and_never_none() -> None:
    def list_costs() -> Any:
        yield from [(2.0, 10.0), (0.0, 10.0), (2.0, 20.0)]
        yield from itertools.repeat((0.0, 20.0))

    # With a second of validation after each: 13, 24, 47, 68, ...
    assert [speedrun.count_epochs(seconds, 1.0, list_costs()) for seconds in (1, 13, 23, 24, 67, 68)] == [
        *(1, 1, 1, 2, 3, 4),
    ]


def make_result(ingredient: str, seed: int, accuracy: float) -> dict[str, Any]:
    figures = {"accuracy": accuracy, "mirrored": accuracy + 0.001, "cpu_seconds": 1200.0 + seed}
    return {"ingredient": ingredient, "seed": seed, "epochs": 9, **figures}


def test_a_row_has_mean_and_sd_of_both_figures_and_the_difference_of_the_pairs() -> None:
    results = [make_result("recipe", seed, 0.93 + seed / 1000) for seed in (1, 2, 3)]
    results += [make_result("averaging", 1, 0.932), make_result("averaging", 2, 0.931)]
    assert speedrun.compare_variant("recipe", results) == (
        "| the recipe | 9 | 0.9320 ± 0.0010 (n=3) | 0.9330 ± 0.0010 (n=3) | 1,202 ± 1 (n=3) |  |"
    )
    row = speedrun.compare_variant("averaging", results)
    assert row.startswith(
        "| without averaging | 9 | 0.9315 ± 0.0007 (n=2) | 0.9325 ± 0.0007 (n=2) | 1,202 ± 1 (n=2) "
        "| +0.0000 [-0.0127, +0.0127]"
    )
    assert row.endswith("(sd 0.0014, n=2) |")
    assert speedrun.describe_variant("whitening") == "with whitening"
    growing = [*results, make_result("growing images", 1, 0.93)]
    assert "0.9300" in (row := speedrun.compare_variant("growing images", growing)) and "flattening" not in row
    flat = make_result("flattening", 1, 0.91)
    assert speedrun.compare_variant("growing images", [*growing, flat]).endswith("| +0.0200, without flattening |")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ingredients", "magic"], "magic: unknown; allowed: fused normalization,"),
        (["--minutes", "0"], "expected a number above 0"),
        (["model.filters={tune: choice, values: [4, 8]}"], "model.filters: expected values, found tunables"),
        (["train.epochs=none"], "train.epochs=none (command line)"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(sys, "argv", ["speedrun.py", "--results", str(results), *arguments])
    with pytest.raises(SystemExit) as refused:
        speedrun.main()
    assert words in f"{refused.value} {capsys.readouterr().err}"
    assert not results.exists()


@pytest.mark.slow
def test_it_trains_what_is_missing_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    overrides = ["data=drawn", "data.images=200", "model.filters=4"]
    given = argparse.Namespace(minutes=0.03, threads=1, overrides=overrides)
    conditions = speedrun.describe_conditions(given)
    finished = json.dumps({**make_result("recipe", 1, 0.5), "conditions": conditions})
    results.write_text(f'{finished}\n{{"ingredient": "whi')  # as a kill in the middle of a write leaves it
    words = ["--minutes", "0.03", "--threads", "1", "--jobs", "2", "--seeds", "1", "--ingredients", "whitening,muon"]
    monkeypatch.setattr(sys, "argv", ["speedrun.py", *words, "--results", str(results), *overrides])
    speedrun.main()
    said = capsys.readouterr().out
    assert "the recipe:" not in said and "seed 1, with whitening:" in said
    table = [line.split(" | ")[0] for line in said.splitlines()[-3:]]
    assert table == ["| the recipe", "| with whitening", "| without muon"]
    first, *trained = results.read_text().splitlines()
    rows = {row["ingredient"]: row for row in map(json.loads, trained)}
    assert first == finished and rows.keys() == {"whitening", "muon"} and len(trained) == 2
    for row in rows.values():
        assert (row["seed"], row["images"]) == (1, [180, 20])
        assert row["epochs"] >= 1 and row["cpu_seconds"] > 0 and 0 <= row["mirrored"] <= 1
    speedrun.main()
    assert said.endswith(capsys.readouterr().out), "nothing is trained twice"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "train.label_smoothing=0.0"])
    with pytest.raises(SystemExit, match="is of other conditions"):
        speedrun.main()
