"""What was measured is kept for later sweeps, and asked anew as soon as it could be otherwise."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist_sweep.executors import Placement
from fmnist_sweep.files import hold_lock_file
from fmnist_sweep.sweep import measurements
from fmnist_sweep.sweep.measurements import Measurements, locate_measurements
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost

SINGLE, PAIR = Placement("in_process", 1, 2), Placement("local", 2, 1)
COST = TrainingCost(12.5, 1000, 0.75)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FMNIST_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "measurements.json"


def test_a_later_sweep_finds_what_was_measured(file: Path) -> None:
    Measurements().keep_costs({"a": COST}, SINGLE)
    assert Measurements().find_cost("a", SINGLE) == COST
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".json"] == ["measurements.json"]


def test_only_times_and_a_size_are_kept(file: Path) -> None:
    """Nothing that a result follows from: the precision of a study, above all, is asked of the processor each time."""
    Measurements().keep_costs({"a": COST}, SINGLE)
    assert list(json.loads(file.read_text())["costs"].values()) == [
        {"epoch_seconds": 12.5, "parameters": 1000, "start_seconds": 0.75}
    ]


@pytest.mark.parametrize(
    ("workload", "placement"),
    [
        ("b", SINGLE),
        ("a", PAIR),
        ("a", Placement("in_process", 1, 1)),
        ("a", Placement("local", 1, 2)),
    ],
)
def test_another_model_or_placement_is_measured(workload: str, placement: Placement, file: Path) -> None:
    Measurements().keep_costs({"a": COST}, SINGLE)
    assert Measurements().find_cost(workload, placement) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(backend, "count_usable_cores", lambda: 99),
        lambda patch: patch.setattr(measurements, "describe_machine", lambda: "another processor"),
        lambda patch: patch.setattr(measurements, "read_cpu_info", lambda: {"flags": "avx2"}),
        lambda patch: patch.setattr(measurements, "read_library_versions", lambda: {"tensorflow": "2.99"}),
        lambda patch: patch.setattr(measurements, "hash_training_code", lambda: "another"),
        lambda patch: patch.setattr("platform.python_version", lambda: "3.99"),
        lambda patch: patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0"),
        lambda patch: patch.setenv("OMP_NUM_THREADS", "7"),
        lambda patch: patch.setenv("CUDA_VISIBLE_DEVICES", "3"),
    ],
    ids=["cores", "machine", "instructions", "libraries", "code", "python", "onednn", "openmp", "gpus"],
)
def test_on_another_machine_or_with_other_libraries_it_is_measured_again(
    change: Callable[[pytest.MonkeyPatch], None], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Measurements().keep_costs({"a": COST}, SINGLE)
    change(monkeypatch)
    assert Measurements().find_cost("a", SINGLE) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff\xfe\x00",
        lambda content: b"[" * 100_000,
        lambda content: b"[]",
        lambda content: b"null",
        lambda content: b'{"format": 1}',
        lambda content: b'{"format": 1, "costs": [1, 2]}',
        lambda content: content.replace(b'"format": 1', b'"format": 2'),
        lambda content: content.replace(b"12.5", b"NaN"),
        lambda content: content.replace(b"12.5", b"1e999"),
        lambda content: content.replace(b"12.5", b"-12.5"),
        lambda content: content.replace(b"12.5", b"1e300"),
        lambda content: content.replace(b"12.5", b'"12.5"'),
        lambda content: content.replace(b"12.5", b"true"),
        lambda content: content.replace(b": 1000", b": -1"),
        lambda content: content.replace(b": 1000", b": 1" + 40 * b"0"),
        lambda content: content.replace(b": 1000", b": 1000.5"),
        lambda content: content.replace(b"parameters", b"parameter"),
        lambda content: content.replace(b'"parameters"', b'"more": 1, "parameters"'),
        lambda content: content + b" " * 2**20,
    ],
)
def test_a_damaged_or_foreign_file_is_measured_over(change: Callable[[bytes], bytes], file: Path) -> None:
    Measurements().keep_costs({"a": COST}, SINGLE)
    changed = change(file.read_bytes())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    found = Measurements()
    assert found.find_cost("a", SINGLE) is None
    found.keep_costs({"a": COST}, SINGLE)
    assert Measurements().find_cost("a", SINGLE) == COST


def test_one_entry_of_others_costs_no_other(file: Path) -> None:
    Measurements().keep_costs({"a": COST}, SINGLE)
    content = json.loads(file.read_text())
    content["costs"] |= {"odd": None, "old": {"epoch_seconds": 1.0}}
    file.write_text(json.dumps(content))
    assert Measurements().find_cost("a", SINGLE) == COST


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device"])
def test_what_is_no_file_is_not_waited_for(kind: str, file: Path) -> None:
    file.parent.mkdir()
    if kind == "folder":
        (file / "in it").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file if kind == "loop" else "/dev/zero")
    found = Measurements()
    assert found.find_cost("a", SINGLE) is None
    found.keep_costs({"a": COST}, SINGLE)
    assert found.find_cost("a", SINGLE) == COST  # in this process at least
    assert kind != "folder" or (file / "in it").is_dir()


@pytest.mark.parametrize("place", ["/dev/null/home", "/proc/here", "file/below"])
def test_without_a_folder_that_can_be_written_it_is_measured_each_time(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_SWEEP_CACHE", place)
    found = Measurements()
    found.keep_costs({"a": COST}, SINGLE)
    assert found.find_cost("a", SINGLE) == COST
    assert Measurements().find_cost("a", SINGLE) is None


def test_a_sweep_does_not_wait_for_one_that_holds_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "_PATIENCE_SECONDS", 0.05)
    file.parent.mkdir()
    with hold_lock_file(file.with_suffix(".lock")):
        Measurements().keep_costs({"a": COST}, SINGLE)
    assert not file.exists()


def test_sweeps_that_write_at_once_lose_nothing_of_each_other(file: Path) -> None:
    earlier = Measurements()

    def keep(writer: int) -> None:
        for number in range(5):
            Measurements().keep_costs({f"{writer} {number}": COST}, SINGLE)

    threads = [threading.Thread(target=keep, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    earlier.keep_costs({"a": COST}, SINGLE)  # it has read nothing of theirs
    later = Measurements()
    found = [later.find_cost(f"{writer} {number}", SINGLE) for writer in range(4) for number in range(5)]
    assert [*found, later.find_cost("a", SINGLE)] == [COST] * 21


def test_what_cannot_be_trained_is_tried_again(file: Path) -> None:
    Measurements().keep_costs({"a": TrainingCost(math.nan, 0, math.nan)}, SINGLE)
    assert not file.exists()


def test_the_file_does_not_grow_for_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "_MAX_ENTRIES", 3)
    for name in "abcd":
        Measurements().keep_costs({name: COST}, SINGLE)
    assert [Measurements().find_cost(name, SINGLE) is not None for name in "abcd"] == [False, True, True, True]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FMNIST_SWEEP_CACHE": "/own", "XDG_CACHE_HOME": "/shared"}, "/own/measurements.json"),
        ({"XDG_CACHE_HOME": "/shared"}, "/shared/fmnist_sweep/measurements.json"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/ann/.cache/fmnist_sweep/measurements.json"),
        ({"XDG_CACHE_HOME": ""}, "/home/ann/.cache/fmnist_sweep/measurements.json"),
        ({}, "/home/ann/.cache/fmnist_sweep/measurements.json"),
    ],
)
def test_it_is_in_the_users_cache_folder(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FMNIST_SWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ann", **variables}.items():
        monkeypatch.setenv(name, value)
    assert locate_measurements() == Path(expected)
