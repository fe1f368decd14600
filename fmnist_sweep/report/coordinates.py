"""Parallel coordinates of the varied settings, as plain lines: plotly's own need WebGL, which not every viewer has."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.settings import VariedSetting, format_value
from fmnist_sweep.report.charts import compute_accuracy_range, escape_plotly, format_hover_text, make_chart
from fmnist_sweep.report.figures.canvas import GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.report.kept_parts import KeptParts
from fmnist_sweep.report.plotly_chart import Chart
from fmnist_sweep.report.ticks import find_log_ticks, find_ticks

MAX_LINES = 500
MAX_AXES = 9
_MAX_LEVELS = 8  # an axis with at most this many values gives each its own place
_MISSING_HEIGHT = -0.09  # below an axis: trials that have no such setting
_SHADES = ("#DCE6EE", "#BCD3E4", "#94BBD8", "#64A0CA", "#3787BC", "#0072B2")  # the lowest accuracies to the highest


@dataclass(frozen=True)
class _Axis:
    """One axis. heights: one a trial, 0..1, None where its line ends before; ticks: heights and texts."""

    title: str
    heights: list[float | None]
    ticks: list[tuple[float, str]]


def chart_parallel_coordinates(findings: Findings, parts: KeptParts) -> Chart:
    """Chart each trial as a line through its settings to its accuracy: darker is better, the best green, failed dotted.

    Of more than MAX_LINES trials an even selection from best to worst is drawn. layout.meta holds what the page's
    script needs to pick out trials: the heights of each line, and the places of the two traces that it fills.
    parts: that were kept.
    """
    selection = select_lines(len(findings.trials))
    axes = [_make_setting_axis(setting, selection, parts) for setting in select_axes(findings)] + [
        _make_accuracy_axis(findings, selection, parts)
    ]
    chart = make_chart(430, dragmode="select", showlegend=False, margin={"l": 56, "r": 56, "t": 92, "b": 8})
    for colour, width, dash, places in _group_lines(findings, selection):
        _add_lines(chart, axes, [selection.index(place) for place in places], (colour, width, dash))
    # For the trials that pass through a box, and for the one pointed at.
    for colour, width in ((INK, 1.6), (VERMILLION, 3.0)):
        chart.add_trace("scatter", x=[], y=[], mode="lines", line={"color": colour, "width": width}, hoverinfo="skip")
    _add_axes(chart, axes)
    rows = [[axis.heights[number] for axis in axes] for number in range(len(selection))]
    chart.update_layout(
        meta={"rows": rows, "picked": len(chart.traces) - 2, "pointed": len(chart.traces) - 1},
    )
    _add_points(chart, findings, selection, axes)
    return chart


def select_axes(findings: Findings) -> list[VariedSetting]:
    """Select the settings that get an axis, in the order of the config; the most important where there are too many."""
    settings = findings.distinct_settings
    if len(settings) <= MAX_AXES:
        return settings
    rank = {item.key: place for place, item in enumerate(findings.importance.settings)}
    selection = sorted(settings, key=lambda setting: rank.get(setting.key, len(rank)))[:MAX_AXES]
    return [setting for setting in settings if setting in selection]


def describe_selection(findings: Findings) -> str:
    """Say which trials and settings are drawn; empty where all are."""
    sentences = []
    if len(findings.trials) > MAX_LINES:
        sentences.append(
            f"An even selection of {MAX_LINES} of the {len(findings.trials):,} trials, from best to worst."
        )
    axes = select_axes(findings)
    if len(axes) < len(findings.distinct_settings):
        sentences.append(f"{len(axes)} of {len(findings.distinct_settings)} settings that varied.")
    return " ".join(sentences)


def select_lines(trials: int) -> list[int]:
    """Select the places of the trials that are drawn: all, or an even selection that begins with the best."""
    return sorted(set(np.linspace(0, trials - 1, min(trials, MAX_LINES)).astype(int).tolist()))


def _make_setting_axis(setting: VariedSetting, selection: Sequence[int], parts: KeptParts) -> _Axis:
    values = [setting.values[place] for place in selection]
    levels = [level for level in setting.levels if level is not None]
    if setting.numeric and len(levels) > _MAX_LEVELS:
        heights, ticks = _scale_values([None if v is None else float(v) for v in values], setting.log, parts)
    else:
        texts = [format_value(level) for level in levels]
        height = {text: 0.5 if len(texts) == 1 else place / (len(texts) - 1) for place, text in enumerate(texts)}
        ticks = (
            [(height[text], text) for text in texts]
            if len(texts) <= 2 * _MAX_LEVELS
            else [(height[texts[0]], texts[0]), (height[texts[-1]], texts[-1])]
        )
        # A small spread keeps lines through one value from covering one another.
        heights = [
            None if value is None else height[format_value(value)] + 0.05 * ((number * 0.618) % 1 - 0.5)
            for number, value in enumerate(values)
        ]
    if any(value is None for value in values):
        ticks = [*ticks, (_MISSING_HEIGHT, "–")]
    return _Axis(setting.key, [_MISSING_HEIGHT if height is None else round(height, 4) for height in heights], ticks)


def _make_accuracy_axis(findings: Findings, selection: Sequence[int], parts: KeptParts) -> _Axis:
    """The axis of accuracy, by the logarithm of the error rate: better trials get more room."""
    floor = compute_accuracy_range(findings)[0]
    accuracies = [findings.trials[place].accuracy for place in selection]
    errors = [None if value is None else max(1 - max(value, floor), 1e-4) for value in accuracies]
    present = [error for error in errors if error is not None]
    if not present:
        return _Axis("validation.accuracy", [None for _ in errors], [])
    low, span = math.log10(max(present)), math.log10(max(present) / min(present)) or 1.0

    def height(error: float) -> float:
        return round((low - math.log10(error)) / span, 4)

    values = parts.compute_numbers(find_ticks, 1 - max(present), 1 - min(present), 6)
    ticks = [(height(1 - tick), f"{tick:.4g}") for tick in values if min(present) < 1 - tick < max(present)]
    if min(value for value in accuracies if value is not None) < floor:
        ticks = [(tick_height, text) for tick_height, text in ticks if tick_height > 0.06] + [(0.0, f"≤ {floor:.3f}")]
    return _Axis("validation.accuracy", [None if error is None else height(error) for error in errors], ticks)


def _scale_values(
    values: Sequence[float | None], log: bool, parts: KeptParts
) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Heights of numbers, from 0 for the least to 1 for the greatest, and ticks at round numbers."""
    present = [value for value in values if value is not None]
    if not present:
        return list(values), []
    low, high = min(present), max(present)
    scale = math.log10 if log else float
    span = scale(high) - scale(low) or 1.0
    found = parts.compute_numbers(find_log_ticks, low, high) if log else parts.compute_numbers(find_ticks, low, high, 5)
    ticks = [tick for tick in found if low <= tick <= high]
    return (
        [None if value is None else (scale(value) - scale(low)) / span for value in values],
        [((scale(tick) - scale(low)) / span, f"{tick:.4g}") for tick in ticks],
    )


