"""A finished study or sweep -> leaderboard, a note in Markdown, one HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep import study as studies

if TYPE_CHECKING:
    import pandas as pd

    from fmnist_sweep.record import TrialHistory

_NOTE_ROWS = 20  # a note is read, not scrolled; leaderboard.csv has all


@dataclass
class TrialRecord:
    """What the supervisor knows of one trial.

    state: running, finished or failed. score: the search's objective at the best epoch.
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


def name_of(history: TrialHistory, about: Mapping[str, Any]) -> str:
    """What a trial is called wherever it is shown."""
    proposal = history.proposal
    return str(about["mark"]) + studies.trial_name(about["label"], proposal.values, proposal.epochs)


def record_of(history: TrialHistory, about: Mapping[str, Any]) -> TrialRecord:
    """A trial as tables and pages show it. about: its study's."""
    outcome = history.outcome or {}
    interval = outcome.get("interval")
    return TrialRecord(
        trial_id=history.trial_id,
        study_id=about["id"],
        name=name_of(history, about),
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


def best(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The finished trial with the highest validation accuracy (the first of equals), or None."""
    finished = [record for record in records if record.best_val_accuracy is not None]
    return max(finished, key=lambda record: record.best_val_accuracy or 0.0, default=None)


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials by validation accuracy, the highest first, those without one last."""
    return sorted(records, key=lambda record: -(record.best_val_accuracy or 0.0))


def counts(records: Sequence[TrialRecord]) -> dict[str, float]:
    """How many trials are in each state, as metrics."""
    states = [record.state for record in records]
    return {f"trials_{state}": states.count(state) for state in ("finished", "failed", "running")}


def leaderboard(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Trials, best first and failed ones last: what was tuned, what came of it, and the run to look at."""
    import pandas as pd

    table = pd.DataFrame([_row(record) for record in ranked(records)], columns=_columns(records))
    table.insert(0, "rank", range(1, len(table) + 1))
    return table


_RESULTS = (
    "best_val_accuracy",
    "score",
    "best_epoch",
    "parameters",
    "fit_seconds",
    "state",
    "study_id",
    "trial_id",
    "run_id",
)


def _columns(records: Sequence[TrialRecord]) -> list[str]:
    tuned = dict.fromkeys(key for record in records for key in record.values)
    return ["name", *tuned, *_RESULTS]


def _row(record: TrialRecord) -> dict[str, Any]:
    return {"name": record.name, **record.values, **{key: getattr(record, key) for key in _RESULTS}}


def accuracy_text(record: TrialRecord) -> str:
    """A validation accuracy and the interval that the finite validation set allows."""
    if record.best_val_accuracy is None or record.interval is None:
        return "–"
    low, high = record.interval
    return f"{record.best_val_accuracy:.4f} [{low:.4f}, {high:.4f}]"


def note(title: str, banner: str | None, records: Sequence[TrialRecord], more: Sequence[str]) -> str:
    """A short summary with the leaderboard, in Markdown, for the description of a parent run."""
    winner = best(records)
    # Its first line only: the UI folds a note after a few lines, and report.html has all of it.
    lines = [f"> **{banner.splitlines()[0]}**", ""] if banner else []
    if winner is None:
        lines += [f"**{title}**: no trial finished."]
    else:
        lines += [
            f"**{title}**: best is **{winner.name}**, validation accuracy **{accuracy_text(winner)}** "
            "(95% Wilson interval of the finite validation set; the best of several is an optimistic choice)."
        ]
    lines += [
        "",
        *more,
        "",
        _note_row("", "trial", "validation accuracy | best epoch | parameters | fit"),
        "|--|--|--|--|--|--|",
    ]
    ordered = ranked(records)
    for rank, record in enumerate(ordered[:_NOTE_ROWS], 1):
        lines.append(_note_row(str(rank), record.name, _outcome_cells(record)))
    if len(ordered) > _NOTE_ROWS:
        lines.append(f"\n{len(ordered) - _NOTE_ROWS} more in leaderboard.csv.")
    return "\n".join(lines)


def _note_row(rank: str, name: str, outcome: str) -> str:
    # The UI shows a note's table without any space between its columns.
    return f"| {rank} | {name} | {outcome} |".replace(" |", "&emsp;|")


def _outcome_cells(record: TrialRecord) -> str:
    if record.state == "failed":
        return f"failed: {(record.failure or '').replace('|', '/')} | | |"
    if record.best_val_accuracy is None:
        return f"{record.state} | | |"
    return f"{accuracy_text(record)} | {record.best_epoch} | {record.parameters:,} | {record.fit_seconds:.0f} s"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1b1b; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }}
tr.best td {{ background: #eef6ee; font-weight: 600; }}
.banner {{ background: #fff3cd; border: 2px solid #b58900; padding: .6rem 1rem; white-space: pre-wrap; }}
img {{ max-width: 100%; }} code {{ background: #f3f3f3; padding: .1rem .3rem; }}
</style></head><body>
<h1>{title}</h1>{banner}
<p>{answer}</p>
<p>{command}</p>
<h2>Leaderboard</h2>{table}
{figures}
</body></html>
"""


def page(
    title: str, banner: str | None, records: Sequence[TrialRecord], command: str, figures: Mapping[str, bytes]
) -> str:
    """One self-contained HTML page: the answer, the leaderboard, the best trial's figures by file name."""
    winner = best(records)
    if winner is None:
        answer = "No trial finished."
    else:
        answer = (
            f"Best: <b>{html.escape(winner.name)}</b> with a validation accuracy of <b>{accuracy_text(winner)}</b> "
            f"(95% Wilson interval), among {len(records)} trials. It was picked for being the highest, so expect "
            "a little less on new images."
        )
    return _PAGE.format(
        title=html.escape(title),
        banner=f'<div class="banner">{html.escape(banner)}</div>' if banner else "",
        answer=answer,
        command=f"<code>{html.escape(command)}</code>",
        table=_html_table(records, winner),
        figures=_html_figures(figures),
    )


def _html_table(records: Sequence[TrialRecord], winner: TrialRecord | None) -> str:
    rows = [
        "<tr><th></th><th>trial</th><th>validation accuracy</th><th>best epoch</th><th>parameters</th><th>fit</th></tr>"
    ]
    ordered = ranked(records)
    for rank, record in enumerate(ordered, 1):
        cells = "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in _outcome_cells(record).split("|"))
        mark = ' class="best"' if record is winner else ""
        rows.append(f"<tr{mark}><td>{rank}</td><td>{html.escape(record.name)}</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _html_figures(figures: Mapping[str, bytes]) -> str:
    pictures = [
        f"<h2>{name.removesuffix('.png').replace('_', ' ').capitalize()} of the best trial</h2>"
        f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for name, content in figures.items()
        if name.endswith(".png")
    ]
    return "\n".join(pictures)
