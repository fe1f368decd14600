"""The replays as a picture: curves of the best so far, and how early a rung tells the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from replay.figures import MARGINS, Estimate, Replays, compute_aim, rank_rungs
from replay.searches import EVEN, FORESIGHT
from replay.table import Table

_POINTS = 300
# Matplotlib's ten, and dark ones that could not be taken for any of them.
_COLORS = (*plt.colormaps["tab10"](range(10)), "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173")


def draw(path: Path, table: Table, replays: Replays, trials: int) -> None:
    """Draw both, and write them to a file whose bytes depend on the figures alone."""
    matplotlib.rcParams["svg.hashsalt"] = "replay"
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(3, 2), layout="constrained")
    _draw_curves(left, table, replays, trials)
    _draw_ranks(right, table)
    figure.suptitle(table.title)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_curves(axes: Axes, table: Table, replays: Replays, trials: int) -> None:
    """The median of the best so far over the seeds, and its quartiles, against CPU seconds."""
    budget = trials * table.compute_mean_cost()
    points = np.geomspace(budget / trials / table.epochs, budget, _POINTS)
    axes.set_prop_cycle(color=_COLORS)
    for name, found in replays.items():
        best = np.array([[each.find_best(point) for point in points] for each in found])
        best[:, np.isnan(best).any(axis=0)] = np.nan  # from where all searches have a result
        low, middle, high = np.quantile(best, (0.25, 0.5, 0.75), axis=0)
        style = "--" if name in (EVEN, FORESIGHT) else "-"
        (line,) = axes.plot(points, middle, style, label=f"{name} (n={len(found)})", linewidth=1.5)
        axes.fill_between(points, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    aim = compute_aim(replays, trials)
    for margin in MARGINS:
        axes.axhline(aim - margin, color="0.5", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"within {100 * margin:.1f} points", (points[0], aim - margin), fontsize=8, va="bottom", color="0.4"
        )
    axes.set(xscale="log", xlabel="CPU seconds", ylabel="best validation accuracy so far", title="Median and quartiles")
    axes.set_ylim(np.quantile(table.finals, 0.05), max(table.finals) + 0.0005)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)


def _draw_ranks(axes: Axes, table: Table) -> None:
    """The rank correlation of each rung with the end, with 95 % intervals."""
    ranks = rank_rungs(table)
    for is_whole, kind in ((False, f"of a schedule of {table.epochs}"), (True, "of a schedule that ends there")):
        some = [rank for rank in ranks if rank.is_whole is is_whole]
        for label, offset, estimates in (
            ("all configurations", -0.05, [rank.overall for rank in some]),
            ("the best fifth", 0.05, [rank.best for rank in some]),
        ):
            axes.errorbar(
                np.array([rank.epoch for rank in some]) + offset,
                [each.value for each in estimates],
                _list_errors(estimates),
                fmt="s--" if is_whole else "o-",
                capsize=3,
                label=f"{label}, {kind}",
            )
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="epochs", ylabel="Spearman", title="Rank correlation with the end, and 95 % intervals")
    axes.set_ylim(-1, 1)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)


def _list_errors(estimates: Sequence[Estimate]) -> list[list[float]]:
    lows = [max(0.0, each.value - (each.low or 0.0)) for each in estimates]
    highs = [max(0.0, (each.high or 0.0) - each.value) for each in estimates]
    return [lows, highs]
