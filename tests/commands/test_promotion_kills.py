"""SIGKILL anywhere in a promotion, and promotions at once: the champion stands, and the same command completes.

Real commands as forks of a process that has imported TensorFlow (see `zygote`), and as processes of their own; real
stores, real images, real signals. What follows the training is struck before everything that it leaves behind: each
commit of the database that changes something, each file, halfway through it too, and the line in the ledger. After a
step and before the next one are the same, but for what dies with the process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import needs_fashion_mnist
from tests.support.process import LIMIT_SECONDS
from tests.support.promotion_steps import SMALLEST, Found
from tests.support.zygote import VERB, Ended, Kill, Zygote

pytestmark = [pytest.mark.slow, needs_fashion_mnist]

# Nothing is learnt: whoever learns something is better.
BAD = (*SMALLEST, "model.filters.values=[4]", "train.epochs=1", "optimizer.learning_rate=1e-6")
GOOD = (*SMALLEST, "model.filters.values=[8,10]", "train.epochs=2")
SEEDS = 2
# Networks this bad leave out whole classes.
RULE = (f"promote.seeds={SEEDS}", "promote.class_drop=1")
PROMOTE = ("promote", *RULE, "executor=in_process", "executor.threads=1")
OPENING = "set_tag fmnist.test_opening"  # the first thing that follows the training


class Strikes(Zygote):
    """A zygote that promotes."""

    def promote(
        self,
        cwd: Path,
        *arguments: str,
        number: int | None = None,
        name: str | None = None,
        seconds: float | None = None,
    ) -> Ended:
        """The verb, killed before its number-th step, before the first step of a name, or after so many seconds."""
        asked = {"arguments": arguments or PROMOTE, "number": number, "name": name}
        return self._asked(cwd, "promoted", asked, None if seconds is None else Kill(seconds=seconds))

    def complete(self, cwd: Path, *arguments: str, times: int = 2) -> tuple[list[int], list[Found]]:
        """Look, promote, look, promote, look: the exit codes, and what was found. times: how often to promote."""
        ended = self._asked(cwd, "completed", {"arguments": arguments or PROMOTE, "times": times})
        assert ended.code == 0, ended
        told = json.loads((cwd / "looked.json").read_text())
        return told["codes"], told["looked"]

    def look(self, cwd: Path) -> Found:
        found: Found = self.call("tests.support.promotion_steps:look", cwd)
        return found

    def _asked(self, cwd: Path, function: str, asked: Found, kill: Kill | None = None) -> Ended:
        environment = {"PROMOTION": json.dumps(asked)}
        return self.ask(f"tests.support.promotion_steps:{function}", cwd, kill=kill, environment=environment)


@dataclass(frozen=True)
class Base:
    """A folder with an old champion and a better sweep; what it was at one moment can be put back in place."""

    zygote: Strikes
    folder: Path

    def keep(self, name: str) -> None:
        shutil.copytree(self.folder / "mlruns", self.folder / f"kept {name}")

    def restore(self, name: str) -> None:
        shutil.rmtree(self.folder / "mlruns")
        shutil.copytree(self.folder / f"kept {name}", self.folder / "mlruns")

    def steps(self) -> list[str]:
        return (self.folder / "steps.txt").read_text().splitlines()


def make_base(zygote: Strikes, folder: Path) -> Base:
    """An old champion that learnt nothing, registered in spite of two kills; "sweep": and the sweep that is better."""
    base = Base(zygote, folder)
    folder.mkdir()
    zygote.call("tests.support.promotion_steps:keep_seen", folder)
    assert zygote.run(*BAD, cwd=folder).code == 0
    for name in ("create_registered_model", "create_model_version"):
        ended = zygote.promote(folder, name=name)
        assert ended.killed, ended
        assert base.steps()[-1] == name
        found = zygote.look(folder)
        assert (found["aliases"], found["versions"], found["moves"]) == ({}, {}, [])
    ended = zygote.promote(folder)
    assert ended.code == 0, ended
    assert "create_registered_model" not in base.steps()
    assert zygote.look(folder)["aliases"] == {"champion": "1"}
    ended = zygote.run(*GOOD, cwd=folder)
    assert ended.code == 0, ended
    base.keep("sweep")
    return base


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strikes]:
    with Strikes(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def bases(zygote: Strikes, tmp_path_factory: pytest.TempPathFactory) -> list[Base]:
    """Two alike: MLflow keeps absolute paths, so that a store can be put back but not moved."""
    folder = tmp_path_factory.mktemp("promotions")
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda number: make_base(zygote, folder / f"base {number}"), range(2)))


@dataclass(frozen=True)
class Trained:
    """A base as it is kept under "trained", all confirmations there and the test images closed; and what comes of it.

    steps: what the rest of the promotion leaves behind, in order. before, after: what was found.
    """

    base: Base
    steps: list[str]
    before: Found
    after: Found


def _trained(base: Base) -> Trained:
    base.restore("sweep")
    ended = base.zygote.promote(base.folder, name=OPENING)
    assert ended.killed, ended
    base.keep("trained")
    before = base.zygote.look(base.folder)
    ended = base.zygote.promote(base.folder)
    assert ended.code == ExitCode.DONE, ended
    steps, after = base.steps(), base.zygote.look(base.folder)
    _audit(before, after)
    return Trained(base, steps, before, after)


@pytest.fixture(scope="module")
def trained(bases: list[Base]) -> list[Trained]:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(_trained, bases))
    assert found[0].steps == found[1].steps
    return found


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


def check_moves(found: Found) -> None:
    """Each move of the champion leads from where the one before it led to; the last to where the alias is."""
    moves = [move for move in found["moves"] if move["alias"] == "champion"]
    assert [move["previous"] for move in moves] == [None, *(move["version"] for move in moves[:-1])]
    assert moves[-1]["version"] == found["aliases"]["champion"]
    assert all(move["completed"] for move in moves)


def find_own(before: Found, after: Found) -> Found:
    """The confirmations of the promotion that came after the first."""
    old = {each["journal"] for each in before["confirmations"].values() if each["scored"]}
    found = {run: each for run, each in after["confirmations"].items() if each["journal"] not in old}
    return {run: each for run, each in found.items() if each["status"] != "KILLED"}


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


def test_a_kill_before_any_step_leaves_the_old_champion_and_the_same_command_completes(
    trained: list[Trained], record_property: Callable[[str, object], None]
) -> None:
    steps = trained[0].steps
    numbers = _find_telling(steps)
    failures = []

    def strike(of: Trained, numbers: list[int]) -> None:
        for place, number in enumerate(numbers):
            try:
                _struck(of, number, again=place % 3 == 0)
            except AssertionError as error:
                failures.append(f"killed before step {number} ({steps[number - 1]}): {error}")
                print(failures[-1], flush=True)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(strike, of, numbers[half::2]) for half, of in enumerate(trained)]
    for job in jobs:
        job.result()
    record_property("promotions struck", f"before {len(numbers)} of {len(steps)} steps")
    assert not failures, f"{len(failures)} of {len(numbers)} failed\n\n" + "\n\n".join(failures)


def _find_telling(steps: list[str]) -> list[int]:
    """The numbers, from 1, of the first two files and the last; of other steps the first of each kind, and the last."""
    numbers: list[int] = []
    for kind in ("file ", "half of file "):
        files = [number for number, step in enumerate(steps, 1) if step.startswith(kind)]
        numbers += sorted({*files[:2], *files[-1:]})
    others = [number for number, step in enumerate(steps, 1) if not step.startswith(("file ", "half of file "))]
    kinds = {steps[number - 1]: number for number in reversed(others)}  # the first of each
    return sorted({*numbers, *kinds.values(), others[-1]})


def _struck(of: Trained, number: int, *, again: bool) -> None:
    """Kill a promotion before a step and complete it. again: then once more, which must change nothing."""
    base, alias = of.base, of.steps.index("set_registered_model_alias champion") + 1
    base.restore("trained")
    ended = base.zygote.promote(base.folder, number=number)
    assert ended.killed, ended
    assert base.steps() == of.steps[:number]
    codes, (killed, done, *later) = base.zygote.complete(base.folder, times=1 + again)
    new = of.after["aliases"]["champion"]
    expected = (new, of.after["loaded"]) if number > alias else (of.before["aliases"]["champion"], of.before["loaded"])
    assert (killed["aliases"]["champion"], killed["loaded"]) == expected
    assert killed["by_hand"] == []
    assert set(codes) == {ExitCode.DONE}
    assert later == [done] * again
    _audit(of.before, done)
    assert _lasting(done) == _lasting(of.after)
    _scored_once(of.before, killed, done)


def _scored_once(before: Found, killed: Found, done: Found) -> None:
    """What had been scored when the process was killed is not shown the test images again."""
    scored = {run for run, each in killed["confirmations"].items() if each["scored"]}
    lines = done["ledger"][len(killed["ledger"]) :]
    mine = set(find_own(before, done))
    assert [set(_runs(line["reason"])) for line in lines] == ([mine - scored] if mine - scored else [])
    begun = any(each["opening"] for run, each in killed["confirmations"].items() if run in mine)
    assert [", continued" in line["reason"] for line in lines] == [begun] * len(lines)
    assert all(done["confirmations"][run] == killed["confirmations"][run] for run in scored)


# The command as a process of its own.


def begin(base: Base, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist_sweep.cli.main", *arguments],
        cwd=base.folder,
        env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_killed_at_random_moments_of_training_and_judging_it_still_comes_to_its_end(
    trained: list[Trained], record_property: Callable[[str, object], None]
) -> None:
    base, moments = trained[0].base, random.Random(3)
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
    assert order_by_seed(find_own(before, done)) == order_by_seed(find_own(trained[0].before, trained[0].after))


def order_by_seed(confirmations: Found) -> list[tuple[str, str, list[float]]]:
    """Trained again they are other runs; what they predict is the same to the last bit."""
    return sorted((each["seed"], str(each["file"]), each["accuracies"]) for each in confirmations.values())


# Several at once.


def test_the_same_command_twice_at_once_gives_one_version(trained: list[Trained]) -> None:
    """With the training still to be done, and with it done."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_twice_at_once, of, name) for of, name in zip(trained, ("sweep", "trained"), strict=True)]
    for job in jobs:
        job.result()


