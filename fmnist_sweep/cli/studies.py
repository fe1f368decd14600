"""fmnist-sweep studies: where each study stands, read from its journal alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist_sweep.study import folder as folders
from fmnist_sweep.study.folder import Place, StudyFolder
from fmnist_sweep.study.journal import JournalDamaged
from fmnist_sweep.study.record import StudyRecord


@dataclass(frozen=True)
class Progress:
    """One study, as it is listed. best: the highest validation accuracy so far. where: its store and experiment."""

    name: str
    label: str
    state: str
    trials: str
    best: float | None
    command: str
    where: str


def listed(state: Path) -> Iterator[Progress | JournalDamaged]:
    """Every study begun below a state folder, the oldest first; in the place of one that cannot be read, why not."""
    found = folders.every(state)
    for folder in found:
        try:
            listed, place = _progress(folder), folder.place()
        except JournalDamaged as error:
            yield error
        else:
            later = any(folder.is_before(other) and _place(other) == place for other in found)
            yield replace(listed, state=f"{listed.state}; followed by a fresh one") if later else listed


def _place(folder: StudyFolder) -> Place | None:
    try:
        return folder.place()
    except JournalDamaged:
        return None


def _progress(folder: StudyFolder) -> Progress:
    record = folder.record()
    about = record.about
    scores = [(history.outcome or {}).get("best_val_accuracy") for history in record.trained]
    return Progress(
        name=folder.name,
        label=about["mark"] + about["label"],
        state=_state(folder, record),
        trials=_trials(record),
        best=max((score for score in scores if score is not None), default=None),
        command=about["command"],
        where=f"{about['uri']} (experiment {about['experiment']})",
    )


def _state(folder: StudyFolder, record: StudyRecord) -> str:
    owner = folder.owner()
    if owner is not None:
        return f"running: {owner}"
    if record.state == "closed":
        return "done"
    missing = sum(history.state != "running" and not history.settled for history in record.trained)
    return f"interrupted{f', {missing} still to be logged' if missing else ''}"


def _trials(record: StudyRecord) -> str:
    most = record.about.get("planned")
    ended = record.count("finished") + record.count("failed")
    failed = record.count("failed")
    of = "" if most is None else f" of {most:.0f}"
    return f"{ended}{of}{f', {failed} failed' if failed else ''}"
