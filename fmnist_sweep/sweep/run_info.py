"""The names and tags of a sweep's runs: its own, those of its studies, and those of their trials."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_sweep.config.commands import build_trial_command
from fmnist_sweep.data.description import DataDescription, format_description
from fmnist_sweep.report.leaderboard import format_trial_name
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.study.record import Attempt, TrialHistory
from fmnist_sweep.study.sweep_journal import OpenSweep
from fmnist_sweep.sweep.context import StudyContext
from fmnist_sweep.tracking.names import (
    ATTEMPT_TAG,
    CANONICAL_TAG,
    CONTINUES_TAG,
    DATA_TAG,
    DESCRIPTION_TAG,
    EXECUTOR_TAG,
    GIT_TAG,
    IDENTITY_TAG,
    JOURNAL_TAG,
    JOURNALS_TAG,
    MACHINE_TAG,
    PLATFORM_TAG,
    PRECISION_TAG,
    PROMOTED_FROM_TAG,
    PYTHON_TAG,
    STUDIES_TAG,
    STUDY_ID_TAG,
    SWEEP_ID_TAG,
    THREADS_TAG,
    TRIAL_ID_TAG,
)
from fmnist_sweep.tracking.runs import RunInfo
from fmnist_sweep.training.environment import describe_machine, read_source_commit

_MAX_NAME_LENGTH, _MAX_IDENTITY_LENGTH = 250, 5000


def describe_sweep_run(studies: Sequence[StudyContext], opened: OpenSweep) -> RunInfo:
    """The run of a sweep; opened: its journal."""
    about, kind = opened.record.about, studies[0].kinds.sweep
    prefix = max(study.planned.name_prefix for study in studies)
    labels = " | ".join(study.label for study in studies)
    return RunInfo(
        kind=kind,
        name=f"{prefix}{kind} · {labels}"[:_MAX_NAME_LENGTH],
        tags={
            **_build_common_tags(
                sweep_id=about["id"],
                journal=about["token"],
                data=", ".join(dict.fromkeys(study.splits.tag for study in studies)),
            ),
            STUDIES_TAG: " ".join(about["studies"]),
            JOURNALS_TAG: " ".join(about["journals"]),
            PYTHON_TAG: platform.python_version(),
            PLATFORM_TAG: platform.platform(terse=True),
        },
        command=studies[0].sweep.command,
        nonce=opened.record.run_nonce,
        may_be_unmarked=opened.record.may_have_unmarked_run,
    )


def describe_study_run(study: StudyContext, sweep_id: str, sweep_run_id: str | None) -> RunInfo:
    """The run of a study, below the run of its sweep."""
    kind = study.kinds.study
    return RunInfo(
        kind=kind,
        name=f"{study.planned.name_prefix}{kind} · {study.record.about['label']}"[:_MAX_NAME_LENGTH],
        tags={
            **_build_common_tags(sweep_id=sweep_id, journal=study.opened.token, data=study.splits.tag),
            STUDY_ID_TAG: study.id,
            PRECISION_TAG: study.study.precision,
            IDENTITY_TAG: _format_identity(study.identity),
            **_build_description_tag(study.description),
        },
        command=study.sweep.command,
        parent=sweep_run_id,
        nonce=study.record.run_nonce,
        may_be_unmarked=study.record.may_have_unmarked_run,
    )


def describe_trial_run(study: StudyContext, history: TrialHistory, config: Mapping[str, Any]) -> RunInfo:
    """The run of a trial's latest attempt; config: what is trained, without tunables."""
    record, placement = study.record, study.sweep.placement
    origin, rung_below = study.splits.origin, history.proposal.continues
    rung_tag = PROMOTED_FROM_TAG if history.proposal.restarts else CONTINUES_TAG
    # A duplicate has no run; the trial that was trained in its place has one.
    rung_tags = {} if rung_below is None else {rung_tag: record.trials[rung_below].duplicate_of or rung_below}
    return RunInfo(
        kind=study.kinds.trial,
        name=format_trial_name(history, record.about)[:_MAX_NAME_LENGTH],
        tags={
            **_build_common_tags(sweep_id=str(record.sweep_id), journal=study.opened.token, data=study.splits.tag),
            STUDY_ID_TAG: study.id,
            TRIAL_ID_TAG: history.trial_id,
            ATTEMPT_TAG: str(history.attempts[-1].number),
            CANONICAL_TAG: str(origin.canonical).lower(),
            **_build_description_tag(study.description),
            PRECISION_TAG: config["train"]["precision"],
            EXECUTOR_TAG: str(placement),
            THREADS_TAG: str(placement.threads),
            # Nothing is known here of a cluster's node.
            **({} if placement.name == "ray" else {MACHINE_TAG: describe_machine()}),
            **rung_tags,
            **study.study.job.extra_tags,
        },
        command=build_trial_command(
            study.study, config, origin.fallback_reason, placement.threads, history.proposal.values
        ),
        parent=record.run_id,
        nonce=history.attempts[-1].nonce,
        may_be_unmarked=history.attempts[-1].nonce is None,
    )


def describe_begun_sweep(opened: OpenSweep) -> RunInfo:
    """What is known of the run that a sweep whose process died may have made, by its journal alone."""
    about, record = opened.record.about, opened.record
    tags = {
        SWEEP_ID_TAG: about["id"],
        JOURNAL_TAG: about["token"],
        STUDIES_TAG: " ".join(about["studies"]),
        JOURNALS_TAG: " ".join(about["journals"]),
    }
    return RunInfo("", "", tags, "", None, record.run_nonce, record.may_have_unmarked_run)


def describe_begun_study(opened: OpenStudy) -> RunInfo:
    """What is known of the run that a study whose process died may have made, by its journal alone."""
    record = opened.record
    tags = {STUDY_ID_TAG: record.about["id"], IDENTITY_TAG: _format_identity(record.about["identity"])}
    return RunInfo(
        "",
        "",
        {**_list_journal_tags(opened), **tags},
        "",
        record.sweep_run_id,
        record.run_nonce,
        record.may_have_unmarked_run,
    )


def describe_begun_attempt(opened: OpenStudy, history: TrialHistory, attempt: Attempt) -> RunInfo:
    """What is known of the run that a dead attempt may have made, by its study's journal alone."""
    ids = {STUDY_ID_TAG: opened.record.about["id"], TRIAL_ID_TAG: history.trial_id, ATTEMPT_TAG: str(attempt.number)}
    name = format_trial_name(history, opened.record.about)[:_MAX_NAME_LENGTH]
    tags = {**_list_journal_tags(opened), **ids}
    return RunInfo("", name, tags, "", opened.record.run_id, attempt.nonce, attempt.nonce is None)


def _list_journal_tags(opened: OpenStudy) -> dict[str, str]:
    record = opened.record
    return {SWEEP_ID_TAG: str(record.sweep_id), JOURNAL_TAG: opened.token, DATA_TAG: record.about["data"]}


def _format_identity(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)[:_MAX_IDENTITY_LENGTH]


def _build_description_tag(description: DataDescription) -> dict[str, str]:
    """What a run says of its images beside their hash; nothing of Fashion-MNIST's, which everybody knows."""
    return {} if description.is_fashion_mnist else {DESCRIPTION_TAG: format_description(description)}


def _build_common_tags(*, sweep_id: str, journal: str, data: str) -> dict[str, str]:
    """What every run has. journal: the token of the journal that the run belongs to. data: the tag of its images."""
    return {SWEEP_ID_TAG: sweep_id, JOURNAL_TAG: journal, DATA_TAG: data, GIT_TAG: read_source_commit()}
