"""The diagnosis of a sweep: what its trials say of ranges, epochs, fit and limits, and what more of them are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fmnist_sweep.analysis.edges import Edge, find_edges
from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.prospects import count_hourly_trials, estimate_gain, measure_busy_seconds
from fmnist_sweep.analysis.shortcomings import (
    CutDown,
    FitProblem,
    StillImproving,
    find_early_ends,
    find_improvement,
    find_lack_of_time,
    find_overtime,
    judge_fit,
)
from fmnist_sweep.search.parameters import list_parameters
from fmnist_sweep.search.space import count_combinations, find_option_groups, list_values_at
from fmnist_sweep.search.tunable import MAX_COUNT, is_tunable
from fmnist_sweep.tracking.names import JOURNAL_TAG
from fmnist_sweep.tracking.trials import StoredTrial


@dataclass(frozen=True)
class SearchedStudy:
    """A study, as far as its trials do not say it.

    settings: tunables included. planned: trials, math.inf where only time limits them. minutes: search.max_minutes if
    that ended it, else None. is_exhausted: its oracle has nothing left to propose.
    """

    settings: Mapping[str, Any]
    planned: float = math.inf
    minutes: float | None = None
    is_exhausted: bool = False


@dataclass(frozen=True)
class Prospect:
    """What another hour is worth: the gain in the best accuracy to expect of `further` trials.

    trials: so far. luck: by how much the best's accuracy flatters it, as it was picked on these images; None where
    that is not known. max_trials: search.max_trials that allows for them.
    """

    gain: float
    further: int
    trials: int
    luck: float | None
    images: int | None
    max_trials: int


@dataclass(frozen=True)
class Diagnosis:
    """What is to be said at a sweep's end; empty or None where it is not so, or where too little speaks for it."""

    edges: Sequence[Edge] = ()
    improvement: StillImproving | None = None
    fit: FitProblem | None = None
    limits: Sequence[CutDown] = ()
    prospect: Prospect | None = None


def diagnose(findings: Findings, studies: Mapping[str, SearchedStudy]) -> Diagnosis:
    """Diagnose trials. studies: those that they belong to, by the tag fmnist.journal.

    Ranges, epochs and fit are judged by the study of the best trial, limits and what more trials are worth by all.
    """
    if not studies:
        return Diagnosis()
    limits, prospect = _find_limits(findings, studies), _assess_prospect(findings, studies)
    best = findings.best
    study = None if best is None else studies.get(best.tags.get(JOURNAL_TAG, ""))
    if best is None or study is None:
        return Diagnosis(limits=limits, prospect=prospect)
    finished = [
        trial
        for trial in findings.trials
        if trial.accuracy is not None and _is_of(trial, best) and _is_trained_in_full(trial, study)
    ]
    chosen = _choose_options(study.settings, _parse_values(best))
    if chosen is None:
        return Diagnosis(limits=limits, prospect=prospect)
    settings, options = chosen
    drawn = [_list_drawn(settings, options, _parse_values(trial)) for trial in finished]
    edges = find_edges(settings, drawn, [trial.accuracy or 0.0 for trial in finished])
    curve, best_epoch = findings.curves.get(best.run_id, []), int(best.metrics.get("best_epoch", 0))
    improvement = fit = None
    if findings.images and 1 <= best_epoch <= len(curve):
        improvement = find_improvement(settings, curve, best_epoch, findings.images)
        fit = judge_fit(settings, _parse_values(best), curve[best_epoch - 1], findings.images)
        if fit is not None and fit.kind == "poor" and not best.description.is_fashion_mnist:
            fit = None  # what is poor is known of Fashion-MNIST only
    return Diagnosis(
        [replace(edge, override=_name_option(edge.override, options)) for edge in edges],
        None if improvement is None else replace(improvement, override=_name_option(improvement.override, options)),
        None if fit is None else replace(fit, override=_name_option(fit.override, options)),
        limits,
        prospect,
    )


