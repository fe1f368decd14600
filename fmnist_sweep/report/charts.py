"""Values -> plotly figures: no files, no HTML. Best green, as good as the best blue, others grey, failed vermillion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.importance import Importance
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures.canvas import BLUE, FAINT, GREEN, INK, MUTED, VERMILLION

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GREY = "#B4B9BE"  # of trials that are neither the best nor as good
AS_GOOD = "≈ cannot be told apart from it"

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def best_so_far(findings: Findings) -> Figure:
    """The best accuracy by the processor time spent, and every trial where it ended; failed ones on the floor."""
    figure = blank(380, hovermode="closest")
    unit, name = _time_unit(findings.cpu_seconds)
    floor, ceiling = accuracy_range(findings)
    ends = [(end.place, end.cpu_seconds / unit, end.accuracy) for end in findings.spent]
    for label, colour, symbol, places in _kinds(findings):
        shown = [end for end in ends if end[0] in places]
        figure.add_scatter(
            x=[x for _, x, _ in shown],
            y=[floor if accuracy is None else max(accuracy, floor) for _, _, accuracy in shown],
            mode="markers",
            name=label,
            marker={"color": colour, "symbol": symbol, "size": 10 if colour == GREEN else 7, "opacity": 0.85},
            text=[words_of(findings, place) for place, _, _ in shown],
            hovertemplate=f"%{{text}}<br>after %{{x:.1f}} {name}<extra></extra>",
        )
    steps = [(end.cpu_seconds / unit, end.best) for end in findings.spent if end.best is not None]
    if steps:
        figure.add_scatter(
            x=[x for x, _ in steps],
            y=[max(y, floor) for _, y in steps],
            mode="lines",
            name="best so far",
            line={"color": INK, "width": 2, "shape": "hv"},
            hoverinfo="skip",
        )
    figure.update_xaxes(title_text=f"processor time, all trials together ({name})", rangemode="tozero")
    figure.update_yaxes(title_text="validation accuracy", range=_padded(floor, ceiling), tickformat=".3~f")
    return figure


def curves(findings: Findings) -> Figure:
    """Accuracy and loss by epoch of the best trials: validation solid, training dotted, the best on top."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    _dress(figure, 420, margin={"l": 60, "r": 16, "t": 72, "b": 48})
    shown = [place for place, trial in enumerate(findings.trials) if trial.run_id in findings.curves]
    tied = [place for place in shown if place > 0 and findings.rows[place].tied]
    others = [place for place in shown if place > 0 and not findings.rows[place].tied]
    kinds = [
        _Lines("other trials", others, "val_", GREY, 1.2, 0.8),
        _Lines(AS_GOOD, tied, "val_", BLUE, 1.2, 0.7),
        # Fifty dotted lines more would hide what can be seen.
        _Lines("training of all but the best", [*tied, *others], "", GREY, 0.9, 0.7, hidden=True),
        _Lines("training of the best", [0] if 0 in shown else [], "", GREEN, 1.8, 1.0),
        _Lines("the best", [0] if 0 in shown else [], "val_", GREEN, 2.8, 1.0),
    ]
    for lines in kinds:
        if lines.places:
            _add_curves(figure, findings, lines, "accuracy", 1)
            _add_curves(figure, findings, lines, "loss", 2)
    low, high = _curve_ranges(findings.curves.values())
    last = max((len(history) for history in findings.curves.values()), default=1)
    figure.update_xaxes(title_text="epoch", range=[1 - 0.02 * last, last + 0.02 * last], tickformat="d", nticks=8)
    figure.update_yaxes(title_text="accuracy", range=[low, None], autorange="max", tickformat=".3~f", col=1)
    figure.update_yaxes(title_text="loss", range=[0, high], col=2)
    return figure


@dataclass(frozen=True)
class _Lines:
    """Curves that are drawn alike: of these trials, prefix "val_" or "" for training; hidden until asked for."""

    label: str
    places: list[int]
    prefix: str
    colour: str
    width: float
    opacity: float
    hidden: bool = False


def _add_curves(figure: Figure, findings: Findings, lines: _Lines, key: str, column: int) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for place in lines.places:
        history = findings.curves[findings.trials[place].run_id]
        # A gap after each trial, so that all of a kind are one line to draw.
        x += [*range(1, len(history) + 1), None]
        y += [*(_finite(epoch[f"{lines.prefix}{key}"]) for epoch in history), None]
        text += [words_of(findings, place)] * (len(history) + 1)
    what = "validation" if lines.prefix else "training"
    figure.add_scatter(
        x=x,
        y=y,
        text=text,
        mode="lines+markers" if max(map(len, findings.curves.values())) == 1 else "lines",
        name=lines.label,
        legendgroup=lines.label,
        showlegend=column == 1,
        visible="legendonly" if lines.hidden else True,
        line={"color": lines.colour, "width": lines.width, "dash": "solid" if lines.prefix else "dot"},
        opacity=lines.opacity,
        hovertemplate=f"%{{text}}<br>{what} {key} %{{y:.4f}} in epoch %{{x}}<extra></extra>",
        row=1,
        col=column,
    )


