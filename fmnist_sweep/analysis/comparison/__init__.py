"""Which of several scores really differ: paired tests, the winner's luck, repeated seeds.

Two kinds of luck stand behind an accuracy. The images are a sample: all models are scored on the same ones, so
what they share cancels in a difference, and only the images on which two models disagree count. And training is
a draw: the same configuration trained with another seed scores otherwise.
"""

from fmnist_sweep.analysis.comparison.checks import Booleans
from fmnist_sweep.analysis.comparison.differences import Difference, TrialStanding, compare_models, compare_with_best
from fmnist_sweep.analysis.comparison.power import Power, SpreadAssumptions, count_seeds_needed
from fmnist_sweep.analysis.comparison.seeds import (
    LEAST_FREEDOM,
    SEED_SD,
    Repeats,
    SeedSpread,
    compare_over_seeds,
    estimate_seed_sd,
    pool_seed_spread,
    summarize_repeats,
)
from fmnist_sweep.analysis.comparison.winner import Optimism, estimate_optimism, shrink_best_accuracy

__all__ = [
    "LEAST_FREEDOM",
    "SEED_SD",
    "Booleans",
    "Difference",
    "Optimism",
    "Power",
    "Repeats",
    "SeedSpread",
    "SpreadAssumptions",
    "TrialStanding",
    "compare_models",
    "compare_over_seeds",
    "compare_with_best",
    "count_seeds_needed",
    "estimate_optimism",
    "estimate_seed_sd",
    "pool_seed_spread",
    "shrink_best_accuracy",
    "summarize_repeats",
]
