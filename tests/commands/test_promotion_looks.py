"""A promotion that is trained in groups: looks end it early, and whatever ends the command, it takes the same looks.

Real commands, stores and images, as in `test_promotion_kills`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import needs_fashion_mnist
from tests.support.promotion_steps import Found
from tests.support.strikes import BAD, OPENING, Base, check_moves, copy_base, find_own, order_by_seed
from tests.support.zygote import Zygote

pytestmark = [pytest.mark.slow, needs_fashion_mnist]

# So high a level that four seeds are not enough, however clear the gain.
LOOKS = ("promote", "promote.class_drop=1", "promote.level=0.999999", "executor=in_process", "executor.threads=1")
BEFORE_TRAINING = ("journal plan", "journal plan kept")
FIRST_LOOK = "journal look 4"
AFTER_TRAINING = (FIRST_LOOK, "journal look 4 kept", "journal look 6", "journal look 6 kept", OPENING, "ledger")


@pytest.fixture(scope="module")
def base(zygote: Zygote, promotion_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return copy_base(zygote, promotion_base, tmp_path_factory.mktemp("looks") / "base")


@dataclass(frozen=True)
class Twice:
    """A promotion with looks that was typed twice at once, once it had trained what its first look needs.

    before, after: what was found. The base is kept under "four" as it was before that look, and under "promoted".
    """

    before: Found
    after: Found
    codes: list[int]
    outputs: list[str]


@pytest.fixture(scope="module")
def promoted(base: Base) -> Twice:
    before = base.zygote.look(base.folder)
    begun = base.strike(FIRST_LOOK, *LOOKS)
    base.keep("four")
    both = base.promote_at_once(LOOKS, LOOKS)
    base.keep("promoted")
    codes, outputs = sorted(ended.returncode for ended in both), [ended.output for ended in (begun, *both)]
    return Twice(before, base.zygote.look(base.folder), codes, outputs)


def test_the_same_command_twice_at_once_takes_each_look_once(promoted: Twice) -> None:
    assert promoted.codes in ([ExitCode.DONE, ExitCode.DONE], [ExitCode.DONE, ExitCode.LOCKED]), promoted
    assert not any("Traceback" in output for output in promoted.outputs), promoted.outputs
    assert any("a look at the validation images after 4, 6, 8" in output for output in promoted.outputs)


def test_looks_end_the_training_where_the_gain_is_clear_and_the_test_images_are_opened_once(
    promoted: Twice,
) -> None:
    before, after = promoted.before, promoted.after
    ((plan, *looks),) = after["looks"]
    assert plan["kind"] == "promotion"
    assert plan["rule"]["most"] > 8
    assert [(look["after"], look["is_enough"]) for look in looks] == [(4, False), (6, True)]
    version = after["versions"][after["aliases"]["champion"]]
    assert version["tags"]["fmnist.verdict"] == "better"
    assert version["tags"]["fmnist.seeds"] == "6"
    own = find_own(before, after)
    assert {each["seed"] for each in own.values() if each["scored"]} == {str(10001 + seed) for seed in range(6)}
    assert len(after["ledger"]) == len(before["ledger"]) + 1
    assert "Training ended after 6 seeds because the gain was clear" in version["description"]
    evidence = after["evidence"][version["tags"]["fmnist.promotion"]]
    assert evidence["whole"]
    assert all(evidence["whole"].values()), evidence
    check_moves(after)


def test_killed_at_each_transition_of_the_looks_it_takes_the_same_looks_and_comes_to_the_same_end(
    base: Base, promoted: Twice
) -> None:
    before, after = promoted.before, promoted.after
    for kept, names in (("sweep", BEFORE_TRAINING), ("four", AFTER_TRAINING)):
        base.restore(kept)
        for name in names:
            base.strike(name, *LOOKS)
            found = base.zygote.look(base.folder)
            assert found["aliases"] == before["aliases"]
            assert len(found["ledger"]) == len(before["ledger"])
            looks = [event for journal in found["looks"] for event in journal]
            assert looks == after["looks"][0][: len(looks)]
    assert looks
    codes, (_, done, again) = base.zygote.complete(base.folder, *LOOKS)
    assert codes == [ExitCode.DONE, ExitCode.DONE]
    assert again == done
    _check_same(before, after, done)


def _check_same(before: Found, after: Found, found: Found) -> None:
    """What was found is what the promotion left that no kill disturbed."""
    assert found["looks"] == after["looks"]
    assert order_by_seed(find_own(before, found)) == order_by_seed(find_own(before, after))
    assert found["aliases"] == after["aliases"]
    number = found["aliases"]["champion"]
    for key in ("fmnist.verdict", "fmnist.why", "fmnist.seeds", "fmnist.weights_sha256", "fmnist.test_openings"):
        assert found["versions"][number]["tags"][key] == after["versions"][number]["tags"][key]
    check_moves(found)


def test_a_challenger_that_will_not_pass_is_found_out_without_the_test_images(base: Base, promoted: Twice) -> None:
    base.restore("promoted")
    assert base.zygote.run(*BAD, "optimizer.learning_rate=2e-6", cwd=base.folder).code == 0
    before = base.zygote.look(base.folder)
    arguments = ("promote", "promote.class_drop=1", "executor=in_process", "executor.threads=1")
    ended = base.zygote.promote(base.folder, *arguments)
    assert ended.code == ExitCode.REFUSED, ended
    assert (
        "nothing is registered. The champion keeps its place: after 4 seeds no finalist is likely enough"
        in ended.output
    )
    after = base.zygote.look(base.folder)
    for key in ("aliases", "versions", "moves", "ledger"):
        assert after[key] == before[key]
    own = [each for run, each in after["confirmations"].items() if run not in before["confirmations"]]
    assert [(each["seed"], each["scored"]) for each in sorted(own, key=lambda each: each["seed"])] == [
        (str(10001 + seed), False) for seed in range(4)
    ]
    (evidence,) = [each for run, each in after["evidence"].items() if run not in before["evidence"]]
    assert evidence["verdict"] == "futile"
    assert len(evidence["whole"]) == 2
    assert all(evidence["whole"].values()), evidence
    codes, (_, again) = base.zygote.complete(base.folder, *arguments, times=1)
    assert codes == [ExitCode.REFUSED]
    assert again == after