def confusion(matrix: Sequence[Sequence[int]]) -> Figure:
    """Counts of true (down) against predicted (across) labels; the colour follows the root of the share of the row."""
    counts = np.asarray(matrix, dtype=np.int64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = blank(560, margin={"l": 96, "r": 8, "t": 64, "b": 8})
    figure.add_heatmap(
        z=np.sqrt(share).round(4).tolist(),
        x=list(LABELS),
        y=list(LABELS),
        text=[["" if count == 0 else str(count) for count in row] for row in counts.tolist()],
        customdata=(100 * share).round(1).tolist(),
        texttemplate="%{text}",
        textfont={"size": 12},
        colorscale=[[0, "#FFFFFF"], [0.35, "#CFE3F1"], [0.7, "#6AAED6"], [1, "#08519C"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="true %{y}, predicted %{x}: %{text} (%{customdata}% of %{y})<extra></extra>",
    )
    figure.update_xaxes(
        side="top", title_text="predicted", tickangle=0, showgrid=False, ticks="", tickfont={"size": 11}
    )
    figure.update_yaxes(autorange="reversed", title_text="true", showgrid=False, ticks="", tickfont={"size": 11})
    return figure


def importance(found: Importance) -> Figure:
    """The share of the variance that hangs on each setting, the greatest on top, with the range of the refits."""
    settings = found.settings[::-1]
    figure = blank(90 + 32 * len(settings), margin={"l": 8, "r": 24, "t": 8, "b": 44})
    figure.add_scatter(
        x=[item.value for item in settings],
        y=[plain(item.key) for item in settings],
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
    figure.update_xaxes(
        title_text="share of the variance of accuracy that hangs on it",
        tickformat=".0%",
        zeroline=True,
        zerolinecolor=MUTED,
    )
    figure.update_yaxes(automargin=True, tickfont={"size": 13}, range=[-0.6, len(settings) - 0.4])
    return figure


def _kinds(findings: Findings) -> list[tuple[str, str, str, set[int]]]:
    """What trials are told apart by: words, colour, symbol, places; the best last, to lie on top."""
    tied = set(findings.tied)
    finished = {place for place, trial in enumerate(findings.trials) if trial.accuracy is not None}
    failed = {place for place, trial in enumerate(findings.trials) if trial.state == "failed"}
    kinds = [
        ("failed", VERMILLION, "x", failed),
        ("other trials", GREY, "circle", finished - tied - {0}),
        (AS_GOOD, BLUE, "circle", tied),
        ("the best", GREEN, "diamond", finished & {0}),
    ]
    return [kind for kind in kinds if kind[3]]


def words_of(findings: Findings, place: int) -> str:
    """What a trial says when pointed at: plotly reads a little HTML, so what it is called is made harmless."""
    trial, row = findings.trials[place], findings.rows[place]
    end = trial.state if trial.accuracy is None else f"{trial.accuracy:.4f}, rank {row.rank}"
    return f"{plain(trial.name)}<br>{end}"


def plain(text: str) -> str:
    """A text that plotly shows as it is: it takes HTML's entities, tags, and templates in percent signs."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def accuracy_range(findings: Findings) -> tuple[float, float]:
    """From the lowest accuracy worth showing to the highest: room for the better half, the worst lie on the floor."""
    found = np.array([trial.accuracy for trial in findings.trials if trial.accuracy is not None])
    if not len(found):
        return 0.0, 1.0
    best, median = float(found.max()), float(np.median(found))
    return max(float(found.min()), median - 2 * (best - median)), best


def _padded(low: float, high: float) -> list[float]:
    room = 0.06 * (high - low) or 0.01
    return [low - room, high + room]


def _curve_ranges(histories: Iterable[Sequence[Mapping[str, float]]]) -> tuple[float, float]:
    """Where the axis of accuracy begins and that of loss ends, so that a first epoch does not flatten all others."""
    epochs = [epoch for history in histories for epoch in history]
    accuracies = [value for epoch in epochs for value in (epoch["accuracy"], epoch["val_accuracy"]) if _finite(value)]
    losses = [value for epoch in epochs for value in (epoch["loss"], epoch["val_loss"]) if _finite(value)]
    if not accuracies or not losses:
        return 0.0, 1.0
    return float(np.quantile(accuracies, 0.03)) - 0.01, 1.05 * float(np.quantile(losses, 0.97))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _time_unit(seconds: float) -> tuple[float, str]:
    return (1.0, "s") if seconds < 180 else (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def blank(height: int, **layout: Any) -> Figure:
    from plotly.graph_objects import Figure

    figure = Figure()
    _dress(figure, height, **layout)
    return figure


def _dress(figure: Figure, height: int, **layout: Any) -> None:
    """The page's own look, without plotly's template, which is longer than most figures."""
    figure.update_layout(
        template={},
        height=height,
        font={"family": _FONT, "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        **{"margin": {"l": 60, "r": 16, "t": 48, "b": 48}, **layout},
    )
    axes = {"gridcolor": FAINT, "linecolor": MUTED, "tickcolor": MUTED, "zeroline": False, "ticks": "outside"}
    figure.update_xaxes(**axes, ticklen=3, title_font={"color": MUTED}, tickfont={"color": MUTED})
    figure.update_yaxes(**axes, ticklen=3, title_font={"color": MUTED}, tickfont={"color": MUTED})
