"""Which trials are trained again: the best of a sweep, of a study, or a run, and those as good as it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_sweep.analysis import findings
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.text import mask_credentials
from fmnist_sweep.tracking import runs as tracking
from fmnist_sweep.tracking import trials as evidence
from fmnist_sweep.tracking.trials import StoredTrial, read_intact_predictions

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fmnist_sweep.tracking.store import Store


@dataclass(frozen=True)
class Asked:
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
    where: str
    rivals: int
    tied: int
    passed_over: tuple[str, ...]


def find(store: Store, asked: Asked, most: int, any_data: bool) -> Candidates:
    """The finalists of what was asked for, at most so many. Errors: PromotionRefused.

    any_data: also where the training files are not the canonical ones by checksum.
    """
    if asked.run_id is not None:
        trial = _named_run(store, asked.run_id)
        _refuse_other_data(trial, any_data)
        if _saw_validation(trial):
            raise PromotionRefused(
                f"{trial.name} was trained on the images that it was judged by: promote one that was not, with "
                "promote.include_validation=true."
            )
        return Candidates((trial,), f"run {asked.run_id}", 1, 1, ())
    scored, where, passed_over = _scored(store, asked)
    if not scored:
        raise PromotionRefused(
            f"{where} has no finished trial in {mask_credentials(store.uri)}: look with fmnist-sweep "
            "ui, or run a sweep first (python -m fmnist_sweep -m optimizer=rmsprop,adam)."
        )
    # Drawn images may stand beside real ones in one sweep; where there is nothing else, they are refused by name.
    scored = [trial for trial in scored if _is_fashion_mnist(trial)] or scored
    # A rung of Hyperband and the trial that went on from it are one training.
    rungs = {
        (trial.tags.get("fmnist.journal"), trial.continued_trial_id) for trial in scored if trial.continued_trial_id
    }
    scored = [trial for trial in scored if (trial.tags.get("fmnist.journal"), trial.trial_id) not in rungs]
    tied = findings.tied_with_best(scored, lambda run_id: read_intact_predictions(store, run_id))
    _refuse_other_data(tied[0], any_data)
    # A trial that several commands trained is one rival.
    rivals = {(trial.study_id, trial.trial_id) for trial in scored}
    return Candidates(tuple(tied[:most]), where, len(rivals), len(tied), passed_over)


def _scored(store: Store, asked: Asked) -> tuple[list[StoredTrial], str, tuple[str, ...]]:
    """The finished trials to choose from, what they are of, and names of sweeps that were looked through in vain."""
    if asked.study_id is not None:
        found = _finished(evidence.read_trials(store, {"fmnist.study_id": plain(asked.study_id)}))
        return found, f"study {asked.study_id}", ()
    if asked.sweep_id is not None:
        sweeps = tracking.search_runs(store, {"fmnist.kind": "sweep", "fmnist.sweep_id": plain(asked.sweep_id)})
        return [trial for sweep in sweeps for trial in _of_sweep(store, sweep)], f"sweep {asked.sweep_id}", ()
    passed_over: list[str] = []
    scored: list[StoredTrial] = []
    where = "the experiment"
    for sweep in _ended_sweeps(store):
        scored = _of_sweep(store, sweep)
        if any(_is_fashion_mnist(trial) for trial in scored):
            where = str(sweep.info.run_name)
            break
        passed_over.append(str(sweep.info.run_name))
    return scored, where, tuple(passed_over)


def _finished(trials: Sequence[StoredTrial]) -> list[StoredTrial]:
    """Those with an accuracy on images that they were not trained on."""
    return [trial for trial in trials if trial.accuracy is not None and not _saw_validation(trial)]


def _saw_validation(trial: StoredTrial) -> bool:
    return bool(trial.parse_value("data.include_validation"))


def _of_sweep(store: Store, sweep: Run) -> list[StoredTrial]:
    """Of its studies, which may have been begun below another sweep's run."""
    return _finished(evidence.read_trials_of_journals(store, sweep.data.tags.get("fmnist.journals", "").split()))


def _ended_sweeps(store: Store) -> list[Run]:
    """Sweeps whose command has ended, the latest end first: one that was extended is newer than it began."""
    found = tracking.filter_runs(store, "tags.`fmnist.kind` = 'sweep' and attributes.status != 'RUNNING'")
    return sorted(found, key=lambda run: -(run.info.end_time or 0))


def _named_run(store: Store, run_id: str) -> StoredTrial:
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(plain(run_id))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise PromotionRefused(
            f"{mask_credentials(store.uri)} has no run {run_id}: copy its id from fmnist-sweep ui."
        ) from None
    kind, status = run.data.tags.get("fmnist.kind"), run.info.status
    if kind != "trial" or status != "FINISHED":
        raise PromotionRefused(
            f"run {run_id} is a {status} {kind or 'run of something else'}; a FINISHED trial is needed."
        )
    return evidence.build_trials([run])[0]


def _is_fashion_mnist(trial: StoredTrial) -> bool:
    return str(trial.tags.get("fmnist.data", "")).startswith(("fashion_mnist:", "kaggle_csv:"))


def _refuse_other_data(trial: StoredTrial, any_data: bool) -> None:
    source = trial.tags.get("fmnist.data", "unknown")
    if not _is_fashion_mnist(trial):
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, not on Fashion-MNIST, and is never promoted: run the sweep on the "
            "real data (fmnist-sweep data says whether it is there)."
        )
    if trial.tags.get("fmnist.canonical") != "true" and not any_data:
        raise PromotionRefused(
            f"{trial.name} was trained on {source}, which by checksum is not the canonical Fashion-MNIST: use those "
            "files, or say --any-data."
        )


def plain(identifier: str) -> str:
    """An id as the UI shows it. Errors: PromotionRefused, so that it cannot be more than that in a condition."""
    if not (identifier.isascii() and identifier.isalnum()):
        raise PromotionRefused(f"{identifier!r} is no id: expected letters and digits, as the UI shows them.")
    return identifier
