"""Studies that the same command began while a setting had another default: another study now, and still there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fmnist_sweep.config.earlier_jobs import list_earlier_jobs
from fmnist_sweep.config.identity import identify_study
from fmnist_sweep.config.job import SEARCH
from fmnist_sweep.config.overrides import is_override_of
from fmnist_sweep.errors import StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import find_study_folder, list_study_folders
from fmnist_sweep.sweep.plan import PlannedStudy, locate_runs, settle_precision
from fmnist_sweep.text import format_trial_count

_MAX_NAMED = 2  # overrides; the command has them all


@dataclass(frozen=True)
class EarlierStudy:
    """A study of the same command from before a default changed. overrides: those with which the command names it."""

    planned: PlannedStudy
    overrides: tuple[str, ...]


def announce_earlier_studies(plan: Sequence[PlannedStudy], command: str, view: View) -> None:
    """Announce the studies that this command named before a default changed, and the command that continues them."""
    commands: dict[str, None] = {}
    for planned in plan:
        for earlier in find_earlier_studies(planned):
            settings = _describe_overrides(earlier.overrides)
            state = "is done" if earlier.planned.is_done else "is unfinished"
            view.say(
                f"study {planned.study.id} {planned.study.label} is a new one, because a default has changed since: "
                f"study {earlier.planned.folder.name} of the same command was begun with {settings} and {state} "
                f"({format_trial_count(earlier.planned.ended_count)}).",
                "yellow",
            )
            if not earlier.planned.is_done:
                commands[_build_command(command, earlier.overrides)] = None
    for line in commands:
        view.say(f"  to continue it instead: {line}", "yellow")


def find_earlier_studies(planned: PlannedStudy) -> Iterator[EarlierStudy]:
    """Find what a new study's command began before a default changed; for a study that has begun, or is fresh, none."""
    job = planned.study.job
    if planned.record is not None or planned.config.fresh or job.kinds is not SEARCH:
        return
    if not list_study_folders(planned.folder.state):
        return
    known_ids = {planned.study.id}
    for earlier in list_earlier_jobs(job):
        settings = settle_precision(earlier.job.config.settings)
        study = identify_study(earlier.job, planned.study.label, settings, planned.splits.sha256, planned.study.first)
        if study.id in known_ids:  # a default that decides nothing here
            continue
        known_ids.add(study.id)
        try:
            folder = find_study_folder(planned.folder.state, study.id, locate_runs(job))
            record = None if folder is None else folder.read_record()
        except StoreError:  # its journal is damaged, which `studies` says; this command does not need it
            continue
        if folder is not None and record is not None:
            yield EarlierStudy(PlannedStudy(study, planned.splits, folder, record), earlier.overrides)


def _build_command(command: str, overrides: Sequence[str]) -> str:
    words = [word for word in shlex.split(command) if "=" not in word or not is_override_of(word, ("plan",))]
    return shlex.join([*words, *overrides])


def _describe_overrides(overrides: Sequence[str]) -> str:
    if len(overrides) > _MAX_NAMED:
        return f"the {len(overrides)} defaults of then"
    return " ".join(override.lstrip("+") for override in overrides)