def _choose_options(
    settings: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, str]] | None:
    """The settings with the options that a trial drew, and which these are by group; None where that is unclear."""
    options = {
        group: [option for option in names if _fits_option(settings[group]["settings"][option], group, values)]
        for group, names in find_option_groups(settings).items()
    }
    if any(len(names) != 1 for names in options.values()):
        return None
    chosen = {group: names[0] for group, names in options.items()}
    return {**settings, **{group: settings[group]["settings"][name] for group, name in chosen.items()}}, chosen


def _fits_option(section: Mapping[str, Any], prefix: str, values: Mapping[str, Any]) -> bool:
    """Whether a trial has all that is fixed in an option."""
    return all(
        is_tunable(value)
        or (
            _fits_option(value, f"{prefix}.{key}", values)
            if isinstance(value, Mapping)
            else values.get(f"{prefix}.{key}") == value
        )
        for key, value in section.items()
    )


def _list_drawn(settings: Mapping[str, Any], options: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial drew of these tunables: nothing within another option, and nothing under conditions unmet."""
    own_options = {group for group in options if _fits_option(settings[group], group, values)}
    drawn: dict[str, Any] = {}
    for parameter in list_parameters(settings):
        group = parameter.name.partition(".")[0]
        if (group not in options or group in own_options) and parameter.is_drawn(drawn) and parameter.name in values:
            drawn[parameter.name] = values[parameter.name]
    return drawn


def _name_option(override: str, options: Mapping[str, str]) -> str:
    """An override, with the option that its key is of, where the options of its group are searched."""
    group, dot, rest = override.partition(".")
    return f"{group}.{options[group]}.{rest}" if dot and group in options else override


def _is_of(trial: StoredTrial, other: StoredTrial) -> bool:
    return trial.tags.get(JOURNAL_TAG) == other.tags.get(JOURNAL_TAG)


def _is_trained_in_full(trial: StoredTrial, study: SearchedStudy) -> bool:
    """Whether a trial had all epochs: one of a lower rung says nothing of what its configuration comes to."""
    planned = list_values_at(study.settings, "train", "epochs")
    return any(is_tunable(epochs) or trial.parse_value("train.epochs") == epochs for epochs in planned)


def _parse_values(trial: StoredTrial) -> dict[str, Any]:
    return {key: trial.parse_value(key) for key in trial.params}


def _find_limits(findings: Findings, studies: Mapping[str, SearchedStudy]) -> list[CutDown]:
    ended = [trial for trial in findings.trials if trial.state in ("finished", "failed")]
    limits = [find_overtime([trial.failure for trial in ended], len(ended))]
    for journal, study in studies.items():
        own = [trial for trial in ended if trial.tags.get(JOURNAL_TAG) == journal]
        if study.minutes is not None:
            limits.append(find_lack_of_time(study.minutes, len(own), study.planned))
        epochs = [len(findings.curves[trial.run_id]) for trial in own if trial.run_id in findings.curves]
        limits.append(find_early_ends(study.settings, epochs))
    # What holds for several studies is said of the first.
    return list({limit.override.partition("=")[0]: limit for limit in reversed(limits) if limit is not None}.values())[
        ::-1
    ]


def _assess_prospect(findings: Findings, studies: Mapping[str, SearchedStudy]) -> Prospect | None:
    trials = [
        (trial, study)
        for trial in findings.trials
        if trial.state in ("finished", "failed")
        and (study := studies.get(trial.tags.get(JOURNAL_TAG, ""))) is not None
        and _is_trained_in_full(trial, study)
        and trial.ended is not None
    ]
    if not trials or all(study.is_exhausted for study in studies.values()):
        return None
    ends = measure_busy_seconds([(trial.began, trial.ended or trial.began) for trial, _ in trials])
    remaining = sum(count_combinations(study.settings) for study in studies.values()) - len(trials)
    further = int(min(count_hourly_trials(ends), remaining))
    gain = estimate_gain([trial.accuracy for trial, _ in trials], further) if further > 0 else None
    if gain is None:
        return None
    largest = max(sum(other is study for _, other in trials) for study in studies.values())
    return Prospect(
        gain=gain,
        further=further,
        trials=len(trials),
        luck=None if findings.optimism is None else max(0.0, findings.optimism.value),
        images=findings.images,
        max_trials=min(MAX_COUNT, largest + math.ceil(further / len(studies))),
    )
