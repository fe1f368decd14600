"""Commands that are typed again after every kill, and what holds for them: the victims of tests/commands/test_kills.py.

Each command is also run once without a kill; `audit` holds what the killed one left behind against that. Every third
sweep that has ended is then run once more, which must change nothing at all.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from fmnist_sweep.errors import ExitCode
from tests.support import audit
from tests.support.zygote import Ended, Kill, Zygote, name_places

AT_ONCE = 2  # sweeps, each on one core
PLAIN = {"FAULTS_PLAIN": "1"}  # see tests/support/altered.py
MOST_STARTS = 100
BATCHES = 3  # of 64, in 180 images


@dataclass(frozen=True)
class Typed:
    """A command and the exit code it ends with."""

    arguments: tuple[str, ...]
    code: int = ExitCode.DONE


@dataclass
class Totals:
    """What the suite did, said at its end."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    checkpoints: int = 0
    audits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __str__(self) -> str:
        sorts = ", ".join(f"{sort} {count}" for sort, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({sorts}) in {self.starts} starts, {self.checkpoints} checkpoints of killed "
            f"trials looked into, {self.audits} sweeps audited"
        )


@dataclass
class Reference:
    """A sweep that nobody interrupted."""

    found: audit.Found
    ended: Ended


@dataclass
class Suite:
    """What all tests of this module share."""

    zygote: Zygote
    folder: Path
    totals: Totals
    victims: Iterator[int] = field(default_factory=itertools.count)
    references: dict[Typed, Reference] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, typed: Typed, folder: Path, kill: Kill | None = None, *, cold: bool = False) -> Ended:
        """The command in a folder, with stand-ins for figures; cold: it makes the store's tables itself."""
        environment = PLAIN | ({"FAULTS_TABLES": ""} if cold else {})
        return self.zygote.run(*typed.arguments, cwd=folder, kill=kill, environment=environment)

    def look(self, folder: Path) -> audit.Found:
        """What there is in a folder."""
        found: audit.Found = self.zygote.call("tests.support.audit:look", folder)
        return found

    def reference(self, typed: Typed) -> Reference:
        """The command's uninterrupted sweep, run when it is first asked for."""
        with self.lock:
            if typed not in self.references:
                folder = self.folder / f"reference {len(self.references)}"
                ended = self.run(typed, folder)
                assert ended.code == typed.code, ended
                found = self.look(folder)
                audit.check(found, found)
                self.references[typed] = Reference(found, ended)
            return self.references[typed]

    def victim(self, typed: Typed, name: str, *, cold: bool = False) -> Victim:
        """A command in a folder of its own; cold: it makes the store's tables itself, which takes a second."""
        return Victim(self, typed, Path(tempfile.mkdtemp(prefix=f"{name} ", dir=self.folder)), cold)


class Victim:
    """A command that is typed again and again in one folder, until it comes to its end."""

    def __init__(self, suite: Suite, typed: Typed, folder: Path, cold: bool) -> None:
        self.suite, self.typed, self.folder, self.cold = suite, typed, folder, cold
        self.kills: list[Kill] = []
        self._epochs: dict[tuple[str, str], int] = {}

    def start(self, kill: Kill | None = None) -> bool:
        """Run the command; whether it came to its end before the kill."""
        ended = self.suite.run(self.typed, self.folder, kill, cold=self.cold)
        totals = self.suite.totals
        with totals.lock:
            totals.starts += 1
        if not ended.killed:
            assert ended.code == self.typed.code, (ended, self.kills)
            return True
        assert kill is not None, (ended, self.kills)
        self.kills.append(Kill(points=(_find_struck(ended, kill),)) if kill.points else kill)
        self._look_into_checkpoints()
        with totals.lock:
            totals.kills[kill.sort] += 1
        return False

    def die(self, *kills: Kill) -> Victim:
        """Be killed at each of these points, one after the other."""
        for kill in kills:
            assert not self.start(kill), f"it came to its end before it could be killed {kill}"
        return self

    def until_done(self, kills: Iterable[Kill]) -> Victim:
        """Be killed and begun again until the command comes to its end before its kill."""
        for kill in itertools.islice(kills, MOST_STARTS):
            if self.start(kill):
                return self
        raise AssertionError(f"{MOST_STARTS} starts did not bring it to its end")

    def audited(self, *, again: bool | None = None) -> None:
        """Go on to the end and hold what is there against the uninterrupted sweep.

        again: run it once more, and find that nothing is left to do; None: every third victim.
        """
        reference = self.suite.reference(self.typed)
        self.start()
        found = self.suite.look(self.folder)
        audit.check(found, reference.found)
        if next(self.suite.victims) % 3 == 0 if again is None else again:
            ended = self.suite.run(self.typed, self.folder)
            assert ended.code == self.typed.code
            assert "Nothing to do" in ended.output
            assert ended.calls == []
            assert self.suite.look(self.folder) == found
        with self.suite.totals.lock:
            self.suite.totals.audits += 1
        shutil.rmtree(self.folder)  # one that is as it should be needs no room

    def _look_into_checkpoints(self) -> None:
        found = audit.checkpoints(self.folder, BATCHES)
        for trial, epoch in found.items():
            assert epoch >= self._epochs.get(trial, 0), f"{trial} has lost epochs: {self.kills}"
        self._epochs |= found
        with self.suite.totals.lock:
            self.suite.totals.checkpoints += len(found)


def _find_struck(ended: Ended, kill: Kill) -> str:
    """Which of a kill's points struck."""
    place = name_places(ended.calls)[-1]
    return next(point for moment in ("before", "inside", "after") if (point := f"{moment} {place}") in kill.points)


def strike_each(suite: Suite, typed: Typed, points: Iterable[str], stride: int) -> None:
    """Kill a command at each of these points, given in the order of a sweep.

    A victim suffers several of these kills, each at the first that it reaches of those that are left, `stride` of them
    after the one before it. Its sweep is then brought to its end and audited, and another victim takes what is left.
    """
    suite.reference(typed)
    ordered = list(points)

    def job(half: int) -> tuple[str, Callable[[], None]]:
        left = ordered[half::AT_ONCE]

        def strike() -> None:
            for number in itertools.count():
                if not left:
                    return
                victim, ahead = suite.victim(typed, f"points {half} {number}"), left
                while ahead and not victim.start(Kill(points=tuple(ahead))):
                    place = left.index(victim.kills[-1].points[0])
                    del left[place]
                    ahead = left[place + stride :]
                assert victim.kills, f"it was never killed {left}"
                victim.audited()

        return f"half {half}", strike

    side_by_side(map(job, range(AT_ONCE)))


def side_by_side(jobs: Iterable[tuple[str, Callable[[], None]]]) -> None:
    """Do all of these, some at a time; AssertionError with all that failed, by name."""
    failures = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        names = {pool.submit(job): name for name, job in jobs}
        for done in as_completed(names):
            error = done.exception()
            if error is not None:
                failures.append(f"{names[done]}: {type(error).__name__}: {error}\n{_where(error)}")
                print(failures[-1], flush=True)
    assert not failures, f"{len(failures)} of {len(names)} failed\n\n" + "\n\n".join(failures)


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-2:])
