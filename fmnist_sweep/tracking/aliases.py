"""Where the registered model's aliases have pointed: each move told before it is made, and the way back.

A move is a tag of the registered model itself (`fmnist.move.0001`, JSON), so that whoever has the registry has its
history. It is written first, then the alias is moved, then the move is marked as completed. A command that is killed
in between leaves a move that is not, which the same command completes when it is typed again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.text import masked
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION, MODEL_NAME

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from fmnist_sweep.tracking.store import Store

Kind = Literal["promoted", "challenger", "rolled back"]
_KEY = re.compile(r"fmnist\.move\.([0-9]+)")
# The column of a registered model's tags is a VARCHAR(5000), whatever MLflow's own check lets through.
_LONGEST_RECORD = 5_000
_LONGEST = {"why": 1_000, "command": 2_000, "user": 250}


@dataclass(frozen=True)
class Move:
    """One move of an alias. number: from 1. time: UTC, ISO 8601. previous: the version it pointed at before, or None.

    why: one sentence. command: as typed. completed: False where the command was cut short before the alias moved.
    """

    number: int
    time: str
    alias: str
    version: str
    previous: str | None
    kind: Kind
    why: str
    command: str
    user: str
    completed: bool = False


@dataclass(frozen=True)
class Standing:
    """Where an alias points (version; None: nowhere) and the newest move that is told of it (None: there is none)."""

    version: str | None
    told: Move | None

    @property
    def by_hand(self) -> bool:
        """Whether something else than a told move put it where it is, as the MLflow UI can."""
        if self.told is None:
            return self.version is not None
        expected = (self.told.version,) if self.told.completed else (self.told.version, self.told.previous)
        return self.version not in expected


_RECORD = TypeAdapter(Move)


def every(store: Store) -> list[Move]:
    """All moves, the oldest first; StoreError where a tag with a move's name holds no move."""
    return _moves(store, versions.registered(store))


def current(store: Store) -> dict[str, Standing]:
    """Where champion, challenger and each other alias with a history stand, by alias."""
    model = versions.registered(store)
    points, told = versions.aliases(model), _moves(store, model)
    newest = {move.alias: move for move in told}
    return {
        alias: Standing(points.get(alias), newest.get(alias))
        for alias in dict.fromkeys((CHAMPION, CHALLENGER, *newest))
    }


def move(store: Store, alias: str, version: str, *, kind: Kind, why: str, command: str) -> Move:
    """Point an alias at a version (its number) and tell it; what is so already is not told twice.

    The caller holds `versions.locked`. StoreError where there is no such version.
    """
    version = str(versions.resolve(store, version).version)
    model = versions.registered(store)
    present = versions.aliases(model).get(alias)
    told = _records(store, model)
    last = next((record for record in reversed(told) if record.alias == alias), None)
    if last is not None and last.version == version == present:
        return _completed(store, last)
    if last is None or last.completed or (last.version, last.kind, last.previous) != (version, kind, present):
        number = told[-1].number + 1 if told else 1
        last = Move(number, _now(), alias, version, present, kind, masked(why), masked(command), tracking.user())
        _tell(store, last)
    store.client.set_registered_model_alias(MODEL_NAME, alias, version)
    return _completed(store, last)


def rollback(store: Store, to: str | None, command: str) -> Move:
    """Point the champion at the version that was it before the present one, or at `to`, which once was it.

    Two in a row go two steps back. The model is verified and loaded before the alias moves; PromotionRefused where it
    cannot be, or where there is nothing to go back to.
    """
    with versions.locked(store):
        model = versions.registered(store)
        wanted = None if to is None else str(versions.resolve(store, to).version)
        present = versions.aliases(model).get(CHAMPION)
        target = _interrupted(_records(store, model), present, wanted)
        if target is None:
            target = _earlier(store, _moves(store, model), present, wanted)
        versions.load(store, versions.resolve(store, target))
        before = f"the champion before version {present}" if present else "the last champion there was"
        why = f"back to {before}." if wanted is None else f"back to version {target}, as was asked."
        return move(store, CHAMPION, target, kind="rolled back", why=why, command=command)


