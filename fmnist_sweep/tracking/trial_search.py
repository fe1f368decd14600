"""Finding trials in the store: all of a sweep or study, the one that a word names, and those with equal settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.tracking.deleted import describe_deleted_matches
from fmnist_sweep.tracking.names import JOURNAL_TAG, JOURNALS_TAG, KIND_TAG, STUDY_ID_TAG, SWEEP_ID_TAG, TRIAL_ID_TAG
from fmnist_sweep.tracking.prediction_files import Predictions, read_predictions
from fmnist_sweep.tracking.queries import StoredRun, is_id, list_newest_runs
from fmnist_sweep.tracking.trials import (
    StoredTrial,
    find_similar_trials,
    find_trials_by_name,
    find_trials_by_run_id,
    has_fitting_labels,
    read_curves,
    read_trials,
)

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

SHORTEST_ID = 6  # characters of a run id's beginning
_MOST_LISTED = 5  # candidates in a sentence


def select_trials(
    store: Store, *, sweep: str | None = None, studies: Sequence[str] = (), kinds: Sequence[str] = ("trial",)
) -> list[StoredTrial]:
    """The trials of a sweep or of some studies, named by their ids.

    With both, the trials that are in both; with neither, all trials of the experiment. Each trial appears once, with
    its latest attempt. kinds: values of the tag fmnist.kind. Raises ConfigError if there is no such sweep or study.
    """
    if not studies and sweep is None:
        return read_trials(store, {}, kinds)
    trials_by_id = {trial.run_id: trial for study in studies for trial in _read_study(store, study, kinds)}
    if sweep is None:
        return list(trials_by_id.values())
    # By the sweep's studies: one that was begun in another sweep is below that one's run.
    journals = _read_sweep_journals(store, sweep)
    sweep_trials = [trial for name in journals for trial in read_trials(store, {JOURNAL_TAG: name}, kinds)]
    return [trial for trial in sweep_trials if not studies or trial.run_id in trials_by_id]


def _read_sweep_journals(store: Store, sweep: str) -> list[str]:
    runs = list_newest_runs(store, {KIND_TAG: "sweep", SWEEP_ID_TAG: _check_identifier(sweep)}, 1)
    if not runs:
        raise _make_missing_error(store, "sweep", sweep)
    journals: str = runs[0].tags[JOURNALS_TAG]
    return journals.split()


def _read_study(store: Store, study: str, kinds: Sequence[str]) -> list[StoredTrial]:
    tags = {STUDY_ID_TAG: _check_identifier(study)}
    trials = read_trials(store, tags, kinds)
    if not trials and not list_newest_runs(store, {KIND_TAG: "study", **tags}, 1):
        raise _make_missing_error(store, "study", study)
    return trials


def _check_identifier(identifier: str) -> str:
    if not is_id(identifier):
        raise ConfigError(f"{identifier!r} is no id: expected letters and digits, as fmnist-sweep compare shows them.")
    return identifier


def _make_missing_error(store: Store, kind: str, identifier: str) -> ConfigError:
    tag = SWEEP_ID_TAG if kind == "sweep" else STUDY_ID_TAG
    deleted = describe_deleted_matches(store, lambda run: (run.tags[KIND_TAG], run.tags.get(tag)) == (kind, identifier))
    if deleted is not None:
        return ConfigError(deleted)
    return ConfigError(
        f"{store.masked_uri} has no {kind} {identifier} in the experiment {store.experiment_name}: "
        "fmnist-sweep ui and fmnist-sweep studies show what is there."
    )


def find_trial(store: Store, name: str) -> StoredTrial:
    """The one trial that `name` stands for: a run id or its beginning, STUDY/TRIAL, or a trial's whole name.

    Raises ConfigError if it stands for none, or for several, which the message lists.
    """
    trials = _search_trials(store, name)
    if len(trials) == 1:
        return trials[0]
    if trials:
        candidates = "; ".join(f"{trial.run_id} ({_describe_trial(trial)})" for trial in trials[:_MOST_LISTED])
        remainder = f"; and {len(trials) - _MOST_LISTED} more" if len(trials) > _MOST_LISTED else ""
        raise ConfigError(f"{name!r} names {len(trials)} trials: {candidates}{remainder}: name one by its run id.")
    deleted = describe_deleted_matches(store, lambda run: _is_named(run, name))
    if deleted is not None:
        raise ConfigError(deleted)
    length_hint = f", of at least {SHORTEST_ID} characters" if len(name) < SHORTEST_ID else ""
    raise ConfigError(
        f"{name!r} names no trial in {store.masked_uri}: expected a run id or its beginning{length_hint}, "
        "STUDY/TRIAL as in 00c57e21763a/0000, or a trial's whole name; fmnist-sweep compare lists them."
    )


def _is_named(run: StoredRun, name: str) -> bool:
    """Whether a word stands for a run, as `find_trial` takes it."""
    place = f"{run.tags.get(STUDY_ID_TAG)}/{run.tags.get(TRIAL_ID_TAG)}"
    is_beginning = len(name) >= SHORTEST_ID and run.run_id.startswith(name)
    return run.tags[KIND_TAG] == "trial" and (is_beginning or name in (place, run.name))


def _search_trials(store: Store, name: str) -> list[StoredTrial]:
    trials: list[StoredTrial] = []
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}", name):
        trials = find_trials_by_run_id(store, name)
    elif re.fullmatch(r"[0-9a-zA-Z]+/[0-9a-zA-Z]+", name):
        study, trial = name.split("/")
        trials = read_trials(store, {STUDY_ID_TAG: study, TRIAL_ID_TAG: trial})
    if not trials and name:
        trials = find_trials_by_name(store, name)
    return trials


def _describe_trial(trial: StoredTrial) -> str:
    return f"{trial.study_id}/{trial.trial_id}, {trial.state}, {trial.name}"


@dataclass(frozen=True)
class TrialRecord:
    """What a trial left in the store.

    predictions: of the validation images, or the reason why there are none, as in "has no predictions.npz any more".
    curve: the figures of each epoch. similar_trials: others whose parameters may be the same but for the seed: the
    search that finds them leaves out some conditions, so they have to be compared.
    """

    trial: StoredTrial
    predictions: Predictions | str
    curve: tuple[dict[str, float], ...]
    similar_trials: tuple[StoredTrial, ...]


def read_trial_record(store: Store, trial: StoredTrial) -> TrialRecord:
    """Read what a comparison needs of a trial."""
    return TrialRecord(
        trial=trial,
        predictions=read_predictions_or_reason(store, trial),
        curve=tuple(read_curves(store, trial.run_id)),
        similar_trials=()
        if trial.accuracy is None
        else tuple(find_similar_trials(store, trial, ignored_params=("seed",))),
    )


def read_predictions_or_reason(store: Store, trial: StoredTrial) -> Predictions | str:
    """A trial's predictions, or the reason why there are none, to follow the trial's name in a sentence."""
    if trial.accuracy is None:
        return f"is {trial.state}{f' ({trial.failure})' if trial.failure else ''}, without a score"
    try:
        predictions = read_predictions(store, trial.run_id)
    except ValueError:
        return "has a damaged predictions.npz"
    if predictions is not None and not has_fitting_labels(trial, predictions):
        return "has a damaged predictions.npz"
    return predictions or "has no predictions.npz any more"
