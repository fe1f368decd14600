"""Recovery at the start of a sweep: whatever dead processes left open is closed or delivered.

A journal that lost its end is noticed, too: the tracking store then knows more than the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fmnist_sweep.errors import Locked
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.study.folder import OpenStudy, RunLocation, StudyFolder, list_study_folders, lock_study
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.record import Attempt, TrialHistory
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
        if folder.name not in own_names:
            with _leave_alone_if_held_or_damaged("study", say):
                _close_dead_study(store, folder, location)
    for sweep_id in list_sweep_ids(state):
        if sweep_id not in own_names:
            with _leave_alone_if_held_or_damaged("sweep", say):
                _close_dead_sweep(store, state, sweep_id, location)


@contextmanager
def _leave_alone_if_held_or_damaged(kind: str, say: Callable[[str, str], None]) -> Iterator[None]:
    try:
        yield
    except Locked:
        pass
    except JournalDamaged as error:
        say(f"{error} (not a {kind} of this command; left as it is)", "yellow")


def _close_dead_study(store: Store, folder: StudyFolder, location: RunLocation) -> None:
    """Close the runs of another command's study, except those that the command delivers when it continues."""
    if not folder.read_location().is_same(location) or folder.has_clean_end() or folder.find_owner() is not None:
        return
    with lock_study(folder, {}, lambda text: None) as study:
        attempts = _list_attempts(study)
        for history, attempt in attempts:
            if attempt.state == "running":
                study.append_event("killed", trial_id=history.trial_id, attempt=attempt.number)
        undelivered_attempts = {
            (history.trial_id, str(attempt.number))
            for history, attempt in attempts
            if attempt.state in ("finished", "failed") and not attempt.is_delivered
        }
        _kill_runs(store, {JOURNAL_TAG: study.token, "attributes.status": "RUNNING"}, undelivered_attempts)
        study.append_event("interrupted")


def _close_dead_sweep(store: Store, state: Path, sweep_id: str, location: RunLocation) -> None:
    if is_sweep_unfinished(state, sweep_id, location):
        with lock_sweep(state, sweep_id, {}) as sweep:
            _kill_runs(store, {JOURNAL_TAG: sweep.record.about["token"]})
            sweep.append_event("interrupted")


def _kill_runs(store: Store, tags: Mapping[str, str], spared_attempts: Collection[tuple[str, str]] = ()) -> None:
    """Close the runs with these tags, except those of some attempts, given by trial id and number."""
    for run in search_runs(store, tags):
        if (run.tags.get(TRIAL_ID_TAG), run.tags.get(ATTEMPT_TAG)) not in spared_attempts:
            kill_run(store, run.run_id)


def _list_attempts(study: OpenStudy) -> list[tuple[TrialHistory, Attempt]]:
    return [(history, attempt) for history in study.record.trials.values() for attempt in history.attempts]


def refuse_unknown_runs(store: Store, study: OpenStudy, kind: str) -> None:
    """JournalDamaged when the store has runs of a study that its journal does not know: the journal lost its end.

    kind: of its trials' runs.
    """
    known_attempts = {(history.trial_id, str(attempt.number)) for history, attempt in _list_attempts(study)}
    for run in list_newest_runs(store, {JOURNAL_TAG: study.token, KIND_TAG: kind}, _NEWEST_RUNS):
        if (run.tags[TRIAL_ID_TAG], run.tags[ATTEMPT_TAG]) not in known_attempts:
            raise JournalDamaged(
                study.journal.path, f"it does not know run {run.run_id}, which {store.uri} has: its end is lost"
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
        parcel = parcels.make_late_parcel(history, resolve_trial_config(study.settings, history.proposal))
    except DamagedContent as error:
        path, attempt = study.opened.result_path(history.trial_id), history.attempts[-1]
        study.sweep.view.say(f"{path} is damaged ({error}): this trial is trained again", "yellow")
        study.opened.append_event("lost", trial_id=history.trial_id, attempt=attempt.number)
        parcels.close_dead_run(history, attempt)
        return
    if parcel is not None:
        study.delivery.deliver(parcel)  # and what waits before it, whose files have nothing to do with this trial


def close_killed_attempts(study: StudyContext, parcels: StudyParcels) -> None:
    """Close the runs of attempts that were broken off while the store was away."""
    for history in study.record.trained_trials:
        for attempt in history.attempts:
            if attempt.state == "killed" and not attempt.is_delivered:
                parcels.close_dead_run(history, attempt)
