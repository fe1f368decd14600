"""Promotion: the best trial of a sweep becomes a version of a registered model, checked before its alias moves."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep import evidence, logged_model, tracking
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.store import Store, mlflow_pointed_at

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

MODEL_NAME = "fashion-mnist"
ALIAS = "champion"


@dataclass(frozen=True)
class Promotion:
    """What a promotion did. previous: the version the alias pointed at before, or None."""

    version: str
    previous: str | None
    run_id: str
    run_name: str
    val_accuracy: float
    rivals: int  # finished trials it was the best of
    passed_over: tuple[str, ...]  # names of newer sweeps without a finished trial on Fashion-MNIST
    images: int  # validation images its predictions were checked on


def promote(
    store: Store,
    *,
    run_id: str | None = None,
    study_id: str | None = None,
    sweep_id: str | None = None,
    data_dir: str | None = None,
    any_data: bool = False,
) -> Promotion:
    """Register the best trial (or one run) and point the alias at it; PromotionRefused says why not.

    The best is the one with the highest validation accuracy. Its model is loaded without running code from the file,
    and must predict what was scored, before anything is registered. any_data: also where the training files are not the
    canonical ones by checksum.
    """
    run, rivals, passed_over = _candidate(store, run_id, study_id, sweep_id)
    name = run.info.run_name
    source = run.data.tags.get("fmnist.data", "unknown")
    if not _is_fashion_mnist(run):
        raise PromotionRefused(
            f"{name} was trained on {source}, not on Fashion-MNIST, and is never promoted: run the sweep on the real "
            "data (fmnist-sweep data says whether it is there)."
        )
    if run.data.tags.get("fmnist.canonical") != "true" and not any_data:
        raise PromotionRefused(
            f"{name} was trained on {source}, which by checksum is not the canonical Fashion-MNIST: use those files, "
            "or say --any-data."
        )
    # Inside MLflow a client without an address is asked about the model: it must mean this store.
    with tempfile.TemporaryDirectory() as folder, mlflow_pointed_at(store):
        model_id, file, images = _checked_file(store, run, data_dir, Path(folder))
        previous = _champion(store)
        version = _version(store, run, model_id, hashlib.sha256(file.read_bytes()).hexdigest(), rivals)
        store.client.set_registered_model_alias(MODEL_NAME, ALIAS, version.version)
    accuracy = float(run.data.metrics["best_val_accuracy"])
    return Promotion(str(version.version), previous, run.info.run_id, name, accuracy, rivals, passed_over, images)


def _candidate(
    store: Store, run_id: str | None, study_id: str | None, sweep_id: str | None
) -> tuple[Run, int, tuple[str, ...]]:
    """The run to promote, how many finished trials it was chosen from, and the newer sweeps that had none."""
    if run_id is not None:
        return _named_run(store, run_id), 1, ()
    passed_over: list[str] = []
    if study_id is not None:
        scored = _finished_trials(store, f"tags.`fmnist.study_id` = '{_plain(study_id)}'")
    elif sweep_id is not None:
        sweeps = _search(store, ["tags.`fmnist.kind` = 'sweep'", f"tags.`fmnist.sweep_id` = '{_plain(sweep_id)}'"])
        scored = [run for sweep in sweeps for run in _trials_of(store, sweep)]
    else:
        scored = []
        for sweep in _ended_sweeps(store):
            scored = _trials_of(store, sweep)
            if any(_is_fashion_mnist(run) for run in scored):
                break
            passed_over.append(sweep.info.run_name)
    if not scored:
        where = f"study {study_id}" if study_id else f"sweep {sweep_id}" if sweep_id else "the experiment"
        raise PromotionRefused(
            f"{where} has no finished trial in {store.uri}: look with fmnist-sweep ui, or run a sweep first "
            "(python -m fmnist_sweep -m optimizer=rmsprop,adam)."
        )
    # Drawn images may stand beside real ones in one sweep; where there is nothing else, they are refused by name.
    scored = [run for run in scored if _is_fashion_mnist(run)] or scored
    # The first of equals wins, as on the leaderboard; a trial that several commands trained is one rival.
    best = max(reversed(scored), key=lambda run: run.data.metrics["best_val_accuracy"])
    rivals = {(run.data.tags["fmnist.study_id"], run.data.tags["fmnist.trial_id"]) for run in scored}
    return best, len(rivals), tuple(passed_over)


def _is_fashion_mnist(run: Run) -> bool:
    return str(run.data.tags.get("fmnist.data", "")).startswith(("fashion_mnist:", "kaggle_csv:"))


def _finished_trials(store: Store, condition: str) -> list[Run]:
    found = _search(store, ["tags.`fmnist.kind` = 'trial'", "attributes.status = 'FINISHED'", condition])
    return [run for run in found if "best_val_accuracy" in run.data.metrics]


def _ended_sweeps(store: Store) -> list[Run]:
    """Sweeps whose command has ended, the latest end first: one that was extended is newer than it began."""
    found = _search(store, ["tags.`fmnist.kind` = 'sweep'", "attributes.status != 'RUNNING'"])
    return sorted(found, key=lambda run: -(run.info.end_time or 0))


def _trials_of(store: Store, sweep: Run) -> list[Run]:
    """The finished trials of a sweep's studies, which may have been begun below another sweep's run."""
    journals = sweep.data.tags["fmnist.journals"].split()  # as the same study may have been begun elsewhere, or anew
    found = [run for journal in journals for run in _finished_trials(store, f"tags.`fmnist.journal` = '{journal}'")]
    return sorted(found, key=lambda run: -run.info.start_time)


def _plain(identifier: str) -> str:
    if not identifier.isalnum():
        raise PromotionRefused(f"{identifier!r} is no id: expected letters and digits, as the UI shows them.")
    return identifier


def _named_run(store: Store, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(_plain(run_id))
    except MlflowException:
        raise PromotionRefused(f"{store.uri} has no run {run_id}: copy its id from fmnist-sweep ui.") from None
    kind, status = run.data.tags.get("fmnist.kind"), run.info.status
    if kind != "trial" or status != "FINISHED":
        raise PromotionRefused(
            f"run {run_id} is a {status} {kind or 'run of something else'}; a FINISHED trial is needed."
        )
    return run


def _search(store: Store, conditions: list[str]) -> list[Run]:
    """All runs that meet the conditions, the newest first."""
    found: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs(
            [store.experiment_id],
            filter_string=" and ".join(conditions),
            max_results=1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def _checked_file(store: Store, run: Run, data_dir: str | None, folder: Path) -> tuple[str, Path, int]:
    """The run's model (its id and file), once it predicts what was scored, and on how many images it does."""
    validation = evidence.splits(store, evidence.stored([run])[0], data_dir).validation
    scored = evidence.unpacked(_artifact(store, run, "predictions.npz")).probabilities
    try:
        model_id, file = logged_model.fetch(store, run, folder)
        logged_model.load_checked(run.info.run_name, file, validation.images, scored)
    except logged_model.Unusable as error:
        raise PromotionRefused(str(error)) from None
    return model_id, file, len(scored)


