"""Which of several scores are really apart: paired tests, the winner's luck, repeated seeds.

Two kinds of luck stand behind an accuracy. The images are a sample: all models are scored on the same ones, so
what they share cancels in a difference, and only the images on which two models disagree count. And training is
a draw: the same configuration trained with another seed scores otherwise.
"""

from fmnist_sweep.analysis.comparison.checks import Booleans
from fmnist_sweep.analysis.comparison.differences import Difference, Standing, paired, standings
from fmnist_sweep.analysis.comparison.power import Power, seeds_needed
from fmnist_sweep.analysis.comparison.seeds import SEED_SD, Repeats, over_seeds, pooled_freedom, pooled_sd, repeats
from fmnist_sweep.analysis.comparison.winner import Optimism, optimism, shrunk

__all__ = [
    "SEED_SD",
    "Booleans",
    "Difference",
    "Optimism",
    "Power",
    "Repeats",
    "Standing",
    "optimism",
    "over_seeds",
    "paired",
    "pooled_freedom",
    "pooled_sd",
    "repeats",
    "seeds_needed",
    "shrunk",
    "standings",
]
