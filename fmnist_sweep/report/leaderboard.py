"""The trials of a finished study or sweep: their leaderboard, and a note in Markdown for the run's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.config.identity import make_trial_name
from fmnist_sweep.report.best import describe_ties, find_best
from fmnist_sweep.report.markdown import escape_cells
from fmnist_sweep.text import format_estimate

if TYPE_CHECKING:
    import pandas as pd

    from fmnist_sweep.analysis.findings import Findings
    from fmnist_sweep.study.record import TrialHistory

_MAX_NOTE_ROWS = 20  # a note is read, not scrolled; leaderboard.csv has all


@dataclass
class LeaderboardEntry:
    """One trial as tables show it.

    state: running, finished or failed. score: the search's objective at the best epoch. tied: whether it is not
    distinguishable from the best; None where that is not known.
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
    """The name of a trial, the same wherever it is shown. about: its study's record."""
    proposal = history.proposal
    return str(about["mark"]) + make_trial_name(about["label"], proposal.values, proposal.epochs)


def build_leaderboard_entry(history: TrialHistory, about: Mapping[str, Any]) -> LeaderboardEntry:
    """A trial as tables show it. about: its study's record."""
    outcome = history.outcome or {}
    interval = outcome.get("interval")
    return LeaderboardEntry(
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


def mark_ties(entries: Sequence[LeaderboardEntry], findings: Findings) -> None:
    """Set `tied` of each entry from the findings."""
    tied = {row.run_id: row.tied for row in findings.rows}
    for entry in entries:
        entry.tied = tied.get(entry.run_id)


def find_best_entry(entries: Sequence[LeaderboardEntry]) -> LeaderboardEntry | None:
    """The trial with the highest validation accuracy, the first of equals; None where no trial finished."""
    return find_best(entries, lambda entry: entry.best_val_accuracy)


def rank_entries(entries: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """The trials by validation accuracy, the highest first, those without one last."""
    return sorted(entries, key=lambda entry: -(entry.best_val_accuracy or 0.0))


def count_states(entries: Sequence[LeaderboardEntry]) -> dict[str, float]:
    """How many trials are in each state, as metrics."""
    states = [entry.state for entry in entries]
    return {f"trials_{state}": states.count(state) for state in ("finished", "failed", "running")}


def build_leaderboard(entries: Sequence[LeaderboardEntry]) -> pd.DataFrame:
    """The leaderboard: a row a trial, best first and failed ones last, with what was tuned, the results and the run."""
    import pandas as pd

    rows = [_build_row(entry) for entry in rank_entries(entries)]
    table = pd.DataFrame(rows, columns=_list_columns(entries))
    for key in {key for entry in entries for key in entry.values if any(key not in each.values for each in entries)}:
        # What was not drawn for some trial makes no 2.0 of the 2 of others.
        table[key] = pd.Series([row.get(key) for row in rows], dtype=object)
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


def _list_columns(entries: Sequence[LeaderboardEntry]) -> list[str]:
    tuned = dict.fromkeys(key for entry in entries for key in entry.values)
    return ["name", *tuned, *_RESULT_COLUMNS]


def _build_row(entry: LeaderboardEntry) -> dict[str, Any]:
    low, high = entry.interval or (None, None)
    values = {**vars(entry), "low": low, "high": high, "tied_with_best": entry.tied}
    return {"name": entry.name, **entry.values, **{key: values[key] for key in _RESULT_COLUMNS}}


def format_entry_accuracy(entry: LeaderboardEntry) -> str:
    """A validation accuracy with the interval that the finite validation set allows; an en dash where there is none."""
    if entry.best_val_accuracy is None or entry.interval is None:
        return "–"
    return format_estimate(entry.best_val_accuracy, *entry.interval)


def summarize_ties(entries: Sequence[LeaderboardEntry]) -> str:
    """How many trials are not distinguishable from the best, in a sentence; empty where that is not known."""
    winner = find_best_entry(entries)
    others = [entry.tied for entry in entries if entry is not winner and entry.best_val_accuracy is not None]
    return describe_ties(others.count(True), others.count(False), others.count(None))


def format_score_cell(entry: LeaderboardEntry, winner: LeaderboardEntry | None) -> str:
    """A trial's accuracy in a table, marked where it is not distinguishable from the best's."""
    return ("≈ " if entry.tied and entry is not winner else "") + format_entry_accuracy(entry)


def format_note(title: str, banner: str | None, entries: Sequence[LeaderboardEntry], paragraphs: Sequence[str]) -> str:
    """A summary with the first rows of the leaderboard, in Markdown, for the description of a parent run."""
    winner = find_best_entry(entries)
    # The banner's first line only: MLflow's UI folds a note after a few lines, and report.html has all of it.
    lines = [f"> **{banner.splitlines()[0]}**", ""] if banner else []
    if winner is None:
        lines += [f"**{title}**: no trial finished."]
    else:
        lines += [
            f"**{title}**: best is **{winner.name}**, validation accuracy **{format_entry_accuracy(winner)}** "
            f"(95% Wilson interval of the finite validation set; the best of several is an optimistic choice). "
            f"{summarize_ties(entries)}".rstrip()
        ]
    lines += [
        "",
        *paragraphs,
        "",
        _format_note_row("", "trial", "validation accuracy", "best epoch", "parameters", "fit"),
        "|--|--|--|--|--|--|",
    ]
    ordered = rank_entries(entries)
    for rank, entry in enumerate(ordered[:_MAX_NOTE_ROWS], 1):
        lines.append(_format_note_row(str(rank), entry.name, *_list_outcome_cells(entry, winner)))
    if len(ordered) > _MAX_NOTE_ROWS:
        lines.append(f"\n{len(ordered) - _MAX_NOTE_ROWS} more in leaderboard.csv.")
    return "\n".join(lines)


def _format_note_row(*cells: str) -> str:
    # MLflow's UI shows a note's table without any space between its columns.
    return f"| {' | '.join(escape_cells(cells))} |".replace(" |", "&emsp;|")


def _list_outcome_cells(entry: LeaderboardEntry, winner: LeaderboardEntry | None) -> list[str]:
    if entry.state == "failed":
        return [f"failed: {(entry.failure or '').replace('|', '/')}", "", "", ""]
    if entry.best_val_accuracy is None:
        return [entry.state, "", "", ""]
    return [
        format_score_cell(entry, winner),
        str(entry.best_epoch),
        f"{entry.parameters:,}",
        f"{entry.fit_seconds:.0f} s",
    ]
