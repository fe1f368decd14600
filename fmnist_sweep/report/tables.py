"""Findings -> HTML tables, with small drawings in their cells: plain markup that needs no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from fmnist_sweep.analysis import UPPER_BODY
from fmnist_sweep.analysis.findings import FailureCause, Findings, RepeatedConfiguration
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.settings import VariedSetting, format_value
from fmnist_sweep.report.charts import GREY
from fmnist_sweep.report.figures.canvas import BLUE, GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.text import format_duration

MAX_ROWS = 200
MAX_COLUMNS = 8  # of settings; more would not fit a page
FIRST_ROWS, PAPER_ROWS = 25, 50  # shown before all are asked for, as in report.css
_MAX_EXAMPLES = 5
_WIDTH, _HEIGHT = 120, 12  # pixels of a drawing in a cell


def render_leaderboard(findings: Findings) -> str:
    """The first MOST_ROWS trials: what varied, accuracy with its interval, ties marked, what each cost."""
    columns = select_columns(findings)
    has_names = len(columns) < len(findings.distinct_settings) or not columns
    has_seeds = len({trial.params.get("seed") for trial in findings.trials}) > 1
    heads = [
        _render_head("", "rank", "number"),
        _render_head("", "≈", ""),
        _render_head("validation", "accuracy", "number"),
        _render_head("", "95% interval", "", sorts=False),
        *([_render_head("", "trial", "")] if has_names else []),
        *(_render_head(*_split_key(setting.key), "number" if setting.numeric else "") for setting in columns),
        *([_render_head("", "seed", "number")] if has_seeds else []),
        _render_head("best", "epoch", "number"),
        _render_head("", "parameters", "number"),
        _render_head("cpu", "time", "number"),
        _render_head("", "run", "", sorts=False),
    ]
    draw = _make_interval_drawer(findings)
    rows = [
        _render_row(findings, place, columns, (has_names, has_seeds), draw)
        for place in range(min(MAX_ROWS, len(findings.trials)))
    ]
    tight = " tight" if len(heads) > 11 else ""
    return _render_table(heads, rows, f"sortable long{tight}", "trials")


def select_columns(findings: Findings) -> list[VariedSetting]:
    """The settings that get a column: all, or where they are too many the first that do not repeat another."""
    return (
        list(findings.varied_settings)
        if len(findings.varied_settings) <= MAX_COLUMNS
        else findings.distinct_settings[:MAX_COLUMNS]
    )


def render_repeats(findings: Findings) -> str:
    """Configurations trained with several seeds: mean ± sd (n), and each training as a dot."""
    columns = [setting for setting in select_columns(findings) if len(_list_texts(findings, setting)) > 1]
    heads = [
        _render_head("mean ± sd", "over seeds (n)", "number", sorts=False),
        _render_head("95% interval", "of the mean", "number", sorts=False),
        _render_head("", "each seed", "", sorts=False),
        *(
            [
                _render_head(*_split_key(setting.key), "number" if setting.numeric else "", sorts=False)
                for setting in columns
            ]
            or [_render_head("", "trial", "", sorts=False)]
        ),
    ]
    accuracies = [
        findings.trials[place].accuracy or 0.0
        for configuration in findings.repeated_configurations
        for place in configuration.places
    ]
    rows = [
        _render_repeats_row(findings, configuration, columns, (min(accuracies), max(accuracies)))
        for configuration in findings.repeated_configurations
    ]
    return _render_table(heads, rows, "narrow tight" if len(heads) > 8 else "narrow")


def render_label_scores(mistakes: Mistakes) -> str:
    """Precision, recall with its interval and F1 of each label, the upper body's first, the hardest on top."""
    heads = [
        _render_head("", "label", "", sorts=False),
        *(_render_head("", name, "number", sorts=False) for name in ("images", "precision", "recall")),
        _render_head("95% interval", "of recall", "", sorts=False),
        _render_head("", "", "", sorts=False),
        _render_head("", "F1", "number", sorts=False),
    ]
    ordered = sorted(mistakes.scores, key=lambda score: (score.label not in UPPER_BODY, score.recall))
    low = min(score.recall_low for score in ordered)
    rows = []
    for place, score in enumerate(ordered):
        inside = score.label in UPPER_BODY
        last = inside and (place + 1 == len(ordered) or ordered[place + 1].label not in UPPER_BODY)
        drawing = _draw_interval(
            (score.recall_low, score.recall, score.recall_high), (low, 1.0), VERMILLION if inside else BLUE
        )
        cells = [
            _render_cell(escape(score.label)),
            _render_cell(f"{score.support:,}", "number"),
            _render_cell(f"{score.precision:.3f}", "number"),
            _render_cell(f"{score.recall:.3f}", "number"),
            _render_cell(f"[{score.recall_low:.3f}, {score.recall_high:.3f}]", "number"),
            _render_cell(drawing),
            _render_cell(f"{score.f1:.3f}", "number"),
        ]
        rows.append(f"<tr{' class=apart' if last else ''}>{''.join(cells)}</tr>")
    return _render_table(heads, rows, "narrow")