def _twice_at_once(of: Trained, name: str) -> None:
    base = of.base
    base.restore(name)
    before = base.zygote.look(base.folder)
    processes = [begin(base, *PROMOTE) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        said = [output for output, _ in pool.map(lambda process: process.communicate(timeout=LIMIT_SECONDS), processes)]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([ExitCode.DONE, ExitCode.DONE], [ExitCode.DONE, ExitCode.LOCKED]), said
    assert not any("Traceback" in text for text in said), said
    for process, text in zip(processes, said, strict=True):
        if process.returncode == ExitCode.LOCKED:
            last = text.strip().splitlines()[-1]
            assert last.startswith("fmnist-sweep: "), text
    codes, (first, done, again) = base.zygote.complete(base.folder)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
    assert first == done == again
    _audit(before, done)


def test_two_runs_promoted_at_once_take_turns(trained: list[Trained]) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_two_runs_at_once, of.base) for of in trained]
    for job in jobs:
        job.result()


def _two_runs_at_once(base: Base) -> None:
    base.restore("sweep")
    commands = [
        (*PROMOTE, "--run", run) for run in base.zygote.call("tests.support.promotion_steps:good_runs", base.folder)
    ]
    assert len(commands) == 2
    for command in commands:  # both are trained before, so that they race for the test images and the registry
        ended = base.zygote.promote(base.folder, *command, name=OPENING)
        assert ended.killed, ended
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda command: base.zygote.promote(base.folder, *command), commands))
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
