"""Relocation: the addresses in a SQLite store that was moved or copied lead to where it stands now.

The journals are written anew first, each as a whole, and the database last, in one transaction: until then every
command refuses the store, and after a kill the same command finishes. Where the store stood before, nothing is opened.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fmnist_sweep.errors import Locked, StoreError
from fmnist_sweep.files import LockHeld, hold_lock_file, is_folder, replace_file
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.moved_journals import MovedJournal, find_moved_journals
from fmnist_sweep.tracking.addresses import move_address, parse_local_address
from fmnist_sweep.tracking.moved_artifacts import MovedFolder, find_moved_folders, open_store_file
from fmnist_sweep.tracking.store import locate_store_file

_PATIENCE_SECONDS = 2.0
_COPY_SUFFIX = ".before-relocation-"

# SQLite's codes for a file that is no database, or has no such table.
_CONTENT_CODES = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
# Where MLflow keeps addresses of artifacts: what has them, the table, the column, and which rows.
_ADDRESS_COLUMNS = (
    ("experiment", "experiments", "artifact_location", "1"),
    ("run", "runs", "artifact_uri", "1"),
    ("model", "logged_models", "artifact_location", "1"),
    ("registered version", "model_versions", "source", "1"),
    ("registered version", "model_versions", "storage_location", "1"),
    ("trace", "trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
_FINISHED_RUNS = (
    "SELECT run_uuid, name, artifact_uri FROM runs WHERE status = 'FINISHED' AND lifecycle_stage = 'active'"
)


@dataclass(frozen=True)
class Relocation:
    """What was done to a store.

    former: the folders that its addresses named. counts: of what had such an address, by kind. copy: of the database
    before; None where no address in it changed. missing: runs whose artifacts are not here. damaged: journals that were
    left as they are.
    """

    file: Path
    former: Sequence[Path]
    counts: Mapping[str, int]
    copy: Path | None
    missing: Sequence[MissingArtifacts]
    damaged: Sequence[JournalDamaged]


@dataclass(frozen=True)
class MissingArtifacts:
    """A finished run whose artifacts are not where its address leads now. old: where they are, if they are anywhere."""

    run_id: str
    name: str
    new: Path
    old: Path | None


@dataclass(frozen=True)
class _Survey:
    """What is to be rewritten in a store."""

    folders: Sequence[MovedFolder]
    journals: Sequence[MovedJournal]
    damaged: Sequence[JournalDamaged]

    @property
    def moves(self) -> dict[Path, Path]:
        return {folder.old: folder.new for folder in self.folders}


def relocate_store(uri: str) -> Relocation:
    """Rewrite the addresses in a SQLite store, given by its absolute address, if it was moved or copied.

    Raises Locked while another process has the store open, and StoreError if it cannot be read or written, or if all of
    an experiment's artifacts are still where they were before.
    """
    file = locate_store_file(uri)
    with _explain_errors(file):
        with open_store_file(file) as database:
            survey = _survey(database, file)
        if not survey.folders and not survey.journals:
            return Relocation(file, (), {}, None, (), survey.damaged)
        with _hold_store(file) as database:
            return _relocate(database, file, _survey(database, file))


def _survey(database: sqlite3.Connection, file: Path) -> _Survey:
    journals, damaged = find_moved_journals(file.parent)
    former = {journal.store_file.parent for journal in journals}
    return _Survey(find_moved_folders(database, file, earlier=former), journals, damaged)


def _relocate(database: sqlite3.Connection, file: Path, survey: _Survey) -> Relocation:
    for journal in survey.journals:
        journal.refuse_held()
    missing = _find_missing_artifacts(database, survey.moves)
    _refuse_absent_artifacts(database, survey.folders, missing)
    copy = _copy_database(database, file) if survey.folders else None
    database.execute("BEGIN EXCLUSIVE")
    counts = _rewrite_addresses(database, survey.moves)
    for journal in survey.journals:
        journal.relocate(file.parent)
        counts[journal.kind] += 1
    database.execute("COMMIT")
    former = dict.fromkeys([journal.store_file.parent for journal in survey.journals])
    former |= dict.fromkeys(folder.old for folder in survey.folders if not any(map(folder.old.is_relative_to, former)))
    return Relocation(file, tuple(former), counts, copy, missing, survey.damaged)


@contextmanager
def _hold_store(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a store's file that no other process may open meanwhile. Raises Locked if one has it open."""
    try:
        with (
            hold_lock_file(file.with_name(f"{file.name}.lock"), _PATIENCE_SECONDS),
            closing(sqlite3.connect(file, timeout=_PATIENCE_SECONDS, isolation_level=None)) as database,
        ):
            # SQLite leaves its write-ahead log only if nobody else has the file open.
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute("PRAGMA synchronous=FULL")
            try:
                yield database
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                with suppress(sqlite3.OperationalError):  # whoever opens it next does so, too
                    database.execute("PRAGMA journal_mode=WAL")
    except LockHeld:
        raise _build_held_error(file) from None


