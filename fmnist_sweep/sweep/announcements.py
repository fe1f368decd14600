"""The announcements before and after a sweep: the plan, the costs, the results, and what to type next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.job import SEARCH
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.plugins import ORACLES
from fmnist_sweep.report.leaderboard import LeaderboardEntry, find_best_entry
from fmnist_sweep.report.publish import locate_report
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search.space import list_values_at
from fmnist_sweep.sweep.closing import find_exit_code, list_entries
from fmnist_sweep.sweep.forecast import Forecast, describe_forecast, refuse_full_disk
from fmnist_sweep.sweep.plan import PlannedStudy, list_splits
from fmnist_sweep.sweep.session import Session
from fmnist_sweep.text import format_duration, format_trial_count
from fmnist_sweep.tracking.names import DEFAULT_EXPERIMENT
from fmnist_sweep.tracking.store import build_default_uri, is_server


def announce_studies(plan: Sequence[PlannedStudy], view: View) -> None:
    """Announce each study, the images that it uses, and how far it has come."""
    for banner in dict.fromkeys(planned.banner for planned in plan if planned.splits.origin.fallback_reason):
        view.say(banner or "", "bold yellow")
    for splits in list_splits(plan):
        view.say(
            f"data: {splits.tag} from {splits.origin.location}; {len(splits.train.labels)} train, "
            f"{len(splits.validation.labels)} validation images"
        )
        if not splits.description.is_fashion_mnist:
            height, width, channels = splits.description.image_shape
            view.say(
                f"  {splits.description.name}: {height}x{width} pixels, {'colour' if channels == 3 else 'grey'}; "
                f"{len(splits.description.labels)} labels"
            )
        elif not splits.origin.is_drawn and not splits.origin.canonical:
            view.say("  their checksum is not that of the canonical Fashion-MNIST images", "yellow")
    for planned in plan:
        _announce_study(planned, view)


def _mirrors_images(settings: Mapping[str, Any]) -> bool:
    """Whether a study's trials mirror all their training images at random."""
    augmentations = list_values_at(settings, "train", "augmentation")
    return any(isinstance(each, Mapping) and each.get("flip") is True for each in augmentations)


def _announce_study(planned: PlannedStudy, view: View) -> None:
    study, record, trial_limit = planned.study, planned.record, planned.trial_limit
    tuned = ", ".join(study.tuned_keys) or "nothing"
    if planned.is_done:
        view.say(f"study {study.id} {study.label}: already done, {format_trial_count(planned.ended_count)}", "green")
        return
    limited = planned.is_limited and planned.trial_count < math.inf
    trials = f"{'at most ' if limited else ''}{format_trial_count(planned.trial_count)}"
    view.say(f"study {study.id} {study.label}: {trials}, tuning {tuned}; {study.precision}")
    if not planned.splits.description.is_fashion_mnist and _mirrors_images(study.settings):
        view.say(
            "  training images are mirrored, which suits garments: where left and right differ, as in digits, add "
            "train.augmentation.flip=false",
            "yellow",
        )
    if study.first and record is None:
        count = "1 known configuration" if len(study.first) == 1 else f"{len(study.first)} known configurations"
        view.say(f"  begins with {count}")
    if record is not None:
        running_count = record.count_trials("running")
        pronoun = "it" if running_count == 1 else "they"
        running_text = f", {running_count} will continue where {pronoun} stopped" if running_count else ""
        view.say(f"  continued: {format_trial_count(planned.ended_count)} ended before{running_text}", "green")
    if planned.configuration_count < trial_limit < math.inf and study.tuned_keys:
        view.say(
            f"  the space holds {'at most' if limited else 'only'} {planned.configuration_count:.0f} different trials, "
            f"fewer than search.max_trials={trial_limit:.0f}: all of them will be run",
            "yellow",
        )
    initial_count = _count_initial_points(study)
    if trial_limit <= initial_count and study.tuned_keys:
        view.say(f"  its configurations are drawn at random until {initial_count} trials have ended, then by results")
    if planned.config.search.until is not None:
        gain, until = planned.config.promote.gain, planned.config.search.until
        view.say(f"  search.until={until}: it ends earlier once further trials are expected to gain less than {gain:g}")