def render_failures(findings: Findings) -> str:
    """Failed trials by cause: how many, what was said, and which."""
    heads = [
        _render_head("", name, kind, sorts=False)
        for name, kind in (("trials", "number"), ("cause", ""), ("for example", ""))
    ]
    rows = [_render_failure_row(findings, cause) for cause in findings.failures]
    return _render_table(heads, rows, "")


def _render_row(
    findings: Findings,
    place: int,
    columns: Sequence[VariedSetting],
    extra: tuple[bool, bool],
    draw: Callable[[int], str],
) -> str:
    trial, row = findings.trials[place], findings.rows[place]
    has_names, has_seeds = extra
    cells = [
        _render_cell("" if row.rank is None else str(row.rank), "number"),
        _render_cell(_format_tie_mark(findings, place), "tie"),
    ]
    if trial.accuracy is None:
        cells.append(f'<td class="cause" colspan="2">{escape(trial.state)}</td>')
    else:
        cells += [_render_cell(f"{trial.accuracy:.4f}", "number"), _render_cell(draw(place))]
    cells += [_render_cell(_format_breakable(trial.name), "text long")] if has_names else []
    cells += [_render_value_cell(setting, setting.values[place]) for setting in columns]
    cells += [_render_cell(escape(format_value(trial.parse_value("seed"))), "number")] if has_seeds else []
    cells += [
        _render_cell(_format_count(trial.metrics.get("best_epoch")), "number"),
        _render_cell(_format_count(trial.metrics.get("parameters")), "number"),
        f'<td class="number" data-value="{trial.cpu_seconds:.1f}">{format_duration(trial.cpu_seconds)}</td>',
        _render_cell(escape(trial.run_id[:8]), "id"),
    ]
    kind = "best" if place == 0 and row.rank else "" if trial.accuracy is not None else trial.state
    title = escape(": ".join(filter(None, (trial.name, trial.failure))), quote=True)
    return f'<tr class="{escape(kind)}" title="{title}">{"".join(cells)}</tr>'


def _format_tie_mark(findings: Findings, place: int) -> str:
    tied = findings.rows[place].tied
    return "≈" if tied and place > 0 else "?" if tied is None and findings.trials[place].accuracy is not None else ""


def _format_count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _render_value_cell(setting: VariedSetting, value: object) -> str:
    return _render_cell(_format_breakable(format_value(value)), "number" if setting.numeric else "text")


def _render_repeats_row(
    findings: Findings,
    configuration: RepeatedConfiguration,
    columns: Sequence[VariedSetting],
    scale: tuple[float, float],
) -> str:
    first, statistics = configuration.places[0], configuration.repeats
    interval = (
        "–" if statistics.low is None or statistics.high is None else f"[{statistics.low:.4f}, {statistics.high:.4f}]"
    )
    accuracies = [findings.trials[place].accuracy or 0.0 for place in configuration.places]
    cells = [
        _render_cell(escape(statistics.format_text()), "number"),
        _render_cell(interval, "number"),
        _render_cell(_draw_dots(accuracies, statistics.mean, scale)),
    ]
    settings = [_render_value_cell(setting, setting.values[first]) for setting in columns]
    cells += settings or [_render_cell(_format_breakable(findings.trials[first].name), "text long")]
    return f"<tr{' class=best' if 0 in configuration.places else ''}>{''.join(cells)}</tr>"


