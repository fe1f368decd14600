"""The journal of a promotion with looks: its plan and each look, on the disk before anything depends on it.

STATE/promotions/KEY/    KEY: of the finalists' studies and the champion's version
    journal.db  owner.lock  owner.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from fmnist_sweep.promotion.looks import Fate, Look, LookRule, Outlook
from fmnist_sweep.study.event_checks import sum_events
from fmnist_sweep.study.folder import JOURNAL_FILE, drop_half_written
from fmnist_sweep.study.journal import Journal, JournalDamaged, JournalEvent, read_events, read_first_and_last
from fmnist_sweep.study.lock import lock_folder
from fmnist_sweep.text import quote_text

_FOLDER = "promotions"
_MOST_SEEDS = 100  # that promote.seeds allows


@dataclass(frozen=True)
class RecordedLook:
    """A look that was taken.

    names, keys: of the finalists that were looked at. failed: what to say of those that failed with a seed, by key.
    """

    look: Look
    names: tuple[str, ...]
    keys: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    def as_body(self) -> dict[str, Any]:
        """The look as an event's body."""
        finalists = [
            {"name": name, "configuration": key, **asdict(outlook)}
            for name, key, outlook in zip(self.names, self.keys, self.look.outlooks, strict=True)
        ]
        return {
            "after": self.look.seeds,
            "finalists": finalists,
            "is_enough": self.look.is_enough,
            "net_variance": self.look.net_variance,
            "measured_variance": self.look.measured_variance,
            "failed": dict(self.failed),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> RecordedLook:
        """Read the body of an event. Raises KeyError, TypeError or ValueError for one that no look wrote."""
        rows = body["finalists"]
        outlooks = tuple(_read_outlook(row) for row in rows)
        look = Look(body["after"], outlooks, body["is_enough"], body["net_variance"], body["measured_variance"])
        names, keys = ([str(row[key]) for row in rows] for key in ("name", "configuration"))
        return cls(look, tuple(names), tuple(keys), dict(body["failed"]))


def _read_outlook(row: Mapping[str, Any]) -> Outlook:
    values = {key: value for key, value in row.items() if key not in ("name", "configuration")}
    for key, value in values.items():
        if value not in get_args(Fate) if key == "fate" else not _is_number(value):
            raise ValueError(f"a look has {key} {quote_text(value)}")
    return Outlook(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass
class LookRecord:
    """The sum of the journal. about: the first event's body. looks: by the number of seeds they were taken after."""

    about: dict[str, Any]
    looks: dict[int, RecordedLook] = field(default_factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        if event.kind == "look":
            recorded = RecordedLook.from_body(event.body)
            self.looks.setdefault(recorded.look.seeds, recorded)

    @property
    def rule(self) -> LookRule:
        """The rule that the promotion was begun with."""
        return LookRule(**self.about["rule"])


@dataclass
class LookJournal:
    """The journal of a promotion that this process holds."""

    journal: Journal
    record: LookRecord

    def record_look(self, recorded: RecordedLook) -> None:
        """Write a look down."""
        self.record.apply(self.journal.append("look", **recorded.as_body()))


@contextmanager
def hold_look_journal(state: Path, key: str, rule: LookRule, studies: Sequence[str]) -> Iterator[LookJournal]:
    """Hold a promotion and its journal, made with this plan if there is none. Raises Locked, JournalDamaged."""
    folder = state / _FOLDER / key
    with lock_folder(folder, f"promotion {key}"):
        drop_half_written(folder)
        path = folder / JOURNAL_FILE
        if not path.exists():
            Journal.create(path, "promotion", {"id": key, "studies": list(studies), "rule": asdict(rule)}).close()
        journal, events = Journal.open(path)
        try:
            yield LookJournal(journal, _sum_looks(path, events))
        finally:
            journal.close()


def read_look_record(state: Path, key: str) -> LookRecord | None:
    """What the journal of a promotion says; None if it was not begun with looks. Raises JournalDamaged."""
    path = state / _FOLDER / key / JOURNAL_FILE
    return _sum_looks(path, read_events(path)) if path.exists() else None


def list_studies_with_looks(state: Path) -> set[str]:
    """Ids of all studies that a promotion with looks trains: how far they are is no number that anybody asked for."""
    studies: set[str] = set()
    for path in (state / _FOLDER).glob(f"*/{JOURNAL_FILE}"):
        with suppress(JournalDamaged):  # whoever continues that promotion is told
            studies.update(read_first_and_last(path)[0].body.get("studies", ()))
    return studies


def _sum_looks(path: Path, events: Sequence[JournalEvent]) -> LookRecord:
    record = sum_events(path, "promotion", events, lambda first: LookRecord(first.body))
    try:
        if not 2 <= record.rule.most <= _MOST_SEEDS or any(
            not _is_number(value) for value in record.about["rule"].values()
        ):
            raise ValueError("numbers out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise JournalDamaged(path, f"its rule: {error}") from None
    return record
