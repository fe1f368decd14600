"""Where images come from: Fashion-MNIST's IDX files, Kaggle's CSV files, or a stand-in drawn here.

`load` gives train and validation and never opens a test file; `open_test` gives the test split and records
it.
"""

from fmnist_sweep.data.config import DataConfig
from fmnist_sweep.data.loading import forget, load, open_test
from fmnist_sweep.data.splits import LABELS, Origin, Split, Splits
from fmnist_sweep.data.summary import Summary, example_figure, fallback_banner, render, summarize

__all__ = [
    "LABELS",
    "DataConfig",
    "Origin",
    "Split",
    "Splits",
    "Summary",
    "example_figure",
    "fallback_banner",
    "forget",
    "load",
    "open_test",
    "render",
    "summarize",
]
