"""Which of several scores are really apart: paired tests, the winner's luck, repeated seeds.

Two kinds of luck stand behind an accuracy. The images are a sample: all models are scored on the same ones, so
what they share cancels in a difference, and only the images on which two models disagree count. And training is
a draw: the same configuration trained with another seed scores otherwise.
"""

from fmnist_sweep.analysis.comparison.checks import Booleans
from fmnist_sweep.analysis.comparison.differences import Difference, TrialStanding, compare_models, compare_with_best
from fmnist_sweep.analysis.comparison.power import Power, count_seeds_needed
from fmnist_sweep.analysis.comparison.seeds import (
    SEED_SD,
    Repeats,
    compare_over_seeds,
    pool_freedom,
    pool_sd,
    summarize_repeats,
)
from fmnist_sweep.analysis.comparison.winner import Optimism, estimate_optimism, shrink_best_accuracy

__all__ = [
    "SEED_SD",
    "Booleans",
    "Difference",
    "Optimism",
    "Power",
    "Repeats",
    "TrialStanding",
    "compare_models",
    "compare_over_seeds",
    "compare_with_best",
    "count_seeds_needed",
    "estimate_optimism",
    "pool_freedom",
    "pool_sd",
    "shrink_best_accuracy",
    "summarize_repeats",
]
