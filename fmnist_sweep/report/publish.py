"""The report of a study or sweep: read from the store, rendered to one page, and kept beside the store as well."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_sweep.analysis.findings import compute_findings
from fmnist_sweep.errors import ConfigError, DataError
from fmnist_sweep.files import write_file_atomically
from fmnist_sweep.report.advice import Advice, parse_advice
from fmnist_sweep.report.best import find_best
from fmnist_sweep.report.kept_parts import FOLDER, KeptParts
from fmnist_sweep.report.page import ReportHeading, build_report_body, render_report
from fmnist_sweep.tracking.names import (
    DATA_TAG,
    DIAGNOSIS_FILE,
    ID_TAGS,
    JOURNAL_TAG,
    JOURNALS_TAG,
    KIND_TAG,
    SOURCE_NAME_TAG,
)
from fmnist_sweep.tracking.prediction_files import read_intact_predictions
from fmnist_sweep.tracking.queries import StoredRun, is_id, list_newest_runs, read_runs
from fmnist_sweep.tracking.run_files import UnreadableArtifact, read_artifact
from fmnist_sweep.tracking.store import locate_local_artifacts, locate_state_folder
from fmnist_sweep.tracking.trial_data import load_trial_splits
from fmnist_sweep.tracking.trials import StoredTrial, build_trials, read_curves, read_trials_of_journals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_sweep.analysis.findings import Findings
    from fmnist_sweep.data import Splits
    from fmnist_sweep.tracking.store import Store

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class ValidationImages:
    """The validation images of a data set, and which of them have a near twin among its training images."""

    images: NDArray[np.uint8]
    twins: NDArray[np.bool_]


# Of each data set, by its tag fmnist.data.
ImagesByDataset = Mapping[str, ValidationImages]
_cache: dict[str, ValidationImages] = {}


def open_kept_parts(store: Store) -> KeptParts:
    """The parts of reports that are kept beside a store's journals."""
    return KeptParts(store.state_folder / FOLDER)


def prepare_validation_images(store: Store, splits: Splits) -> ValidationImages:
    """The validation images of a data set with their twins, found once a process, as that takes a second."""
    if splits.tag not in _cache:
        twins = open_kept_parts(store).find_near_twins(splits.validation.images, splits.train.images)
        _cache[splits.tag] = ValidationImages(splits.validation.images, twins)
    return _cache[splits.tag]


def read_findings(store: Store, run_ids: Sequence[str], images: ImagesByDataset) -> Findings:
    """Read trials by the ids of their runs and compute the findings of their report.

    run_ids: of equally good trials the first of these is the best.
    """
    places = {run_id: place for place, run_id in enumerate(run_ids)}
    trials = sorted(build_trials(read_runs(store, run_ids)), key=lambda trial: places[trial.run_id])
    return _analyze_trials(store, trials, images)


def _find_best_trial(trials: Sequence[StoredTrial]) -> StoredTrial | None:
    return find_best(trials, lambda trial: trial.accuracy)


def _analyze_trials(store: Store, trials: Sequence[StoredTrial], images: ImagesByDataset) -> Findings:
    best = _find_best_trial(trials)
    validation_images = None if best is None else images.get(best.tags.get(DATA_TAG, ""))
    return compute_findings(
        trials,
        read_predictions=lambda run_id: read_intact_predictions(store, run_id),
        read_curves=lambda run_id: read_curves(store, run_id),
        validation_images=None if validation_images is None else validation_images.images,
        twins=None if validation_images is None else validation_images.twins,
        measure_importance=open_kept_parts(store).measure_importance,
    )


