"""The verbs `history` and `rollback`: which versions there are, where the aliases have pointed, and the way back."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import EXPERIMENT, URI
from fmnist_sweep.text import console, echo

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from rich.table import Table

    from fmnist_sweep.tracking.aliases import Move, Standing
    from fmnist_sweep.tracking.store import Store

_NAME, _ACCURACY, _VERDICT = "fmnist.name", "fmnist.test_accuracy", "fmnist.verdict"
_MISSING = "–"
_WHOLE = ("version", "registered (UTC)", "move", "time (UTC)", "alias", "from", "to")  # columns that are never broken


@click.command()
@URI
@EXPERIMENT
def history(uri: str | None, experiment: str) -> None:
    """List the registered versions, and every move of their aliases with its reason and command."""
    from fmnist_sweep.tracking import aliases as moves
    from fmnist_sweep.tracking import registry as versions
    from fmnist_sweep.tracking import store as stores

    store = stores.open_existing(uri, experiment)
    found = versions.every(store)
    told = moves.every(store)
    if not found and not told:
        echo(f"nothing is registered as models:/{versions.MODEL_NAME} yet: fmnist-sweep promote does that.")
        return
    standings = moves.current(store)
    screen = console(highlight=False, markup=False)
    screen.print(_versions(store, found, versions.aliases(versions.registered(store))))
    screen.print(_moves(told) if told else "no command of fmnist-sweep has moved an alias yet")
    for line in _remarks(standings):
        screen.print(line)


@click.command()
@URI
@EXPERIMENT
@click.option(
    "--to",
    default=None,
    metavar="VERSION",
    help="A version that once was champion; default: the one before the present one.",
)
def rollback(uri: str | None, experiment: str, to: str | None) -> None:
    """Make an earlier champion models:/fashion-mnist@champion again, once its file is checked and loads.

    Typed twice, it goes two steps back. fmnist-sweep history shows the steps.
    """
    from fmnist_sweep.tracking import aliases as moves
    from fmnist_sweep.tracking import store as stores
    from fmnist_sweep.tracking.registry import CHAMPION, MODEL_NAME

    store = stores.open_existing(uri, experiment)
    done = moves.rollback(store, to, shlex.join(["fmnist-sweep", *sys.argv[1:]]))
    before = f"version {done.previous}" if done.previous else "nothing"
    echo(f"models:/{MODEL_NAME}@{CHAMPION} is now version {done.version} (before: {before})")
    echo(f"  {done.why}")
    echo("  its file is, by its checksum, the one that was registered, and loads")


def _versions(store: Store, found: Sequence[ModelVersion], points: Mapping[str, str]) -> Table:
    table = _table("version", "aliases", "registered (UTC)", "name", "test\naccuracy", "verdict")
    for version in found:
        number = str(version.version)
        named = ", ".join(sorted(alias for alias, where in points.items() if where == number))
        accuracy = _four_digits(version.tags.get(_ACCURACY))
        when = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        verdict = version.tags.get(_VERDICT, _MISSING)
        _add(table, number, named or _MISSING, when, _run_name(store, version), accuracy, verdict)
    return table


def _run_name(store: Store, version: ModelVersion) -> str:
    from mlflow.exceptions import MlflowException

    if _NAME in version.tags:
        return str(version.tags[_NAME])
    try:
        return str(store.client.get_run(version.run_id).info.run_name)
    except MlflowException:  # a run that is no more, or a version that was registered without one
        return _MISSING


def _four_digits(value: str | None) -> str:
    try:
        return _MISSING if value is None else f"{float(value):.4f}"
    except ValueError:  # typed in the UI
        return str(value)


def _moves(told: Sequence[Move]) -> Table:
    table = _table("move", "time (UTC)", "alias", "from", "to", "why, and the command")
    for move in told:
        time = move.time[:16].replace("T", " ")
        why = f"{move.kind}: {move.why}" + ("" if move.completed else " (cut short)")
        reason = f"{why}\n{move.command}"
        _add(table, str(move.number), time, move.alias, move.previous or _MISSING, move.version, reason)
    return table


def _remarks(standings: Mapping[str, Standing]) -> Iterator[str]:
    """What the moves do not say: an alias that something else has moved, a move that was cut short."""
    for alias, standing in standings.items():
        where = f"points at version {standing.version}" if standing.version else "points nowhere"
        told = standing.told
        if standing.by_hand:
            last = f"but the last move recorded leads to version {told.version}" if told else "but no move is recorded"
            yield f"{alias} {where}, {last}: it was moved by hand, as the MLflow UI can."
        elif told is not None and not told.completed:
            yield (
                f"{alias} {where}: move {told.number} to version {told.version} was cut short, and the same command "
                f"completes it: {told.command}"
            )


def _table(*heads: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in _WHOLE)
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))  # else a bracket in a command would be taken for markup
