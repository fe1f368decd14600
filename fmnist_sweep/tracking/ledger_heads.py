"""Heads of the ledgers of openings, kept in the registry, so that an edited or shortened ledger is noticed.

The ledger is a file beside the state of a store. Of a store that several machines share each has its own, so that there
is a tag of the registered model for each ledger (`fmnist.test_ledger.KEY`, JSON).
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from fmnist_sweep.data.opening_ledger import OpeningLedger, read_ledger
from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.reading import parse_json
from fmnist_sweep.text import format_utc_now
from fmnist_sweep.tracking.names import LEDGER_TAG_PREFIX
from fmnist_sweep.tracking.registry import ensure_registered_model, get_registered_model
from fmnist_sweep.tracking.store import is_server

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

    from fmnist_sweep.tracking.store import Store

_OWN_KEY = "own"  # of the one ledger beside a SQLite store


@dataclass(frozen=True)
class LedgerHead:
    """What the registry knows of a ledger: the number of its entries, the hash of all their lines, and when."""

    count: int
    head: str
    time: str


_ADAPTER = TypeAdapter(LedgerHead)


def note_ledger_head(store: Store, path: Path) -> None:
    """Keep the head of a ledger in the registry; the registered model is made if it is missing.

    Raises PromotionRefused if the ledger was edited or shortened since the last time, StoreError if it cannot be read.
    """
    ledger = check_ledger(store, path)
    ensure_registered_model(store)
    head = LedgerHead(len(ledger.hashes), ledger.head, format_utc_now())
    store.client.set_registered_model_tag(store.model_name, _name_tag(store, path), json.dumps(asdict(head)))


def check_ledger(store: Store, path: Path) -> OpeningLedger:
    """Read a ledger. Raises PromotionRefused if it was edited or shortened, StoreError if it cannot be read."""
    try:
        ledger = read_ledger(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error}): make it readable.") from None
    tag = _name_tag(store, path)
    finding = _find_change(ledger, _read_head(get_registered_model(store), tag))
    if finding is not None:
        raise PromotionRefused(
            f"{path}, which records each opening of the test images, {finding}: put back a copy of it; to begin "
            f"another, move it away and delete the tag {tag} of models:/{store.model_name} (decisions stay "
            "counted there)."
        )
    return ledger


def _find_change(ledger: OpeningLedger, known: LedgerHead | None) -> str | None:
    """What was done to a ledger, in words; None if nothing shows. known: its head in the registry."""
    if ledger.broken_line is not None:
        return f"was edited before its line {ledger.broken_line}"
    if known is None or known.count <= 0:
        return None
    count = len(ledger.hashes)
    if count < known.count:
        return f"was shortened to {count} of the {known.count} entries that the registry knows of"
    if ledger.hashes[known.count - 1] != known.head:
        return f"was edited: its first {known.count} entries are not those that the registry knows of"
    return None


def _read_head(model: RegisteredModel | None, tag: str) -> LedgerHead | None:
    text = None if model is None else model.tags.get(tag)
    if model is None or text is None:
        return None
    try:
        return _ADAPTER.validate_python(parse_json(text))
    except (ValueError, TypeError, ValidationError):
        raise PromotionRefused(
            f"the tag {tag} of models:/{model.name} is not what fmnist-sweep writes, so that nobody can tell "
            "whether the ledger of openings is whole: delete it in the MLflow UI."
        ) from None


def _name_tag(store: Store, path: Path) -> str:
    key = _OWN_KEY
    if is_server(store.uri):
        key = hashlib.sha256(f"{platform.node()}:{path}".encode()).hexdigest()[:12]
    return f"{LEDGER_TAG_PREFIX}{key}"