def _interrupted(records: Sequence[Move], present: str | None, wanted: str | None) -> str | None:
    """Where a rollback leads that was killed after the alias had moved: typed again, it goes no step further."""
    last = next((record for record in reversed(records) if record.alias == CHAMPION), None)
    if last is None or last.completed or last.kind != "rolled back" or last.version != present:
        return None
    return last.version if wanted in (None, last.version) else None


def _earlier(store: Store, told: Sequence[Move], present: str | None, wanted: str | None) -> str:
    there = {str(version.version) for version in versions.every(store)}
    mine = [move for move in told if move.alias == CHAMPION and move.completed]
    ever = {number for move in mine for number in (move.previous, move.version) if number in there} - {present, None}
    names = ", ".join(sorted((str(number) for number in ever), key=int)) or "none"
    if wanted is not None:
        if wanted == present:
            raise PromotionRefused(
                f"version {wanted} is the champion already: name one that was it earlier ({names} can be named)."
            )
        if wanted not in ever:
            raise PromotionRefused(
                f"version {wanted} of models:/{MODEL_NAME} was never champion, and a rollback leads to one that was "
                f"({names} can be named): fmnist-sweep promote decides about any other."
            )
        return wanted
    line = line_of_champions(mine, present)
    before = [number for number in (line[:-1] if present else line) if number in ever]
    if not before:
        earlier = f" before version {present}" if present else ""
        named = f"name one with --to ({names} can be named), or " if ever else ""
        raise PromotionRefused(
            f"there is nothing to roll back to: no version of models:/{MODEL_NAME} that is still registered was "
            f"champion{earlier}; {named}promote another (fmnist-sweep promote)."
        )
    return before[-1]


def line_of_champions(told: Iterable[Move], present: str | None) -> list[str]:
    """The versions that led to the present champion, oldest first, without those that were rolled back from.

    told: the completed moves of the champion, oldest first. Where the alias was moved by hand, a version that it had
    been on is taken for a step back, any other for a step forward.
    """
    line: list[str] = []
    for step in told:
        _lead(line, step.previous)
        if step.kind == "rolled back":
            _lead(line, step.version)
        elif line[-1:] != [step.version]:
            line.append(step.version)
    _lead(line, present)
    return line


def _lead(line: list[str], version: str | None) -> None:
    if version is None:
        return
    if version not in line:
        line.append(version)
    while line[-1] != version:
        line.pop()


def _moves(store: Store, model: RegisteredModel | None) -> list[Move]:
    """The moves; one is completed, too, when the alias was seen to have arrived, though nobody could mark it."""
    records, points = _records(store, model), versions.aliases(model)
    told: list[Move] = []
    for record in reversed(records):
        # Where the alias is now, or was when it was next moved.
        arrived = points.get(record.alias) == record.version
        told.append(replace(record, completed=record.completed or arrived))
        points[record.alias] = record.previous or ""
    return told[::-1]


def _records(store: Store, model: RegisteredModel | None) -> list[Move]:
    """What is written, the oldest first; completed: as it was marked."""
    if model is None:
        return []
    numbers = {key: _KEY.fullmatch(key) for key in model.tags}
    found = [_parsed(store, key, int(match[1]), model.tags[key]) for key, match in numbers.items() if match]
    return sorted(found, key=lambda record: record.number)


def _parsed(store: Store, key: str, number: int, text: str) -> Move:
    try:
        return _RECORD.validate_python({**json.loads(text), "number": number})
    except (ValueError, TypeError, ValidationError):
        raise StoreError(
            f"the tag {key} of models:/{MODEL_NAME} in {store.uri} holds no move of an alias, as fmnist-sweep writes "
            "them: put its value right in the MLflow UI, or delete it there."
        ) from None


def _tell(store: Store, record: Move) -> None:
    content = asdict(record)
    del content["number"]
    for key, longest in _LONGEST.items():  # a command's bytes need not be text, a database's must
        content[key] = versions.shortened(content[key].encode(errors="replace").decode(), longest)
    text = json.dumps(content, ensure_ascii=False)
    if len(text) > _LONGEST_RECORD:  # of characters that JSON writes as several
        text = json.dumps({**content, "why": "", "command": ""}, ensure_ascii=False)
    store.client.set_registered_model_tag(MODEL_NAME, f"fmnist.move.{record.number:04d}", text)


def _completed(store: Store, record: Move) -> Move:
    if record.completed:
        return record
    done = replace(record, completed=True)
    _tell(store, done)
    return done


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
