"""The journals of a state folder that was moved or copied: they name the store's file where it was before."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.files import is_same_path
from fmnist_sweep.study.folder import JOURNAL_FILE, SQLITE_PREFIX, RunLocation, drop_half_written
from fmnist_sweep.study.journal import JournalDamaged, JournalEvent, read_events, read_first_and_last, rewrite_events
from fmnist_sweep.study.lock import find_owner, lock_folder

_KINDS = {"studies": "study", "sweeps": "sweep"}  # by the name of their folder
_URI_KEY = "tracking.uri"
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:-]+")


@dataclass(frozen=True)
class MovedJournal:
    """A journal in a folder that was moved or copied. kind: study or sweep. store_file: of its runs, as it says."""

    folder: Path
    kind: str
    store_file: Path

    def __str__(self) -> str:
        return f"{self.kind} {self.folder.name}"

    def refuse_held(self) -> None:
        """Raise Locked if another process holds its folder."""
        if find_owner(self.folder, patience=1.0) is not None:
            with lock_folder(self.folder, str(self)):
                pass

    def relocate(self, state: Path) -> None:
        """Write it anew with the addresses that the store has in a state folder. Raises Locked, JournalDamaged."""
        with lock_folder(self.folder, str(self)):
            drop_half_written(self.folder)
            rewrite_events(self.folder / JOURNAL_FILE, lambda event: self._relocate_event(event, state))

    def _relocate_event(self, event: JournalEvent, state: Path) -> JournalEvent:
        body = dict(event.body)
        if "uri" in body:
            body["uri"] = self._relocate_uri(body["uri"], state)
        if _URI_KEY in str(body.get("command")):
            with suppress(ValueError):  # quotes without an end: nothing that was typed here
                words = [self._relocate_word(word, state) for word in shlex.split(body["command"])]
                body["command"] = shlex.join(words)
        return replace(event, body=body)

    def _relocate_word(self, word: str, state: Path) -> str:
        if parse_override_key(word) != _URI_KEY:
            return word
        key, _, value = word.partition("=")
        old_uri = value[1:-1] if value[:1] in ("'", '"') else value
        new_uri = self._relocate_uri(old_uri, state)
        return word if new_uri == old_uri else f"{key}={_quote_value(new_uri)}"

    def _relocate_uri(self, uri: str, state: Path) -> str:
        file = RunLocation(uri, "").store_file
        if file is None or not is_same_path(file.parent, self.store_file.parent):
            return uri
        return f"{SQLITE_PREFIX}{state / file.name}"


def _quote_value(text: str) -> str:
    """A text as the value of an override, with the quotes that Hydra wants around unusual characters."""
    return text if _PLAIN_VALUE.fullmatch(text) else "'" + text.replace("'", r"\'") + "'"


def find_moved_journals(state: Path) -> tuple[list[MovedJournal], list[JournalDamaged]]:
    """The journals of a state folder that name a store's file in another folder, and those that cannot be read."""
    moved, damaged = [], []
    for path in _list_journal_paths(state):
        try:
            store_file = RunLocation.from_event(read_first_and_last(path)[0]).store_file
            if store_file is not None and not is_same_path(store_file.parent, state):
                read_events(path)  # all of it, before any other is changed
                moved.append(MovedJournal(path.parent, _KINDS[path.parent.parent.name], store_file))
        except JournalDamaged as error:
            damaged.append(error)
    return moved, damaged


def _list_journal_paths(state: Path) -> Iterator[Path]:
    for name in _KINDS:
        yield from sorted((state / name).glob(f"*/{JOURNAL_FILE}"))
