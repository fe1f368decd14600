"""The verbs `documented run`, `test` and `render`: the write-ups reproduced."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from fmnist_sweep.cli.options import EXPERIMENT, EXPERIMENT_NAME, URI
from fmnist_sweep.text import echo


@click.group()
def documented() -> None:
    """Reproduce the write-ups this project started from: run, test, render.

    WORDS are write-ups by number or name (003; default: all) and overrides as of a sweep (data.limit=5000), which
    make it another set-up than the documented one.
    """


_WORDS = click.argument("words", nargs=-1)


@documented.command("run")
@_WORDS
@URI
@EXPERIMENT
@click.option("--seeds", default="1,2,3", show_default=True, help="One training of each model a seed.")
def run_documented(words: tuple[str, ...], uri: str | None, experiment: str, seeds: str) -> None:
    """Train every model of the write-ups with each seed; the same command continues.

    It is a sweep: python -m fmnist_sweep -m experiment=MODELS seed=SEEDS, and ends with that one's exit codes.
    """
    import shlex

    from fmnist_sweep.report.documented import write_ups

    names, overrides = write_ups.split_words(words)
    selection = write_ups.read_write_ups(names)
    recipes = [recipe for write_up in selection for recipe in write_up.figures]
    numbers = ",".join(str(seed) for seed in write_ups.parse_seeds(seeds))
    store_overrides = [] if uri is None else [f"tracking.uri={uri}"]
    store_overrides += [] if experiment == EXPERIMENT_NAME else [f"tracking.experiment={experiment}"]
    sweep = [
        "-m",
        "fmnist_sweep",
        "-m",
        f"experiment={','.join(recipes)}",
        f"seed={numbers}",
        *store_overrides,
        *overrides,
    ]
    echo(shlex.join(["python", *sweep]))
    echo("afterwards: fmnist-sweep documented test, and fmnist-sweep documented render, with the same words")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sweep])  # noqa: S606 - no shell is wanted


@documented.command("test")
@_WORDS
@URI
@EXPERIMENT
@click.option("--data-dir", default=None, help="Folder of the data files; default: as a sweep has it.")
def test_documented(words: tuple[str, ...], uri: str | None, experiment: str, data_dir: str | None) -> None:
    """Score the write-ups' trained models on the test images, once each.

    A model must first predict what was scored on its validation images. The test images are opened once for all, if
    there is anything to score, which mlruns/test_openings.jsonl records.
    """
    from fmnist_sweep.report.documented import write_ups
    from fmnist_sweep.tracking.store import locate_ledger, open_existing_store

    names, overrides = write_ups.split_words(words)
    selection = write_ups.read_write_ups(names)
    store = open_existing_store(uri, experiment)
    trials = write_ups.read_finished_trials(store)
    reproductions = [write_ups.find_write_up_runs(store, trials, write_up, overrides) for write_up in selection]
    scored_runs = write_ups.score_write_ups(store, reproductions, data_dir, locate_ledger(), echo)
    drawn_count = sum(run.is_drawn for reproduction in reproductions for run in reproduction.all_runs)
    if drawn_count:
        echo(f"passed over, on drawn images: {drawn_count} runs")
    run_count = sum(len(reproduction.all_runs) for reproduction in reproductions)
    echo(
        f"{len(scored_runs)} of {run_count} runs scored on the test images now; {run_count - drawn_count - len(scored_runs)} were before."
    )


@documented.command("render")
@_WORDS
@URI
@EXPERIMENT
@click.option(
    "--out",
    default=Path("experiments"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pages; made where it is missing.",
)
def render_documented(words: tuple[str, ...], uri: str | None, experiment: str, out: Path) -> None:
    """Write a page for each write-up: what it states beside what the store's runs measured, and verdicts.

    Nothing is trained and no test image opened. The same store gives the same bytes.
    """
    from fmnist_sweep.report.documented import write_ups
    from fmnist_sweep.report.documented.write_up_page import WriteUpPage, render_page, write_page
    from fmnist_sweep.tracking.store import open_existing_store

    names, overrides = write_ups.split_words(words)
    selection = write_ups.read_write_ups(names)
    store = open_existing_store(uri, experiment)
    trials = write_ups.read_finished_trials(store)
    for write_up in selection:
        reproduction = write_ups.find_write_up_runs(store, trials, write_up, overrides)
        page = render_page(WriteUpPage(store, write_up, reproduction, overrides))
        echo(f"{write_page(out, write_up.name, page)}: {len(reproduction.all_runs)} runs")
