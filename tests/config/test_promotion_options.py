"""Options of a promotion in a sweep, where they do nothing: refused if somebody set them, taken as shipped."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import find_conf_folder
from fmnist_sweep.errors import ConfigError


def refuse(*arguments: str) -> str:
    """The sentence with which a sweep of these arguments is refused."""
    with pytest.raises(ConfigError) as refused:
        compose_jobs(arguments)
    return str(refused.value)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("promote.seeds=5", "promote.seeds=5"),
        ("promote.seeds=null", "promote.seeds=null"),
        ("-m optimizer=rmsprop,adam promote.level=0.9,0.99", "promote.level=0.9"),
        ("'promote={seeds: 4}'", "promote.seeds=4"),
        ("plan=true promote.include_validation=true", "promote.include_validation=true"),
        ("search.until=settled promote.gain=0.01 promote.power=0.9", "promote.power=0.9"),
    ],
)
def test_what_only_a_promotion_reads_is_refused_in_a_sweep(line: str, named: str) -> None:
    sentence = refuse(*shlex.split(line))
    assert sentence.startswith(f"{named} (command line): does nothing in a sweep")
    assert sentence.endswith(f"type it afterwards: fmnist-sweep promote {named}.")


def test_what_a_recipe_sets_of_it_is_refused_by_the_name_of_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "experiment" / "own.yaml"
    recipe.parent.mkdir()
    recipe.write_text("# @package _global_\nseed: 3\npromote:\n  seeds: 7\n")
    sentence = refuse("--config-dir", str(tmp_path), "experiment=own")
    assert sentence.startswith(f"promote.seeds=7 ({recipe}): does nothing in a sweep")


def test_the_gain_that_sweeps_read_and_whole_options_of_the_group_are_taken(tmp_path: Path) -> None:
    own = tmp_path / "promote" / "own.yaml"
    own.parent.mkdir()
    own.write_text((find_conf_folder() / "promote" / "default.yaml").read_text().replace("0.005", "0.02"))
    (job,) = compose_jobs(("--config-dir", str(tmp_path), "promote=own"))
    assert job.config.promote.gain == 0.02
    (job,) = compose_jobs(("promote.gain=0.01", "promote=default"))
    assert job.config.promote.gain == 0.01


def test_a_promotion_takes_them() -> None:
    assert compose_job(["search=grid", "promote.seeds=5"]).config.promote.seeds == 5
