"""The events of a journal, checked for what they must hold: a folder may come from somebody else, or be altered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fmnist_sweep.study.journal import JournalDamaged, JournalEvent
from fmnist_sweep.text import quote_text

Check = Callable[[Any], bool]
_Record = TypeVar("_Record", bound="Record")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isalnum()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_ordinal(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_interval(value: Any) -> bool:
    # Rounding may leave a bound a hair outside of 0..1.
    return isinstance(value, list) and len(value) == 2 and all(_is_score(bound) and -1 < bound < 2 for bound in value)


def _is_proposal(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_count(value.get("refused", 0)):
        return False
    return _is_id(value.get("trial_id")) and isinstance(value.get("values"), dict)


def _is_id_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) and _is_id(part.replace("-", "")) for part in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_LOCATION: Mapping[str, Check] = {"token": _is_id, "uri": _is_text, "experiment": _is_text}
_TRIAL: Mapping[str, Check] = {"trial_id": _is_id}
_ATTEMPT: Mapping[str, Check] = {**_TRIAL, "attempt": _is_ordinal}
# What an event of each kind must have.
_NEEDED: Mapping[str, Mapping[str, Check]] = {
    "study": {"id": _is_id, "label": _is_text, "mark": _is_text, "command": _is_text, **_LOCATION},
    "sweep": {"id": _is_id, "studies": _is_id_list, "journals": _is_id_list, **_LOCATION},
    "promotion": {"id": _is_id, "studies": _is_id_list, "rule": _is_mapping},
    "look": {
        "after": _is_ordinal,
        "finalists": _is_list,
        "is_enough": _is_flag,
        "net_variance": _is_share,
        "measured_variance": _is_share,
        "failed": _is_mapping,
    },
    "run": {"run_id": _is_id},
    "asked": {"proposal": _is_proposal},
    "known": {**_TRIAL, "same_as": _is_id, "score": _or_none(_is_score)},
    "attempt": _ATTEMPT,
    "attempt_run": {**_ATTEMPT, "run_id": _is_id},
    "finished": {**_ATTEMPT, "score": _is_score, "ended": _is_count},
    "failed": {**_ATTEMPT, "reason": _is_text, "ended": _is_count},
    "told": _TRIAL,
    "killed": _ATTEMPT,
    "lost": _ATTEMPT,
    "delivered": _ATTEMPT,
    "drawn": _TRIAL,
    "model_dropped": _TRIAL,
}
# What a field of any event must be, where it is there.
_FIELDS: Mapping[str, Check] = {
    "best_epoch": _or_none(_is_count),
    "best_val_accuracy": _or_none(_is_share),
    "command": _is_text,
    "configurations": _is_count,
    "data": _is_text,
    "defaults": _is_count,
    "drawn": _is_id,
    "executor": _is_mapping,
    "figures": _is_text,
    "fit_seconds": _or_none(_is_duration),
    "identity": _is_mapping,
    "interval": _or_none(_is_interval),
    "kept": _is_count,
    "nonce": _or_none(_is_id),
    "parameters": _or_none(_is_count),
    "refused": _is_count,
    "planned": _or_none(_is_duration),
    "seconds": _is_duration,
    "secret": _or_none(_is_id),
    "sweep_id": _or_none(_is_id),
    "sweep_run_id": _or_none(_is_id),
}


def check_first_event(path: Path, event: JournalEvent, kind: str) -> None:
    """Raise JournalDamaged for a journal in `path` whose first event is not that of a study, sweep or promotion."""
    try:
        if event.kind != kind:
            raise ValueError(f"it begins with an event {quote_text(event.kind)}, not {kind}")
        check_event(event)
    except ValueError as error:
        raise JournalDamaged(path, str(error)) from None


def check_event(event: JournalEvent) -> None:
    """Raise ValueError for an event whose fields are missing, or of a wrong type or range."""
    needed = _NEEDED.get(event.kind, {})
    for key in needed:
        if key not in event.body:
            raise ValueError(f"an event {quote_text(event.kind)} has no {key}")
    for key, value in event.body.items():
        check = needed.get(key) or _FIELDS.get(key)
        if check is not None and not check(value):
            raise ValueError(f"an event {quote_text(event.kind)} has {key} {quote_text(value)}")


class Record(Protocol):
    """The sum of a journal, which takes one event after the other."""

    def apply(self, event: JournalEvent, /) -> None: ...


def sum_events(
    path: Path, kind: str, events: Iterable[JournalEvent], begin: Callable[[JournalEvent], _Record]
) -> _Record:
    """The sum of the events of the journal in `path`. Raises JournalDamaged for events that no study or sweep writes.

    kind: study, sweep or promotion. begin: makes the record of the first event.
    """
    first, *others = events
    check_first_event(path, first, kind)
    record = begin(first)
    for number, event in enumerate(others, 1):
        try:
            check_event(event)
            record.apply(event)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise JournalDamaged(path, f"event {number}: {quote_text(error, 200)}") from None
    return record
