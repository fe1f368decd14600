"""Promotions that are struck: the folder they begin from, which a session makes once, and what holds after each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.promotion_steps import SMALLEST, Found
from tests.support.zygote import VERB, Ended, Zygote

# Nothing is learnt: whoever learns something is better.
BAD = (*SMALLEST, "model.filters.values=[4]", "train.epochs=1", "optimizer.learning_rate=1e-6")
GOOD = (*SMALLEST, "model.filters.values=[8,10]", "train.epochs=2")
SEEDS = 2
# Networks this bad leave out whole classes.
RULE = (f"promote.seeds={SEEDS}", "promote.class_drop=1")
PROMOTE = ("promote", *RULE, "executor=in_process", "executor.threads=1")
OPENING = "set_tag fmnist.test_opening"  # the first thing that follows the training


class Strikes:
    """Promotions in forks of a zygote."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote, self.run, self.start, self.call = zygote, zygote.run, zygote.start, zygote.call

    def promote(self, cwd: Path, *arguments: str, name: str | None = None) -> Ended:
        """The verb, killed before the first step whose name begins so."""
        return self._asked(cwd, "promoted", {"arguments": arguments or PROMOTE, "name": name})

    def complete(self, cwd: Path, *arguments: str, times: int = 2) -> tuple[list[int], list[Found]]:
        """Look, promote, look, promote, look: the exit codes, and what was found. times: how often to promote."""
        ended = self._asked(cwd, "completed", {"arguments": arguments or PROMOTE, "times": times})
        assert ended.code == 0, ended
        told = json.loads((cwd / "looked.json").read_text())
        return told["codes"], told["looked"]

    def look(self, cwd: Path) -> Found:
        found: Found = self.call("tests.support.promotion_steps:look", cwd)
        return found

    def _asked(self, cwd: Path, function: str, asked: Found) -> Ended:
        environment = {"PROMOTION": json.dumps(asked)}
        return self._zygote.ask(f"tests.support.promotion_steps:{function}", cwd, environment=environment)


@dataclass(frozen=True)
class Base:
    """A folder with an old champion and a better sweep; what it was at one moment can be put back in place.

    "sweep": as it was made.
    """

    zygote: Strikes
    folder: Path

    def keep(self, name: str) -> None:
        shutil.copytree(self.folder / "mlruns", self.folder / f"kept {name}")

    def restore(self, name: str) -> None:
        shutil.rmtree(self.folder / "mlruns")
        shutil.copytree(self.folder / f"kept {name}", self.folder / "mlruns")

    def strike(self, name: str, *arguments: str) -> Ended:
        """Kill a promotion before the first step of a name."""
        ended = self.zygote.promote(self.folder, *arguments, name=name)
        assert ended.killed, (name, ended)
        assert self.steps()[-1].startswith(name), name
        return ended

    def promote_at_once(self, *commands: Sequence[str]) -> list[Ended]:
        """Promote by several commands at the same time."""
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda command: self.zygote.promote(self.folder, *command), commands))

    def steps(self) -> list[str]:
        return (self.folder / "steps.txt").read_text().splitlines()


def make_base(zygote: Zygote, folder: Path) -> None:
    """An old champion that learnt nothing, registered in spite of two kills, and the sweep that is better."""
    base = Base(Strikes(zygote), folder)
    folder.mkdir()
    zygote.call("tests.support.promotion_steps:keep_seen", folder)
    assert zygote.run(*BAD, cwd=folder).code == 0
    for name in ("create_registered_model", "create_model_version"):
        base.strike(name)
        found = base.zygote.look(folder)
        assert (found["aliases"], found["versions"], found["moves"]) == ({}, {}, [])
    ended = base.zygote.promote(folder)
    assert ended.code == 0, ended
    assert "create_registered_model" not in base.steps()
    assert base.zygote.look(folder)["aliases"] == {"champion": "1"}
    ended = zygote.run(*GOOD, cwd=folder)
    assert ended.code == 0, ended


def copy_base(zygote: Zygote, made: Path, folder: Path) -> Base:
    """A copy of such a folder, relocated: a store keeps absolute paths."""
    shutil.copytree(made, folder)
    ended = zygote.run("relocate", cwd=folder, entry=VERB)
    assert ended.code == 0, ended
    base = Base(Strikes(zygote), folder)
    base.keep("sweep")
    return base


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


def order_by_seed(confirmations: Found) -> list[tuple[str, str, list[float]]]:
    """Trained again they are other runs; what they predict is the same to the last bit."""
    return sorted((each["seed"], str(each["file"]), each["accuracies"]) for each in confirmations.values())
