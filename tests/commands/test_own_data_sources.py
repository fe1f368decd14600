"""A data source of one's own through the real commands: its images, its settings, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.data import load_splits, open_test
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder
from fmnist_sweep.training import own_code
from tests.conftest import data_config
from tests.support import ROOT
from tests.support.in_process import run_command, run_verb

pytestmark = pytest.mark.usefixtures("own_code_forgotten")

PETS = """\
from typing import Annotated

import numpy as np
from pydantic import Field
from fmnist_sweep.plugins import data_source


@data_source
def pets(path, part):
    assert part == "train", "the test part was read"
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 60, (60, 8, 9, 3)).astype(np.uint8)
    images[np.arange(60), labels] = 220
    return images, np.array(["cat", "dog", "emu"])[labels]


@data_source
def numbered(path, *, first: Annotated[int, Field(ge=0, le=90)] = 0):
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 9), dtype=np.uint8)
    return images[first:], (np.arange(90) % 3)[first:]
"""
PET_WORDS = (
    *("data=npz", "data.source=pets", "data.dir=pets", "plugins=mine.py", "model=simple", "model.dense_widths=[4]"),
    *("train=default", "train.epochs=1", "train.batch_size=16", "train.precision=float32", "executor=in_process"),
    *("optimizer.learning_rate=0.01", "regularization=none"),
)


def test_images_that_a_function_of_ones_own_reads_are_trained_on_and_their_test_part_stays_closed(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(PETS)
    (tmp_path / "pets").mkdir()
    ended = run_command(*PET_WORDS, cwd=tmp_path)
    assert ended.returncode == ExitCode.DONE, ended.stderr + ended.stdout
    assert "8x9 pixels" in ended.stdout
    assert "3 labels" in ended.stdout
    assert "promote the best: fmnist-sweep promote --experiment pets --plugins mine.py\n" in ended.stdout
    (study,) = list_study_folders(locate_state_folder(build_default_uri(tmp_path)))
    assert list(study.read_record().about["identity"]["plugins"]) == ["mine.py"]
    own_code.activate_typed([str(tmp_path / "mine.py")])
    values = {"name": None, "labels": None, "test": 0.2, "test_seed": 0, "dir": str(tmp_path / "pets"), "first": 30}
    data = choose_data_schema("numbered")(**{**data_config().model_dump(), "source": "numbered", **values})
    train, test = load_splits(data), open_test(data, reason="a test", ledger=tmp_path / "ledger")
    assert len(train.train.labels) + len(train.validation.labels) + len(test.labels) == 60
    assert 5 < len(test.labels) < 30
    assert data.describe_content()["first"] == 30
    shown = run_verb("data", *PET_WORDS[:1], "data.source=pets", "data.dir=pets", "--plugins", "mine.py", cwd=tmp_path)
    assert "the test part was read" in shown.stderr  # which the verb counts


def test_a_data_source_has_settings_like_other_own_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PETS)
    (tmp_path / "pets").mkdir()
    (tmp_path / "conf/data").mkdir(parents=True)
    keys = (ROOT / "conf/data/npz.yaml").read_text().replace("source: npz", "source: numbered")
    (tmp_path / "conf/data/numbered.yaml").write_text(f"{keys}first: 30\n")
    words = ("--config-dir", "conf", "data=numbered", *PET_WORDS[2:], "plan=true")
    ended = run_command(*words, cwd=tmp_path)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    for typed, said in {
        "data.first=91": "data.first=91 (command line): expected a whole number from 0 to 90",
        "data.frist=1": "data.frist",
    }.items():
        ended = run_command(*words, typed, cwd=tmp_path)
        assert ended.returncode == ExitCode.CONFIG
        assert said in ended.stderr


WRONG_PETS = {
    "no pair": (
        "return images[first:], (np.arange(90) % 3)[first:]",
        "return images",
        "it returned a ndarray; expected a pair",
    ),
    "wrong type": ("dtype=np.uint8", "dtype=np.int64", "images of the shape (90, 8, 9) and the type int64; expected"),
    "too few labels": (
        "np.arange(90) % 3",
        "np.arange(80) % 3",
        "labels of the shape (80,) and the type int64; exp",
    ),
    "raises": ("images = np.random", "raise OSError('gone')\n    images = np.random", "raised an error with"),
    "a taken name": ("def numbered", "def npz", "the data source npz: there already is the project's own"),
}


@pytest.mark.parametrize("case", WRONG_PETS)
def test_a_function_that_reads_no_labelled_images_is_one_sentence(case: str, tmp_path: Path) -> None:
    right, wrong, words = WRONG_PETS[case]
    head, numbered = PETS.split("\n\n\n@data_source\ndef numbered", 1)
    (tmp_path / "mine.py").write_text(head + ("\n\n\n@data_source\ndef numbered" + numbered).replace(right, wrong))
    (tmp_path / "pets").mkdir()
    before = set(tmp_path.iterdir())
    ended = run_command(*PET_WORDS, "data.source=numbered", cwd=tmp_path)
    assert ended.returncode in (ExitCode.DATA, ExitCode.CONFIG)
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert set(tmp_path.iterdir()) == before
