"""What the gate promises holds in simulated worlds where the truth is known: equals stay out, a true gain gets in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from fmnist_sweep.analysis.comparison import Power, count_seeds_needed
from fmnist_sweep.analysis.comparison.power import DISAGREEMENT, INTERACTION, RECALL_SDS
from fmnist_sweep.data import LABELS
from fmnist_sweep.promotion.gate import Contender, GateJudgement, Rule, judge

pytestmark = pytest.mark.slow

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

IMAGES = 10_000
GAIN = 0.005
RULE = Rule(min_gain=0.001, class_drop=0.05, level=0.95)
TRUTH = np.arange(IMAGES) % len(LABELS)

# Recalls as measured, in the order of the labels: 0.92 on average.
RECALLS = np.array([0.875, 0.989, 0.889, 0.92, 0.885, 0.983, 0.73, 0.983, 0.989, 0.956])
# How far a recall moves with the seed before what other classes gain by it is taken off. What is left is as measured:
# 3 to 5 points for the four classes that are mistaken for one another.
FREE_SDS = np.array([0.034, 0.004, 0.034, 0.019, 0.077, 0.011, 0.058, 0.010, 0.005, 0.006])
SEED_SD = 0.003  # of the accuracy, all classes together
FREE_SD = 0.0033  # before it is cut off where a recall is at its highest
# An image's difficulty is the sum of three parts: common to all, a configuration's own, a single training's own.
COMMON, OWN, SINGLE = 0.81, 0.06, 0.13


class World:
    """Images that are hard or easy for all, and configurations that are trained on them."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._difficulty = random.standard_normal(IMAGES)

    def configuration(self, gain: float = 0.0) -> Floats:
        """How hard it finds each image, shape (images,): its accuracy is `gain` more than the recalls make."""
        own = np.sqrt(COMMON) * self._difficulty + np.sqrt(OWN) * self._random.standard_normal(IMAGES)
        return np.asarray(own - _lift(gain))

    def trained(self, name: str, difficulty: Floats, seeds: int) -> Contender:
        """Which images so many trainings get right: nearly always or never most of them, now and then about 15 %."""
        recalls = np.clip(RECALLS + self._moved(seeds), 0.3, 0.9995)
        luck = self._random.standard_normal((seeds, IMAGES), dtype=np.float32)
        return Contender(name, np.asarray(np.sqrt(SINGLE) * luck + difficulty < ndtri(recalls)[:, TRUTH]))

    def _moved(self, seeds: int) -> Floats:
        """By how much each seed moves each recall: what one class loses others gain, but for the accuracy's luck."""
        free = FREE_SDS * self._random.standard_normal((seeds, len(LABELS)))
        traded = free - free.sum(axis=1, keepdims=True) * FREE_SDS**2 / (FREE_SDS**2).sum()
        return np.asarray(traded + FREE_SD * self._random.standard_normal((seeds, 1)))


def _lift(gain: float) -> float:
    """What makes images that much easier. All classes move alike on the normal scale, so that hard ones gain most."""
    return float(brentq(lambda lift: ndtr(ndtri(RECALLS) + lift).mean() - RECALLS.mean() - gain, -1, 1))


def _decisions(
    studies: int,
    finalists: int,
    seeds: int,
    *,
    gain: float | None = None,
    champion_seeds: int | None = None,
    rule: Rule = RULE,
) -> list[GateJudgement]:
    """All finalists are the champion's configuration under other names but, where there is a gain, the last."""
    random = np.random.default_rng(13)
    decisions = []
    for _ in range(studies):
        world = World(random)
        same = world.configuration()
        champion = world.trained("champion", same, champion_seeds or seeds)
        others = [world.trained(f"same {index}", same, seeds) for index in range(finalists)]
        if gain is not None:
            others[-1] = world.trained("better", world.configuration(gain), seeds)
        decisions.append(judge(others, champion, TRUTH, LABELS, rule))
    return decisions


def _rate(what: str, found: Sequence[bool]) -> float:
    rate = sum(found) / len(found)
    print(f"{what}: {rate:.3f} of n={len(found)}")
    return rate


def _needed(finalists: int, class_drop: float | None, champion_seeds: int | None = None) -> Power:
    return count_seeds_needed(
        GAIN,
        images=IMAGES,
        min_gain=RULE.min_gain,
        class_drop=class_drop,
        power=0.85,  # as conf/promote has it, so that the 0.8 asked for is kept where the formula is a little bold
        comparisons=finalists,
        level=RULE.level,
        champion_seeds=champion_seeds,
    )


def test_the_simulated_world_is_like_the_measured_one() -> None:
    random = np.random.default_rng(14)
    trained = []
    for _ in range(20):
        world = World(random)
        trained.append([world.trained("", world.configuration(gain), 30).correct for gain in (0.0, GAIN)])
    a, b = np.array(trained).swapaxes(0, 1)
    by_image = a.var(axis=1, ddof=1).mean()
    of_recalls = a.reshape(20, 30, -1, len(LABELS)).mean(axis=2).std(axis=1, ddof=1).mean(axis=0)
    apart = ((a.mean(axis=1) - b.mean(axis=1)) ** 2).mean() - (by_image + b.var(axis=1, ddof=1).mean()) / 30

    assert a.mean() == pytest.approx(0.92, abs=0.003)
    assert b.mean() - a.mean() == pytest.approx(GAIN, abs=0.001)
    assert 2 * by_image == pytest.approx(DISAGREEMENT, abs=0.005)
    assert apart == pytest.approx(INTERACTION, abs=0.002)
    net = np.sqrt(a.mean(axis=2).var(axis=1, ddof=1).mean() - by_image / IMAGES)
    assert net == pytest.approx(SEED_SD, abs=0.0002)
    assert of_recalls == pytest.approx(np.array(RECALL_SDS), abs=0.006)


@pytest.mark.parametrize("finalists", [1, 3])
def test_the_same_configuration_under_another_name_is_hardly_ever_promoted(finalists: int) -> None:
    found = _decisions(500, finalists, _needed(finalists, RULE.class_drop).seeds)
    passed = [
        any(one.difference is not None and one.difference.verdict == "better" for one in judgement.standings)
        for judgement in found
    ]
    assert _rate(f"{finalists} equal, promoted", [judgement.promotes for judgement in found]) <= 0.05
    # Not for the other parts of the rule: the corrected intervals alone keep to it.
    assert 0 < _rate(f"{finalists} equal, an interval above 0", passed) <= 0.05


@pytest.mark.parametrize("finalists", [1, 3])
def test_a_gain_of_half_a_point_is_found_with_the_seeds_that_are_said_to_be_needed(finalists: int) -> None:
    found = _decisions(500, finalists, _needed(finalists, RULE.class_drop).seeds, gain=GAIN)
    right = [judgement.verdict == "better" and judgement.winner == finalists - 1 for judgement in found]
    assert _rate(f"a gain among {finalists}, found", right) >= 0.8


@pytest.mark.parametrize("champion_seeds", [None, 6])
def test_the_power_foretold_is_the_power_found(champion_seeds: int | None) -> None:
    need = _needed(1, None, champion_seeds)
    rule = Rule(RULE.min_gain, 1.0, RULE.level)
    found = _decisions(400, 1, need.seeds, gain=GAIN, champion_seeds=champion_seeds, rule=rule)
    rate = _rate(f"foretold {need.power:.3f}, found", [judgement.promotes for judgement in found])
    assert rate == pytest.approx(need.power, abs=0.05)
