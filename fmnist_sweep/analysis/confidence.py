"""How far a model's confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.probability_checks import check_probabilities
from fmnist_sweep.analysis.proportions import Proportion, measure_share

_SIMULATIONS = 1000
_LEAST_PROBABILITY = 1e-7  # Keras' own floor for its cross-entropy, so that both figures can be compared


@dataclass(frozen=True)
class CalibrationBin:
    """The images with a confidence above `low` and up to `high`: at least one."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: Proportion


@dataclass(frozen=True)
class Calibration:
    """How far a model's confidence, its greatest probability, is the frequency of its being right.

    bins: those with images, by confidence. ece: expected calibration error, 0..1. ece_if_calibrated,
    ece_if_calibrated_sd: mean and standard deviation of the ECE that a perfectly calibrated model with these
    very confidences would show on as many images: it is not 0, and only an ECE well above it speaks against
    the model. brier: 0..2; nll: in nats; confidence: the mean.
    """

    bins: tuple[CalibrationBin, ...]
    ece: float
    ece_if_calibrated: float
    ece_if_calibrated_sd: float
    brier: float
    nll: float
    confidence: float
    accuracy: Proportion

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy: above 0 the model believes too much in itself, below too little."""
        return self.confidence - self.accuracy.value


def measure_calibration(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 15) -> Calibration:
    """Compare the confidence in the predicted labels with how often they are right.

    ECE over equal-width bins, each closed above: C. Guo et al., "On calibration of modern neural networks",
    ICML 2017. What a calibrated model would show: labels drawn anew from the confidences, 1000 times with a
    fixed seed, which is the consistency resampling of J. Vaicenavicius et al., "Evaluating model calibration
    in classification", AISTATS 2019. Brier score: squared error summed over the labels (G. W. Brier, 1950).
    NLL: a probability below 1e-7 counts as that, as Keras has it.
    """
    check_probabilities(labels, probabilities)
    if bins < 1:
        raise ValueError(f"calibration needs at least one bin, but bins is {bins}")
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    # A last bin that is closed above takes rounding's 1.0000001 too.
    bin_indices = np.searchsorted(np.arange(1, bins) / bins, confidence)
    simulated_ece = _simulate_ece(confidence, bin_indices)
    label_probabilities = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    squares = (probabilities.astype(np.float64) ** 2).sum(axis=1)
    return Calibration(
        bins=tuple(_make_bin(bin_indices == b, b, bins, confidence, correct) for b in np.unique(bin_indices).tolist()),
        ece=float(np.abs(np.bincount(bin_indices, correct - confidence)).sum() / len(labels)),
        ece_if_calibrated=float(simulated_ece.mean()),
        ece_if_calibrated_sd=float(simulated_ece.std(ddof=1)),
        brier=float((squares - 2 * label_probabilities + 1).mean()),
        nll=float(-np.log(np.maximum(label_probabilities, _LEAST_PROBABILITY)).mean()),
        confidence=float(confidence.mean()),
        accuracy=measure_share(correct),
    )


def _make_bin(
    members: NDArray[np.bool_], index: int, bins: int, confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> CalibrationBin:
    low, high = index / bins, (index + 1) / bins
    return CalibrationBin(
        low, high, int(members.sum()), float(confidence[members].mean()), measure_share(correct[members])
    )


def _simulate_ece(confidence: NDArray[np.float64], bin_indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The ECE of each simulation; `bin_indices` holds the bin of each image."""
    order = np.argsort(bin_indices, kind="stable")
    chance, starts = confidence[order].astype(np.float32), np.flatnonzero(np.diff(bin_indices[order], prepend=-1))
    expected_counts = np.add.reduceat(confidence[order], starts)
    random, batch_size = np.random.default_rng(0), 50  # in parts: all draws at once would fill tens of megabytes
    correct_counts = [
        np.add.reduceat(random.random((batch_size, len(chance)), np.float32) < chance, starts, axis=1, dtype=np.int64)
        for _ in range(_SIMULATIONS // batch_size)
    ]
    return np.asarray(np.abs(np.concatenate(correct_counts) - expected_counts).sum(axis=1) / len(chance))
