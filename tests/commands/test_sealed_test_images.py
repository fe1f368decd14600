"""The test images stay closed: a search and its report never open them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import idx, open_test, sources
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.data.splits import ImageTable
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.publish import rebuild_report
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import (
    locate_ledger,
    open_existing_store,
)
from fmnist_sweep.tracking.trial_search import select_trials
from tests.conftest import Command
from tests.support.caches import clear_splits_cache

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALL = (
    *("model.filters=4", "model.conv_layers=1", "model.dense_units=8", "regularization=none", "search.max_trials=2"),
    *("train.precision=float32", "train.batch_size=16", "train.epochs=1", "executor=in_process"),
    "optimizer.learning_rate={tune: choice, values: [0.001, 0.002]}",
)


def _train_pair(folder: Path) -> Path:
    """A folder with 200 learnable training images in Fashion-MNIST's own format, and no test files."""
    images, labels = draw_images(200, 7, stream="train")
    folder.mkdir(parents=True)
    sizes = b"".join(number.to_bytes(4, "big") for number in (2051, len(images), 28, 28))
    (folder / TRAIN_IMAGES).write_bytes(sizes + images.tobytes())
    header = (2049).to_bytes(4, "big") + len(labels).to_bytes(4, "big")
    (folder / TRAIN_LABELS).write_bytes(header + labels.astype(np.uint8).tobytes())
    return folder


class Touched(BaseException):
    """Somebody looked at a poisoned array; no `except Exception` may swallow it."""


def _touched(*_: object, **__: object) -> NoReturn:
    raise Touched("the test images were read")


def _poison() -> Any:
    """An array that raises whatever is done with it, attributes included."""
    calls = ("getitem", "len", "iter", "array", "eq", "ne", "lt", "gt", "le", "ge", "bool", "add", "sub", "contains")
    members: dict[str, Any] = {f"__{name}__": _touched for name in calls}
    return type("Poison", (), {**members, "__getattr__": _touched, "__hash__": None})()


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A working directory and files of training images, where whatever reads test images gets poison.

    Gives the list of who asked for them.
    """
    asked: list[str] = []

    def read_test(*_: object) -> ImageTable:
        asked.append("read_test")
        return ImageTable(_poison(), _poison())

    def open_(folder: Path, part: str) -> Any:
        if part == "test":
            asked.append("read_part")
            _touched()
        return real(folder, cast(Any, part))

    real = idx.read_idx_part
    _train_pair(tmp_path / "idx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "read_test", read_test)
    monkeypatch.setattr(idx, "read_idx_part", open_)
    clear_splits_cache()
    yield asked
    clear_splits_cache()


def test_a_search_and_its_report_never_touch_poisoned_test_images_and_opening_them_does(
    poisoned: list[str], tmp_path: Path
) -> None:
    shown = io.StringIO()
    job = compose_job([*SMALL, f"data.dir={tmp_path / 'idx'}", "data.fallback=null"])
    code = run_sweep([job], "python -m fmnist_sweep", View(Console(file=shown), None))
    assert code is ExitCode.DONE, shown.getvalue()
    store = open_existing_store(None, "fashion-mnist")
    assert len(select_trials(store)) == 2
    rebuild_report(store, study_id=None, sweep_id=None, data_dir=str(tmp_path / "idx"), out=tmp_path / "again.html")
    ledger = locate_ledger()
    assert poisoned == []
    assert not ledger.exists()
    with pytest.raises(Touched):  # else the poison would be harmless
        open_test(job.config.data, reason="control", ledger=ledger)
    assert poisoned == ["read_test"]
    assert not ledger.exists()  # and nothing was opened


def _as_folders(path: Path) -> None:
    path.mkdir()


def _as_pipes(path: Path) -> None:
    os.mkfifo(path)  # whoever opens it waits for ever


def _as_garbage(path: Path) -> None:
    path.write_bytes(b"no IDX file")


def _as_loops(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_as_pipes, id="pipes"),
        pytest.param(_as_folders, id="folders", marks=pytest.mark.slow),
        pytest.param(_as_garbage, id="garbage", marks=pytest.mark.slow),
        pytest.param(_as_loops, id="loops", marks=pytest.mark.slow),
    ],
)
def test_the_real_command_sweeps_beside_test_files_that_nobody_can_read(
    spoil: Callable[[Path], None], sweep: Command, tmp_path: Path
) -> None:
    folder = _train_pair(tmp_path / "idx")
    for name in TEST_NAMES:
        spoil(folder / name)
    done = sweep(*SMALL, f"data.dir={folder}", "data.fallback=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
    assert not (tmp_path / "mlruns" / "test_openings.jsonl").exists()
