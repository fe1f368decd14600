"""The verb `compare`: trials of any studies as a table, or two of them side by side."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_sweep.analysis.fronts import MEASURES
from fmnist_sweep.cli.options import DATA_DIR, EXPERIMENT, PLUGINS, URI, check_new_picture
from fmnist_sweep.errors import ConfigError, DataError
from fmnist_sweep.text import create_console, echo, quote_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from fmnist_sweep.analysis.pair import TrialComparison
    from fmnist_sweep.tracking.store import Store
    from fmnist_sweep.tracking.trials import StoredTrial

_DEFAULT_LIMIT = 30
# Parameters of `compare` and the options that set them.
_LIST_OPTIONS = {
    "studies": "--study",
    "sweep": "--sweep",
    "conditions": "--where",
    "sort": "--sort",
    "descending": "--descending",
    "columns": "--columns",
    "limit": "--limit",
    "by_config": "--by-config",
    "front": "--front",
    "out": "--export",
}


@dataclass(frozen=True)
class _Listing:
    """What is listed, and how: the options of `compare` without A and B, as typed."""

    studies: Sequence[str]
    sweep: str | None
    conditions: Sequence[str]
    sort: str | None
    descending: bool
    columns: str | None
    limit: int | None
    by_config: bool
    front: str | None
    out: Path | None

    @property
    def column_names(self) -> list[str]:
        return [name.strip() for name in (self.columns or "").split(",") if name.strip()]


@click.command()
@URI
@EXPERIMENT
@click.argument("two", nargs=-1, metavar="[A B]")
@click.option("--study", "studies", multiple=True, help="Only trials of this study; may be given several times.")
@click.option("--sweep", default=None, help="Only trials of this sweep.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="'KEY OP VALUE'",
    help="Only trials for which this holds; OP: = != < <= > >= ~ (contains). If given several times, all must hold.",
)
@click.option("--sort", default=None, metavar="KEY", help="Sort by this column, not by accuracy; -KEY: descending.")
@click.option("--descending", is_flag=True, help="List the greatest first.")
@click.option("--columns", default=None, metavar="KEY,KEY", help="Show these columns instead.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    help=f"List at most this many rows. Default on the terminal: {_DEFAULT_LIMIT}.",
)
@click.option("--by-config", is_flag=True, help="Make one row of each configuration: mean ± sd over its seeds.")
@click.option(
    "--front",
    type=click.Choice(tuple(MEASURES)),
    default=None,
    help="List only the trials that no other beats in accuracy and in this cost, the cheapest first.",
)
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
    "--picture", type=click.Path(path_type=Path), default=None, help="Draw the images that A and B disagree on."
)
@DATA_DIR
@PLUGINS
def compare(
    two: tuple[str, ...],
    uri: str | None,
    experiment: str,
    *,
    force: bool,
    as_json: bool,
    picture: Path | None,
    data_dir: str | None,
    plugins: tuple[str, ...],
    **list_options: Any,
) -> None:
    """List trials of any studies, best first, or explain how trials A and B differ.

    \b
    fmnist-sweep compare --where optimizer.name=adam --where 'model.filters>=48'
    fmnist-sweep compare --by-config --export table.csv
    fmnist-sweep compare --front parameters
    fmnist-sweep compare 3f9a2c 71be04

    A and B: run ids or their beginnings (6 characters or more), STUDY/TRIAL, or names. Keys are those of
    fmnist_sweep.trials(): best_val_accuracy, cpu_seconds, state, model.filters, val_f1.Shirt, ...
    """
    from fmnist_sweep.tracking.deleted import name_deleted_runs
    from fmnist_sweep.tracking.store import open_existing_store

    if len(two) not in (0, 2):
        raise ConfigError(f"compare takes two trials, or none to list them, but was given {len(two)}: {' '.join(two)}.")
    misplaced = [option for name, option in _LIST_OPTIONS.items() if list_options[name]]
    misplaced += ["--force"] if force and picture is None else []
    if two and misplaced:
        raise ConfigError(f"{misplaced[0]} is for lists, without A and B.")
    if list_options["front"] and (list_options["by_config"] or list_options["sort"] or list_options["descending"]):
        raise ConfigError("--front lists trials, the cheapest first: leave out --by-config, --sort and --descending.")
    if not two and picture is not None:
        raise ConfigError("--picture needs two trials, A and B.")
    if picture is not None or plugins:  # whose code may read the images
        from fmnist_sweep.training.own_code import activate_typed

        activate_typed(plugins)
    store = open_existing_store(uri, experiment)
    name_deleted_runs(store)
    if two:
        _explain_pair(store, *two, as_json=as_json, picture=picture, data_dir=data_dir, force=force)
    else:
        _list_trials(store, _Listing(**list_options), as_json=as_json, force=force)


def _list_trials(store: Store, listing: _Listing, *, as_json: bool, force: bool) -> None:
    from fmnist_sweep.analysis.table import build_table, check_key, group_by_configuration
    from fmnist_sweep.analysis.table_encoding import encode_json_rows
    from fmnist_sweep.cli.trial_tables import export_table, filter_by_conditions, name_option, parse_conditions
    from fmnist_sweep.tracking.trial_search import select_trials

    conditions = parse_conditions(listing.conditions)
    trials = select_trials(store, sweep=listing.sweep, studies=listing.studies)
    frame = filter_by_conditions(build_table(trials), conditions)
    matches = [trials[position] for position in frame.index]
    if listing.front is not None:
        places = _find_front_places(matches, listing.front)
        frame, matches = frame.iloc[places], [matches[place] for place in places]
    else:
        frame = _sort_rows(group_by_configuration(matches) if listing.by_config else frame, listing)
    for name in listing.column_names:
        with name_option(f"--columns {name}"):
            check_key(frame, name)
    if listing.out is None and not as_json:
        _print_trials(store, listing, frame, len(trials), matches)
        return
    table = frame[listing.column_names] if listing.column_names else frame
    table = table if listing.limit is None else table.head(listing.limit)
    if listing.out is None:
        echo(encode_json_rows(table))
    else:
        export_table(table, listing.out, force=force)
        echo(f"{listing.out}: {len(table):,} rows, {len(table.columns)} columns")


def _find_front_places(trials: Sequence[StoredTrial], key: str) -> list[int]:
    """Places of the trials on a front, the cheapest first. Raises ConfigError for trials on several sets of images."""
    from fmnist_sweep.analysis.fronts import compute_front

    data = sorted({trial.data for trial in trials if trial.accuracy is not None})
    if len(data) > 1:
        raise ConfigError(
            f"--front {key}: these trials were scored on different images, {quote_text(', '.join(data), 200)}: add "
            f"--where data={quote_text(data[0])}, or name a --sweep or --study."
        )
    return list(compute_front(trials, MEASURES[key], data[0]).places) if data else []


def _sort_rows(frame: pd.DataFrame, listing: _Listing) -> pd.DataFrame:
    from fmnist_sweep.analysis.table import SCORE_COLUMN, sort_rows
    from fmnist_sweep.cli.trial_tables import name_option

    order = listing.sort or ("mean" if listing.by_config else SCORE_COLUMN)
    key = order.removeprefix("-")
    with name_option(f"--sort {key}"):
        return sort_rows(frame, key, descending=listing.descending or listing.sort is None or order.startswith("-"))


def _print_trials(
    store: Store, listing: _Listing, frame: pd.DataFrame, trial_count: int, matches: Sequence[StoredTrial]
) -> None:
    """Print the rows of `frame`, made of the trials that match, and what is not shown."""
    from fmnist_sweep.report.listing import build_column_table, build_configuration_table, build_trial_table

    if not len(frame):
        place = f"{store.masked_uri}, experiment {store.experiment_name}"
        echo(f"no trial matches, of {trial_count:,} in {place}.")
        return
    shown = frame.head(listing.limit or _DEFAULT_LIMIT)
    screen, hidden_columns = _create_screen(), list[str]()
    if listing.column_names:
        table = build_column_table(shown, listing.column_names)
    else:
        build_rows = build_configuration_table if listing.by_config else build_trial_table
        table, hidden_columns = build_rows(shown, matches, screen)
    screen.print(table)
    noun = "configurations" if listing.by_config else "trials"
    hint = "" if len(shown) == len(frame) else f"; --limit {len(frame)} shows all"
    if listing.front is not None:
        echo(f"no other of {trial_count:,} trials beats these in accuracy and {listing.front} alike.")
    echo(f"{len(shown):,} of {len(frame):,} {noun}{hint}.")
    if hidden_columns:
        echo(f"no room here for {', '.join(hidden_columns)}: --columns, or --export FILE.csv")
    unscored = sum(trial.accuracy is None for trial in matches)
    if listing.by_config and unscored:
        echo(f"left out, without a score: {unscored:,} of {len(matches):,} trials.")


def _create_screen() -> Console:
    from fmnist_sweep.report.listing import NO_LIMIT

    # In a pipe there is no width to fit, unless one is named.
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else NO_LIMIT
    return create_console(width=width, highlight=False, markup=False)


def _explain_pair(
    store: Store, a: str, b: str, *, as_json: bool, picture: Path | None, data_dir: str | None, force: bool
) -> None:
    from fmnist_sweep.analysis.pair import compare_trials
    from fmnist_sweep.analysis.pair_json import serialize_comparison
    from fmnist_sweep.report.pair_text import render_pair
    from fmnist_sweep.tracking.prediction_files import read_intact_predictions
    from fmnist_sweep.tracking.trial_search import find_trial, read_trial_record

    check_new_picture(picture, force=force)
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


def _draw_disagreements(store: Store, comparison: TrialComparison, path: Path, data_dir: str | None) -> None:
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.figures.canvas import encode_png
    from fmnist_sweep.report.figures.disagreements import draw_disagreements
    from fmnist_sweep.tracking.trial_data import load_trial_splits

    if comparison.disagreement is None:
        reason = comparison.no_comparison_reason
        raise DataError(f"--picture: nothing to draw, as the two cannot be compared image by image: {reason}.")
    split = load_trial_splits(store, comparison.a.trial, data_dir).validation
    title = " | ".join(
        f"{name}: {side.trial.run_id[:8]}, {side.trial.name}"
        for name, side in (("A", comparison.a), ("B", comparison.b))
    )
    write_file_atomically(path, encode_png(draw_disagreements(comparison.disagreement, split.images, title)))
    echo(f"{path}: the images on which they disagree", err=True)
