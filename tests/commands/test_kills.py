"""SIGKILL anywhere, then the same command again: nothing is lost, nothing doubled, the result bit for bit the same.

Real processes (forks of one that has imported TensorFlow, see `zygote`), real signals, real SQLite stores; only the
figures are stand-ins. What holds for whatever was killed: tests/support/victims.py.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import Command
from tests.support import audit
from tests.support.small import DROPOUT, FILTERS, SMALLEST
from tests.support.victims import Suite, Totals, Typed, side_by_side, strike_each
from tests.support.zygote import Kill, Zygote, name_places

TWO_EPOCHS = (*SMALLEST, DROPOUT, "train.epochs=2", "executor.threads=1")
HYPERBAND = ("search=hyperband", "search.factor=2", "search.restart=false")  # a rung goes on from the one below

SMALL_RANDOM = Typed((*TWO_EPOCHS, FILTERS, "search.max_trials=2"))
SMALL_HYPERBAND = Typed((*TWO_EPOCHS, FILTERS, *HYPERBAND))
# By oracles that are told results. A random search is struck between any two steps; a grid is restored by counting.
GUIDED = {
    "hyperband": SMALL_HYPERBAND,
    "bayesian": Typed(
        (
            *(*TWO_EPOCHS, FILTERS, "search=bayesian", "search.initial_points=2", "search.max_trials=5"),
            "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}",
        )
    ),
    "asha": Typed(
        (
            *(*TWO_EPOCHS, FILTERS, "search=asha", "search.factor=2", "search.restart=false", "search.max_trials=4"),
            *("search.proposer=tpe", "search.initial_points=2", "train.epochs=4"),  # the best one is promoted twice
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


@pytest.fixture(scope="module")
def suite(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(zygote, tmp_path_factory.mktemp("kills"), Totals())


@pytest.fixture(autouse=True)
def _totals_are_said(suite: Suite, record_property: Callable[[str, object], None]) -> Iterator[None]:
    yield
    record_property(f"kills so far {os.environ.get('PYTEST_XDIST_WORKER', '')}".strip(), str(suite.totals))


@pytest.mark.slow
def test_a_fork_of_the_zygote_trains_what_a_process_of_its_own_trains(suite: Suite, sweep: Command) -> None:
    """Its figures, drawn here, are the same too."""
    fresh, forked = suite.folder / "fresh", suite.folder / "forked"
    fresh.mkdir()
    for ended in (sweep(*SMALL_RANDOM.arguments, cwd=fresh), suite.zygote.run(*SMALL_RANDOM.arguments, cwd=forked)):
        assert ended.returncode == 0, ended
    audit.check(suite.look(forked), suite.look(fresh))


def test_killed_at_chosen_points_the_same_command_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    # Some of all points, which the slow tests below take, also for the oracles that learn.
    points = (
        Kill("journal attempt", moment="after"),
        Kill("file 0000/000002.npz", moment="inside"),
        Kill("store finalize_logged_model"),
        Kill("journal closed"),
    )
    suite.victim(SMALL_RANDOM, "chosen random").die(*points).audited(again=True)


@pytest.mark.slow
def test_killed_anywhere_between_two_steps_it_ends_as_if_nothing_had_happened(suite: Suite) -> None:
    """Events, calls to the store and files are one row of steps: after one of them is before the next one.

    Each kind of gap in that row is struck once. A victim suffers some of these kills in a row, a few gaps apart; what
    comes of each is audited against the sweep that nobody interrupted.
    """
    points = plan_points(suite.reference(SMALL_RANDOM).ended.calls)
    before = suite.totals.kills["point"]
    strike_each(suite, SMALL_RANDOM, points, stride=4)
    assert suite.totals.kills["point"] - before == len(points) > 40


def plan_points(calls: Sequence[str]) -> list[str]:
    """A point in each gap between two calls, and one inside each kind of file, in order.

    Of gaps between calls of the same kinds, as trials are alike, in turn the first or the last; and in turn before the
    call that follows or after the one that came before.
    """
    places, kinds = name_places(calls), ["", *map(name_kind, calls), ""]
    gaps: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    files: defaultdict[str, list[int]] = defaultdict(list)
    for number, (last, following) in enumerate(pairwise(kinds)):
        gaps[last, following].append(number)
        if following.startswith("file "):
            files[following].append(number)
    points: list[tuple[float, str]] = []
    for turn, gap in enumerate(sorted(take_in_turn(gaps.values()))):
        is_after = gap == len(calls) or (gap > 0 and turn % 2 == 1)
        points.append((gap, f"after {places[gap - 1]}" if is_after else f"before {places[gap]}"))
    points += [(number + 0.5, f"inside {places[number]}") for number in take_in_turn(files.values())]
    return [point for _, point in sorted(points)]


def take_in_turn(groups: Iterable[Sequence[int]]) -> list[int]:
    """The first of one group, the last of the next one, and so on."""
    return [numbers[-(turn % 2)] for turn, numbers in enumerate(groups)]


def name_kind(call: str) -> str:
    """What the calls of different trials have in common."""
    sort, name = call.split()[:2]
    folder = name.partition("/")[0]
    return f"{sort} {'checkpoint' if folder.isdigit() else folder}"


@pytest.mark.slow
def test_killed_at_transition_after_transition_and_at_moments_between_them_it_still_comes_to_its_end(
    suite: Suite,
) -> None:
    commands = GUIDED | {"two studies": OTHERS["two studies"]}
    for typed in commands.values():
        suite.reference(typed)
    struck: dict[str, Counter[str]] = {}

    def job(name: str, typed: Typed) -> tuple[str, Callable[[], None]]:
        def repeat() -> None:
            ended, draws = suite.reference(typed).ended, random.Random(f"{name} 1")
            longest = 2 * ended.seconds / ended.count("journal")
            # A start must get past what the one before it recorded: some of them are let go on for longer.
            numbers = itertools.cycle((9, 7, 4, 11, 6, 10, 2, 8, 5, 12, 3))
            kills = (
                Kill("journal", number, seconds=draws.uniform(0, longest))
                if moment == "later"
                else Kill("journal", number, moment)
                for number, moment in zip(numbers, itertools.cycle(("later", "before", "later", "after")))
            )
            victim = suite.victim(typed, f"steps {name}").until_done(kills)
            struck[name] = Counter(kill.sort for kill in victim.kills)
            victim.audited()

        return name, repeat

    side_by_side(job(name, typed) for name, typed in commands.items())
    assert all(counts["journal"] >= 2 and counts["moment"] >= 2 for counts in struck.values()), struck


@pytest.mark.slow
def test_killed_while_a_failed_trial_or_an_unwanted_model_is_dealt_with_it_ends_all_the_same(suite: Suite) -> None:
    failing = (
        *(Kill("journal failed", moment=moment) for moment in ("before", "after")),
        Kill("store log_artifacts", 3),  # after those of the study and of the trial
        *(Kill("store set_terminated", moment=moment) for moment in ("before", "after")),
    )
    dropping = (
        Kill("store delete_logged_model"),
        *(Kill("journal model_dropped", moment=moment) for moment in ("before", "after")),
    )
    side_by_side(
        (
            ("failing", lambda: suite.victim(OTHERS["some failed"], "failing").die(*failing).audited()),
            ("dropping", lambda: suite.victim(OTHERS["one model kept"], "dropping").die(*dropping).audited()),
        )
    )


@pytest.mark.slow
def test_killed_while_the_store_is_made_the_same_command_makes_it(suite: Suite) -> None:
    made = suite.run(SMALL_RANDOM, suite.folder / "tables", Kill("store create_experiment"), cold=True)
    count = made.count("table")
    assert count > 20
    kills = [Kill("table", 1 + round((count - 1) * share)) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    victim = suite.victim(SMALL_RANDOM, "store", cold=True)
    victim.die(*kills, Kill("store create_experiment")).audited(again=True)


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