def _build_held_error(file: Path) -> Locked:
    return Locked(
        f"another process has {file} open (a sweep, fmnist-sweep ui, a notebook): end it, then type the command again."
    )


@contextmanager
def _explain_errors(file: Path) -> Iterator[None]:
    """Raise what SQLite and the system raise as StoreError or Locked, with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_BUSY:
            raise _build_held_error(file) from None
        if code not in _CONTENT_CODES:
            raise StoreError(f"{file} cannot be written ({error}): mend that, then type the command again.") from None
        raise StoreError(
            f"{file} cannot be relocated ({error}): expected the SQLite file of an MLflow store."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(
            f"{error.filename or file} cannot be written ({reason}): mend that, then type the command again."
        ) from None


def _find_missing_artifacts(database: sqlite3.Connection, moves: Mapping[Path, Path]) -> list[MissingArtifacts]:
    missing = []
    for run_id, name, address in database.execute(_FINISHED_RUNS):
        old, new = parse_local_address(address), parse_local_address(move_address(address, moves))
        if old is not None and new is not None and not is_folder(new):
            missing.append(MissingArtifacts(run_id, str(name), new, old if is_folder(old) else None))
    return missing


def _refuse_absent_artifacts(
    database: sqlite3.Connection, folders: Sequence[MovedFolder], missing: Sequence[MissingArtifacts]
) -> None:
    """Raise StoreError if the file alone was copied, and the artifacts were left where they are."""
    for folder in folders:
        left_count = sum(each.old is not None and each.old.is_relative_to(folder.old) for each in missing)
        addresses = [parse_local_address(address) for _, _, address in database.execute(_FINISHED_RUNS)]
        run_count = sum(address is not None and address.is_relative_to(folder.old) for address in addresses)
        if left_count and left_count == run_count:
            raise StoreError(
                f"the artifacts of all {run_count} runs are still in {folder.old}, and none is in {folder.new}: copy "
                "that folder here first, then type the command again."
            )


def _copy_database(database: sqlite3.Connection, file: Path) -> Path:
    """Copy a database to a new file beside it."""
    for leftover in file.parent.glob(f".{file.name}{_COPY_SUFFIX}*"):  # of a process that was killed
        leftover.unlink()
    number = 1
    while os.path.lexists(copy := file.with_name(f"{file.name}{_COPY_SUFFIX}{number}")):
        number += 1
    with replace_file(copy) as temporary, closing(sqlite3.connect(temporary)) as target:
        database.backup(target)
    return copy


def _rewrite_addresses(database: sqlite3.Connection, moves: Mapping[Path, Path]) -> Counter[str]:
    """Rewrite the addresses of artifacts, and count what had one that changed."""
    changed: dict[str, set[object]] = {}
    for kind, table, column, condition in _ADDRESS_COLUMNS:
        if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
            continue  # a store of another version of MLflow
        rows = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {condition}").fetchall()  # noqa: S608
        new_addresses = [(moved, row) for row, address in rows if (moved := move_address(address, moves)) is not None]
        database.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", new_addresses)  # noqa: S608
        changed.setdefault(kind, set()).update(row for _, row in new_addresses)
    return Counter({kind: len(rows) for kind, rows in changed.items()})
