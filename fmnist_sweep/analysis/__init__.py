"""Values in, values out: what trials came to, what models get wrong, and how far their probabilities can be believed.

Everywhere `labels` and `predicted` are integers of shape (n,), indices into `names`; `probabilities` have shape
(n, len(names)) and rows that sum to 1; a *row* is an image's place in these arrays. Other shapes and values raise
ValueError, which says what was expected and what was found.
"""

from fmnist_sweep.analysis.confidence import Calibration, CalibrationBin, measure_calibration
from fmnist_sweep.analysis.labelling import Suspect, Suspects, find_suspects
from fmnist_sweep.analysis.mistakes import (
    UPPER_BODY,
    ClassScore,
    ConfusedPair,
    LabelGroup,
    find_confused_pairs,
    score_classes,
    score_merged_labels,
    score_upper_body,
    score_without_images,
)
from fmnist_sweep.analysis.proportions import Proportion

__all__ = [
    "UPPER_BODY",
    "Calibration",
    "CalibrationBin",
    "ClassScore",
    "ConfusedPair",
    "LabelGroup",
    "Proportion",
    "Suspect",
    "Suspects",
    "find_confused_pairs",
    "find_suspects",
    "measure_calibration",
    "score_classes",
    "score_merged_labels",
    "score_upper_body",
    "score_without_images",
]
