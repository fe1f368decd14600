"""SIGKILL anywhere, then the same command again: nothing is lost, nothing doubled, the result bit for bit the same.

Real processes (forks of one that has imported TensorFlow, see `zygote`), real signals, real SQLite stores; only the
figures are stand-ins. Each command is also run once without a kill; `audit` holds what the killed one left behind
against that. Every third sweep that has ended is then run once more, which must change nothing at all.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import Command
from tests.support import audit
from tests.support.small import DROPOUT, FILTERS, SMALLEST
from tests.support.zygote import Ended, Kill, Zygote

AT_ONCE = 2  # sweeps, each on one core
PLAIN = {"FAULTS_PLAIN": "1"}  # see tests/support/altered.py
MOST_STARTS = 100
BATCHES = 3  # of 64, in 180 images
TWO_EPOCHS = (*SMALLEST, DROPOUT, "train.epochs=2", "executor.threads=1")
HYPERBAND = ("search=hyperband", "search.factor=2")


@dataclass(frozen=True)
class Typed:
    """A command and the exit code it ends with."""

    arguments: tuple[str, ...]
    code: int = ExitCode.DONE


SMALL_RANDOM = Typed((*TWO_EPOCHS, FILTERS, "search.max_trials=2"))
SMALL_HYPERBAND = Typed((*TWO_EPOCHS, FILTERS, *HYPERBAND))
ORACLES = {
    "hyperband": Typed((*TWO_EPOCHS, FILTERS, *HYPERBAND, "train.epochs=4")),  # first: it takes the longest
    "random": Typed(  # over whole options, and with a limit that leaves draws out
        (
            *(*TWO_EPOCHS, FILTERS, "search.max_trials=4", "search.max_parameters=60000"),
            "optimizer={tune: option, of: [adam, sgd]}",
        )
    ),
    "bayesian": Typed(
        (
            *(*TWO_EPOCHS, FILTERS, "search=bayesian", "search.initial_points=2", "search.max_trials=5"),
            "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
        )
    ),
    "asha": Typed(
        (
            *(*TWO_EPOCHS, FILTERS, "search=asha", "search.factor=2", "search.max_trials=4"),
            *("search.proposer=tpe", "search.initial_points=2"),
        )
    ),
    "grid": Typed(
        (
            *(*TWO_EPOCHS, "search=grid", "model.filters={tune: choice, values: [2, 3]}"),
            "regularization.dropout={tune: choice, values: [0.2, 0.4]}",
        )
    ),
}
# Sweeps whose ends are not those of the oracles above.
OTHERS = {
    "two studies": Typed(
        ("-m", "optimizer=rmsprop,adam", *TWO_EPOCHS, "model.filters.values=[2,3]", "search.max_trials=1")
    ),
    "some failed": Typed(
        (
            *(*TWO_EPOCHS, "search=grid", "model.filters=2", "optimizer=sgd", "optimizer.momentum=0.9"),
            *("regularization.l2=1.0", "optimizer.learning_rate={tune: choice, values: [10.0, 0.01]}"),
        ),
        ExitCode.SOME_FAILED,
    ),
    "one model kept": Typed((*TWO_EPOCHS, FILTERS, "search.max_trials=3", "tracking.keep_models=1")),
}


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
        """What is there."""
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
        self.kills.append(kill)
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


@pytest.fixture(scope="module")
def suite(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(zygote, tmp_path_factory.mktemp("kills"), Totals())


@pytest.fixture(autouse=True)
def _totals_are_said(suite: Suite, record_property: Callable[[str, object], None]) -> Iterator[None]:
    yield
    record_property(f"kills so far {os.environ.get('PYTEST_XDIST_WORKER', '')}".strip(), str(suite.totals))


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


def killed_at(suite: Suite, typed: Typed, kills: Iterable[Kill], *, cold: bool = False) -> None:
    """A sweep for each of these kills: killed there, continued, audited."""
    suite.reference(typed)

    def job(number: int, kill: Kill) -> tuple[str, Callable[[], None]]:
        return str(kill), lambda: suite.victim(typed, f"kill {number}", cold=cold).die(kill).audited()

    side_by_side(job(number, kill) for number, kill in enumerate(kills))


def around(calls: Sequence[str], sort: str, moments: Sequence[str]) -> list[Kill]:
    """A kill at each telling call of a sort, the moments in turn: of calls that follow each other, what one left behind
    is what the next one finds.
    """
    return [Kill(sort, number, moment) for number, moment in zip(find_telling(calls, sort), itertools.cycle(moments))]


def find_telling(calls: Sequence[str], sort: str) -> list[int]:
    """The numbers of a sort's calls that are the first or the last of their kind: trials are alike."""
    kinds: dict[str, list[int]] = {}
    number = 0
    for call in calls:
        if call.startswith(f"{sort} "):
            number += 1
            kinds.setdefault(call.partition("/")[0] if sort == "file" else call, []).append(number)
    return sorted({number for numbers in kinds.values() for number in (numbers[0], numbers[-1])})


@pytest.mark.slow
def test_a_fork_of_the_zygote_trains_what_a_process_of_its_own_trains(suite: Suite, sweep: Command) -> None:
    """Its figures, drawn here, are the same too."""
    fresh, forked = suite.folder / "fresh", suite.folder / "forked"
    fresh.mkdir()
    for ended in (sweep(*SMALL_RANDOM.arguments, cwd=fresh), suite.zygote.run(*SMALL_RANDOM.arguments, cwd=forked)):
        assert ended.returncode == 0, ended
    audit.check(suite.look(forked), suite.look(fresh))


