"""Recovery at the start of a sweep: whatever dead processes left open is closed or delivered.

A journal that lost its end is noticed, too: the tracking store then knows more than the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fmnist_sweep.errors import Locked
from fmnist_sweep.files import DamagedContent
from fmnist_sweep.study.folder import OpenStudy, RunLocation, StudyFolder, list_study_folders, lock_study
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.record import TrialHistory
from fmnist_sweep.study.sweep_journal import is_sweep_unfinished, list_sweep_ids, lock_sweep
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.sweep.live_trial import resolve_trial_config
from fmnist_sweep.sweep.parcels import StudyParcels, kill_attempt
from fmnist_sweep.sweep.run_info import describe_begun_study, describe_begun_sweep
from fmnist_sweep.tracking.foreign import name_left_out
from fmnist_sweep.tracking.names import ATTEMPT_TAG, JOURNAL_TAG, KIND_TAG, NONCE_TAG, TRIAL_ID_TAG
from fmnist_sweep.tracking.queries import list_newest_runs
from fmnist_sweep.tracking.runs import find_begun_run, kill_run
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
        for history, attempt in study.record.attempts:
            if attempt.state == "running":
                study.append_event("killed", trial_id=history.trial_id, attempt=attempt.number)
            if attempt.state == "killed" and not attempt.is_delivered:
                kill_attempt(store, study, history, attempt)
        run_id = study.record.run_id or find_begun_run(store, describe_begun_study(study))
        if run_id is not None:
            kill_run(store, run_id)
        study.append_event("interrupted")


def _close_dead_sweep(store: Store, state: Path, sweep_id: str, location: RunLocation) -> None:
    if is_sweep_unfinished(state, sweep_id, location):
        with lock_sweep(state, sweep_id, {}) as sweep:
            run_id = sweep.record.run_id or find_begun_run(store, describe_begun_sweep(sweep))
            if run_id is not None:
                kill_run(store, run_id)
            sweep.append_event("interrupted")


def check_unknown_runs(store: Store, study: OpenStudy, kind: str) -> None:
    """Name the runs that say they are a study's though its journal does not know them; they are left out.

    Raises JournalDamaged for one with a nonce of the journal's, as the journal then lost its end. kind: of its trials'
    runs.
    """
    attempts = {(history.trial_id, str(attempt.number)): attempt for history, attempt in study.record.attempts}
    known_run_ids = {attempt.run_id for attempt in attempts.values()}
    unknown_runs = [
        run
        for run in list_newest_runs(
            store, {JOURNAL_TAG: study.token, KIND_TAG: kind}, _NEWEST_RUNS, include_unknown=True
        )
        if run.run_id not in known_run_ids
    ]
    foreign_runs = []
    for run in unknown_runs:
        trial_id, number = run.tags[TRIAL_ID_TAG], run.tags.get(ATTEMPT_TAG, "")
        attempt, nonce = attempts.get((trial_id, number)), run.tags.get(NONCE_TAG)
        if attempt is None and nonce is not None and nonce == study.record.compute_attempt_nonce(trial_id, number):
            raise JournalDamaged(
                study.journal.path, f"it does not know run {run.run_id}, which {store.masked_uri} has: its end is lost"
            )
        if attempt is None or attempt.run_id is not None or attempt.nonce != nonce:
            foreign_runs.append((run.run_id, run.name))
    reason = f"tagged as of study {study.folder.name}, whose journal does not know any such"
    name_left_out(store, "run", reason, foreign_runs)


def close_dead_attempts(study: StudyContext, parcels: StudyParcels, history: TrialHistory) -> None:
    """Close the attempts at a trial that an earlier session left running, or killed and not closed."""
    for attempt in history.attempts:
        if attempt.state == "running":
            study.opened.append_event("killed", trial_id=history.trial_id, attempt=attempt.number)
        if attempt.state == "killed" and not attempt.is_delivered:
            parcels.close_dead_run(history, attempt)


def deliver_late(study: StudyContext, parcels: StudyParcels, history: TrialHistory) -> None:
    """Deliver a trial's end, where an earlier session could not. If its result is damaged, it is running again."""
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
    if history.is_settled:
        parcels.drop_files(history)


def close_killed_attempts(study: StudyContext, parcels: StudyParcels) -> None:
    """Close the runs of attempts that were broken off while the store was away."""
    for history in study.record.trained_trials:
        for attempt in history.attempts:
            if attempt.state == "killed" and not attempt.is_delivered:
                parcels.close_dead_run(history, attempt)