def _artifact(store: Store, run: Run, name: str) -> bytes:
    content = tracking.artifact(store, run.info.run_id, name)
    if content is None:
        raise PromotionRefused(f"{run.info.run_name} (run {run.info.run_id}) has no {name} any more: train it again.")
    return content


def _champion(store: Store) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_model_version_by_alias(MODEL_NAME, ALIAS).version)
    except MlflowException:  # no such model, or no such alias
        return None


def _version(store: Store, run: Run, model_id: str, digest: str, rivals: int) -> ModelVersion:
    """The version of this run's model: the one there is, or a new one."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(
            MODEL_NAME, description="Fashion-MNIST classifiers: raw pixels (n, 28, 28, 1) in, ten probabilities out."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in store.client.search_model_versions(f"name = '{MODEL_NAME}'"):
        if version.run_id == run.info.run_id:
            return version
    tags = {key: value for key, value in run.data.tags.items() if key.startswith("fmnist.")}
    command = _artifact(store, run, "overrides.txt").decode().strip()
    return store.client.create_model_version(
        MODEL_NAME,
        source=f"models:/{model_id}",
        run_id=run.info.run_id,
        model_id=model_id,
        tags={**tags, "fmnist.sha256": digest, "fmnist.command": command},
        description=_description(run, rivals, command),
    )


def _description(run: Run, rivals: int, command: str) -> str:
    accuracy = run.data.metrics["best_val_accuracy"]
    return (
        f"**{run.info.run_name}**\n\nValidation accuracy {accuracy:.4f}, the highest of {rivals} finished trials, each "
        "trained once with one seed: an optimistic figure, not yet confirmed on fresh seeds or the test images.\n\n"
        f"Data: `{run.data.tags['fmnist.data']}`. Trained again by:\n\n    {command}\n"
    )
