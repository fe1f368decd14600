"""What the tests of faults and damage share: a small sweep, what its journal and store hold at a moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.journal import JournalEvent, read_events
from tests.support import audit
from tests.support.small import DROPOUT, FILTERS, SMALLEST

EPOCHS, TRIALS = 8, 3
THREE_TRIALS = (
    *(*SMALLEST, FILTERS, DROPOUT, f"train.epochs={EPOCHS}", f"search.max_trials={TRIALS}", "executor.threads=1"),
)
_TIMES = ("epoch_seconds", "epoch_cpu_seconds", "fit_seconds", "cpu_seconds", "ms_per_image", "size_bytes")


def list_events(folder: Path) -> list[JournalEvent]:
    """What the journal of the one study in a folder holds at this moment."""
    try:
        (path,) = folder.glob("mlruns/studies/*/journal.db")
        return read_events(path)
    except (ValueError, StoreError):
        return []


def count_events(folder: Path, *kinds: str) -> int:
    return sum(event.kind in kinds for event in list_events(folder))


def find_journal(folder: Path) -> Path:
    (path,) = folder.glob("mlruns/studies/*/journal.db")
    return path


def select_figures(metrics: Sequence[Sequence[Any]], runs: Sequence[str]) -> list[list[Any]]:
    """Name, step and value of the metrics of these runs, but for the times that were measured."""
    return [[list(row[1:]) for row in metrics if row[0] == run and row[1] not in _TIMES] for run in runs]


def list_final_runs(study: audit.Found) -> list[str]:
    return [trial["attempts"][-1]["run_id"] for trial in study["trials"].values()]


def query(database: Path, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def find_newest_checkpoint(folder: Path) -> int:
    """The epoch of the newest checkpoint of the second trial."""
    trials = [event.body["trial_id"] for event in list_events(folder) if event.kind == "attempt"]
    if len(trials) < 2:
        return 0
    return max(
        (int(path.stem) for path in folder.glob(f"mlruns/studies/*/checkpoints/{trials[1]}/[0-9]*.npz")), default=0
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of the one study in a folder, the oldest first."""
    return sorted(folder.glob("mlruns/studies/*/checkpoints/*/[0-9]*.npz"))
