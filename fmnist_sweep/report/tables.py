"""Findings -> HTML tables, with small drawings in their cells: plain markup that needs no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from fmnist_sweep.analysis import UPPER_BODY
from fmnist_sweep.analysis.findings import Configuration, FailureCause, Findings
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.settings import Varied, as_text
from fmnist_sweep.report.charts import GREY
from fmnist_sweep.report.figures.canvas import BLUE, GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.text import duration

MOST_ROWS = 200
MOST_COLUMNS = 8  # of settings; more would not fit a page
FIRST_ROWS, PAPER_ROWS = 25, 50  # shown before all are asked for, as in report.css
_EXAMPLES = 5
_WIDTH, _HEIGHT = 120, 12  # pixels of a drawing in a cell


def leaderboard(findings: Findings) -> str:
    """The first MOST_ROWS trials: what varied, accuracy with its interval, ties marked, what each cost."""
    columns = columns_of(findings)
    named = len(columns) < len(findings.distinct) or not columns
    seeded = len({trial.params.get("seed") for trial in findings.trials}) > 1
    heads = [
        _head("", "rank", "number"),
        _head("", "≈", ""),
        _head("validation", "accuracy", "number"),
        _head("", "95% interval", "", sorts=False),
        *([_head("", "trial", "")] if named else []),
        *(_head(*_parted(setting.key), "number" if setting.numeric else "") for setting in columns),
        *([_head("", "seed", "number")] if seeded else []),
        _head("best", "epoch", "number"),
        _head("", "parameters", "number"),
        _head("cpu", "time", "number"),
        _head("", "run", "", sorts=False),
    ]
    draw = _interval_drawing(findings)
    rows = [
        _row(findings, place, columns, (named, seeded), draw) for place in range(min(MOST_ROWS, len(findings.trials)))
    ]
    tight = " tight" if len(heads) > 11 else ""
    return _table(heads, rows, f"sortable long{tight}", "trials")


def columns_of(findings: Findings) -> list[Varied]:
    """The settings that get a column: all, or where they are too many the first that do not repeat another."""
    return list(findings.varied) if len(findings.varied) <= MOST_COLUMNS else findings.distinct[:MOST_COLUMNS]


def repeats(findings: Findings) -> str:
    """Configurations trained with several seeds: mean ± sd (n), and each training as a dot."""
    columns = [setting for setting in columns_of(findings) if len(_texts(findings, setting)) > 1]
    heads = [
        _head("mean ± sd", "over seeds (n)", "number", sorts=False),
        _head("95% interval", "of the mean", "number", sorts=False),
        _head("", "each seed", "", sorts=False),
        *(
            [_head(*_parted(setting.key), "number" if setting.numeric else "", sorts=False) for setting in columns]
            or [_head("", "trial", "", sorts=False)]
        ),
    ]
    every = [findings.trials[place].accuracy or 0.0 for found in findings.repeated for place in found.places]
    rows = [_repeats_row(findings, found, columns, (min(every), max(every))) for found in findings.repeated]
    return _table(heads, rows, "narrow tight" if len(heads) > 8 else "narrow")


def per_class(mistakes: Mistakes) -> str:
    """Precision, recall with its interval and F1 of each label, the upper body's first, the hardest on top."""
    heads = [
        _head("", "label", "", sorts=False),
        *(_head("", name, "number", sorts=False) for name in ("images", "precision", "recall")),
        _head("95% interval", "of recall", "", sorts=False),
        _head("", "", "", sorts=False),
        _head("", "F1", "number", sorts=False),
    ]
    ordered = sorted(mistakes.scores, key=lambda score: (score.label not in UPPER_BODY, score.recall))
    low = min(score.recall_low for score in ordered)
    rows = []
    for place, score in enumerate(ordered):
        inside = score.label in UPPER_BODY
        last = inside and (place + 1 == len(ordered) or ordered[place + 1].label not in UPPER_BODY)
        drawing = _drawing(
            (score.recall_low, score.recall, score.recall_high), (low, 1.0), VERMILLION if inside else BLUE
        )
        cells = [
            _cell(escape(score.label)),
            _cell(f"{score.support:,}", "number"),
            _cell(f"{score.precision:.3f}", "number"),
            _cell(f"{score.recall:.3f}", "number"),
            _cell(f"[{score.recall_low:.3f}, {score.recall_high:.3f}]", "number"),
            _cell(drawing),
            _cell(f"{score.f1:.3f}", "number"),
        ]
        rows.append(f"<tr{' class=apart' if last else ''}>{''.join(cells)}</tr>")
    return _table(heads, rows, "narrow")


