"""Where images come from: Fashion-MNIST's IDX files, Kaggle's CSV files, or a stand-in drawn here.

`load_splits` gives the train and validation splits and never opens a test file; `open_test` gives the test split and
records that it was opened.
"""

from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.description import FASHION_MNIST, IMAGE_SIDE, LABELS, DataDescription
from fmnist_sweep.data.loading import load_splits, open_test
from fmnist_sweep.data.splits import Origin, Split, Splits
from fmnist_sweep.data.summary import DataSummary, format_fallback_banner, summarize_data

__all__ = [
    "FASHION_MNIST",
    "IMAGE_SIDE",
    "LABELS",
    "DataConfig",
    "DataDescription",
    "DataSummary",
    "Origin",
    "Split",
    "Splits",
    "format_fallback_banner",
    "load_splits",
    "open_test",
    "summarize_data",
]
