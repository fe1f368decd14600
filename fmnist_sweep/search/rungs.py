"""The rungs of asynchronous successive halving (ASHA): which trial is promoted, and about how many that makes.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2.
"""

from __future__ import annotations

import bisect
import heapq
import math
import random
from dataclasses import dataclass, field
from functools import cache

# An estimate for more configurations than these is that for these, scaled.
_MOST_SIMULATED = 2_000


def list_asha_rungs(lowest_epochs: int, factor: int, epochs: int) -> list[int]:
    """How many epochs a trial has after each rung: lowest_epochs * factor^k below `epochs`, and at last `epochs`."""
    rung_epochs = []
    while lowest_epochs < epochs:
        rung_epochs.append(lowest_epochs)
        lowest_epochs *= factor
    return [*rung_epochs, epochs]


@dataclass
class _Rung:
    """The trials of one rung that have ended, the best first; of equals, the one that was proposed first.

    A rank is (loss, number): what is made small, and the trial's place among the proposals. ranks: in ascending order.
    candidates: a heap of the ranks that are not promoted yet.
    """

    ranks: list[tuple[float, int]] = field(default_factory=list)
    candidates: list[tuple[float, int]] = field(default_factory=list)
    failed_count: int = 0

    def end_trial(self, rank: tuple[float, int] | None) -> None:
        if rank is None:
            self.failed_count += 1
            return
        bisect.insort(self.ranks, rank)
        heapq.heappush(self.candidates, rank)

    def has_promotion(self, factor: int) -> bool:
        """Whether the best one that is not promoted is in the top 1/factor of all that have ended, failed ones too."""
        if not self.candidates:
            return False
        return bisect.bisect_left(self.ranks, self.candidates[0]) < (len(self.ranks) + self.failed_count) // factor


class Rungs:
    """Which trials have ended in which rung, and which of them is promoted next."""

    def __init__(self, count: int, factor: int) -> None:
        self._rungs, self._factor = [_Rung() for _ in range(count)], factor

    def end_trial(self, rung: int, number: int, loss: float | None) -> None:
        """Take in that a trial has ended in a rung. number: its place among the proposals. loss: None if it failed."""
        self._rungs[rung].end_trial(None if loss is None else (loss, number))

    def promote(self) -> tuple[int, int] | None:
        """Promote the best trial of the highest rung that has one to promote: the rung it leaves, and its number."""
        for rung in reversed(range(len(self._rungs) - 1)):
            if self._rungs[rung].has_promotion(self._factor):
                return self._take(rung)
        return None

    def promote_last(self) -> tuple[int, int] | None:
        """Promote, when nothing else can be, the best trial of the highest rung, if none was trained to the end.

        So the best of fewer than `factor` configurations is still trained to the end; where it fails there, the next.
        """
        if self._rungs[-1].ranks:
            return None
        for rung in reversed(range(len(self._rungs) - 1)):
            if self._rungs[rung].candidates:
                return self._take(rung)
        return None

    def _take(self, rung: int) -> tuple[int, int]:
        return rung, heapq.heappop(self._rungs[rung].candidates)[1]


def estimate_trial_rungs(rungs: int, factor: int, configurations: float) -> list[int]:
    """The rungs of the trials that so many configurations take, in the order in which one slot gets them.

    About: how many trials are promoted depends on the order in which the good ones come. Here they come as in a random
    search whose trials keep their ranks from rung to rung. For more configurations than can be simulated in a moment,
    the rungs of fewer, repeated.
    """
    simulated = int(min(configurations, _MOST_SIMULATED))
    trial_rungs = list(_simulate_trial_rungs(rungs, factor, simulated))
    repeats = max(1.0, configurations / max(1, simulated))
    return trial_rungs * math.floor(repeats) + trial_rungs[: round((repeats % 1) * len(trial_rungs))]


@cache
def _simulate_trial_rungs(rungs: int, factor: int, configurations: int) -> tuple[int, ...]:
    standing = Rungs(rungs, factor)
    losses = list(range(configurations))
    random.Random(0).shuffle(losses)  # noqa: S311
    trial_rungs: list[int] = []
    drawn = 0
    while True:
        promotion = standing.promote()
        if promotion is None and drawn < configurations:
            rung, number, drawn = 0, drawn, drawn + 1
        else:
            promotion = promotion or standing.promote_last()
            if promotion is None:
                return tuple(trial_rungs)
            rung, number = promotion[0] + 1, promotion[1]
        trial_rungs.append(rung)
        standing.end_trial(rung, number, losses[number])
