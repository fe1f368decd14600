"""Candidates for a promotion: the best trial of a sweep or study and those as good as it, or a single run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.analysis.fronts import CostLimit
from fmnist_sweep.analysis.ranking import find_tied_trials
from fmnist_sweep.data.data_config import FASHION_MNIST_SOURCES
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.tracking.deleted import describe_deleted_runs
from fmnist_sweep.tracking.names import (
    CANONICAL_TAG,
    DATA_TAG,
    DESCRIPTION_TAG,
    JOURNAL_TAG,
    JOURNALS_TAG,
    KIND_TAG,
    STUDY_ID_TAG,
    SWEEP_ID_TAG,
)
from fmnist_sweep.tracking.prediction_files import read_intact_predictions
from fmnist_sweep.tracking.queries import StoredRun, find_run, is_id, list_ended_sweeps, search_runs
from fmnist_sweep.tracking.trials import StoredTrial, build_trials, read_trials, read_trials_of_journals

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class PromotionTarget:
    """What to promote: a run, or the best trial of a study or of a sweep; if none is given, of the latest sweep.

    limits: on what the models may cost; others are left out.
    """

    run_id: str | None = None
    study_id: str | None = None
    sweep_id: str | None = None
    limits: tuple[CostLimit, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """The trials to train again.

    finalists: the best first. scope: what they are the best of, in words. rival_count: number of finished trials that
    they were chosen from. tie_count: number of those trials' configurations that are indistinguishable from the best,
    the best included. skipped_sweeps: names of newer sweeps without a finished trial on Fashion-MNIST.
    """

    finalists: tuple[StoredTrial, ...]
    scope: str
    rival_count: int
    tie_count: int
    skipped_sweeps: tuple[str, ...]

    def describe_ties(self) -> str:
        """Describe how many configurations are as good as the best, and how many of them are finalists."""
        total = f"{self.scope} has {self.rival_count} finished trials"
        if self.tie_count == 1:
            return f"{total}; no other configuration is indistinguishable from the best"
        ties = f"{total}; {self.tie_count} configurations, the best included, are indistinguishable from it"
        finalist_count = len(self.finalists)
        if self.tie_count == finalist_count:
            return ties
        return f"{ties}; promote.finalists takes the best {'one' if finalist_count == 1 else finalist_count}"


def find_candidates(store: Store, target: PromotionTarget, limit: int, any_data: bool) -> Candidates:
    """Find at most `limit` finalists for a target. Errors: PromotionRefused.

    any_data: whether to accept training files that by checksum are not the canonical ones.
    """
    if target.run_id is not None:
        return _find_single_candidate(store, target, target.run_id, any_data)
    trials, scope, skipped_sweeps = _select_trials(store, target)
    if not trials:
        raise PromotionRefused(
            f"{scope} has no finished trial in {store.masked_uri}: look with fmnist-sweep "
            "ui, or run a sweep first (python -m fmnist_sweep -m optimizer=rmsprop,adam)."
        )
    trials = _drop_rungs(_prefer_real_images(trials))
    trials = _select_within(trials, target.limits, scope)
    if target.limits:
        scope = f"{scope}, within {' '.join(map(str, target.limits))},"
    tied_trials = find_tied_trials(trials, lambda run_id: read_intact_predictions(store, run_id))
    _refuse_other_data(tied_trials[0], any_data)
    # A trial that several commands trained is one rival.
    rivals = {(trial.study_id, trial.trial_id) for trial in trials}
    return Candidates(tuple(tied_trials[:limit]), scope, len(rivals), len(tied_trials), skipped_sweeps)


def _select_within(trials: list[StoredTrial], limits: Sequence[CostLimit], scope: str) -> list[StoredTrial]:
    """The trials that keep to all limits. Raises PromotionRefused, which names the nearest, if there is none."""
    for limit in limits:
        admitted = [trial for trial in trials if limit.admits(trial)]
        if not admitted:
            raise PromotionRefused(
                f"--within {limit}: {scope} has no finished trial of so little{limit.name_least(trials)}."
            )
        trials = admitted
    return trials


def _find_single_candidate(store: Store, target: PromotionTarget, run_id: str, any_data: bool) -> Candidates:
    trial = _read_trial(store, run_id)
    _select_within([trial], target.limits, f"run {run_id}")
    _refuse_other_data(trial, any_data)
    if trial.includes_validation:
        raise PromotionRefused(
            f"{trial.name} was trained on the images that it was judged by: promote a trial that was not, with "
            "promote.include_validation=true."
        )
    return Candidates((trial,), f"run {run_id}", 1, 1, ())


def _prefer_real_images(trials: Sequence[StoredTrial]) -> Sequence[StoredTrial]:
    """The trials on real images; all trials if there is none, so that they can be refused by name."""
    return [trial for trial in trials if _is_promotable(trial)] or trials


def _drop_rungs(trials: Sequence[StoredTrial]) -> list[StoredTrial]:
    """The trials without those that a trial of a higher rung of Hyperband continued: both are one training."""
    rungs = {(trial.tags.get(JOURNAL_TAG), trial.continued_trial_id) for trial in trials if trial.continued_trial_id}
    return [trial for trial in trials if (trial.tags.get(JOURNAL_TAG), trial.trial_id) not in rungs]


def _select_trials(store: Store, target: PromotionTarget) -> tuple[list[StoredTrial], str, tuple[str, ...]]:
    """Finished trials to choose from, what they belong to in words, and the names of sweeps that were skipped."""
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
        if any(_is_promotable(trial) for trial in trials):
            scope = sweep.name
            break
        skipped_sweeps.append(sweep.name)
    return trials, scope, tuple(skipped_sweeps)


def _select_finished(trials: Sequence[StoredTrial]) -> list[StoredTrial]:
    """The trials that have an accuracy on images that they were not trained on."""
    return [trial for trial in trials if trial.accuracy is not None and not trial.includes_validation]


def _read_sweep_trials(store: Store, sweep: StoredRun) -> list[StoredTrial]:
    """Finished trials of a sweep's studies, including studies that began below another sweep's run."""
    return _select_finished(read_trials_of_journals(store, sweep.tags.get(JOURNALS_TAG, "").split()))


def _read_trial(store: Store, run_id: str) -> StoredTrial:
    run = find_run(store, check_id(run_id))
    if run is None:
        raise PromotionRefused(f"{store.masked_uri} has no run {run_id}: copy its id from fmnist-sweep ui.")
    kind, status = run.tags.get(KIND_TAG), run.status
    if kind != "trial" or status != "FINISHED":
        raise PromotionRefused(
            f"run {run_id} is a {status} {kind or 'run of something else'}; a FINISHED trial is needed."
        )
    if not run.is_active:
        raise PromotionRefused(f"{describe_deleted_runs(store, [run])}.")
    return build_trials([run])[0]


def _is_promotable(trial: StoredTrial) -> bool:
    return trial.data_source in ("fashion_mnist", "kaggle_csv") or _has_own_images(trial)


def _has_own_images(trial: StoredTrial) -> bool:
    """Whether it was trained on images of one's own, which its run then describes. Nobody knows their checksum."""
    return trial.data_source not in FASHION_MNIST_SOURCES and DESCRIPTION_TAG in trial.tags


def _refuse_other_data(trial: StoredTrial, any_data: bool) -> None:
    source = trial.tags.get(DATA_TAG, "unknown")
    if not _is_promotable(trial):
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, not on Fashion-MNIST, and is never promoted: run the sweep on the "
            "real data (fmnist-sweep data says whether it is there)."
        )
    if trial.tags.get(CANONICAL_TAG) != "true" and not any_data and not _has_own_images(trial):
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, which by checksum is not the canonical Fashion-MNIST: use those "
            "files, or say --any-data."
        )


def check_id(identifier: str) -> str:
    """Check that an id is letters and digits, so that it cannot change the condition it is put into.

    Errors: PromotionRefused.
    """
    if not is_id(identifier):
        raise PromotionRefused(f"{identifier!r} is no id: expected letters and digits, as the UI shows them.")
    return identifier
