"""SIGKILL anywhere in a promotion, and promotions at once: the champion stands, and the same command completes.

Real commands as forks of a process that has imported TensorFlow (see `zygote`); real stores, real images, real signals.
What follows the training is struck before everything that it leaves behind: each commit of the database that changes
something, each file, halfway through it too, and the line in the ledger. After a step and before the next one are the
same, but for what dies with the process.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import needs_fashion_mnist
from tests.support.promotion_steps import Found
from tests.support.strikes import OPENING, PROMOTE, RULE, SEEDS, Base, check_moves, copy_base, find_own, order_by_seed
from tests.support.zygote import VERB, Zygote

pytestmark = [pytest.mark.slow, needs_fashion_mnist]

CHAINS = 3


@pytest.fixture(scope="module")
def base(zygote: Zygote, promotion_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return copy_base(zygote, promotion_base, tmp_path_factory.mktemp("promotions") / "base")


@dataclass(frozen=True)
class Trained:
    """A base as it is kept under "trained", all confirmations there and the test images closed; and what comes of it.

    steps: what the rest of the promotion leaves behind, in order. before, after: what was found.
    """

    base: Base
    steps: list[str]
    before: Found
    after: Found


@pytest.fixture(scope="module")
def trained(base: Base) -> Trained:
    base.restore("sweep")
    base.strike(OPENING)
    base.keep("trained")
    before = base.zygote.look(base.folder)
    ended = base.zygote.promote(base.folder)
    assert ended.code == ExitCode.DONE, ended
    steps, after = base.steps(), base.zygote.look(base.folder)
    _audit(before, after)
    return Trained(base, steps, before, after)


def _audit(before: Found, after: Found) -> None:
    """A promotion over an old champion has ended as it should, whatever happened on its way."""
    (old,) = before["versions"]
    (new,) = set(after["versions"]) - {old}
    assert after["versions"][old] == before["versions"][old]
    version = after["versions"][new]
    assert (version["status"], after["aliases"]) == ("READY", {"champion": new})
    assert after["loaded"] == version["tags"]["fmnist.weights_sha256"]
    assert after["by_hand"] == []
    check_moves(after)
    *_, move = after["moves"]
    assert (move["version"], move["previous"], move["kind"], move["completed"]) == (new, old, "promoted", True)
    assert len(after["moves"]) == len(before["moves"]) + 1
    mine = find_own(before, after)
    assert version["run"] in mine
    assert {each["seed"] for each in mine.values()} == {"10001", "10002"}
    assert len(mine) == SEEDS * len({each["journal"] for each in mine.values()})
    for each in mine.values():
        assert (each["status"], each["epochs"], each["scored"]) == ("FINISHED", [1, 2], True)
        assert (each["accuracies"], len(each["losses"]), each["images"]) == ([each["accuracy_of_file"]], 1, 10_000)
    (opening,) = {each["opening"] for each in mine.values()}
    told = [entry["reason"] for entry in after["ledger"][len(before["ledger"]) :]]
    assert told
    assert all(reason.startswith(f"opening {opening} of the test images") for reason in told)
    assert all(", continued" in reason for reason in told[1:])
    assert {run for reason in told for run in _runs(reason)} == set(mine)
    assert version["tags"]["fmnist.test_openings"] == "1"
    (evidence,) = [each for run, each in after["evidence"].items() if run == version["tags"]["fmnist.promotion"]]
    assert (evidence["status"], evidence["verdict"]) == ("FINISHED", "better")
    assert len(evidence["whole"]) == 4
    assert all(evidence["whole"].values()), evidence


def _runs(reason: str) -> list[str]:
    return reason.rpartition(" runs ")[2].split()


def _lasting(found: Found) -> Found:
    """What is the same each time that a promotion goes on from the same place: all but times."""
    aside = ("fmnist.latency_ms", "fmnist.test_opened")
    versions = {
        number: {**each, "tags": {key: value for key, value in each["tags"].items() if key not in aside}}
        for number, each in found["versions"].items()
    }
    moves = [{key: value for key, value in move.items() if key != "time"} for move in found["moves"]]
    return {**found, "versions": versions, "moves": moves, "ledger": None}


@pytest.mark.parametrize("chain", range(CHAINS))
def test_kills_before_any_step_leave_a_champion_and_the_same_command_completes(
    trained: Trained, chain: int, record_property: Callable[[str, object], None]
) -> None:
    """Each promotion suffers some of these kills in a row, and goes on for some steps between two of them."""
    numbers = _find_telling(trained.steps)[chain::CHAINS]
    _strike_in_a_row(trained, numbers)
    record_property(
        f"promotion struck, {chain + 1} of {CHAINS}", f"before {len(numbers)} of {len(trained.steps)} steps"
    )


def _find_telling(steps: list[str]) -> list[int]:
    """The numbers, from 1, of the first two files and the last; of other steps the first of each kind, and the last."""
    numbers: list[int] = []
    for kind in ("file ", "half of file "):
        files = [number for number, step in enumerate(steps, 1) if step.startswith(kind)]
        numbers += sorted({*files[:2], *files[-1:]})
    others = [number for number, step in enumerate(steps, 1) if not step.startswith(("file ", "half of file "))]
    kinds = {steps[number - 1]: number for number in reversed(others)}  # the first of each
    return sorted({*numbers, *kinds.values(), others[-1]})


def _strike_in_a_row(of: Trained, numbers: list[int]) -> None:
    """Kill a promotion before one step after the other, complete it, and once more, which must change nothing."""
    base, alias = of.base, of.steps.index("set_registered_model_alias champion") + 1
    base.restore("trained")
    states: list[Found] = []
    for number in numbers:
        base.strike(of.steps[number - 1])
        assert states or base.steps() == of.steps[:number]
        killed = base.zygote.look(base.folder)
        expected = of.after if number > alias else of.before
        assert (killed["aliases"], killed["loaded"]) == (expected["aliases"], expected["loaded"])
        assert killed["by_hand"] == []
        states.append(killed)
    codes, (_, done, again) = base.zygote.complete(base.folder)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
    assert again == done
    _audit(of.before, done)
    assert _lasting(done) == _lasting(of.after)
    for killed, following in pairwise([*states, done]):
        _scored_once(of.before, killed, following, done)


def _scored_once(before: Found, killed: Found, following: Found, done: Found) -> None:
    """What had been scored when a process was killed is not shown the test images again by the one that followed."""
    scored = {run for run, each in killed["confirmations"].items() if each["scored"]}
    mine = set(find_own(before, done))
    lines, left = following["ledger"][len(killed["ledger"]) :], mine - scored
    assert [set(_runs(line["reason"])) for line in lines] == [left] * len(lines)
    # The one that followed may itself have been killed before it opened them.
    assert len(lines) in ((1,) if left and following is done else (0, 1) if left else (0,))
    begun = any(each["opening"] for run, each in killed["confirmations"].items() if run in mine)
    assert [", continued" in line["reason"] for line in lines] == [begun] * len(lines)
    assert all(following["confirmations"][run] == killed["confirmations"][run] for run in scored)


def test_killed_at_random_moments_of_training_and_judging_it_still_comes_to_its_end(
    trained: Trained, record_property: Callable[[str, object], None]
) -> None:
    base, moments = trained.base, random.Random(3)
    arguments = ("promote", *RULE, "executor=local", "executor.workers=2", "executor.threads=1")
    base.restore("sweep")
    before = base.zygote.look(base.folder)
    kills: list[str] = []
    # By lines said, so that they lie in the midst of the work however slow the machine is.
    for most in (12, 18, 24, 40, 60):
        with base.zygote.start(*arguments, cwd=base.folder, entry=VERB) as running:
            lines = moments.randint(most // 2, most)
            running.wait_for(lambda: running.has_ended or running.stdout.count("\n") >= lines)  # noqa: B023
            time.sleep(moments.uniform(0, 1.5))
            if not running.has_ended:
                kills.append(running.stdout.splitlines()[-1].strip())
                if moments.random() < 0.5:
                    os.killpg(running.pid, signal.SIGKILL)
                else:  # its workers have to notice by themselves
                    os.kill(running.pid, signal.SIGKILL)
            ended = running.end()
        assert "Traceback" not in ended.output, ended
        if not ended.killed:
            assert ended.code == ExitCode.DONE, ended
            break
    record_property("promotions killed at random moments", f"{len(kills)}, after the lines {kills}")
    assert len(kills) >= 3
    codes, (_, done, again) = base.zygote.complete(base.folder, *arguments)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
    assert again == done
    _audit(before, done)
    assert order_by_seed(find_own(before, done)) == order_by_seed(find_own(trained.before, trained.after))


# Several at once.


@pytest.mark.parametrize("name", ["sweep", "trained"])
def test_the_same_command_twice_at_once_gives_one_version(trained: Trained, name: str) -> None:
    """With the training still to be done, and with it done."""
    base = trained.base
    base.restore(name)
    before = base.zygote.look(base.folder)
    both = base.promote_at_once(PROMOTE, PROMOTE)
    codes = sorted(ended.returncode for ended in both)
    assert codes in ([ExitCode.DONE, ExitCode.DONE], [ExitCode.DONE, ExitCode.LOCKED]), both
    assert not any("Traceback" in ended.output for ended in both), both
    for ended in both:
        if ended.code == ExitCode.LOCKED:
            assert ended.output.strip().splitlines()[-1].startswith("fmnist-sweep: "), ended
    codes, (first, done, again) = base.zygote.complete(base.folder)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
    assert first == done == again
    _audit(before, done)


def test_two_runs_promoted_at_once_take_turns(base: Base) -> None:
    base.restore("sweep")
    commands = [
        (*PROMOTE, "--run", run) for run in base.zygote.call("tests.support.promotion_steps:good_runs", base.folder)
    ]
    assert len(commands) == 2
    for command in commands:  # both are trained before, so that they race for the test images and the registry
        base.strike(OPENING, *command)
    both = base.promote_at_once(*commands)
    assert not any("Traceback" in ended.output for ended in both), both
    found = base.zygote.look(base.folder)
    check_moves(found)
    won = [command for ended, command in zip(both, commands, strict=True) if ended.code == ExitCode.DONE]
    assert won, both
    if len(won) == 1:
        assert len([move for move in found["moves"] if move["alias"] == "champion"]) == 2
    for ended, command in zip(both, commands, strict=True):
        if ended.code == ExitCode.LOCKED:  # another one had become champion while it was looking at the old one
            assert "another command changed the champion meanwhile: type the command again" in ended.output
            codes, (_, found, again) = base.zygote.complete(base.folder, *command)
            assert codes[0] == codes[1]
            assert codes[0] in (ExitCode.DONE, ExitCode.NOT_BETTER), codes
            assert again == found
        else:
            assert ended.code in (ExitCode.DONE, ExitCode.NOT_BETTER), ended
    found = base.zygote.look(base.folder)
    check_moves(found)
    assert found["by_hand"] == []
    assert len(found["versions"]) == len({version["run"] for version in found["versions"].values()}) == 3
    assert found["aliases"]["champion"] in set(found["versions"]) - {"1"}
    for each in found["confirmations"].values():
        assert (each["scored"], len(each["accuracies"])) == (True, 1)