def failures(findings: Findings) -> str:
    """Failed trials by cause: how many, what was said, and which."""
    heads = [
        _head("", name, kind, sorts=False) for name, kind in (("trials", "number"), ("cause", ""), ("for example", ""))
    ]
    rows = [_failure_row(findings, cause) for cause in findings.failures]
    return _table(heads, rows, "")


def _row(
    findings: Findings,
    place: int,
    columns: Sequence[Varied],
    extra: tuple[bool, bool],
    draw: Callable[[int], str],
) -> str:
    trial, row = findings.trials[place], findings.rows[place]
    named, seeded = extra
    cells = [_cell("" if row.rank is None else str(row.rank), "number"), _cell(_mark(findings, place), "tie")]
    if trial.accuracy is None:
        cells.append(f'<td class="cause" colspan="2">{escape(trial.state)}</td>')
    else:
        cells += [_cell(f"{trial.accuracy:.4f}", "number"), _cell(draw(place))]
    cells += [_cell(_breaking(trial.name), "text long")] if named else []
    cells += [_value_cell(setting, setting.values[place]) for setting in columns]
    cells += [_cell(escape(as_text(trial.value("seed"))), "number")] if seeded else []
    cells += [
        _cell(_count(trial.metrics.get("best_epoch")), "number"),
        _cell(_count(trial.metrics.get("parameters")), "number"),
        f'<td class="number" data-value="{trial.cpu_seconds:.1f}">{duration(trial.cpu_seconds)}</td>',
        _cell(escape(trial.run_id[:8]), "id"),
    ]
    kind = "best" if place == 0 and row.rank else "" if trial.accuracy is not None else trial.state
    said = escape(": ".join(filter(None, (trial.name, trial.failure))), quote=True)
    return f'<tr class="{escape(kind)}" title="{said}">{"".join(cells)}</tr>'


def _mark(findings: Findings, place: int) -> str:
    tied = findings.rows[place].tied
    return "≈" if tied and place > 0 else "?" if tied is None and findings.trials[place].accuracy is not None else ""


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _value_cell(setting: Varied, value: object) -> str:
    return _cell(_breaking(as_text(value)), "number" if setting.numeric else "text")


def _repeats_row(
    findings: Findings, found: Configuration, columns: Sequence[Varied], scale: tuple[float, float]
) -> str:
    first, told = found.places[0], found.repeats
    interval = "–" if told.low is None or told.high is None else f"[{told.low:.4f}, {told.high:.4f}]"
    accuracies = [findings.trials[place].accuracy or 0.0 for place in found.places]
    cells = [
        _cell(escape(told.text()), "number"),
        _cell(interval, "number"),
        _cell(_dots(accuracies, told.mean, scale)),
    ]
    settings = [_value_cell(setting, setting.values[first]) for setting in columns]
    cells += settings or [_cell(_breaking(findings.trials[first].name), "text long")]
    return f"<tr{' class=best' if 0 in found.places else ''}>{''.join(cells)}</tr>"


