"""The verb `studies`: how far each study is, read from its journal alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import URI
from fmnist_sweep.errors import StoreError
from fmnist_sweep.text import echo, make_printable, quote_text

if TYPE_CHECKING:
    from fmnist_sweep.study.folder import RunLocation, StudyFolder
    from fmnist_sweep.study.record import StudyRecord

_MAX_NAMED = 3  # in one line


@click.command()
@URI
def studies(uri: str | None) -> None:
    """List the studies begun here: how far each is, who runs it, the command that continues it."""
    from fmnist_sweep.tracking.store import locate_state_folder, refuse_moved_store

    refuse_moved_store(uri, None)
    state = locate_state_folder(uri)
    _name_misnamed(state)
    entries = list(list_study_progress(state))
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
class StudyProgress:
    """One study, as it is listed.

    trials: how many have ended, in words. best: the highest validation accuracy so far. command: continues it.
    location: its store and experiment.
    """

    name: str
    label: str
    state: str
    trials: str
    best: float | None
    command: str
    location: str


def _format_progress(entry: StudyProgress) -> str:
    best = "" if entry.best is None else f"; best validation accuracy {entry.best:.4f}"
    return "\n  ".join(
        (
            f"{entry.name}  {make_printable(entry.label)}",
            f"{make_printable(entry.state)}; {entry.trials} trials{best}",
            make_printable(entry.location),
            entry.command,
        )
    )


def list_study_progress(state: Path) -> Iterator[StudyProgress | StoreError]:
    """Every study begun below a state folder, the oldest first; for one that cannot be read, the reason."""
    from fmnist_sweep.study.folder import list_study_folders

    study_folders = list_study_folders(state)
    for folder in study_folders:
        try:
            progress, location = _read_progress(folder), folder.read_location()
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


def _read_progress(folder: StudyFolder) -> StudyProgress:
    record = folder.read_record()
    about = record.about
    scores = [(history.outcome or {}).get("best_val_accuracy") for history in record.trained_trials]
    return StudyProgress(
        name=folder.name,
        label=about["mark"] + about["label"],
        state=_describe_state(folder, record),
        trials=_describe_trial_counts(record),
        best=max((score for score in scores if score is not None), default=None),
        command=about["command"],
        location=f"{about['uri']} (experiment {about['experiment']})",
    )


def _describe_state(folder: StudyFolder, record: StudyRecord) -> str:
    owner = folder.find_owner()
    if owner is not None:
        return f"running: {owner}"
    if record.state == "closed":
        return "done"
    missing = sum(history.state != "running" and not history.is_settled for history in record.trained_trials)
    return f"interrupted{f', {missing} still to be logged' if missing else ''}"


def _describe_trial_counts(record: StudyRecord) -> str:
    planned = record.about.get("planned")
    ended = record.count_trials("finished") + record.count_trials("failed")
    failed = record.count_trials("failed")
    total = "" if planned is None else f" of {planned:.0f}"
    return f"{ended}{total}{f', {failed} failed' if failed else ''}"
