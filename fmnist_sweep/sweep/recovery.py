"""Recovery at the start of a sweep: whatever dead processes left open is closed or delivered.

A journal that lost its end is noticed, too: the tracking store then knows more than the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from fmnist_sweep.errors import Locked
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.study.folder import OpenStudy, RunLocation, list_study_folders, lock_study
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.study.sweep_journal import is_sweep_unfinished, list_sweep_ids, lock_sweep
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.live_trial import resolve_trial_config
from fmnist_sweep.sweep.parcels import StudyParcels
from fmnist_sweep.tracking.names import ATTEMPT_TAG, JOURNAL_TAG, KIND_TAG, TRIAL_ID_TAG
from fmnist_sweep.tracking.queries import list_newest_runs, search_runs
from fmnist_sweep.tracking.runs import kill_run
from fmnist_sweep.tracking.store import Store

_NEWEST_RUNS = 50  # how many of a study's newest runs are looked at


def close_dead_runs(
    store: Store, state: Path, location: RunLocation, own_names: Collection[str], say: Callable[[str, str], None]
) -> None:
    """Close as KILLED the runs of studies and sweeps whose process died and that nobody has continued since.

    own_names: the studies and the sweep of this command, which are left out. say: prints a line in a style.
    """
    for folder in list_study_folders(state):
        if folder.name in own_names:
            continue
        try:
            if folder.read_location() != location or folder.has_clean_end() or folder.find_owner() is not None:
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
            if is_sweep_unfinished(state, sweep_id, location):
                with lock_sweep(state, sweep_id, {}) as sweep:
                    for run in search_runs(store, {JOURNAL_TAG: sweep.record.about["token"]}):
                        kill_run(store, run.info.run_id)
                    sweep.append_event("interrupted")
        except Locked:
            continue
        except JournalDamaged as error:
            say(f"{error} (not a sweep of this command; left as it is)", "yellow")


def _close_dead_attempts(store: Store, study: OpenStudy) -> None:
    """Close the runs of another command's study, except those that the command delivers when it continues."""
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
        if key not in undelivered_attempts:
            kill_run(store, run.info.run_id)
    study.append_event("interrupted")


def refuse_unknown_runs(store: Store, study: OpenStudy, kind: str) -> None:
    """JournalDamaged when the store has runs of a study that its journal does not know: the journal lost its end.

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
                study.journal.path, f"it does not know run {run.info.run_id}, which {store.uri} has: its end is lost"
            )


def settle_trial(study: StudyContext, parcels: StudyParcels, history: TrialHistory) -> None:
    """Close a trial's dead attempts, and deliver its end, where an earlier session could not."""
    for attempt in history.attempts:
        if attempt.state == "running":
            study.opened.append_event("killed", trial_id=history.trial_id, attempt=attempt.number)
        if attempt.state == "killed" and not attempt.is_delivered:
            parcels.close_dead_run(history, attempt)
    if history.state != "running" and not history.attempts[-1].is_delivered:
        _deliver_late(study, parcels, history)
    if history.is_settled:  # the process that noted it may have died before it dropped the files
        parcels.drop_files(history)


def _deliver_late(study: StudyContext, parcels: StudyParcels, history: TrialHistory) -> None:
    try:
        parcels.deliver_late(history, resolve_trial_config(study.settings, history.proposal))
    except DamagedContent as error:
        path, attempt = study.opened.result_path(history.trial_id), history.attempts[-1]
        study.sweep.view.say(f"{path} is damaged ({error}): this trial is trained again", "yellow")
        study.opened.append_event("lost", trial_id=history.trial_id, attempt=attempt.number)
        parcels.close_dead_run(history, attempt)


def close_killed_attempts(study: StudyContext, parcels: StudyParcels) -> None:
    """Close the runs of attempts that were broken off while the store was away."""
    for history in study.record.trained_trials:
        for attempt in history.attempts:
            if attempt.state == "killed" and not attempt.is_delivered:
                parcels.close_dead_run(history, attempt)
