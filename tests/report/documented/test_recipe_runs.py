"""What others may have written as the record of a study is no run of a write-up, and hides none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.report.documented.recipe_runs import find_write_up_runs, read_finished_trials
from fmnist_sweep.report.documented.write_ups import read_write_ups
from fmnist_sweep.tracking.names import IDENTITY_FILE
from fmnist_sweep.tracking.run_files import log_files
from tests.support.written import Written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("recipes")
    written = Written(folder, folder)
    written.run("simple", 1)
    return written


@pytest.fixture
def claimed(written: Written) -> Iterator[str]:
    """The run of another training of the recipe, deleted afterwards."""
    run_id = written.run("simple", 2)
    yield run_id
    written.store.client.delete_run(run_id)


def find_seeds(written: Written) -> list[int]:
    (write_up,) = read_write_ups(["004"])
    runs = find_write_up_runs(written.store, read_finished_trials(written.store), write_up, ())
    return [run.seed for run in runs.all_runs]


def change(*keys: str, to: Any) -> Callable[[dict[str, Any]], object]:
    """A change of one value in nested mappings."""

    def apply(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return apply


ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "a seed that is a text": change("settings", "seed", to="x"),
    "a seed of 400 digits": change("settings", "seed", to=10**400),
    "a seed that is true": change("settings", "seed", to=True),
    "a precision that is a list": change("settings", "train", "precision", to=[]),
    "a precision of many characters": change("settings", "train", "precision", to="x" * 50_000),
    "settings that are a text": change("settings", to="x"),
    "settings of the training that are none": change("settings", "train", to=None),
    "versions that are a list": change("versions", to=["keras"]),
    "a version that is a mapping": change("versions", "keras", to={}),
    "data that are none": change("data", to=None),
    "no data": lambda content: content.pop("data"),
    "no versions": lambda content: content.pop("versions"),
}


def record(written: Written, run_id: str, content: bytes) -> None:
    parent = written.store.client.get_run(run_id).data.tags["mlflow.parentRunId"]
    log_files(written.store, parent, {IDENTITY_FILE: content})


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_record_of_a_study_is_named_and_left_out(
    kind: str, written: Written, claimed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_seeds(written) == [1, 2]
    parent = written.store.client.get_run(claimed).data.tags["mlflow.parentRunId"]
    path = Path(written.store.client.download_artifacts(parent, IDENTITY_FILE))
    content = json.loads(path.read_text())
    ODD[kind](content)
    record(written, claimed, json.dumps(content).encode())
    assert find_seeds(written) == [1]
    assert f"left out 1 run, with the settings of a write-up: {claimed}: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[" * 6000, b"[]", b"3", b"\xff", b'{"settings": NaN}'])
def test_a_record_that_is_none_is_named_and_left_out(
    content: bytes, written: Written, claimed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(written, claimed, content)
    assert find_seeds(written) == [1]
    assert claimed in capsys.readouterr().err


def test_a_run_below_one_that_is_not_there_is_named_and_left_out(
    written: Written, claimed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written.store.client.set_tag(claimed, "mlflow.parentRunId", "0" * 32)
    assert find_seeds(written) == [1]
    assert f"the store has no run {'0' * 32}" in capsys.readouterr().err


def test_a_finished_run_without_a_curve_is_named_and_left_out(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = written.run("simple", 3, epochs=0)
    assert find_seeds(written) == [1]
    assert f"{run_id}: it is finished and has no curve" in capsys.readouterr().err
    written.store.client.delete_run(run_id)
