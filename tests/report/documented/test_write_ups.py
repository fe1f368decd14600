"""What the write-ups state: the figures of their recipes, and what they left open."""

from __future__ import annotations

import re

import pytest

from fmnist_sweep.config.folders import find_experiments_folder, read_recipes
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.report.documented.recipe_runs import (
    compose_recipe,
)
from fmnist_sweep.report.documented.write_ups import WriteUp, read_write_ups

WRITE_UPS = read_write_ups()


def test_every_recipe_but_the_speed_run_is_in_one_write_up_and_no_write_up_is_a_recipe() -> None:
    named = [recipe for write_up in WRITE_UPS for recipe in write_up.figures]
    assert sorted([*named, "speedrun"]) == sorted(name for name, _ in read_recipes())
    assert len(WRITE_UPS) == 5


@pytest.mark.parametrize("write_up", WRITE_UPS, ids=lambda write_up: write_up.number)
def test_a_stated_figure_is_the_one_that_its_recipe_says(write_up: WriteUp) -> None:
    for recipe, stated in write_up.figures.items():
        comment = (find_experiments_folder() / f"{recipe}.yaml").read_text().splitlines()[1]
        assert f"Write-up {write_up.number}" in comment
        said = [float(number.rstrip(".%")) for number in re.findall(r"[\d.]*\d%?", comment.replace("write-up", ""))]
        for figure in stated.values():
            assert figure.value in said or round(100 * figure.value, 6) in said, (recipe, figure, said)


@pytest.mark.parametrize("write_up", WRITE_UPS, ids=lambda write_up: write_up.number)
def test_what_was_left_open_is_filled_by_settings_there_are(write_up: WriteUp) -> None:
    configs = [compose_recipe(recipe, []).config for recipe in write_up.figures]
    known = {key for config in configs for key in flatten_config({**config.settings, "data": config.data.model_dump()})}
    assert {key for entry in write_up.omissions for key in entry.keys} <= known
