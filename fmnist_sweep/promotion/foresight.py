"""What a promotion with looks comes to, by drawing whole decisions: how often it promotes, and at what cost.

A training's accuracy is its configuration's true one, the luck of its seed, which validation and test images share, and
the luck of either images: one that all trainings of a configuration share, and one of its own. The parts have the
variances that `count_seeds_needed` assumes. Each finalist is the best of many on the validation images, so that these
images favour it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison.power import DISAGREEMENT, INTERACTION, MEASURED, RECALL_SDS
from fmnist_sweep.promotion.early_stop import EarlyStop
from fmnist_sweep.promotion.looks import LookRule, find_early_stop, find_quantile, take_look

Floats = NDArray[np.float64]
Stop = Literal["all seeds", "enough", "futile"]
_SWEEP_SIZE = 20  # trials that a finalist is the best of
_FORESEEN_DECISIONS = 200


@dataclass(frozen=True)
class World:
    """A truth to decide about.

    gains: true ones of the finalists over the champion. champion_seeds: that the champion has already. seed_sd: sd of
    an accuracy over seeds, without the luck of images.
    """

    gains: Sequence[float]
    champion_seeds: int = 0
    seed_sd: float = MEASURED.net_sd


@dataclass(frozen=True)
class TestGain:
    """A finalist's gain on the test images, with the interval that decides, and its true gain."""

    __test__ = False  # pytest takes a class with this name for one of tests

    gain: float
    low: float
    high: float
    truth: float


@dataclass(frozen=True)
class DrawnDecision:
    """One decision. winner: index of the finalist that is promoted, if one is. tested: the winner's gain, else that of
    the finalist with the highest; None where no test image was opened. seeds: of those that were tested. early_stop:
    the look that ended the training because the gain was clear."""

    winner: int | None
    stop: Stop
    seeds: int
    trainings: int
    tested: TestGain | None
    early_stop: EarlyStop | None = None


@dataclass(frozen=True)
class Foresight:
    """What is to be expected of a promotion. Trainings are of finalists and champion together."""

    chance: float
    seeds: float
    trainings: float


def foresee(rule: LookRule, gain: float, champion_seeds: int) -> Foresight:
    """Foresee a promotion whose last finalist truly gains this and the others nothing; always the same."""
    random = np.random.default_rng(0)
    world = World([0.0] * (rule.comparisons - 1) + [gain], champion_seeds)
    drawn = [draw_decision(rule, world, random) for _ in range(_FORESEEN_DECISIONS)]
    return Foresight(
        sum(decision.winner is not None for decision in drawn) / len(drawn),
        sum(decision.seeds for decision in drawn) / len(drawn),
        sum(decision.trainings for decision in drawn) / len(drawn),
    )


def draw_decision(
    rule: LookRule, world: World, random: np.random.Generator, *, has_looks: bool = True
) -> DrawnDecision:
    """Draw one decision, with looks or by the fixed design."""
    count = len(world.gains)
    gains = np.array([*world.gains, 0.0])[:, None]
    luck = world.seed_sd * random.standard_normal((count + 1, max(rule.most, world.champion_seeds)))
    validation = gains + luck + _draw_validation_luck(rule.validation_images, luck.shape, world.seed_sd, random)
    test = gains + luck + _draw_image_luck(rule.test_images, luck.shape, random)
    left, trained = list(range(count)), [rule.most] * count
    stop: Stop = "all seeds"
    seeds = rule.most
    early_stop = None
    for number in rule.looks if has_looks else ():
        champion_accuracies = validation[-1, : max(number, world.champion_seeds)].tolist()
        look = take_look(rule, [validation[index, :number].tolist() for index in left], champion_accuracies)
        going = [left[index] for index in look.remaining]
        for index in left if look.ends_training else set(left) - set(going):
            trained[index] = number
        left = going
        if look.ends_training:
            stop, seeds = ("enough" if left else "futile"), number
            if left:
                early_stop = find_early_stop(rule, look, len(champion_accuracies))
            break
    champion_seeds = max(seeds, world.champion_seeds)
    trainings = sum(trained) + champion_seeds - world.champion_seeds
    if not left:
        return DrawnDecision(None, stop, seeds, trainings, None)
    tested = {
        index: _compare(rule, test[index, :seeds], test[-1, :champion_seeds], world.gains[index]) for index in left
    }
    passed = [index for index in left if _passes(rule, tested[index], (seeds, champion_seeds), random)]
    best = max(passed or left, key=lambda index: tested[index].gain)
    return DrawnDecision(best if passed else None, stop, seeds, trainings, tested[best], early_stop)


def _draw_image_luck(images: int, shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Luck with some images, of configurations and of their trainings."""
    own = math.sqrt(INTERACTION / 2 / images) * random.standard_normal((shape[0], 1))
    return np.asarray(own + math.sqrt(DISAGREEMENT / 2 / images) * random.standard_normal(shape))


def _draw_validation_luck(images: int, shape: tuple[int, ...], seed_sd: float, random: np.random.Generator) -> Floats:
    """Luck with images that all but the last configuration were chosen on, each as the best of many."""
    luck = _draw_image_luck(images, shape, random)
    own = math.sqrt(INTERACTION / 2 / images) * random.standard_normal((shape[0] - 1, _SWEEP_SIZE))
    # Each trial of the sweep had one seed.
    single_sd = math.hypot(seed_sd, math.sqrt(DISAGREEMENT / 2 / images))
    best = (own + single_sd * random.standard_normal(own.shape)).argmax(axis=1)
    single = math.sqrt(DISAGREEMENT / 2 / images) * random.standard_normal((shape[0] - 1, shape[1]))
    luck[:-1] = np.take_along_axis(own, best[:, None], axis=1) + single
    return luck


def _compare(rule: LookRule, finalist: Floats, champion: Floats, truth: float) -> TestGain:
    """The gain on the test images and its interval, as `compare_over_seeds` has it."""
    by_seed = [float(group.var(ddof=1)) / len(group) for group in (finalist, champion)]
    by_configuration = INTERACTION / rule.test_images
    by_image = DISAGREEMENT / 2 / rule.test_images * (1 / len(finalist) + 1 / len(champion)) + by_configuration
    variance = sum(by_seed) + by_configuration
    freedom = variance**2 / (
        by_seed[0] ** 2 / (len(finalist) - 1) + by_seed[1] ** 2 / (len(champion) - 1) + by_image**2 / rule.test_images
    )
    gain = float(finalist.mean() - champion.mean())
    half = find_quantile(round(freedom, 1), rule.error) * math.sqrt(variance)
    return TestGain(gain, gain - half, gain + half, truth)


def _passes(rule: LookRule, tested: TestGain, counts: tuple[int, int], random: np.random.Generator) -> bool:
    """Whether a finalist meets every part of the gate's rule; recalls gain as the accuracy does, but for luck."""
    sds = math.sqrt(sum(1 / count for count in counts)) * np.array(RECALL_SDS)
    falls = sds * random.standard_normal(len(sds)) - tested.truth
    return tested.low > 0 and tested.gain >= rule.min_gain and bool((falls <= rule.class_drop).all())