def rebuild_report(
    store: Store, *, study_id: str | None, sweep_id: str | None, data_dir: str | None, out: Path | None
) -> tuple[Path, str | None]:
    """Write a report anew from the store. Returns its path, and why it has no pictures, None where it has some.

    data_dir: where the images are, if not where a sweep finds them. Errors: ConfigError for an unknown study or sweep.
    """
    parent = _find_parent_run(store, study_id, sweep_id)
    tags = parent.tags
    journals = [tags[JOURNAL_TAG]] if tags[KIND_TAG] == "study" else tags[JOURNALS_TAG].split()
    trials = read_trials_of_journals(store, journals)
    images, missing_reason = _load_images(store, _find_best_trial(trials), data_dir)
    findings = _analyze_trials(store, trials, images)
    title = f"{tags[KIND_TAG].capitalize()} {parent.name.split(' · ', 1)[-1]}"
    is_drawn = tags[DATA_TAG].startswith("drawn")
    banner = "DRAWN: trained on images that this project draws, not on Fashion-MNIST" if is_drawn else None
    heading = ReportHeading(title, tags[SOURCE_NAME_TAG], "", banner, _read_advice(store, parent.run_id))
    content = render_report(build_report_body(findings, open_kept_parts(store)), heading).encode()
    path = out or locate_report(store, f"{tags[KIND_TAG]}-{_read_id(tags)}-again")
    write_file_atomically(path, content)
    return path, missing_reason


def _read_advice(store: Store, run_id: str) -> list[Advice]:
    """What was said at the end of a study or sweep; nothing while it is under way."""
    try:
        return parse_advice(read_artifact(store, run_id, DIAGNOSIS_FILE))
    except UnreadableArtifact:
        return []


def _read_id(tags: Mapping[str, str]) -> str:
    identifier = tags[ID_TAGS[tags[KIND_TAG]]]
    if not is_id(identifier):  # it becomes a file's name, and whoever may write to the store can set it
        raise ConfigError(f"{identifier!r} is no id of a {tags[KIND_TAG]}, though the store says so: name another one.")
    return identifier


def _find_parent_run(store: Store, study_id: str | None, sweep_id: str | None) -> StoredRun:
    kind, requested_id = ("study", study_id) if study_id is not None else ("sweep", sweep_id)
    if requested_id is not None and not is_id(requested_id):
        raise ConfigError(
            f"--{kind}={requested_id}: an id has letters and digits only; fmnist-sweep studies lists them."
        )
    tags = {KIND_TAG: kind} | ({ID_TAGS[kind]: requested_id} if requested_id is not None else {})
    runs = list_newest_runs(store, tags, 1)
    if not runs:
        missing = kind if requested_id is None else f"{kind} {requested_id}"
        raise ConfigError(f"{store.masked_uri} has no {missing}: fmnist-sweep studies lists what was begun here.")
    return runs[0]


def _load_images(store: Store, best: StoredTrial | None, data_dir: str | None) -> tuple[ImagesByDataset, str | None]:
    if best is None:
        return {}, None
    try:
        splits = load_trial_splits(store, best, data_dir)
    except DataError as error:
        return {}, str(error)
    return {splits.tag: prepare_validation_images(store, splits)}, None


def locate_report(store: Store, name: str) -> Path:
    """The path of a report beside the journals. name: of the study's or sweep's folder."""
    return locate_state_folder(store.uri) / "reports" / f"{name}.html"


def save_report(store: Store, run_id: str, name: str, content: bytes) -> Path:
    """Keep a report as reports/NAME.html beside the journals: a link to the logged file where the store is local.

    run_id: the run that it was logged to. name: of the study's or sweep's folder. Errors: OSError where neither a link
    nor a file can be written.
    """
    path = locate_report(store, name)
    logged = locate_local_artifacts(store, run_id)
    if logged is not None and _try_link(path, logged / REPORT_FILE):
        return path
    write_file_atomically(path, content)
    return path


def _try_link(path: Path, report: Path) -> bool:
    """Link `path` to a report and return True; False on a file system without links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(os.path.relpath(report, path.parent))  # relative: the folder may be moved
    except OSError:
        return False
    return True