def _group_lines(findings: Findings, selection: Sequence[int]) -> list[tuple[str, float, str, list[int]]]:
    """Groups of lines as (colour, width, dash, places); the best comes last, so that it lies on top."""
    finished = [place for place in selection if findings.trials[place].accuracy is not None]
    others = finished[1:][::-1]
    parts = np.array_split(np.array(others, dtype=int), len(_SHADES))
    failed = [place for place in selection if findings.trials[place].state == "failed"]
    return [
        (VERMILLION, 1.4, "dot", failed),
        *(
            (shade, 1.3 if len(selection) < 100 else 0.9, "solid", part.tolist())
            for shade, part in zip(_SHADES, parts, strict=True)
        ),
        (GREEN, 3.5, "solid", finished[:1]),
    ]


def _add_lines(chart: Chart, axes: Sequence[_Axis], numbers: Sequence[int], style: tuple[str, float, str]) -> None:
    colour, width, dash = style
    x: list[float | None] = []
    y: list[float | None] = []
    for number in numbers:
        x += [*range(len(axes)), None]
        y += [*(axis.heights[number] for axis in axes), None]
    line = {"color": colour, "width": width, "dash": dash}
    chart.add_trace("scatter", x=x, y=y, mode="lines", line=line, hoverinfo="skip", connectgaps=False)


def _add_points(chart: Chart, findings: Findings, selection: Sequence[int], axes: Sequence[_Axis]) -> None:
    """Add a transparent point where each line meets an axis: plotly lets nothing point at a line between its ends."""
    words = [format_hover_text(findings, place) for place in selection]
    points = [
        (place, axis.heights[number], number)
        for place, axis in enumerate(axes)
        for number in range(len(selection))
        if axis.heights[number] is not None
    ]
    chart.add_trace(
        "scatter",
        x=[x for x, _, _ in points],
        y=[y for _, y, _ in points],
        customdata=[number for _, _, number in points],
        mode="markers",
        marker={"size": 7, "color": INK, "opacity": 0.0},
        unselected={"marker": {"opacity": 0.0}},
        selected={"marker": {"opacity": 0.0}},
        text=[words[number] for _, _, number in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_axes(chart: Chart, axes: Sequence[_Axis]) -> None:
    style: dict[str, Any] = {
        "showgrid": False,
        "zeroline": False,
        "showticklabels": False,
        "ticks": "",
        "fixedrange": True,
    }
    chart.update_axes("xaxis", **style, showline=False, range=[-0.25, len(axes) - 0.75])
    chart.update_axes("yaxis", **style, showline=False, range=[_MISSING_HEIGHT - 0.03, 1.04])
    for place, axis in enumerate(axes):
        chart.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": MUTED, "width": 1}, layer="above")
        group, _, name = axis.title.rpartition(".")
        # Titles break after underscores, as they stand close together on paper.
        words = escape_plotly(name).replace("_", "_<br>") if len(name) > 10 else escape_plotly(name)
        title = f'<span style="color:{MUTED};font-size:10px">{escape_plotly(group)}</span><br>{words}'
        chart.add_annotation(
            x=place, y=1.0, yshift=22, text=title, showarrow=False, yanchor="bottom", font={"size": 12}
        )
        for height, text in axis.ticks:
            chart.add_annotation(
                x=place,
                y=height,
                text=_wrap_text(text, 84 // len(axes)),
                showarrow=False,
                xanchor="right",
                xshift=-5,
                font={"size": 11, "color": MUTED},
                bgcolor="rgba(255,255,255,0.8)",
                borderpad=1,
            )


def _wrap_text(text: str, width: int) -> str:
    """Wrap a tick's text to up to three lines, so that it does not reach into the next axis."""
    lines = textwrap.wrap(text.replace("_", "_ "), max(width, 11), max_lines=3, placeholder="…", break_long_words=False)
    return "<br>".join(escape_plotly(line.replace("_ ", "_")) for line in lines)
