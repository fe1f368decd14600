"""Values -> charts. The best trial is green, those as good blue, others grey, failed ones vermillion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.fronts import CostFront
from fmnist_sweep.analysis.importance import Importance
from fmnist_sweep.analysis.proportions import compute_row_shares
from fmnist_sweep.report.best import TIED_LABEL
from fmnist_sweep.report.figures.canvas import BLUE, FAINT, GREEN, INK, MUTED, VERMILLION
from fmnist_sweep.report.plotly_chart import Chart

GREY = "#B4B9BE"  # trials that are neither the best nor as good

_PANEL_GAP = 0.1  # of the width of the page
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def chart_best_so_far(findings: Findings) -> Chart:
    """Chart the best accuracy so far by processor time, with a point for each trial; failed ones on the floor."""
    chart = make_chart(380)
    unit, name = _choose_time_unit(findings.cpu_seconds)
    floor, ceiling = compute_accuracy_range(findings)
    ends = [(end.place, end.cpu_seconds / unit, end.accuracy) for end in findings.cost_points]
    for label, colour, symbol, places in _group_trials(findings):
        points = [end for end in ends if end[0] in places]
        chart.add_trace(
            "scatter",
            x=[x for _, x, _ in points],
            y=[floor if accuracy is None else max(accuracy, floor) for _, _, accuracy in points],
            mode="markers",
            name=label,
            marker={"color": colour, "symbol": symbol, "size": 10 if colour == GREEN else 7, "opacity": 0.85},
            text=[format_hover_text(findings, place) for place, _, _ in points],
            hovertemplate=f"%{{text}}<br>after %{{x:.1f}} {name}<extra></extra>",
        )
    steps = [(end.cpu_seconds / unit, end.best) for end in findings.cost_points if end.best is not None]
    if steps:
        chart.add_trace(
            "scatter",
            x=[x for x, _ in steps],
            y=[max(y, floor) for _, y in steps],
            mode="lines",
            name="best so far",
            line={"color": INK, "width": 2, "shape": "hv"},
            hoverinfo="skip",
        )
    chart.update_axes("xaxis", title={"text": f"processor time, all trials together ({name})"}, rangemode="tozero")
    chart.update_axes(
        "yaxis", title={"text": "validation accuracy"}, range=_pad_range(floor, ceiling), tickformat=".3~f"
    )
    return chart


def chart_fronts(findings: Findings, fronts: Sequence[CostFront]) -> Chart:
    """Chart accuracy against some costs, side by side, each with the steps of its front."""
    chart = make_chart(380, panels=len(fronts), margin={"l": 60, "r": 16, "t": 72, "b": 48})
    floor, ceiling = compute_accuracy_range(findings)
    for panel, front in enumerate(fronts):
        suffix = str(panel + 1) if panel else ""
        for label, colour, symbol, places in _group_trials(findings):
            shown = [place for place in front.costs if place in places]
            chart.add_trace(
                "scatter",
                x=[front.costs[place] for place in shown],
                y=[max(findings.trials[place].accuracy or 0.0, floor) for place in shown],
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=not panel and bool(shown),
                marker={"color": colour, "symbol": symbol, "size": 10 if colour == GREEN else 7, "opacity": 0.85},
                text=[format_hover_text(findings, place) for place in shown],
                hovertemplate=f"%{{text}}<br>%{{x:,.4~g}} {front.measure.title}<extra></extra>",
                xaxis=f"x{suffix}",
                yaxis=f"y{suffix}",
            )
        chart.add_trace(
            "scatter",
            x=[front.costs[place] for place in front.places],
            y=[max(findings.trials[place].accuracy or 0.0, floor) for place in front.places],
            mode="lines",
            name="beaten by none in both",
            legendgroup="front",
            showlegend=not panel,
            line={"color": INK, "width": 2, "shape": "hv"},
            hoverinfo="skip",
            xaxis=f"x{suffix}",
            yaxis=f"y{suffix}",
        )
        chart.update_axes(f"xaxis{suffix}", title={"text": front.measure.title}, type="log")
        chart.update_axes(f"yaxis{suffix}", range=_pad_range(floor, ceiling), tickformat=".3~f")
    chart.update_axes("yaxis", title={"text": "validation accuracy"})
    return chart


_MOST_COUNTED = 25  # labels: of more, no number is written into a cell


def chart_confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Chart:
    """Chart counts of true (down) against predicted (across) labels; the colour follows the root of the row's share.

    names: of the labels, in the order of the matrix.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    share = compute_row_shares(counts)
    has_room = len(names) <= _MOST_COUNTED
    chart = make_chart(560 if has_room else 120 + 14 * len(names), margin={"l": 96, "r": 8, "t": 64, "b": 8})
    chart.add_trace(
        "heatmap",
        z=np.sqrt(share).round(4).tolist(),
        x=list(names),
        y=list(names),
        text=[["" if count == 0 else str(count) for count in row] for row in counts.tolist()],
        customdata=(100 * share).round(1).tolist(),
        texttemplate="%{text}" if has_room else "",
        textfont={"size": 12},
        colorscale=[[0, "#FFFFFF"], [0.35, "#CFE3F1"], [0.7, "#6AAED6"], [1, "#08519C"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="true %{y}, predicted %{x}: %{text} (%{customdata}% of %{y})<extra></extra>",
    )
    chart.update_axes(
        "xaxis",
        side="top",
        title={"text": "predicted"},
        tickangle=0 if has_room else 90,
        showgrid=False,
        ticks="",
        tickfont={"size": 11},
    )
    chart.update_axes(
        "yaxis", autorange="reversed", title={"text": "true"}, showgrid=False, ticks="", tickfont={"size": 11}
    )
    return chart


def chart_importance(importances: Importance) -> Chart:
    """Chart the share of the variance that hangs on each setting, the greatest on top, with the range of the refits."""
    settings = importances.settings[::-1]
    chart = make_chart(90 + 32 * len(settings), margin={"l": 8, "r": 24, "t": 8, "b": 44})
    chart.add_trace(
        "scatter",
        x=[item.value for item in settings],
        y=[escape_plotly(item.key) for item in settings],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, item.high - item.value) for item in settings],
            "arrayminus": [max(0.0, item.value - item.low) for item in settings],
            "color": BLUE,
            "thickness": 2,
            "width": 0,
        },
        mode="markers",
        marker={"color": BLUE, "size": 10},
        customdata=[[item.low, item.high] for item in settings],
        hovertemplate="%{y}: %{x:.0%} (%{customdata[0]:.0%} to %{customdata[1]:.0%})<extra></extra>",
        showlegend=False,
    )
    chart.update_axes(
        "xaxis",
        title={"text": "share of the variance of accuracy that hangs on it"},
        tickformat=".0%",
        zeroline=True,
        zerolinecolor=MUTED,
    )
    chart.update_axes("yaxis", tickfont={"size": 13}, range=[-0.6, len(settings) - 0.4])
    return chart


