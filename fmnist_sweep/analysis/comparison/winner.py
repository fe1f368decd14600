"""The luck of the highest of several scores: what to expect of it on other images and with another seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.comparison.checks import Booleans, check_accuracies, check_correctness, check_not_negative


@dataclass(frozen=True)
class Optimism:
    """By how much the best of several scores flatters its model.

    `best` is the highest accuracy seen, `value` its expected excess over what the winner scores on other
    images, and `expected` is `best - value`. `sd` is that of `expected`, on the wide side: it is taken from the
    images that a resample leaves out, about a third.
    """

    value: float
    sd: float
    best: float
    expected: float
    trials: int


def estimate_optimism(correct: Booleans, *, repeats: int = 1000, seed: int = 0) -> Optimism:
    """Estimate by how much the highest of several accuracies exceeds what its model scores on other images.

    `correct` has shape (trials, images). Each of `repeats` resamples of the images elects a winner, and
    `value` is how far that winner falls behind the best of all on the images the resample left out: the bias
    correction BBC-CV of Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions
    for efficient and accurate cross-validation", Machine Learning 107 (2018), 1895-1922. It is right where all
    are equally good and errs upwards, in simulations by a tenth to a half, where they are not. (The winner's
    accuracy inside the resample minus that outside would count the luck of the images up to twice.) One matrix
    product: trials x images x repeats multiplications and 4 bytes a trial and image, for 200 x 6,000 x 1,000 a
    tenth of a second on one core.
    Raises ValueError for another shape, fewer than 2 images and fewer than 100 repeats.
    """
    correct = check_correctness(correct, "(trials, images)")
    trials, images = correct.shape
    if images < 2 or repeats < 100:
        raise ValueError(f"optimism needs at least 2 images and 100 repeats, but got {images} and {repeats}")
    random = np.random.default_rng(seed)
    scores = correct.mean(axis=1)
    best = int(scores.argmax())
    matrix = correct.astype(np.float32).T
    winners, champions = [], []
    for start in range(0, repeats, 100):
        weights = _resample_images(images, min(100, repeats - start), random)
        left_out = weights == 0
        # A resample of a handful of images may leave none out; it has nothing to say.
        is_usable = left_out.any(axis=1)
        winner_indices = (weights @ matrix).argmax(axis=1)
        sizes = left_out.sum(axis=1)[is_usable]
        winners.append((correct[winner_indices] & left_out).sum(axis=1)[is_usable] / sizes)
        champions.append((correct[best] & left_out).sum(axis=1)[is_usable] / sizes)
    winner_scores = np.concatenate(winners)
    # Both on the same images: what these have of hard ones cancels. Of a single trial exactly 0 remains.
    value = float((np.concatenate(champions) - winner_scores).mean())
    highest = float(scores[best])
    return Optimism(value, float(winner_scores.std(ddof=1)), highest, highest - value, trials)


def shrink_best_accuracy(accuracies: Sequence[float], noise_sd: float) -> float:
    """Estimate the true accuracy behind the highest of `accuracies`, as for training its configuration again.

    Each accuracy is taken as true plus independent normal noise of sd `noise_sd`, and the true ones as normal
    among themselves: empirical Bayes, as in B. Efron, "Tweedie's formula and selection bias", JASA 106 (2011),
    1602-1614. Centre and spread are those of the upper half (the median, and the root mean square above it):
    failed trials far below would otherwise pass for a spread so wide that noise hardly matters. What is left of
    the distance to the centre is the share of the spread that is not noise. A few winners far above many equals
    are shrunk too much. Raises ValueError for no accuracies, accuracies outside 0..1 and a negative noise.
    """
    values = check_accuracies(accuracies)
    check_not_negative("noise_sd", noise_sd)
    highest = float(values.max())
    if len(values) == 1:
        return highest
    centre = float(np.median(values))
    upper = values[values >= centre]
    spread = float(((upper - centre) ** 2).mean()) * len(values) / (len(values) - 1)
    kept_share = max(0.0, 1 - noise_sd**2 / spread) if spread > 0 else 0.0
    return centre + kept_share * (highest - centre)


def _resample_images(images: int, repeats: int, random: np.random.Generator) -> NDArray[np.float32]:
    """How often each image is drawn when as many are drawn with replacement; shape (repeats, images)."""
    draws = random.integers(0, images, (repeats, images)) + np.arange(repeats)[:, None] * images
    return np.bincount(draws.ravel(), minlength=repeats * images).reshape(repeats, images).astype(np.float32)
