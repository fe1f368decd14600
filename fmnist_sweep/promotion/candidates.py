"""Which trials are trained again: the best of a sweep, of a study, or a run, and those as good as it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.analysis import findings
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking.names import (
    CANONICAL_TAG,
    DATA_TAG,
    JOURNAL_TAG,
    JOURNALS_TAG,
    KIND_TAG,
    STUDY_ID_TAG,
    SWEEP_ID_TAG,
)
from fmnist_sweep.tracking.predictions import read_intact_predictions
from fmnist_sweep.tracking.queries import list_ended_sweeps, read_run, search_runs
from fmnist_sweep.tracking.trials import StoredTrial, build_trials, read_trials, read_trials_of_journals

if TYPE_CHECKING:
    from fmnist_sweep.tracking.queries import Run
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class PromotionTarget:
    """What is to be promoted: a run, the best of a study or of a sweep, or with none of them of the latest sweep."""

    run_id: str | None = None
    study_id: str | None = None
    sweep_id: str | None = None


@dataclass(frozen=True)
class Candidates:
    """The trials to train again, the best first.

    where: what they are the best of. rivals: the finished trials they were chosen from. tied: of their
    configurations, those that cannot be told apart from the best, it included. passed_over: newer sweeps
    without a finished trial on Fashion-MNIST.
    """

    finalists: tuple[StoredTrial, ...]
    scope: str
    rival_count: int
    tie_count: int
    skipped_sweeps: tuple[str, ...]


def find_candidates(store: Store, target: PromotionTarget, limit: int, any_data: bool) -> Candidates:
    """The finalists of what was asked for, at most so many. Errors: PromotionRefused.

    any_data: also where the training files are not the canonical ones by checksum.
    """
    if target.run_id is not None:
        trial = _read_trial(store, target.run_id)
        _refuse_other_data(trial, any_data)
        if _has_seen_validation(trial):
            raise PromotionRefused(
                f"{trial.name} was trained on the images that it was judged by: promote one that was not, with "
                "promote.include_validation=true."
            )
        return Candidates((trial,), f"run {target.run_id}", 1, 1, ())
    trials, scope, skipped_sweeps = _select_trials(store, target)
    if not trials:
        raise PromotionRefused(
            f"{scope} has no finished trial in {mask_credentials(store.uri)}: look with fmnist-sweep "
            "ui, or run a sweep first (python -m fmnist_sweep -m optimizer=rmsprop,adam)."
        )
    # Drawn images may stand beside real ones in one sweep; where there is nothing else, they are refused by name.
    trials = [trial for trial in trials if _is_fashion_mnist(trial)] or trials
    # A rung of Hyperband and the trial that went on from it are one training.
    rungs = {(trial.tags.get(JOURNAL_TAG), trial.continued_trial_id) for trial in trials if trial.continued_trial_id}
    trials = [trial for trial in trials if (trial.tags.get(JOURNAL_TAG), trial.trial_id) not in rungs]
    tied_trials = findings.find_tied_trials(trials, lambda run_id: read_intact_predictions(store, run_id))
    _refuse_other_data(tied_trials[0], any_data)
    # A trial that several commands trained is one rival.
    rivals = {(trial.study_id, trial.trial_id) for trial in trials}
    return Candidates(tuple(tied_trials[:limit]), scope, len(rivals), len(tied_trials), skipped_sweeps)


def _select_trials(store: Store, target: PromotionTarget) -> tuple[list[StoredTrial], str, tuple[str, ...]]:
    """The finished trials to choose from, what they are of, and names of sweeps that were looked through in vain."""
    if target.study_id is not None:
        study_trials = _select_finished(read_trials(store, {STUDY_ID_TAG: check_id(target.study_id)}))
        return study_trials, f"study {target.study_id}", ()
    if target.sweep_id is not None:
        sweeps = search_runs(store, {KIND_TAG: "sweep", SWEEP_ID_TAG: check_id(target.sweep_id)})
        return [trial for sweep in sweeps for trial in _read_sweep_trials(store, sweep)], f"sweep {target.sweep_id}", ()
    skipped_sweeps: list[str] = []
    trials: list[StoredTrial] = []
    scope = "the experiment"
    for sweep in list_ended_sweeps(store):
        trials = _read_sweep_trials(store, sweep)
        if any(_is_fashion_mnist(trial) for trial in trials):
            scope = str(sweep.info.run_name)
            break
        skipped_sweeps.append(str(sweep.info.run_name))
    return trials, scope, tuple(skipped_sweeps)


def _select_finished(trials: Sequence[StoredTrial]) -> list[StoredTrial]:
    """Those with an accuracy on images that they were not trained on."""
    return [trial for trial in trials if trial.accuracy is not None and not _has_seen_validation(trial)]


def _has_seen_validation(trial: StoredTrial) -> bool:
    return bool(trial.parse_value("data.include_validation"))


def _read_sweep_trials(store: Store, sweep: Run) -> list[StoredTrial]:
    """Of its studies, which may have been begun below another sweep's run."""
    return _select_finished(read_trials_of_journals(store, sweep.data.tags.get(JOURNALS_TAG, "").split()))


def _read_trial(store: Store, run_id: str) -> StoredTrial:
    run = read_run(store, check_id(run_id))
    if run is None:
        raise PromotionRefused(f"{mask_credentials(store.uri)} has no run {run_id}: copy its id from fmnist-sweep ui.")
    kind, status = run.data.tags.get(KIND_TAG), run.info.status
    if kind != "trial" or status != "FINISHED":
        raise PromotionRefused(
            f"run {run_id} is a {status} {kind or 'run of something else'}; a FINISHED trial is needed."
        )
    return build_trials([run])[0]


def _is_fashion_mnist(trial: StoredTrial) -> bool:
    return str(trial.tags.get(DATA_TAG, "")).startswith(("fashion_mnist:", "kaggle_csv:"))


def _refuse_other_data(trial: StoredTrial, any_data: bool) -> None:
    source = trial.tags.get(DATA_TAG, "unknown")
    if not _is_fashion_mnist(trial):
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, not on Fashion-MNIST, and is never promoted: run the sweep on the "
            "real data (fmnist-sweep data says whether it is there)."
        )
    if trial.tags.get(CANONICAL_TAG) != "true" and not any_data:
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, which by checksum is not the canonical Fashion-MNIST: use those "
            "files, or say --any-data."
        )


def check_id(identifier: str) -> str:
    """An id as the UI shows it. Errors: PromotionRefused, so that it cannot be more than that in a condition."""
    if not (identifier.isascii() and identifier.isalnum()):
        raise PromotionRefused(f"{identifier!r} is no id: expected letters and digits, as the UI shows them.")
    return identifier