def _group_trials(findings: Findings) -> list[tuple[str, str, str, set[int]]]:
    """Groups of trials as (label, colour, symbol, places); the best comes last, so that it lies on top."""
    tied = set(findings.tied_places)
    finished = {place for place, trial in enumerate(findings.trials) if trial.accuracy is not None}
    failed = {place for place, trial in enumerate(findings.trials) if trial.state == "failed"}
    kinds = [
        ("failed", VERMILLION, "x", failed),
        ("other trials", GREY, "circle", finished - tied - {0}),
        (TIED_LABEL, BLUE, "circle", tied),
        ("the best", GREEN, "diamond", finished & {0}),
    ]
    return [kind for kind in kinds if kind[3]]


def format_hover_text(findings: Findings, place: int) -> str:
    """The text shown when a trial is pointed at, its name escaped: plotly reads a little HTML."""
    trial, row = findings.trials[place], findings.rows[place]
    end = trial.state if trial.accuracy is None else f"{trial.accuracy:.4f}, rank {row.rank}"
    return f"{escape_plotly(trial.name)}<br>{end}"


def escape_plotly(text: str) -> str:
    """Escape a text for plotly, which reads HTML's entities and tags, and templates such as %{x}."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def compute_accuracy_range(findings: Findings) -> tuple[float, float]:
    """The lowest and the highest accuracy on an axis. The better half gets the room; the worst lie on the floor."""
    accuracies = np.array([trial.accuracy for trial in findings.trials if trial.accuracy is not None])
    if not len(accuracies):
        return 0.0, 1.0
    best, median = float(accuracies.max()), float(np.median(accuracies))
    return max(float(accuracies.min()), median - 2 * (best - median)), best


def _pad_range(low: float, high: float) -> list[float]:
    margin = 0.06 * (high - low) or 0.01
    return [low - margin, high + margin]


def _choose_time_unit(seconds: float) -> tuple[float, str]:
    return (1.0, "s") if seconds < 180 else (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def make_chart(height: int, *, panels: int = 1, **layout: Any) -> Chart:
    """Make a chart in the page's look.

    panels: side by side, each with axes of its own.
    """
    chart = Chart()
    chart.update_layout(
        height=height,
        autotypenumbers="strict",  # a text of digits is a text
        hovermode="closest",
        font={"family": _FONT, "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        **{"margin": {"l": 60, "r": 16, "t": 48, "b": 48}, **layout},
    )
    axes = {
        "gridcolor": FAINT,
        "linecolor": MUTED,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": MUTED,
        "tickfont": {"color": MUTED},
        "title": {"font": {"color": MUTED}, "standoff": 15},
        "zeroline": False,
        "zerolinewidth": 2,
        "automargin": True,
    }
    for panel in range(panels):
        suffix = str(panel + 1) if panel else ""
        for axis in ("xaxis", "yaxis"):
            chart.update_axes(f"{axis}{suffix}", **axes)
        if panels > 1:
            width = (1 - _PANEL_GAP * (panels - 1)) / panels
            left = panel * (width + _PANEL_GAP)
            chart.update_axes(f"xaxis{suffix}", anchor=f"y{suffix}", domain=[left, left + width])
            chart.update_axes(f"yaxis{suffix}", anchor=f"x{suffix}", domain=[0.0, 1.0])
    return chart
