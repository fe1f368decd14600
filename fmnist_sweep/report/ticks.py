"""Round numbers along an axis, as matplotlib chooses them."""

from __future__ import annotations

from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib


def find_ticks(low: float, high: float, intervals: int) -> list[float]:
    """Round numbers at equal distances, from about `low` to about `high`. intervals: at most so many between them."""
    prepare_matplotlib()
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(intervals).tick_values(low, high)]


def find_log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from about `low` to about `high`; their doubles and fives too where these are few."""
    prepare_matplotlib()
    from matplotlib.ticker import LogLocator

    subs = (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)
    return [float(tick) for tick in LogLocator(subs=subs).tick_values(low, high)]
