"""Curves of the best trials by epoch -> a chart: the best green, those as good blue, others grey."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.report.best import TIED_LABEL
from fmnist_sweep.report.charts import GREY, format_hover_text, make_chart
from fmnist_sweep.report.figures.canvas import BLUE, GREEN
from fmnist_sweep.report.plotly_chart import Chart, mask_nonfinite


def chart_curves(findings: Findings) -> Chart:
    """Chart accuracy and loss by epoch of the best trials: validation solid, training dotted, the best on top."""
    chart = make_chart(420, panels=2, margin={"l": 60, "r": 16, "t": 72, "b": 48})
    places = [place for place, trial in enumerate(findings.trials) if trial.run_id in findings.curves]
    tied = [place for place in places if place > 0 and findings.rows[place].tied]
    others = [place for place in places if place > 0 and not findings.rows[place].tied]
    groups = [
        _CurveGroup("other trials", others, "val_", GREY, 1.2, 0.8),
        _CurveGroup(TIED_LABEL, tied, "val_", BLUE, 1.2, 0.7),
        # Hidden at first: fifty more dotted lines would cover the others.
        _CurveGroup("training of all but the best", [*tied, *others], "", GREY, 0.9, 0.7, is_hidden=True),
        _CurveGroup("training of the best", [0] if 0 in places else [], "", GREEN, 1.8, 1.0),
        _CurveGroup("the best", [0] if 0 in places else [], "val_", GREEN, 2.8, 1.0),
    ]
    for group in groups:
        if group.places:
            _add_curves(chart, findings, group, "accuracy", "")
            _add_curves(chart, findings, group, "loss", "2")
    low, high = _compute_curve_ranges(findings.curves.values())
    last = max((len(history) for history in findings.curves.values()), default=1)
    epochs = {
        "title": {"text": "epoch"},
        "range": [1 - 0.02 * last, last + 0.02 * last],
        "tickformat": "d",
        "nticks": 8,
    }
    chart.update_axes("xaxis", "xaxis2", **epochs)
    chart.update_axes("yaxis", title={"text": "accuracy"}, range=[low, None], autorange="max", tickformat=".3~f")
    chart.update_axes("yaxis2", title={"text": "loss"}, range=[0, high])
    return chart


@dataclass(frozen=True)
class _CurveGroup:
    """Curves of some trials that are drawn alike. prefix: "val_" for validation, "" for training."""

    label: str
    places: list[int]
    prefix: str
    colour: str
    width: float
    opacity: float
    is_hidden: bool = False


def _add_curves(chart: Chart, findings: Findings, group: _CurveGroup, key: str, panel: str) -> None:
    """Add curves to a panel, which is named as plotly ends the names of its axes: "" or "2"."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for place in group.places:
        history = findings.curves[findings.trials[place].run_id]
        # A gap after each trial lets one trace draw all trials of a kind.
        x += [*range(1, len(history) + 1), None]
        y += [*mask_nonfinite([epoch[f"{group.prefix}{key}"] for epoch in history]), None]
        text += [format_hover_text(findings, place)] * (len(history) + 1)
    split_name = "validation" if group.prefix else "training"
    chart.add_trace(
        "scatter",
        x=x,
        y=y,
        text=text,
        mode="lines+markers" if max(map(len, findings.curves.values())) == 1 else "lines",
        name=group.label,
        legendgroup=group.label,
        showlegend=panel == "",
        visible="legendonly" if group.is_hidden else True,
        line={"color": group.colour, "width": group.width, "dash": "solid" if group.prefix else "dot"},
        opacity=group.opacity,
        hovertemplate=f"%{{text}}<br>{split_name} {key} %{{y:.4f}} in epoch %{{x}}<extra></extra>",
        xaxis=f"x{panel}",
        yaxis=f"y{panel}",
    )


def _compute_curve_ranges(histories: Iterable[Sequence[Mapping[str, float]]]) -> tuple[float, float]:
    """Where the accuracy axis begins and the loss axis ends, so that a first epoch does not flatten all others."""
    epochs = [epoch for history in histories for epoch in history]
    accuracies = [epoch[key] for epoch in epochs for key in ("accuracy", "val_accuracy") if math.isfinite(epoch[key])]
    losses = [epoch[key] for epoch in epochs for key in ("loss", "val_loss") if math.isfinite(epoch[key])]
    if not accuracies or not losses:
        return 0.0, 1.0
    return float(np.quantile(accuracies, 0.03)) - 0.01, 1.05 * float(np.quantile(losses, 0.97))