def test_killed_at_chosen_points_the_same_command_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    # Some of all points, which the slow tests below take one by one and for every oracle.
    first = (
        Kill("journal attempt", moment="after"),
        Kill("file 0000/000002.npz", moment="inside"),
        Kill("store finalize_logged_model"),
        Kill("journal closed"),
    )
    second = (
        # The third trial is a promoted one: it goes on from the checkpoint of one before it.
        Kill("journal asked", 3, "after"),
        # Nothing is left to promote, and the checkpoints of what was promoted are still there.
        Kill("journal exhausted", moment="after"),
        Kill("journal drawn", 2, moment="after"),
    )
    side_by_side(
        (
            ("random", lambda: suite.victim(SMALL_RANDOM, "chosen random").die(*first).audited(again=True)),
            ("hyperband", lambda: suite.victim(SMALL_HYPERBAND, "chosen hyperband").die(*second).audited(again=False)),
        )
    )


@pytest.mark.slow
def test_killed_at_any_journal_transition_it_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    killed_at(suite, SMALL_RANDOM, around(suite.reference(SMALL_RANDOM).ended.calls, "journal", ("after", "before")))


@pytest.mark.slow
def test_killed_around_any_call_to_the_store_it_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    killed_at(suite, SMALL_RANDOM, around(suite.reference(SMALL_RANDOM).ended.calls, "store", ("before", "after")))


@pytest.mark.slow
def test_killed_around_the_writing_of_any_file_it_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    calls = suite.reference(SMALL_RANDOM).ended.calls
    killed_at(suite, SMALL_RANDOM, (*around(calls, "file", ("before", "after")), *around(calls, "file", ("inside",))))


@pytest.mark.slow
def test_killed_at_transition_after_transition_it_still_comes_to_its_end(suite: Suite) -> None:
    commands = ORACLES | OTHERS
    for typed in commands.values():
        suite.reference(typed)

    def job(name: str, typed: Typed) -> tuple[str, Callable[[], None]]:
        # A start must get past what the one before it recorded: some of them are let go on for longer.
        numbers = itertools.cycle((9, 4, 14, 2, 11, 7, 16, 5, 13, 1, 12, 8, 15, 10))
        kills = (Kill("journal", number, moment) for number, moment in zip(numbers, itertools.cycle(MOMENTS)))
        return name, lambda: suite.victim(typed, f"steps {name}").until_done(kills).audited()

    side_by_side(job(name, typed) for name, typed in commands.items())


MOMENTS = ("before", "after", "after")


@pytest.mark.slow
def test_killed_at_random_moments_it_still_comes_to_its_end(suite: Suite) -> None:
    before = suite.totals.kills["moment"]
    wanted = 6  # of each oracle

    def job(name: str, typed: Typed) -> tuple[str, Callable[[], None]]:
        seconds = suite.reference(typed).ended.seconds

        def repeat() -> None:
            moments = random.Random(f"{name} 1")
            suffered = 0
            for number in itertools.count():
                # Later and later: on a machine that has become slower, the first ones all come before anything is done.
                kills = (Kill(seconds=moments.uniform(0.0, 0.7 * seconds * 1.05**tries)) for tries in itertools.count())
                victim = suite.victim(typed, f"moments {name} {number}", cold=True).until_done(kills)
                suffered += len(victim.kills)
                victim.audited()
                if suffered >= wanted:
                    return

        return name, repeat

    side_by_side(job(name, typed) for name, typed in ORACLES.items())
    assert suite.totals.kills["moment"] - before >= len(ORACLES) * wanted


@pytest.mark.slow
def test_killed_while_a_failed_trial_or_an_unwanted_model_is_dealt_with_it_ends_all_the_same(suite: Suite) -> None:
    failing, dropping = OTHERS["some failed"], OTHERS["one model kept"]
    ended = "store set_terminated"
    at = {
        failing: (Kill("journal failed", moment=moment) for moment in ("before", "after")),
        dropping: (
            Kill("store delete_logged_model"),
            *(Kill("journal model_dropped", moment=moment) for moment in MOMENTS[:2]),
        ),
    }
    for typed, kills in at.items():
        killed_at(suite, typed, kills)
    killed_at(suite, failing, (Kill("store log_artifacts", 3), Kill(ended), Kill(ended, moment="after")))


@pytest.mark.slow
def test_killed_while_the_store_is_made_the_same_command_makes_it(suite: Suite) -> None:
    seconds = suite.reference(SMALL_RANDOM).ended.seconds
    killed_at(suite, SMALL_RANDOM, (Kill(seconds=seconds * number / 20) for number in range(1, 13, 2)), cold=True)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["store log_batch", "journal finished", "store finalize_logged_model"])
def test_another_command_closes_what_died_and_the_first_still_continues(suite: Suite, call: str) -> None:
    other = OTHERS["two studies"]
    victim = suite.victim(SMALL_RANDOM, f"closed by another after {call}").die(
        Kill(call, 3 if "batch" in call else 1, "after")
    )
    ended = suite.run(other, victim.folder)
    assert ended.code == other.code, ended
    found = suite.look(victim.folder)
    running = [run for run in found["runs"].values() if run["status"] == "RUNNING"]
    assert len(running) == (call != "store log_batch")  # it is still to be delivered, by the command that continues
    victim.start()
    found = suite.look(victim.folder)
    audit.check(found, audit.together(*(suite.reference(typed).found for typed in (SMALL_RANDOM, other))))
