"""Kaggle's CSV files as tests write them, and the sentence that refuses them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmnist_sweep.data import load_splits
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.errors import DataError
from tests.conftest import data_config

COLUMNS = ["label", *(f"pixel{number}" for number in range(1, 785))]

config = partial(data_config, source="kaggle_csv")


def table(count: int, stream: Any) -> pd.DataFrame:
    images, labels = draw_images(count, 5, stream=stream)
    return pd.DataFrame(np.column_stack([labels, images.reshape(count, -1)]), columns=COLUMNS)


def write_tables(folder: Path) -> Path:
    """A folder with both files: 60 training and 10 test images."""
    folder.mkdir()
    table(60, "train").to_csv(folder / "fashion-mnist_train.csv", index=False)
    table(10, "test").to_csv(folder / "fashion-mnist_test.csv", index=False)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), fallback="drawn"))
    assert "\n" not in str(error.value)
    return str(error.value)
