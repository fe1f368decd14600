"""The verb `studies`: how far each study is, read from its journal alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import URI
from fmnist_sweep.errors import StoreError
from fmnist_sweep.text import echo, make_printable, quote_text

if TYPE_CHECKING:
    from fmnist_sweep.study.folder import RunLocation, StudyFolder
    from fmnist_sweep.study.record import StudyRecord, TrialHistory

_MAX_NAMED = 3  # in one line


@click.command()
@URI
def studies(uri: str | None) -> None:
    """List the studies begun here: how far each is, who runs it, the command that continues it."""
    from fmnist_sweep.tracking.store import locate_state_folder, refuse_moved_store

    refuse_moved_store(uri, None)
    state = locate_state_folder(uri)
    _name_misnamed(state)
    deleted = _read_deleted(uri, state)
    entries = list(list_study_progress(state, deleted))
    if not entries:
        echo(f"no study was begun in {state}: python -m fmnist_sweep -m optimizer=rmsprop,adam begins two.")
    for entry in entries:
        text = make_printable(str(entry)) if isinstance(entry, StoreError) else _format_progress(entry)
        echo(f"{text}\n")


def _name_misnamed(state: Path) -> None:
    from fmnist_sweep.study.folder import list_misnamed_folders

    names = list_misnamed_folders(state)
    if names:
        shown = ", ".join(map(quote_text, names[:_MAX_NAMED])) + (", ..." if len(names) > _MAX_NAMED else "")
        where = state / "studies"
        echo(f"left out {len(names)} in {where} whose names no study has, as copies have: {shown}", err=True)


@dataclass(frozen=True)
class Deleted:
    """What was deleted in the store and does not count: runs by id, and experiments by name."""

    run_ids: frozenset[str] = frozenset()
    experiments: frozenset[str] = frozenset()


def _read_deleted(uri: str | None, state: Path) -> Deleted:
    """Read what was deleted in a store, and name it; for a store that cannot be read, say why."""
    from fmnist_sweep.masking import mask_address
    from fmnist_sweep.study.folder import RunLocation, list_study_folders
    from fmnist_sweep.tracking.deleted import DeletedExperiment, describe_deleted_runs, list_deleted_runs
    from fmnist_sweep.tracking.store import has_store_file, open_existing_store, resolve_store_uri

    address = mask_address(resolve_store_uri(uri))
    names: dict[str, None] = {}
    for folder in list_study_folders(state):
        with suppress(StoreError):  # the listing says so
            location = folder.read_location()
            if location.is_same(RunLocation(address, location.experiment)):
                names[location.experiment] = None
    run_ids, experiments = set[str](), set[str]()
    for name in names if has_store_file(uri) else ():
        try:
            store = open_existing_store(uri, name)
            runs = list_deleted_runs(store)
        except StoreError as error:
            echo(error, err=True)
            experiments |= {name} if isinstance(error, DeletedExperiment) else set()
            continue
        if runs:
            echo(describe_deleted_runs(store, runs), err=True)
        run_ids |= {run.run_id for run in runs}
    return Deleted(frozenset(run_ids), frozenset(experiments))


@dataclass(frozen=True)
class StudyProgress:
    """One study, as it is listed.

    trials: how many have ended, in words. best: the highest validation accuracy so far. command: continues it.
    location: its store and experiment. sweep: the id of the sweep that began it; None before its first session.
    """

    name: str
    label: str
    state: str
    trials: str
    best: float | None
    command: str
    location: str
    sweep: str | None = None


def _format_progress(entry: StudyProgress) -> str:
    best = "" if entry.best is None else f"; best validation accuracy {entry.best:.4f}"
    return "\n  ".join(
        (
            f"{entry.name}  {make_printable(entry.label)}",
            f"{make_printable(entry.state)}; {entry.trials} trials{best}",
            make_printable(entry.location + ("" if entry.sweep is None else f"; sweep {entry.sweep}")),
            entry.command,
        )
    )


def list_study_progress(state: Path, deleted: Deleted = Deleted()) -> Iterator[StudyProgress | StoreError]:
    """Every study begun below a state folder, the oldest first; for one that cannot be read, the reason.

    deleted: what does not count.
    """
    from fmnist_sweep.study.folder import list_study_folders

    study_folders = list_study_folders(state)
    for folder in study_folders:
        try:
            progress, location = _read_progress(folder, deleted), folder.read_location()
        except StoreError as error:
            yield error
        else:
            is_superseded = any(folder.is_before(other) and _is_in_location(other, location) for other in study_folders)
            yield replace(progress, state=f"{progress.state}; followed by a fresh one") if is_superseded else progress


def _is_in_location(folder: StudyFolder, location: RunLocation) -> bool:
    try:
        return folder.read_location().is_same(location)
    except StoreError:
        return False


def _read_progress(folder: StudyFolder, deleted: Deleted) -> StudyProgress:
    from fmnist_sweep.config.commands import pin_changed_defaults

    record = folder.read_record()
    about = record.about
    is_deleted = about["experiment"] in deleted.experiments
    trials = [
        history
        for history in record.trained_trials
        if not is_deleted and not any(attempt.run_id in deleted.run_ids for attempt in history.attempts[-1:])
    ]
    scores = [(history.outcome or {}).get("best_val_accuracy") for history in trials]
    return StudyProgress(
        name=folder.name,
        label=about["mark"] + about["label"],
        state=_describe_state(folder, record) + ("; its experiment was deleted" if is_deleted else ""),
        trials=_describe_trial_counts(record, trials),
        best=max((score for score in scores if score is not None), default=None),
        command=pin_changed_defaults(about["command"], about.get("identity", {}), about.get("defaults", 0)),
        location=f"{about['uri']} (experiment {about['experiment']})",
        sweep=record.sweep_id,
    )


def _describe_state(folder: StudyFolder, record: StudyRecord) -> str:
    owner = folder.find_owner()
    if owner is not None:
        return f"running: {owner}"
    if record.state == "closed":
        return "done"
    missing = sum(history.state != "running" and not history.is_settled for history in record.trained_trials)
    return f"interrupted{f', {missing} still to be logged' if missing else ''}"


def _describe_trial_counts(record: StudyRecord, trials: Sequence[TrialHistory]) -> str:
    """How many have ended, of those that count. trials: those."""
    planned = record.about.get("planned")
    failed = sum(history.state == "failed" for history in trials)
    ended = failed + sum(history.state == "finished" for history in trials)
    deleted = len(record.trained_trials) - len(trials)
    total = "" if planned is None else f" of {planned:.0f}"
    return f"{ended}{total}{f', {failed} failed' if failed else ''}{f', {deleted} deleted' if deleted else ''}"