def _count_initial_points(study: Study) -> int:
    """How many trials the study's oracle draws at random before it goes by results; 0 of an oracle of one's own."""
    registration = ORACLES.find_registration(study.job.config.search.name)
    if registration is None or registration.plugin is not None:
        return 0  # an argument of the same name may mean something else there
    count: int = study.identity["search"].get("initial_points", 0)
    return count


def announce_costs(expected: Forecast, uri: str | None, state_folder: Path, view: View) -> None:
    """Announce what the remaining trials will cost. Raises StoreError if the disk cannot hold their results."""
    view.say(f"expected: {describe_forecast(expected)} in {state_folder}")
    # A server stores the results on its own disk.
    has_server = is_server(uri)
    refuse_full_disk(state_folder, replace(expected, megabytes=0.0) if has_server else expected)


def show_earlier_results(plan: Sequence[PlannedStudy], view: View, deleted_ids: Collection[str]) -> ExitCode:
    """Show the results of a sweep that finished earlier, without TensorFlow.

    deleted_ids: of the runs that were deleted in the store, and do not count.
    """
    results = {planned.folder.name: list_entries(planned.record, deleted_ids) for planned in plan if planned.record}
    for planned in plan:
        view.show_leaderboard(f"{planned.study.label}: done before", results[planned.folder.name])
    if plan[0].kinds is SEARCH:
        view.say("Nothing to do: every study of this command is done. A larger search.max_trials extends a study;")
        if any(planned.has_settled for planned in plan):
            view.say("search.until=null goes on with one that has settled;")
        view.say("fresh=true starts a new one beside it.")
    return find_exit_code(results)


def announce_results(session: Session) -> None:
    """Announce how many trials a sweep trained, where they are recorded, and which commands can follow."""
    sweep, view = session.sweep, session.sweep.view
    entries = [entry for study_entries in session.results.values() for entry in study_entries]
    failed_count = sum(entry.state == "failed" for entry in entries)
    seconds = format_duration(sweep.training_seconds)
    if session.advice:
        view.say("What these trials say:", "bold")
    for advice in session.advice:
        view.say(f"- {advice}")
    view.say(f"{format_trial_count(len(entries))}, {seconds} of training, {failed_count} failed.")
    view.say(f"store: {sweep.store.masked_uri} (experiment {sweep.store.experiment_name})")
    if session.kinds is SEARCH:
        _suggest_commands(session, entries)


def _suggest_commands(session: Session, entries: Sequence[LeaderboardEntry]) -> None:
    view, store = session.sweep.view, session.sweep.store
    uri = store.masked_uri
    store_options = {
        "--uri": None if store.uri == build_default_uri() else uri,
        "--experiment": None if store.experiment_name == DEFAULT_EXPERIMENT else store.experiment_name,
    }
    report_path = locate_report(store, session.report_name)
    if report_path.is_file():
        view.say(f"report: {report_path}")
    view.say(f"browse: {uri if uri.startswith('http') else f'fmnist-sweep ui{_format_flags(store_options)}'}")
    if all(planned.splits.origin.is_drawn for planned in session.plan):
        view.say("drawn images: no trial of this sweep can be promoted.")
    elif find_best_entry(entries):
        view.say(f"promote the best: fmnist-sweep promote{_format_flags(store_options)}{_format_plugins(session)}")


def _format_plugins(session: Session) -> str:
    """The options of a verb that name the files of a sweep's plugins, as seen from the working directory."""
    sources = {source for planned in session.plan for source in planned.study.job.plugins if source.is_file}
    paths = sorted(Path(source.location) for source in sources)
    names = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in paths]
    return "".join(f" --plugins {shlex.quote(str(name))}" for name in names)


def _format_flags(values: Mapping[str, str | None]) -> str:
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in values.items() if value is not None)
