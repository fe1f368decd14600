"""The verbs `history` and `rollback`: list versions and moves of aliases, and restore an earlier champion."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import EXPERIMENT, PLUGINS, URI
from fmnist_sweep.text import create_console, echo
from fmnist_sweep.tracking.names import NAME_TAG, TEST_ACCURACY_TAG, VERDICT_TAG

if TYPE_CHECKING:
    from rich.table import Table

    from fmnist_sweep.tracking.aliases import AliasState, Move
    from fmnist_sweep.tracking.registry import RegisteredVersion
    from fmnist_sweep.tracking.store import Store

_MISSING = "–"
# Never wrapped.
_UNBROKEN_COLUMNS = frozenset(("version", "registered (UTC)", "move", "time (UTC)", "alias", "from", "to"))


@click.command()
@URI
@EXPERIMENT
def history(uri: str | None, experiment: str) -> None:
    """List the registered versions, every move of their aliases, and the account of the test images.

    The account says how many decisions were made on them, and what is left of the error that all may make together.
    Exit code 8: the ledger of openings was edited or shortened.
    """
    from fmnist_sweep.tracking.aliases import list_moves, read_alias_states
    from fmnist_sweep.tracking.registry import describe_empty_registry, list_versions, read_aliases
    from fmnist_sweep.tracking.store import open_existing_store

    store = open_existing_store(uri, experiment)
    model_versions = list_versions(store)
    alias_moves = list_moves(store)
    if not model_versions and not alias_moves:
        echo(f"models:/{store.model_name} has no version: {describe_empty_registry(store)}")
        _print_accounts(store)
        return
    alias_states = read_alias_states(store)
    screen = create_console(highlight=False, markup=False)
    screen.print(_build_version_table(store, model_versions, read_aliases(store)))
    screen.print(_build_move_table(alias_moves) if alias_moves else "fmnist-sweep has not moved an alias yet")
    numbers = {version.number for version in model_versions}
    newest_moves = [state.newest_move for state in alias_states.values() if state.newest_move is not None]
    named = {move.version for move in newest_moves}  # by what is irregular
    irregularities = list_irregularities(alias_states, numbers)
    for line in (*describe_deleted_versions(alias_moves, numbers | named), *irregularities):
        screen.print(line)
    _print_accounts(store)


@click.command()
@URI
@EXPERIMENT
@click.option(
    "--to",
    default=None,
    metavar="VERSION",
    help="Version that was champion before; default: the last one before the current champion.",
)
@PLUGINS
def rollback(uri: str | None, experiment: str, to: str | None, plugins: tuple[str, ...]) -> None:
    """Make an earlier champion models:/fashion-mnist@champion again, after checking that its file is intact and loads.

    A second rollback goes back another step. fmnist-sweep history shows the steps.
    """
    from fmnist_sweep.config.commands import build_verb_command
    from fmnist_sweep.promotion.outcome import describe_alias
    from fmnist_sweep.tracking.aliases import roll_back_champion
    from fmnist_sweep.tracking.registry import CHAMPION
    from fmnist_sweep.tracking.store import open_existing_store
    from fmnist_sweep.training.own_code import activate_typed

    activate_typed(plugins)
    store = open_existing_store(uri, experiment)
    alias_move = roll_back_champion(store, to, build_verb_command(sys.argv[1:]))
    echo(describe_alias(store.model_name, CHAMPION, alias_move.version, alias_move.previous))
    echo(f"  {alias_move.why}")
    echo("  its file has the registered checksum and loads")


def _print_accounts(store: Store) -> None:
    """Print a line for each part of test images that decisions were made on. Raises PromotionRefused (check_ledger)."""
    from fmnist_sweep.promotion.account import describe_account, list_accounts
    from fmnist_sweep.tracking.ledger_heads import check_ledger
    from fmnist_sweep.tracking.store import LEDGER_FILE

    for account in list_accounts(store, check_ledger(store, store.state_folder / LEDGER_FILE)):
        echo(describe_account(account))


def _build_version_table(
    store: Store, versions: Sequence[RegisteredVersion], alias_numbers: Mapping[str, str]
) -> Table:
    table = _create_table("version", "aliases", "registered (UTC)", "name", "test\naccuracy", "verdict")
    for version in versions:
        number = version.number
        alias_names = ", ".join(sorted(alias for alias, target in alias_numbers.items() if target == number))
        accuracy = _format_accuracy(version.tags.get(TEST_ACCURACY_TAG))
        time = datetime.fromtimestamp(version.created / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        verdict = version.tags.get(VERDICT_TAG, _MISSING)
        _add_row(table, number, alias_names or _MISSING, time, _read_run_name(store, version), accuracy, verdict)
    return table


def _read_run_name(store: Store, version: RegisteredVersion) -> str:
    from fmnist_sweep.tracking.queries import read_run_name

    if NAME_TAG in version.tags:
        return str(version.tags[NAME_TAG])
    # None for a deleted run, or for a version that was registered without one.
    return read_run_name(store, str(version.run_id)) or _MISSING


def _format_accuracy(value: str | None) -> str:
    try:
        return _MISSING if value is None else f"{float(value):.4f}"
    except ValueError:  # edited in the UI
        return str(value)


def _build_move_table(moves: Sequence[Move]) -> Table:
    table = _create_table("move", "time (UTC)", "alias", "from", "to", "why, and the command")
    for move in moves:
        time = move.time[:16].replace("T", " ")
        why = f"{move.kind}: {move.why}" + ("" if move.completed else " (interrupted)")
        reason = f"{why}\n{move.command}"
        _add_row(table, str(move.number), time, move.alias, move.previous or _MISSING, move.version, reason)
    return table


def describe_deleted_versions(moves: Iterable[Move], numbers: Collection[str]) -> Iterator[str]:
    """The sentence about versions that moves lead to and that were deleted, if there are any."""
    # numbers: of those that are registered, or named elsewhere.
    moved = {number for move in moves for number in (move.previous, move.version) if number is not None}
    deleted = sorted(moved - set(numbers), key=int)
    if deleted:
        noun, verb = ("version", "was") if len(deleted) == 1 else ("versions", "were")
        yield f"{noun} {', '.join(deleted)} {verb} deleted, and MLflow cannot restore what is deleted from a registry"


def list_irregularities(alias_states: Mapping[str, AliasState], numbers: Collection[str]) -> Iterator[str]:
    """Sentences about aliases that were moved by other means, and about moves that were interrupted.

    numbers: of the versions that are registered.
    """
    for alias, alias_state in alias_states.items():
        target = f"points at version {alias_state.version}" if alias_state.version else "points nowhere"
        move = alias_state.newest_move
        if move is not None and move.version not in numbers:
            yield (
                f"{alias} {target}: version {move.version}, to which it was moved last, was deleted, and MLflow cannot "
                "restore it; fmnist-sweep rollback goes back to an earlier champion, and fmnist-sweep promote registers"
                " one."
            )
        elif alias_state.is_manual:
            last = f"the last recorded move leads to version {move.version}" if move else "no move is recorded"
            yield f"{alias} {target}, but {last}: somebody moved it by other means, such as the MLflow UI."
        elif move is not None and not move.completed:
            yield (
                f"{alias} {target}: move {move.number} to version {move.version} was interrupted; the same command "
                f"completes it: {move.command}"
            )


def _create_table(*heads: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in _UNBROKEN_COLUMNS)
    return table


def _add_row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))  # as Text, because a bracket in a command would be read as markup
