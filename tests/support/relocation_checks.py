"""A folder with a store that was moved or copied: what refuses it, its relocation, and whether all of it is settled."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.addresses import parse_local_address
from fmnist_sweep.tracking.relocation import Relocation, relocate_store
from fmnist_sweep.tracking.store import build_default_uri, refuse_moved_store
from tests.support.relocations import list_addresses, list_journals

EXPERIMENT = "fashion-mnist"


@contextmanager
def hide_folder(folder: Path) -> Iterator[None]:
    """Without that folder, as if it had been moved."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        away.rename(folder)


def relocate(folder: Path) -> Relocation:
    """Relocate the store in a folder; what was rewritten."""
    return relocate_store(build_default_uri(folder))


def check_place(folder: Path, experiment: str | None = EXPERIMENT) -> None:
    """Raise StoreError where the store in a folder was moved or copied."""
    refuse_moved_store(build_default_uri(folder), experiment)


def read_refusal(folder: Path, experiment: str | None = EXPERIMENT) -> str:
    """The sentence that refuses the store in a folder."""
    with pytest.raises(StoreError) as refusal:
        check_place(folder, experiment)
    return str(refusal.value)


def run_sql(folder: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    """The rows that a statement gives in the database of a folder's store."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db", isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()


def check_settled(folder: Path, former: Path) -> None:
    """All addresses lead here, none to where it was, and the store says so."""
    assert _all_lead_to(folder, former)
    check_place(folder, None)
    again = relocate(folder)
    assert (again.former, again.counts, again.copy) == ((), {}, None)


def _all_lead_to(folder: Path, former: Path) -> bool:
    addresses = list_addresses(folder)
    assert addresses
    paths = {parse_local_address(address) for address in addresses}
    outside = {path for path in paths if path is not None and path.is_relative_to(former)}
    uris = {events[0].body["uri"] for events in list_journals(folder).values()}
    return not outside and uris == {f"sqlite:///{folder}/mlruns/mlflow.db"}


def copy_file_alone(template: Path, folder: Path) -> Path:
    """The state folder of a copy of a store without its artifacts and journals."""
    state = folder / "mlruns"
    state.mkdir()
    for file in (template / "mlruns").glob("mlflow.db*"):
        shutil.copy(file, state)
    return state


def accept_any_place(copied: Path) -> Path:
    """The folder, in which an experiment may be made although another is in the wrong place."""
    from fmnist_sweep.tracking import store

    store.refuse_moved_store = lambda uri, experiment: None
    return copied
