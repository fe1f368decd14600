"""The settings of data: each is named, and none is out of range."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fmnist_sweep.data import DataConfig
from tests.conftest import data_config as config


def test_every_setting_is_named_so_that_defaults_live_in_yaml_only() -> None:
    with pytest.raises(ValidationError):
        DataConfig(source="drawn")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 19},
        {"validation": 0.0},
        {"validation": 1.0},
        {"source": "mnist"},
        {"split_seed": -1},
        {"x": 1},
        {"images": 10**12},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)
