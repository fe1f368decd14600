"""What replays come to in figures: medians with intervals, shares of random search's cost, and ranks by rung."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.searches import RANDOM, Replay
from replay.table import Table

MARGINS = (0.002, 0.001)  # of accuracy: within 0.2 and 0.1 points
TRIALS = 64  # of random search, trained to the end, whose best is the aim
_RESAMPLES = 2000
_BEST_SHARE = 0.2

Replays = Mapping[str, Sequence[Replay]]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where there is none."""

    value: float
    low: float | None
    high: float | None


def compute_aim(replays: Replays, trials: int) -> float:
    """The median, over the seeds, of the best that so many full-length random trials found."""
    return statistics.median(_find_best_after(each, trials) for each in replays[RANDOM])


def _find_best_after(found: Replay, trials: int) -> float:
    return found.scores[min(trials, len(found.scores)) - 1]


def estimate_median(values: Sequence[float]) -> Estimate:
    """The median and its interval by order statistics, which needs no distribution and bears what is infinite."""
    ordered = sorted(values)
    n = len(ordered)
    median = ordered[(n - 1) // 2]
    half = 0.98 * np.sqrt(n)  # 1.96 standard deviations of a binomial count of n halves
    low, high = int(np.floor(n / 2 - half)), int(np.ceil(n / 2 + half))
    return Estimate(median, *((ordered[low], ordered[min(high, n - 1)]) if low >= 0 and n > 5 else (None, None)))


def estimate_share(values: Sequence[float], reference: Sequence[float]) -> Estimate:
    """The ratio of two medians, of values that are pairs; its interval by resampling the pairs.

    A median that is infinite makes an infinite ratio, or, below the line, none (NaN).
    """
    ours, theirs = _pair(values, reference)
    picks = np.random.default_rng(0).integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratios = np.array([_divide(_median(ours[pick]), _median(theirs[pick])) for pick in picks])
    low, high = np.quantile(ratios, (0.025, 0.975), method="inverted_cdf")
    return Estimate(_divide(_median(ours), _median(theirs)), float(low), float(high))


def _pair(values: Sequence[float], reference: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As arrays of one length: what has no seed is the same beside each of the other's."""
    count = max(len(values), len(reference))
    return np.resize(np.array(values), count), np.resize(np.array(reference), count)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def _divide(one: float, other: float) -> float:
    return float("nan") if np.isinf(other) else one / other


def count_good_rows(table: Table, target: float) -> int:
    """How many rows reach a target at their end."""
    return sum(score >= target for score in table.finals)


@dataclass(frozen=True)
class RungRank:
    """The rank correlation (Spearman) of the scores of a rung with those at the end, overall and in the best fifth.

    epoch: how far the rung is trained. is_whole: by a schedule of so many epochs; else that of the end, broken off.
    """

    epoch: int
    is_whole: bool
    overall: Estimate
    best: Estimate


def rank_rungs(table: Table) -> list[RungRank]:
    """The rank correlation of each epoch before the last, and of each shorter schedule, with the end.

    `best` is the best fifth by the end. Intervals are of resampled rows. Rows that failed are left out.
    """
    rungs: list[tuple[int, Mapping[int, float | None] | None]] = [(epoch, None) for epoch in range(1, table.epochs)]
    for epochs, shorter in sorted(table.shorter.items()):
        rungs.append((epochs, {row.number: row.compute_score(epochs) for row in shorter.rows}))
    ranks = []
    for epoch, whole in rungs:
        pairs = [
            (row.compute_score(epoch) if whole is None else whole.get(row.number), row.compute_score(table.epochs))
            for row in table.rows
        ]
        scores = np.array([pair for pair in pairs if None not in pair], float)
        best = scores[np.argsort(-scores[:, 1], kind="stable")[: max(3, round(_BEST_SHARE * len(scores)))]]
        overall, within_best = (_correlate(some[:, 0], some[:, 1]) for some in (scores, best))
        ranks.append(RungRank(epoch, whole is not None, overall, within_best))
    return ranks


def _correlate(one: NDArray[np.float64], other: NDArray[np.float64]) -> Estimate:
    picks = np.random.default_rng(0).integers(0, len(one), (_RESAMPLES, len(one)))
    low, high = np.nanquantile(_compute_spearman(one[picks], other[picks]), (0.025, 0.975))
    return Estimate(float(_compute_spearman(one[None], other[None])[0]), float(low), float(high))


def _compute_spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank correlation of each row of two tables; NaN where all values of one are the same."""
    from scipy.stats import rankdata

    ranks = [rankdata(each, axis=1) for each in (one, other)]
    x, y = (each - each.mean(axis=1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        correlations: NDArray[np.float64] = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return correlations


def summarize(table: Table, replays: Replays, trials: int = TRIALS) -> str:
    """The whole summary, as Markdown."""
    aim = compute_aim(replays, trials)
    count = max(map(len, replays.values()))
    lines = [
        f"{table.title}; {len(table.rows)} configurations, {len(table.rows) - len(table.finals)} of them failed, "
        f"{table.epochs} epochs, {table.description['precision']}. A trial to the end takes "
        f"{table.compute_mean_cost():.0f} CPU seconds on average. The best of {trials} random trials: {aim:.4f} "
        f"(median of {count} searches); the best of the table: {max(table.finals):.4f}.",
        "",
    ]
    for margin in MARGINS:
        lines += [*_tabulate_reaching(table, replays, aim, margin), ""]
    lines += [
        "| search | configurations | to the end | ms a proposal | moved by, median |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [_describe_work(name, found) for name, found in replays.items()]
    lines += ["", "| rung | rank correlation with the end | within the best fifth |", "| --- | --- | --- |"]
    lines += [
        f"| {_describe_rung(rank, table.epochs)} | {_format(rank.overall, '.2f')} | {_format(rank.best, '.2f')} |"
        for rank in rank_rungs(table)
    ]
    return "\n".join(lines) + "\n"


def _tabulate_reaching(table: Table, replays: Replays, aim: float, margin: float) -> list[str]:
    target = aim - margin
    reference = [found.find_seconds(target) for found in replays[RANDOM]]
    lines = [
        f"Within {100 * margin:.1f} points ({target:.4f}, which {count_good_rows(table, target)} rows reach):",
        "",
        "| search | CPU seconds, median [95 %] | share of random's | searches that got there |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in replays.items():
        seconds = [each.find_seconds(target) for each in found]
        share = estimate_share(seconds, reference)
        reached = sum(map(np.isfinite, seconds))
        lines.append(
            f"| {name} | {_format(estimate_median(seconds), ',.0f')} | {_format(share, '.0%')} "
            f"| {reached} of {len(seconds)} |"
        )
    return lines


def _describe_rung(rank: RungRank, epochs: int) -> str:
    return f"{rank.epoch} of {rank.epoch}, a whole schedule" if rank.is_whole else f"{rank.epoch} of {epochs}"


def _describe_work(name: str, replays: Sequence[Replay]) -> str:
    def find_median(count: Callable[[Replay], float]) -> float:
        return statistics.median(map(count, replays))

    moved = [distance for each in replays for distance in each.displacement]
    return (
        f"| {name} | {find_median(lambda each: each.configurations):.0f} "
        f"| {find_median(lambda each: each.full_length):.0f} "
        f"| {1000 * find_median(lambda each: each.asking / len(each.seconds)):.0f} "
        f"| {f'{statistics.median(moved):.2f}' if moved else '–'} |"
    )


def _format(estimate: Estimate, spec: str) -> str:
    def show(value: float) -> str:
        return "–" if np.isnan(value) else "never" if np.isinf(value) else f"{value:{spec}}"

    if estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]"
