"""The verb `compare`: trials of any studies as a table, or two of them side by side."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_sweep.cli.options import EXPERIMENT, URI
from fmnist_sweep.errors import ConfigError, DataError
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.text import create_console, echo

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from fmnist_sweep.analysis.pair import TrialComparison
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial

_DEFAULT_LIMIT = 30
_LIST_OPTIONS = (
    "studies",
    "sweep",
    "conditions",
    "sort",
    "descending",
    "columns",
    "limit",
    "by_config",
    "out",
    "force",
)
_PAIR_OPTIONS = ("picture",)


@click.command()
@URI
@EXPERIMENT
@click.argument("two", nargs=-1, metavar="[A B]")
@click.option("--study", "studies", multiple=True, help="Trials of this study only; may be given several times.")
@click.option("--sweep", default=None, help="Trials of this sweep only.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="'KEY OP VALUE'",
    help="Only trials for which this holds; OP: = != < <= > >= ~ (contains); several: all must hold.",
)
@click.option(
    "--sort", default=None, metavar="KEY", help="Sort by this column instead of the accuracy; -KEY: descending."
)
@click.option("--descending", is_flag=True, help="The greatest first.")
@click.option("--columns", default=None, metavar="KEY,KEY", help="Show these columns instead.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    help=f"At most so many rows; on the terminal: {_DEFAULT_LIMIT}.",
)
@click.option("--by-config", is_flag=True, help="One row a configuration: mean ± sd over its seeds.")
@click.option(
    "--export",
    "out",
    type=click.Path(path_type=Path),
    default=None,
    help="Write the table to this .csv, .json or .parquet file.",
)
@click.option("--force", is_flag=True, help="Replace the file of --export or --picture.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--picture", type=click.Path(path_type=Path), default=None, help="Of A and B: draw the images they differ on."
)
@click.option("--data-dir", default=lambda: os.environ.get("FMNIST_DATA_DIR") or None, help="Folder of the data files.")
def compare(two: tuple[str, ...], uri: str | None, experiment: str, **options: Any) -> None:
    """List trials of any studies, best first, or explain how trials A and B differ.

    \b
    fmnist-sweep compare --where optimizer.name=adam --where 'model.filters>=48'
    fmnist-sweep compare --by-config --export table.csv
    fmnist-sweep compare 3f9a2c 71be04

    A and B: run ids or their beginnings (6 characters or more), STUDY/TRIAL, or names. Keys are those of
    fmnist_sweep.trials(): best_val_accuracy, cpu_seconds, state, model.filters, val_f1.Shirt, ...
    """
    from fmnist_sweep.tracking.store import open_existing_store

    if len(two) not in (0, 2):
        raise ConfigError(f"compare takes two trials, or none to list them, but was given {len(two)}: {' '.join(two)}.")
    misplaced_options = [
        name
        for name in (_LIST_OPTIONS if two else _PAIR_OPTIONS)
        if options[name] and not (name == "force" and options["picture"])
    ]
    if misplaced_options:
        names = {"studies": "study", "conditions": "where", "out": "export", "by_config": "by-config"}
        reason = "is for lists, without A and B" if two else "needs two trials, A and B"
        raise ConfigError(f"--{names.get(misplaced_options[0], misplaced_options[0])} {reason}.")
    store = open_existing_store(uri, experiment)
    if two:
        _explain_pair(store, *two, **{name: options[name] for name in ("as_json", "picture", "data_dir", "force")})
    else:
        _list_trials(store, **{name: options[name] for name in (*_LIST_OPTIONS, "as_json")})


def _list_trials(
    store: Store,
    *,
    studies: Sequence[str],
    sweep: str | None,
    conditions: Sequence[str],
    sort: str | None,
    descending: bool,
    columns: str | None,
    limit: int | None,
    by_config: bool,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from fmnist_sweep.analysis.table import (
        SCORE_COLUMN,
        build_table,
        check_key,
        encode_json_rows,
        group_by_configuration,
        sort_rows,
    )
    from fmnist_sweep.cli.trial_tables import export_table, filter_by_conditions, name_option, parse_conditions
    from fmnist_sweep.tracking.trial_search import select_trials

    filters = parse_conditions(conditions)
    trials = select_trials(store, sweep=sweep, studies=studies)
    frame = filter_by_conditions(build_table(trials), filters)
    matches = [trials[position] for position in frame.index]
    if by_config:
        frame = group_by_configuration(matches)
    order = sort or ("mean" if by_config else SCORE_COLUMN)
    key = order.removeprefix("-")
    with name_option(f"--sort {key}"):
        frame = sort_rows(frame, key, descending=descending or sort is None or order.startswith("-"))
    column_names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    for name in column_names:
        with name_option(f"--columns {name}"):
            check_key(frame, name)
    selection = frame[column_names] if column_names else frame
    table = selection if limit is None else selection.head(limit)
    if out is not None:
        export_table(table, out, force=force)
        echo(f"{out}: {len(table):,} rows, {len(table.columns)} columns")
    elif as_json:
        echo(encode_json_rows(table))
    else:
        _print_trials(
            store, frame.head(limit or _DEFAULT_LIMIT), len(frame), len(trials), column_names, matches, by_config
        )


def _print_trials(
    store: Store,
    frame: pd.DataFrame,
    match_count: int,
    trial_count: int,
    column_names: Sequence[str],
    trials: Sequence[StoredTrial],
    by_config: bool,
) -> None:
    from fmnist_sweep.report.listing import build_column_table, build_configuration_table, build_trial_table
    from fmnist_sweep.text import mask_credentials

    if not len(frame):
        echo(
            f"no trial matches, of {trial_count:,} in {mask_credentials(store.uri)}, experiment {store.experiment_name}."
        )
        return
    screen, hidden_columns = _create_screen(), list[str]()
    if column_names:
        table = build_column_table(frame, column_names)
    else:
        table, hidden_columns = (build_configuration_table if by_config else build_trial_table)(frame, trials, screen)
    screen.print(table)
    noun = "configurations" if by_config else "trials"
    echo(
        f"{len(frame):,} of {match_count:,} {noun}{'' if len(frame) == match_count else f'; --limit {match_count} shows all'}."
    )
    if hidden_columns:
        echo(f"no room here for {', '.join(hidden_columns)}: --columns, or --export FILE.csv")
    unscored = sum(trial.accuracy is None for trial in trials)
    if by_config and unscored:
        echo(f"left out, without a score: {unscored:,} of {len(trials):,} trials.")


def _create_screen() -> Console:
    from fmnist_sweep.report.listing import NO_LIMIT

    # In a pipe there is no width to fit, unless one is named.
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else NO_LIMIT
    return create_console(width=width, highlight=False, markup=False)


def _explain_pair(
    store: Store, a: str, b: str, *, as_json: bool, picture: Path | None, data_dir: str | None, force: bool
) -> None:
    from fmnist_sweep.analysis.pair import compare_trials, serialize_comparison
    from fmnist_sweep.report.pair_text import render_pair
    from fmnist_sweep.tracking.predictions import read_intact_predictions
    from fmnist_sweep.tracking.trial_search import find_trial, read_trial_record

    if picture is not None:
        _check_picture(picture, force)
    one, other = find_trial(store, a), find_trial(store, b)
    if one.run_id == other.run_id:
        raise ConfigError(f"{a} and {b} are the same trial, run {one.run_id}: name two.")
    records = read_trial_record(store, one), read_trial_record(store, other)
    comparison = compare_trials(*records, partial(read_intact_predictions, store))
    if as_json:
        echo(json.dumps(_replace_non_finite(serialize_comparison(comparison)), indent=1))
    else:
        screen = _create_screen()
        for part in render_pair(comparison):
            screen.print(part)
    if picture is not None:
        _draw_disagreements(store, comparison, picture, data_dir)


def _replace_non_finite(value: Any) -> Any:
    """The value without NaN and infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _check_picture(path: Path, force: bool) -> None:
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--picture={path}: expected a name that ends in .png, in a folder that exists.")
    if path.exists() and not force:
        raise ConfigError(f"--picture={path}: there is a file already; name a new one, or say --force.")


def _draw_disagreements(store: Store, comparison: TrialComparison, path: Path, data_dir: str | None) -> None:
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.figures.disagreements import draw_disagreements
    from fmnist_sweep.tracking.trial_data import load_trial_splits

    if comparison.disagreement is None:
        raise DataError(
            f"--picture: nothing to draw, as the two cannot be compared image by image: {comparison.no_comparison_reason}."
        )
    split = load_trial_splits(store, comparison.a.trial, data_dir).validation
    title = " | ".join(
        f"{name}: {side.trial.run_id[:8]}, {side.trial.name}"
        for name, side in (("A", comparison.a), ("B", comparison.b))
    )
    write_file_atomically(path, encode_png(draw_disagreements(comparison.disagreement, split.images, title)))
    echo(f"{path}: the images on which they differ", err=True)
