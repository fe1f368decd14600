"""Agreement with the tracking store at the start: dead runs are closed, a journal that lost its end is noticed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from fmnist_sweep.errors import Locked
from fmnist_sweep.study.folder import (
    OpenStudy,
    Place,
    is_sweep_unfinished,
    list_study_folders,
    list_sweep_ids,
    lock_study,
    lock_sweep,
)
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.tracking.names import ATTEMPT_TAG, JOURNAL_TAG, KIND_TAG, TRIAL_ID_TAG
from fmnist_sweep.tracking.queries import list_newest_runs, search_runs
from fmnist_sweep.tracking.runs import kill_run
from fmnist_sweep.tracking.store import Store

_NEWEST_RUNS = 50  # of a study's newest runs


def close_dead_runs(
    store: Store, state: Path, place: Place, own_names: Collection[str], say: Callable[[str, str], None]
) -> None:
    """Close as KILLED the runs of studies and sweeps whose process died and that nobody has taken up since."""
    for folder in list_study_folders(state):
        if folder.name in own_names:
            continue
        try:
            if folder.read_place() != place or folder.has_clean_end() or folder.find_owner() is not None:
                continue
            with lock_study(folder, {}, lambda text: None) as study:
                _close_dead_attempts(store, study)
        except Locked:
            continue
        except JournalDamaged as error:
            say(f"{error} (not a study of this command; left as it is)", "yellow")
    for sweep_id in list_sweep_ids(state):
        if sweep_id in own_names:
            continue
        try:
            if is_sweep_unfinished(state, sweep_id, place):
                with lock_sweep(state, sweep_id, {}) as sweep:
                    for run in search_runs(store, {JOURNAL_TAG: sweep.record.about["token"]}):
                        kill_run(store, run.info.run_id)
                    sweep.append_event("interrupted")
        except Locked:
            continue
        except JournalDamaged as error:
            say(f"{error} (not a sweep of this command; left as it is)", "yellow")


def _close_dead_attempts(store: Store, study: OpenStudy) -> None:
    for history in study.record.trials.values():
        for attempt in history.attempts:
            if attempt.state == "running":
                study.append_event("killed", trial_id=history.trial_id, attempt=attempt.number)
    undelivered_attempts = {
        str(attempt.number) + history.trial_id: attempt
        for history in study.record.trials.values()
        for attempt in history.attempts
        if attempt.state in ("finished", "failed") and not attempt.is_delivered
    }
    for run in search_runs(store, {JOURNAL_TAG: study.token, "attributes.status": "RUNNING"}):
        key = run.data.tags.get(ATTEMPT_TAG, "") + run.data.tags.get(TRIAL_ID_TAG, "")
        if key not in undelivered_attempts:  # those are still to be delivered, by the command that continues
            kill_run(store, run.info.run_id)
    study.append_event("interrupted")


def refuse_unknown_runs(store: Store, study: OpenStudy, kind: str) -> None:
    """JournalDamaged when the store has newer runs of a study than its journal: its end was cut off.

    kind: of its trials' runs.
    """
    attempts = {
        (history.trial_id, str(attempt.number))
        for history in study.record.trials.values()
        for attempt in history.attempts
    }
    for run in list_newest_runs(store, {JOURNAL_TAG: study.token, KIND_TAG: kind}, _NEWEST_RUNS):
        tags = run.data.tags
        if (tags[TRIAL_ID_TAG], tags[ATTEMPT_TAG]) not in attempts:
            raise JournalDamaged(
                study.journal.path, f"it knows nothing of run {run.info.run_id}, which {store.uri} has: its end is lost"
            )
