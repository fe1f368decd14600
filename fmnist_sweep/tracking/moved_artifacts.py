"""Whether a SQLite store stands where the addresses of its artifacts lead: one that is moved or copied keeps the old.

A sweep keeps the artifacts of an experiment beside the store's file, under absolute addresses. MLflow offers no other.
An experiment that somebody made with an artifact location of its own stays where it is, unless it was moved or copied
along with the store.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fmnist_sweep.files import is_folder, is_same_path
from fmnist_sweep.tracking.addresses import parse_local_address
from fmnist_sweep.tracking.ui_pages import OWN_EXPERIMENT_TAG

ARTIFACTS_FOLDER = "artifacts"
_BUSY_SECONDS = 20.0
_SAFE_ID = re.compile(r"[\w-]+")

# Where artifacts are, by experiment: the experiment's own location, and what its runs and models have before their ids.
_ROOTS_QUERY = """
SELECT experiment_id, artifact_location FROM experiments
UNION SELECT experiment_id, substr(artifact_uri, 1, length(artifact_uri) - length('/' || run_uuid || '/artifacts'))
    FROM runs WHERE artifact_uri LIKE '%/' || run_uuid || '/artifacts'
UNION SELECT experiment_id,
    substr(artifact_location, 1, length(artifact_location) - length('/models/' || model_id || '/artifacts'))
    FROM logged_models WHERE artifact_location LIKE '%/models/' || model_id || '/artifacts'
"""
# The experiments whose artifacts a command on one of them may need: its own, and those of registered versions.
_NEEDED_QUERY = """
SELECT experiment_id FROM experiments WHERE name = ?
UNION SELECT runs.experiment_id FROM model_versions JOIN runs ON runs.run_uuid = model_versions.run_id
"""


@dataclass(frozen=True)
class MovedFolder:
    """A folder of artifacts in which a store has none of its own any more. experiment: the name of one that has it."""

    experiment: str
    old: Path
    new: Path


@contextmanager
def open_store_file(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a store's SQLite file to read, which neither creates nor changes a file."""
    log = file.with_name(f"{file.name}-wal")
    # The last one who may write and has read removes SQLite's write-ahead log; what is in it, it writes into the file.
    is_log_empty = not log.exists() or not log.stat().st_size
    mode = "rw" if is_log_empty and os.access(file, os.W_OK) and os.access(file.parent, os.W_OK) else "ro"
    address = f"{file.as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
        database.text_factory = lambda content: content.decode(errors="replace")
        yield database


@dataclass(frozen=True)
class _FormerPlaces:
    """Where a store stood before. state: its folder now. known, guessed: its folders then, for certain and perhaps."""

    state: Path
    known: Collection[Path]
    guessed: Collection[Path]

    def list_folders(self) -> Iterator[tuple[Path, Path]]:
        """Folders of then, and what they are now: the store's own, and the one around it where only that was moved."""
        for place in (*self.known, *self.guessed):
            yield place, self.state
            if place.name == self.state.name:
                yield place.parent, self.state.parent


@dataclass
class _Experiment:
    name: str
    is_own: bool
    roots: set[Path] = field(default_factory=set)


def find_moved_folders(
    database: sqlite3.Connection, file: Path, experiment: str | None = None, earlier: Collection[Path] = ()
) -> list[MovedFolder]:
    """The folders of artifacts that a store's addresses name and that were left behind when it was moved or copied.

    database, file: of the store. experiment: only those that a command on it needs; None: all. earlier: folders in
    which the store stood before, as its journals say.
    """
    experiments, state = _read_experiments(database), file.parent
    own = {
        (id, root): state / ARTIFACTS_FOLDER
        for id, each in experiments.items()
        for root in each.roots
        if root.name == ARTIFACTS_FOLDER
        and not is_same_path(root.parent, state)
        and (each.is_own or any(is_same_path(root.parent, folder) for folder in earlier))
        and _was_left(database, id, root, file)
    }
    former = _FormerPlaces(state, {root.parent for _, root in own} | set(earlier), _guess_places(experiments, state))
    others = {
        (id, root): new
        for id, each in experiments.items()
        for root in each.roots
        if (id, root) not in own and (new := _find_new_place(database, id, root, former)) is not None
    }
    needed = experiments.keys() if experiment is None else _list_ids(database, _NEEDED_QUERY, experiment)
    moves = {root: (id, new) for (id, root), new in (own | others).items() if id in needed}
    return [MovedFolder(experiments[id].name, root, new) for root, (id, new) in moves.items()]


def _read_experiments(database: sqlite3.Connection) -> dict[object, _Experiment]:
    own_ids = _list_ids(database, "SELECT experiment_id FROM experiment_tags WHERE key = ?", OWN_EXPERIMENT_TAG)
    rows = database.execute("SELECT experiment_id, name FROM experiments")
    experiments = {id: _Experiment(str(name), id in own_ids) for id, name in rows}
    for id, address in database.execute(_ROOTS_QUERY):
        root = parse_local_address(address)
        if root is not None and id in experiments:
            experiments[id].roots.add(root)
    return experiments


def _list_ids(database: sqlite3.Connection, query: str, *values: str) -> set[object]:
    return {id for (id,) in database.execute(query, values)}


def _was_left(database: sqlite3.Connection, experiment_id: object, root: Path, file: Path) -> bool:
    """Whether a folder that is not beside the store's file was beside it once: it is gone, another store's, or copied.

    Otherwise somebody has put the artifacts there by hand, on purpose.
    """
    if not is_folder(root) or (root.parent / file.name).is_file() or is_folder(root.parent / "studies"):
        return True
    return holds_artifacts(database, experiment_id, file.parent / ARTIFACTS_FOLDER)


def _guess_places(experiments: Mapping[object, _Experiment], state: Path) -> set[Path]:
    """Where the store may have stood: its artifacts were in a folder of the name that its own has, or in artifacts/."""
    roots = {root for each in experiments.values() for root in each.roots}
    of_same_name = {folder for root in roots for folder in root.parents if folder.name == state.name}
    return of_same_name | {root.parent for root in roots if root.name == ARTIFACTS_FOLDER}


def _find_new_place(
    database: sqlite3.Connection, experiment_id: object, root: Path, former: _FormerPlaces
) -> Path | None:
    """Where a folder of artifacts is now that was moved or copied along with the store; None for one that was not."""
    for old, new in former.list_folders():
        if not root.is_relative_to(old):
            continue
        candidate = new / root.relative_to(old)
        if is_same_path(candidate, root):
            return None
        is_gone = old in former.known and not is_folder(root)
        if is_gone or holds_artifacts(database, experiment_id, candidate):
            return candidate
    return None


def holds_artifacts(database: sqlite3.Connection, experiment_id: object, root: Path) -> bool:
    """Whether a folder has artifacts of at least one of an experiment's runs."""
    runs = database.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment_id,))
    return is_folder(root) and any(is_folder(root / run_id) for (run_id,) in runs if _SAFE_ID.fullmatch(str(run_id)))
