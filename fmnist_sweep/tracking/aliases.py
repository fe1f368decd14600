"""The moves of the registered model's aliases: each is recorded before it is made, and can be rolled back.

A move is a tag of the registered model itself (`fmnist.move.0001`, JSON), so that the registry carries its history. It
is written first, then the alias is moved, then the move is marked as completed. A command that is killed in between
leaves an incomplete move, which the same command completes when it is typed again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.reading import parse_json
from fmnist_sweep.text import format_utc_now, quote_text, shorten_text
from fmnist_sweep.tracking.foreign import Misfit, name_left_out
from fmnist_sweep.tracking.names import MOVE_TAG_PREFIX
from fmnist_sweep.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    get_registered_model,
    list_versions,
    map_aliases,
    resolve_version,
)
from fmnist_sweep.tracking.runs import get_user_name
from fmnist_sweep.tracking.store_lock import lock_registry
from fmnist_sweep.tracking.version_files import load_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from fmnist_sweep.tracking.store import Store

MoveKind = Literal["promoted", "challenger", "rolled back"]
_MOVE_TAG = re.compile(rf"{re.escape(MOVE_TAG_PREFIX)}([0-9]{{1,9}})")
_MAX_NUMBER = 999_999_999
_NUMBER, _ALIAS = re.compile(r"[0-9]{1,9}"), re.compile(r"[A-Za-z0-9_-]{1,255}")
# The column of a registered model's tags is a VARCHAR(5000), although MLflow's own check allows more.
_MAX_RECORD_LENGTH = 5_000
_MAX_LENGTHS = {"why": 1_000, "command": 2_000, "user": 250}


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    number: from 1. time: in UTC, ISO 8601. previous: the version that it pointed at before, or None. why: one sentence.
    command: as typed. completed: False if the command was cut short before the alias moved.
    """

    number: int
    time: str
    alias: str
    version: str
    previous: str | None
    kind: MoveKind
    why: str
    command: str
    user: str
    completed: bool = False


@dataclass(frozen=True)
class AliasState:
    """The version that an alias points at and its newest move, each None if there is none."""

    version: str | None
    newest_move: Move | None

    @property
    def is_manual(self) -> bool:
        """Whether it was moved by other means than a recorded move, such as the MLflow UI."""
        if self.newest_move is None:
            return self.version is not None
        expected_versions = (
            (self.newest_move.version,)
            if self.newest_move.completed
            else (self.newest_move.version, self.newest_move.previous)
        )
        return self.version not in expected_versions


_MOVE_ADAPTER = TypeAdapter(Move)


def list_moves(store: Store) -> list[Move]:
    """All moves, the oldest first. A tag with the name of a move that holds something else is named and left out."""
    return _read_moves(store, get_registered_model(store))


def read_alias_states(store: Store) -> dict[str, AliasState]:
    """The states of champion, challenger and every other alias that was ever moved, by alias."""
    model = get_registered_model(store)
    alias_versions, moves = map_aliases(model), _read_moves(store, model)
    newest = {move.alias: move for move in moves}
    return {
        alias: AliasState(alias_versions.get(alias), newest.get(alias))
        for alias in dict.fromkeys((CHAMPION, CHALLENGER, *newest))
    }


def move_alias(store: Store, alias: str, version: str, *, kind: MoveKind, why: str, command: str) -> Move:
    """Point an alias at a version (its number) and record the move, unless the alias is there already.

    The caller holds `lock_registry`. Raises StoreError if there is no such version.
    """
    version = resolve_version(store, version).number
    model = get_registered_model(store)
    current_version = map_aliases(model).get(alias)
    records = _read_records(store, model)
    last = next((record for record in reversed(records) if record.alias == alias), None)
    if last is not None and last.version == version == current_version:
        return _complete_move(store, last)
    if last is None or last.completed or (last.version, last.kind, last.previous) != (version, kind, current_version):
        number = _choose_number(model, records)
        last = Move(
            number,
            format_utc_now(),
            alias,
            version,
            current_version,
            kind,
            mask_credentials(why),
            mask_credentials(command),
            get_user_name(),
        )
        _write_move(store, last)
    store.client.set_registered_model_alias(store.model_name, alias, version)
    return _complete_move(store, last)


def _choose_number(model: RegisteredModel | None, records: Sequence[Move]) -> int:
    """The number of a new move: after all others, and of no tag that there is, even if that holds no move."""
    taken = set() if model is None else {int(match[1]) for key in model.tags if (match := _MOVE_TAG.fullmatch(key))}
    number = records[-1].number + 1 if records else 1
    while number in taken:
        number += 1
    if number > _MAX_NUMBER:
        name = "" if model is None else model.name
        raise StoreError(
            f"the tag {MOVE_TAG_PREFIX}{_MAX_NUMBER} of models:/{name} leaves no number for another move: delete "
            "it in the MLflow UI."
        )
    return number


def roll_back_champion(store: Store, to: str | None, command: str) -> Move:
    """Make the champion before the present one champion again, or `to`, which must have been champion once.

    Two rollbacks in a row go two steps back. The model is verified and loaded before the alias moves. Raises
    PromotionRefused if that fails, or if there is nothing to go back to.
    """
    with lock_registry(store):
        model = get_registered_model(store)
        requested = None if to is None else resolve_version(store, to).number
        current_version = map_aliases(model).get(CHAMPION)
        target = _find_interrupted_rollback(_read_records(store, model), current_version, requested)
        if target is None:
            target = _choose_earlier_champion(store, _read_moves(store, model), current_version, requested)
        load_version(store, resolve_version(store, target))
        previous = (
            f"the champion before version {current_version}" if current_version else "the last champion there was"
        )
        why = f"back to {previous}." if requested is None else f"back to version {target}, as was asked."
        return move_alias(store, CHAMPION, target, kind="rolled back", why=why, command=command)


