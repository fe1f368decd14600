"""What models get wrong, and how far their probabilities can be believed: NumPy in, plain values out.

Everywhere `labels` and `predicted` are integers of shape (n,), indices into `names`; `probabilities` have shape
(n, len(names)) and rows that sum to 1; a *row* is an image's place in these arrays. Other shapes and values raise
ValueError, which says what was expected and what was found.
"""

from fmnist_sweep.analysis.confidence import Calibration, CalibrationBin, calibration
from fmnist_sweep.analysis.labelling import Suspect, Suspects, suspects
from fmnist_sweep.analysis.mistakes import (
    UPPER_BODY,
    Block,
    ClassScore,
    Pair,
    confused_pairs,
    merged,
    per_class,
    upper_body,
    without,
)
from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.data.twins import NEAR, near

__all__ = [
    "NEAR",
    "UPPER_BODY",
    "Block",
    "Calibration",
    "CalibrationBin",
    "ClassScore",
    "Pair",
    "Proportion",
    "Suspect",
    "Suspects",
    "calibration",
    "confused_pairs",
    "merged",
    "near",
    "per_class",
    "suspects",
    "upper_body",
    "without",
]
