"""Images and batches that grow: what is refused, in one sentence and before anything is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError
from tests.support.in_process import run_command
from tests.support.small import TINY

GROWING = "train.resolution={start: 20, step: 4, every: 3}"
AVERAGE = "model.head=global_average"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([AVERAGE, "train.resolution=20"], "train.resolution=20 (command line): expected"),
        ([AVERAGE, "train.resolution={start: 20, step: 4}"], "train.resolution.every (command line): missing"),
        ([AVERAGE, "train.resolution={start: 8, step: 4, every: 1}"], "train.resolution.start=8 (command line)"),
        ([AVERAGE, "train.resolution={start: 20, step: 0, every: 1}"], "train.resolution.step=0 (command line)"),
        (["train.batch_growth={factor: 1, every: 1}"], "train.batch_growth.factor=1 (command line)"),
        (["train.batch_growth={factor: 2, every: 0}"], "train.batch_growth.every=0 (command line)"),
        (["train.batch_growth=2"], "train.batch_growth=2 (command line)"),
        ([GROWING], "only model=cnn with model.head=global_average has weights for any size"),
        ([GROWING, "model.head={tune: choice, values: [flatten, global_average]}"], "model.head=global_average"),
        ([GROWING, "model=two_conv"], "or train.resolution=null"),
        ([GROWING, "model={tune: option, of: [cnn, simple]}", "model.cnn.head=global_average"], "train.resolution"),
        (
            ["train={tune: option, of: [default, cosine]}", GROWING.replace("train.", "train.default.")],
            "global_average",
        ),
    ],
)
def test_what_cannot_grow_is_refused_in_one_sentence(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_job(overrides)
    said = str(caught.value)
    assert words in said and said.endswith(".") and "\n" not in said


def test_a_start_that_is_the_size_of_the_images_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    start = "train.resolution={start: {tune: int, min_value: 16, max_value: 28}, step: 4, every: 1}"
    done = run_command(*TINY, AVERAGE, start, cwd=tmp_path)
    assert done.returncode == 2
    assert "the images have 28x28 pixels" in done.stderr and "below 28" in done.stderr
    assert not list(tmp_path.iterdir())
