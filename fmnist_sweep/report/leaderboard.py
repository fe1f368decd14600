"""A finished study or sweep -> leaderboard, a note in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.identity import make_trial_name

if TYPE_CHECKING:
    import pandas as pd

    from fmnist_sweep.analysis.findings import Findings
    from fmnist_sweep.study.record import TrialHistory

_MAX_NOTE_ROWS = 20  # a note is read, not scrolled; leaderboard.csv has all


@dataclass
class TrialRecord:
    """What the supervisor knows of one trial.

    state: running, finished or failed. score: the search's objective at the best epoch. tied: whether it cannot be told
    apart from the best; None where that was not found out.
    """

    trial_id: str
    study_id: str
    name: str
    values: Mapping[str, Any]
    run_id: str
    state: str = "running"
    score: float | None = None
    best_val_accuracy: float | None = None
    interval: tuple[float, float] | None = None
    best_epoch: int | None = None
    parameters: int | None = None
    fit_seconds: float | None = None
    failure: str | None = None
    tied: bool | None = None


def format_trial_name(history: TrialHistory, about: Mapping[str, Any]) -> str:
    """What a trial is called wherever it is shown."""
    proposal = history.proposal
    return str(about["mark"]) + make_trial_name(about["label"], proposal.values, proposal.epochs)


def build_trial_record(history: TrialHistory, about: Mapping[str, Any]) -> TrialRecord:
    """A trial as tables and pages show it. about: its study's."""
    outcome = history.outcome or {}
    interval = outcome.get("interval")
    return TrialRecord(
        trial_id=history.trial_id,
        study_id=about["id"],
        name=format_trial_name(history, about),
        values=history.proposal.values,
        run_id=history.attempts[-1].run_id or "" if history.attempts else "",
        state=history.state,
        score=outcome.get("score"),
        best_val_accuracy=outcome.get("best_val_accuracy"),
        interval=None if interval is None else (interval[0], interval[1]),
        best_epoch=outcome.get("best_epoch"),
        parameters=outcome.get("parameters"),
        fit_seconds=outcome.get("fit_seconds"),
        failure=outcome.get("reason"),
    )


def mark_ties(records: Sequence[TrialRecord], findings: Findings) -> None:
    """Note on each trial whether it cannot be told apart from the best."""
    tied = {row.run_id: row.tied for row in findings.rows}
    for record in records:
        record.tied = tied.get(record.run_id)


def find_best_record(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The finished trial with the highest validation accuracy (the first of equals), or None."""
    finished = [record for record in records if record.best_val_accuracy is not None]
    return max(finished, key=lambda record: record.best_val_accuracy or 0.0, default=None)


def rank_records(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials by validation accuracy, the highest first, those without one last."""
    return sorted(records, key=lambda record: -(record.best_val_accuracy or 0.0))


def count_states(records: Sequence[TrialRecord]) -> dict[str, float]:
    """How many trials are in each state, as metrics."""
    states = [record.state for record in records]
    return {f"trials_{state}": states.count(state) for state in ("finished", "failed", "running")}


def build_leaderboard(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Trials, best first and failed ones last: what was tuned, what came of it, and the run to look at."""
    import pandas as pd

    table = pd.DataFrame([_build_row(record) for record in rank_records(records)], columns=_list_columns(records))
    table.insert(0, "rank", range(1, len(table) + 1))
    return table


_RESULT_COLUMNS = (
    "best_val_accuracy",
    "low",
    "high",
    "tied_with_best",
    "score",
    "best_epoch",
    "parameters",
    "fit_seconds",
    "state",
    "study_id",
    "trial_id",
    "run_id",
)


def _list_columns(records: Sequence[TrialRecord]) -> list[str]:
    tuned = dict.fromkeys(key for record in records for key in record.values)
    return ["name", *tuned, *_RESULT_COLUMNS]


def _build_row(record: TrialRecord) -> dict[str, Any]:
    low, high = record.interval or (None, None)
    values = {**vars(record), "low": low, "high": high, "tied_with_best": record.tied}
    return {"name": record.name, **record.values, **{key: values[key] for key in _RESULT_COLUMNS}}


def format_record_accuracy(record: TrialRecord) -> str:
    """A validation accuracy and the interval that the finite validation set allows."""
    if record.best_val_accuracy is None or record.interval is None:
        return "–"
    low, high = record.interval
    return f"{record.best_val_accuracy:.4f} [{low:.4f}, {high:.4f}]"


def summarize_ties(records: Sequence[TrialRecord]) -> str:
    """How many trials cannot be told apart from the best, in a sentence; empty where that was not found out."""
    winner = find_best_record(records)
    rest = [record for record in records if record is not winner and record.best_val_accuracy is not None]
    others = [record for record in rest if record.tied is not None]
    tied = sum(bool(record.tied) for record in others)
    if not others:
        return ""
    unknown = len(rest) - len(others)
    if not tied and not unknown:
        return "All others are distinguishably worse."
    sentence = (
        f"{tied} of the other {len(rest)} cannot be told apart from it (≈)" if tied else "None is known to be as good"
    )
    return f"{sentence}; {unknown} could not be compared with it." if unknown else f"{sentence}."


def format_score_cell(record: TrialRecord, winner: TrialRecord | None) -> str:
    """A trial's accuracy in a table, marked where it cannot be told apart from the best."""
    return ("≈ " if record.tied and record is not winner else "") + format_record_accuracy(record)


def format_note(title: str, banner: str | None, records: Sequence[TrialRecord], paragraphs: Sequence[str]) -> str:
    """A short summary with the leaderboard, in Markdown, for the description of a parent run."""
    winner = find_best_record(records)
    # Its first line only: the UI folds a note after a few lines, and report.html has all of it.
    lines = [f"> **{banner.splitlines()[0]}**", ""] if banner else []
    if winner is None:
        lines += [f"**{title}**: no trial finished."]
    else:
        lines += [
            f"**{title}**: best is **{winner.name}**, validation accuracy **{format_record_accuracy(winner)}** "
            f"(95% Wilson interval of the finite validation set; the best of several is an optimistic choice). "
            f"{summarize_ties(records)}".rstrip()
        ]
    lines += [
        "",
        *paragraphs,
        "",
        _format_note_row("", "trial", "validation accuracy | best epoch | parameters | fit"),
        "|--|--|--|--|--|--|",
    ]
    ordered = rank_records(records)
    for rank, record in enumerate(ordered[:_MAX_NOTE_ROWS], 1):
        lines.append(_format_note_row(str(rank), record.name, _format_outcome_cells(record, winner)))
    if len(ordered) > _MAX_NOTE_ROWS:
        lines.append(f"\n{len(ordered) - _MAX_NOTE_ROWS} more in leaderboard.csv.")
    return "\n".join(lines)


def _format_note_row(rank: str, name: str, outcome: str) -> str:
    # The UI shows a note's table without any space between its columns.
    return f"| {rank} | {name} | {outcome} |".replace(" |", "&emsp;|")


def _format_outcome_cells(record: TrialRecord, winner: TrialRecord | None) -> str:
    if record.state == "failed":
        return f"failed: {(record.failure or '').replace('|', '/')} | | |"
    if record.best_val_accuracy is None:
        return f"{record.state} | | |"
    return f"{format_score_cell(record, winner)} | {record.best_epoch} | {record.parameters:,} | {record.fit_seconds:.0f} s"
