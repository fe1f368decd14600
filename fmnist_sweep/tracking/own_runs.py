"""The runs of studies and sweeps whose journals are here: a run that claims to be one of theirs, and is none.

Anybody may copy the tag fmnist.journal. What another folder's studies left in a shared store is taken at its word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.folder import JOURNAL_FILE, list_study_folders
from fmnist_sweep.study.journal import read_events, read_first_and_last
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.study.sweep_journal import SweepRecord, list_sweep_ids
from fmnist_sweep.tracking.foreign import name_left_out
from fmnist_sweep.tracking.names import ATTEMPT_TAG, JOURNAL_TAG, NONCE_TAG, TRIAL_ID_TAG

if TYPE_CHECKING:
    from fmnist_sweep.tracking.queries import StoredRun
    from fmnist_sweep.tracking.store import Store


@dataclass
class OwnRuns:
    """The runs that a journal knows.

    nonces: of those that it began and does not know the id of. unmarked: the trial and attempt of those that an older
    version began so, without a nonce; the study's or sweep's own run has neither.
    """

    run_ids: set[str | None] = field(default_factory=set)
    nonces: set[str | None] = field(default_factory=set)
    unmarked: set[tuple[str | None, str | None]] = field(default_factory=set)

    def has(self, run: StoredRun) -> bool:
        """Whether a run is one of these."""
        nonce = run.tags.get(NONCE_TAG)
        if nonce is not None and nonce in self.nonces:
            return True
        is_unmarked = nonce is None and (run.tags.get(TRIAL_ID_TAG), run.tags.get(ATTEMPT_TAG)) in self.unmarked
        return run.run_id in self.run_ids or is_unmarked


def list_study_runs(record: StudyRecord) -> OwnRuns:
    """The runs that a study's journal knows: its own, and those of its trials' attempts."""
    runs = _list_parent_run(record)
    for history, attempt in record.attempts:
        if attempt.run_id is not None:
            runs.run_ids.add(attempt.run_id)
        elif attempt.nonce is not None:
            runs.nonces.add(attempt.nonce)
        else:
            runs.unmarked.add((history.trial_id, str(attempt.number)))
    return runs


def _list_parent_run(record: StudyRecord | SweepRecord) -> OwnRuns:
    if record.run_id is not None:
        return OwnRuns({record.run_id})
    return OwnRuns(set(), {record.run_nonce}, {(None, None)} if record.may_have_unmarked_run else set())


def leave_out_unknown_runs(store: Store, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """These runs, without those that a journal in this store's folder would have to know and does not; they are named.

    A run without the tag of a journal that is here stays.
    """
    tokens = {token for run in runs if (token := run.tags.get(JOURNAL_TAG)) is not None}
    own_runs = defaultdict(list)
    for token, known_runs in _read_own_runs(store.state_folder, tokens) if tokens else ():
        own_runs[token].append(known_runs)
    unknown_runs = [
        run
        for run in runs
        if (known := own_runs.get(run.tags.get(JOURNAL_TAG, ""))) and not any(journal.has(run) for journal in known)
    ]
    names = [(run.run_id, run.name) for run in unknown_runs]
    name_left_out(store, "run", "tagged as of a study or sweep whose journal does not know any such", names)
    unknown_ids = {run.run_id for run in unknown_runs}
    return [run for run in runs if run.run_id not in unknown_ids]


def _read_own_runs(state: Path, tokens: Collection[str]) -> Iterator[tuple[str, OwnRuns]]:
    """The runs of each journal in a state folder that has one of these tokens; damaged ones are passed over."""
    studies = [folder.path / JOURNAL_FILE for folder in list_study_folders(state)]
    sweeps = [state / "sweeps" / sweep_id / JOURNAL_FILE for sweep_id in list_sweep_ids(state)]
    for path in (*studies, *sweeps):
        try:
            token = str(read_first_and_last(path)[0].body.get("token"))
            if token not in tokens:
                continue
            events = read_events(path)
            if path in studies:
                yield token, list_study_runs(StudyRecord.from_events(events, path))
            else:
                yield token, _list_parent_run(SweepRecord.from_events(events, path))
        except StoreError:  # a sweep that needs it says so
            continue