def _find_interrupted_rollback(
    records: Sequence[Move], current_version: str | None, requested: str | None
) -> str | None:
    """The target of a rollback that was killed after the alias had moved; typed again, it goes no further."""
    last = next((record for record in reversed(records) if record.alias == CHAMPION), None)
    if last is None or last.completed or last.kind != "rolled back" or last.version != current_version:
        return None
    return last.version if requested in (None, last.version) else None


def _choose_earlier_champion(
    store: Store, moves: Sequence[Move], current_version: str | None, requested: str | None
) -> str:
    registered_numbers = {version.number for version in list_versions(store)}
    champion_moves = [move for move in moves if move.alias == CHAMPION and move.completed]
    former_champions = {
        number for move in champion_moves for number in (move.previous, move.version) if number in registered_numbers
    } - {current_version, None}
    names = ", ".join(sorted((str(number) for number in former_champions), key=int)) or "none"
    if requested is not None:
        if requested == current_version:
            raise PromotionRefused(
                f"version {requested} is already the champion: name an earlier champion ({names} can be named)."
            )
        if requested not in former_champions:
            raise PromotionRefused(
                f"version {requested} of models:/{store.model_name} was never champion, and a rollback leads to a "
                f"former champion ({names} can be named): fmnist-sweep promote decides about the others."
            )
        return requested
    line = trace_champion_line(champion_moves, current_version)
    candidates = [number for number in (line[:-1] if current_version else line) if number in former_champions]
    if not candidates:
        earlier = f" before version {current_version}" if current_version else ""
        hint = f"name one with --to ({names} can be named), or " if former_champions else ""
        raise PromotionRefused(
            f"there is nothing to roll back to: no version of models:/{store.model_name} that is still registered was "
            f"champion{earlier}; {hint}promote another (fmnist-sweep promote)."
        )
    return candidates[-1]


def trace_champion_line(moves: Iterable[Move], current_version: str | None) -> list[str]:
    """The versions that led to the present champion, the oldest first, without those that were rolled back.

    moves: the champion's completed moves, the oldest first. If the alias was moved by hand, a move to a version where
    it had been counts as a step back, any other as a step forward.
    """
    line: list[str] = []
    for step in moves:
        _move_line_to(line, step.previous)
        if step.kind == "rolled back":
            _move_line_to(line, step.version)
        elif line[-1:] != [step.version]:
            line.append(step.version)
    _move_line_to(line, current_version)
    return line


def _move_line_to(line: list[str], version: str | None) -> None:
    if version is None:
        return
    if version not in line:
        line.append(version)
    while line[-1] != version:
        line.pop()


def _read_moves(store: Store, model: RegisteredModel | None) -> list[Move]:
    """The moves, the oldest first; one counts as completed if its alias has moved.

    A command that was killed after it moved the alias has not marked the move as completed.
    """
    records, alias_versions = _read_records(store, model), map_aliases(model)
    moves: list[Move] = []
    for record in reversed(records):
        # Whether the alias is there now, or was there when it was next moved.
        is_current = alias_versions.get(record.alias) == record.version
        moves.append(replace(record, completed=record.completed or is_current))
        alias_versions[record.alias] = record.previous or ""
    return moves[::-1]


def _read_records(store: Store, model: RegisteredModel | None) -> list[Move]:
    """The moves as they are recorded, the oldest first."""
    if model is None:
        return []
    records, misfits = list[Move](), list[tuple[str, str]]()
    for key, text in model.tags.items():
        match = _MOVE_TAG.fullmatch(key)
        try:
            records += [_parse_move(int(match[1]), text)] if match else []
        except Misfit as error:
            misfits.append((key, str(error)))
    reason = f"of models:/{store.model_name} and no move of an alias as fmnist-sweep writes them"
    name_left_out(store, "tag", reason, misfits)
    return sorted(records, key=lambda record: record.number)


def _parse_move(number: int, text: str) -> Move:
    try:
        move = _MOVE_ADAPTER.validate_python({**parse_json(text), "number": number})
    except (ValueError, TypeError, ValidationError):
        raise Misfit(f"it holds {quote_text(text)}") from None
    versions = [version for version in (move.version, move.previous) if version is not None]
    if not all(_NUMBER.fullmatch(version) for version in versions) or not _ALIAS.fullmatch(move.alias):
        raise Misfit(f"it moves {quote_text(move.alias)} to {quote_text(move.version)}")
    return move


def _write_move(store: Store, record: Move) -> None:
    content = asdict(record)
    del content["number"]
    for key, max_length in _MAX_LENGTHS.items():  # the bytes of a command need not be valid text, as a database needs
        content[key] = shorten_text(content[key].encode(errors="replace").decode(), max_length)
    text = json.dumps(content, ensure_ascii=False)
    if len(text) > _MAX_RECORD_LENGTH:  # it has characters that JSON escapes
        text = json.dumps({**content, "why": "", "command": ""}, ensure_ascii=False)
    store.client.set_registered_model_tag(store.model_name, f"{MOVE_TAG_PREFIX}{record.number:04d}", text)


def _complete_move(store: Store, record: Move) -> Move:
    if record.completed:
        return record
    completed_move = replace(record, completed=True)
    _write_move(store, completed_move)
    return completed_move