def _render_failure_row(findings: Findings, cause: FailureCause) -> str:
    text = f"<b>{escape(cause.kind)}</b>" + (f": {escape(cause.message)}" if cause.message else "")
    trials = [findings.trials[place] for place in cause.places[:_MAX_EXAMPLES]]
    examples = "<br>".join(
        f'{escape(trial.name)} <span class="id">{escape(trial.run_id[:8])}</span>' for trial in trials
    )
    remaining = len(cause.places) - len(trials)
    examples += f"<br>and {remaining} more" if remaining else ""
    return f"<tr>{_render_cell(str(len(cause.places)), 'number')}{_render_cell(text, 'text')}{_render_cell(examples, 'text')}</tr>"


def _make_interval_drawer(findings: Findings) -> Callable[[int], str]:
    """What draws a trial's interval, all on the scale of the better ones; what lies below ends at its edge."""
    rows = [row for row in findings.rows[:MAX_ROWS] if row.low is not None]
    accuracies = [trial.accuracy for trial in findings.trials[:MAX_ROWS] if trial.accuracy is not None]
    if not rows or not accuracies:
        return lambda place: ""
    best = rows[0]
    width = (best.high or 1.0) - (best.low or 0.0)
    low = max(float(np.quantile(accuracies, 0.2)) - width, (best.low or 0.0) - 3 * width)
    scale = (min(low, best.low or 0.0), max(row.high or 0.0 for row in rows))

    def draw(place: int) -> str:
        row, accuracy = findings.rows[place], findings.trials[place].accuracy
        if row.low is None or row.high is None or accuracy is None:
            return ""
        colour = GREEN if place == 0 else BLUE if row.tied else GREY
        return _draw_interval((row.low, accuracy, row.high), scale, colour, mark=accuracies[0])

    return draw


def _draw_interval(
    interval: tuple[float, float, float], scale: tuple[float, float], colour: str, mark: float | None = None
) -> str:
    """An interval as a line with its value as a dot; mark: a value to be seen behind all of them."""
    low, value, high = (_scale_x(number, scale) for number in interval)
    mark_line = (
        ""
        if mark is None
        else f'<path d="M{_scale_x(mark, scale):.1f} 0v{_HEIGHT}" stroke="{MUTED}" stroke-width=".6" stroke-dasharray="2 2"/>'
    )
    dot = (
        f'<circle cx="{value:.1f}" cy="6" r="3.2" fill="{colour}"/>'
        if interval[1] >= scale[0]
        else f'<path d="M7 2l-6 4l6 4z" fill="{colour}"/>'
    )
    return _render_svg(f'{mark_line}<path d="M{low:.1f} 6H{high:.1f}" stroke="{colour}" stroke-width="2"/>{dot}')


def _draw_dots(values: Sequence[float], mean: float, scale: tuple[float, float]) -> str:
    dots = "".join(
        f'<circle cx="{_scale_x(value, scale):.1f}" cy="6" r="3" fill="{BLUE}" fill-opacity=".55"/>' for value in values
    )
    return _render_svg(f'{dots}<path d="M{_scale_x(mean, scale):.1f} 0v{_HEIGHT}" stroke="{INK}" stroke-width="1.5"/>')


def _render_svg(content: str) -> str:
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{content}</svg>'
    )


def _scale_x(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    return 4 + share * (_WIDTH - 8)


def _list_texts(findings: Findings, setting: VariedSetting) -> set[str]:
    return {format_value(setting.values[configuration.places[0]]) for configuration in findings.repeated_configurations}


def _split_key(key: str) -> tuple[str, str]:
    group, _, name = key.rpartition(".")
    return group, name


def _render_head(group: str, name: str, kind: str, sorts: bool = True) -> str:
    classes = " ".join(word for word in (kind, "sorts" if sorts else "") if word)
    small = f'<span class="group">{escape(group)}</span>' if group else ""
    return f"<th{f' class={classes!r}' if classes else ''}>{small}{_format_breakable(name)}</th>"


def _format_breakable(name: str) -> str:
    """A text that may be broken after its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _render_cell(content: str, kind: str = "") -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _render_table(heads: Sequence[str], rows: Sequence[str], kind: str, name: str = "") -> str:
    attribute = f' id="{name}"' if name else ""
    return (
        f'<div class="wide"><table class="{kind}"{attribute}><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