def _failure_row(findings: Findings, cause: FailureCause) -> str:
    text = f"<b>{escape(cause.kind)}</b>" + (f": {escape(cause.message)}" if cause.message else "")
    named = [findings.trials[place] for place in cause.places[:_EXAMPLES]]
    examples = "<br>".join(
        f'{escape(trial.name)} <span class="id">{escape(trial.run_id[:8])}</span>' for trial in named
    )
    left = len(cause.places) - len(named)
    examples += f"<br>and {left} more" if left else ""
    return f"<tr>{_cell(str(len(cause.places)), 'number')}{_cell(text, 'text')}{_cell(examples, 'text')}</tr>"


def _interval_drawing(findings: Findings) -> Callable[[int], str]:
    """What draws a trial's interval, all on the scale of the better ones; what lies below ends at its edge."""
    shown = [row for row in findings.rows[:MOST_ROWS] if row.low is not None]
    accuracies = [trial.accuracy for trial in findings.trials[:MOST_ROWS] if trial.accuracy is not None]
    if not shown or not accuracies:
        return lambda place: ""
    best = shown[0]
    width = (best.high or 1.0) - (best.low or 0.0)
    low = max(float(np.quantile(accuracies, 0.2)) - width, (best.low or 0.0) - 3 * width)
    scale = (min(low, best.low or 0.0), max(row.high or 0.0 for row in shown))

    def draw(place: int) -> str:
        row, accuracy = findings.rows[place], findings.trials[place].accuracy
        if row.low is None or row.high is None or accuracy is None:
            return ""
        colour = GREEN if place == 0 else BLUE if row.tied else GREY
        return _drawing((row.low, accuracy, row.high), scale, colour, mark=accuracies[0])

    return draw


def _drawing(
    interval: tuple[float, float, float], scale: tuple[float, float], colour: str, mark: float | None = None
) -> str:
    """An interval as a line with its value as a dot; mark: a value to be seen behind all of them."""
    low, value, high = (_x(number, scale) for number in interval)
    behind = (
        ""
        if mark is None
        else f'<path d="M{_x(mark, scale):.1f} 0v{_HEIGHT}" stroke="{MUTED}" stroke-width=".6" stroke-dasharray="2 2"/>'
    )
    dot = (
        f'<circle cx="{value:.1f}" cy="6" r="3.2" fill="{colour}"/>'
        if interval[1] >= scale[0]
        else f'<path d="M7 2l-6 4l6 4z" fill="{colour}"/>'
    )
    return _svg(f'{behind}<path d="M{low:.1f} 6H{high:.1f}" stroke="{colour}" stroke-width="2"/>{dot}')


def _dots(values: Sequence[float], mean: float, scale: tuple[float, float]) -> str:
    dots = "".join(
        f'<circle cx="{_x(value, scale):.1f}" cy="6" r="3" fill="{BLUE}" fill-opacity=".55"/>' for value in values
    )
    return _svg(f'{dots}<path d="M{_x(mean, scale):.1f} 0v{_HEIGHT}" stroke="{INK}" stroke-width="1.5"/>')


def _svg(content: str) -> str:
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{content}</svg>'
    )


def _x(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    return 4 + share * (_WIDTH - 8)


def _texts(findings: Findings, setting: Varied) -> set[str]:
    return {as_text(setting.values[found.places[0]]) for found in findings.repeated}


def _parted(key: str) -> tuple[str, str]:
    group, _, name = key.rpartition(".")
    return group, name


def _head(group: str, name: str, kind: str, sorts: bool = True) -> str:
    classes = " ".join(word for word in (kind, "sorts" if sorts else "") if word)
    small = f'<span class="group">{escape(group)}</span>' if group else ""
    return f"<th{f' class={classes!r}' if classes else ''}>{small}{_breaking(name)}</th>"


def _breaking(name: str) -> str:
    """A text that may be broken after its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _cell(content: str, kind: str = "") -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _table(heads: Sequence[str], rows: Sequence[str], kind: str, name: str = "") -> str:
    named = f' id="{name}"' if name else ""
    return (
        f'<div class="wide"><table class="{kind}"{named}><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
