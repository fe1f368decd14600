"""train.replicas: what is refused before anything is created."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.sweep.plan import plan_studies
from tests.support.small import SMALLEST


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.replicas=0"], "train.replicas=0 (command line): expected"),
        (["train.replicas=65"], "train.replicas=65 (command line): expected"),
        (["train.replicas={tune: choice, values: [1, 2]}"], "train.replicas"),
        (["train.replicas=4", "train.batch_size=3"], "more than there are images in a batch (train.batch_size=3)"),
        (
            ["train.replicas=4", "train.batch_size={tune: choice, values: [2, 64]}"],
            "more than there are images in a batch",
        ),
        (
            ["train={tune: option, of: [default, one_cycle]}", "train.default.replicas=2"],
            "the options of train that are searched have 1, 2; expected one number for all",
        ),
    ],
)
def test_it_is_refused(overrides: Sequence[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_job(overrides)
    assert sentence in str(error.value)


def test_one_process_trains_no_two_studies_that_share_out_its_cores_otherwise(tmp_path: Path) -> None:
    typed = (*SMALLEST, "model.filters={tune: int, min_value: 2, max_value: 60}", "regularization.dropout=0.1")
    said: list[str] = []

    def plan(*overrides: str) -> int:
        jobs = [compose_job([*typed, *overrides, f"train.replicas={number}"]) for number in (1, 2)]
        return len(plan_studies(jobs, tmp_path, lambda line, style: said.append(line)))

    for executor in ("executor=in_process", "executor=ray"):
        with pytest.raises(ConfigError, match=r"another train\.replicas each .* say executor=local"):
            plan(executor)
    assert plan("executor=local") == plan() == 2
    assert list(tmp_path.iterdir()) == []
