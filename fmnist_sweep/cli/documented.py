"""The verbs `documented run`, `test` and `render`: the write-ups reproduced."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fmnist_sweep.cli.options import DATA_DIR_OVERRIDE, EXPERIMENT, URI, add_data_dir, refuse_replaced
from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.process.interpreter import build_child_environment, build_python_command
from fmnist_sweep.text import echo
from fmnist_sweep.tracking.names import DEFAULT_EXPERIMENT

_OPTIONS = {"seed": "--seeds", "tracking.uri": "--uri", "tracking.experiment": "--experiment", "experiment": "NUMBER"}


_OWN_SOURCES = ("idx", "npz", "folder")  # as data.data_config has them, whose import would slow down --help


def _split_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide words into names of write-ups and overrides. Errors: ConfigError for what an option of the verb says."""
    overrides = [word for word in arguments if "=" in word]
    refuse_replaced(overrides, _OPTIONS)
    for override in overrides:
        if parse_override_key(override) == "data" and override.partition("=")[2] in _OWN_SOURCES:
            raise ConfigError(f"{override}: the documented models are of Fashion-MNIST; sweep other images instead.")
    return [word for word in arguments if "=" not in word], overrides


def _parse_seeds(text: str) -> list[int]:
    """Parse the value of --seeds, such as 1,2,3. Errors: ConfigError."""
    seeds = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if len(seeds) != len(text.split(",")) or len(set(seeds)) != len(seeds):
        raise ConfigError(f"--seeds={text}: expected different whole numbers with commas between them, such as 1,2,3.")
    return seeds


@click.group()
def documented() -> None:
    """Reproduce the write-ups this project started from: run, test, render.

    WORDS are write-ups, by number or name (003; default: all), and overrides of a sweep (data.limit=5000), which
    change the documented set-up.
    """


_WORDS = click.argument("words", nargs=-1)


@documented.command("run")
@_WORDS
@URI
@EXPERIMENT
@DATA_DIR_OVERRIDE
@click.option("--seeds", default="1,2,3", show_default=True, help="Train each model once with each of these.")
def run_documented(words: tuple[str, ...], uri: str | None, experiment: str, data_dir: str | None, seeds: str) -> None:
    """Train every model of the write-ups with each seed; the same command continues.

    This runs the sweep python -m fmnist_sweep -m experiment=MODELS seed=SEEDS, and ends with its exit code.
    """
    from fmnist_sweep.config.commands import build_sweep_command
    from fmnist_sweep.report.documented.write_ups import read_write_ups

    names, overrides = _split_words(words)
    overrides = add_data_dir(overrides, data_dir)
    selection = read_write_ups(names)
    recipes = [recipe for write_up in selection for recipe in write_up.figures]
    numbers = ",".join(str(seed) for seed in _parse_seeds(seeds))
    store_overrides = [] if uri is None else [f"tracking.uri={uri}"]
    store_overrides += [] if experiment == DEFAULT_EXPERIMENT else [f"tracking.experiment={experiment}"]
    arguments = ["-m", f"experiment={','.join(recipes)}", f"seed={numbers}", *store_overrides, *overrides]
    echo(build_sweep_command(arguments))
    echo("afterwards: fmnist-sweep documented test, and fmnist-sweep documented render, with the same words")
    sys.stdout.flush()
    command = build_python_command("fmnist_sweep.__main__", *arguments)
    os.execve(command[0], command, build_child_environment())  # noqa: S606 - no shell is wanted


@documented.command("test")
@_WORDS
@URI
@EXPERIMENT
@DATA_DIR_OVERRIDE
def test_documented(words: tuple[str, ...], uri: str | None, experiment: str, data_dir: str | None) -> None:
    """Score the write-ups' trained models on the test images, once each.

    A model must first predict its validation images as its trial did. If there is anything to score, the test images
    are opened once for all models, and mlruns/test_openings.jsonl records it.
    """
    from fmnist_sweep.promotion.write_up_scoring import score_write_ups
    from fmnist_sweep.report.documented.recipe_runs import find_write_up_runs, read_finished_trials
    from fmnist_sweep.report.documented.write_ups import read_write_ups
    from fmnist_sweep.tracking.deleted import name_deleted_runs
    from fmnist_sweep.tracking.store import locate_ledger, open_existing_store

    names, overrides = _split_words(words)
    overrides = add_data_dir(overrides, data_dir)
    selection = read_write_ups(names)
    store = open_existing_store(uri, experiment)
    name_deleted_runs(store)
    trials = read_finished_trials(store)
    reproductions = [find_write_up_runs(store, trials, write_up, overrides) for write_up in selection]
    scored_runs = score_write_ups(store, reproductions, locate_ledger(), echo)
    drawn_count = sum(run.is_drawn for reproduction in reproductions for run in reproduction.all_runs)
    if drawn_count:
        echo(f"skipped, as trained on drawn images: {drawn_count} runs")
    run_count = sum(len(reproduction.all_runs) for reproduction in reproductions)
    earlier_count = run_count - drawn_count - len(scored_runs)
    echo(f"{len(scored_runs)} of {run_count} runs scored on the test images now; {earlier_count} were before.")


@documented.command("render")
@_WORDS
@URI
@EXPERIMENT
@click.option(
    "--out",
    default=Path("experiments"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pages; created if it is missing.",
)
def render_documented(words: tuple[str, ...], uri: str | None, experiment: str, out: Path) -> None:
    """Write a page for each write-up: its statements beside what the store's runs measured, with verdicts.

    Nothing is trained and no test image is opened. The same store gives the same bytes.
    """
    from fmnist_sweep.report.documented.page_content import read_page
    from fmnist_sweep.report.documented.recipe_runs import find_write_up_runs, read_finished_trials
    from fmnist_sweep.report.documented.write_up_page import render_write_up_page, write_page
    from fmnist_sweep.report.documented.write_ups import read_write_ups
    from fmnist_sweep.tracking.deleted import name_deleted_runs
    from fmnist_sweep.tracking.store import open_existing_store

    names, overrides = _split_words(words)
    selection = read_write_ups(names)
    store = open_existing_store(uri, experiment)
    name_deleted_runs(store)
    trials = read_finished_trials(store)
    for write_up in selection:
        reproduction = find_write_up_runs(store, trials, write_up, overrides)
        page = render_write_up_page(read_page(store, write_up, reproduction, overrides))
        echo(f"{write_page(out, write_up.name, page)}: {len(reproduction.all_runs)} runs")
