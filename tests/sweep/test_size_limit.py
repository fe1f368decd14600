"""search.max_parameters: what is larger is no trial, and a limit that nothing meets is refused before anything."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.data import FASHION_MNIST
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import model_sizes, size_limit
from fmnist_sweep.sweep.model_sizes import ModelSizes
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.queries import search_runs
from fmnist_sweep.tracking.store import open_existing_store
from tests.support.simulated import sweep_waiting
from tests.support.small import SMALLEST

# Of one convolution and eight dense units: 1,578 · filters + 98 parameters.
SPACE = (*SMALLEST, "regularization=none", "model.filters={tune: choice, values: [1,2,4,8]}", "train.epochs=1")
LIMIT = "search.max_parameters=4000"  # 1 and 2 filters


def count_parameters(filters: int) -> int:
    return 1578 * filters + 98


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_record() -> StudyRecord:
    (folder,) = list_study_folders(Path("mlruns"))
    return folder.read_record()


def list_filters() -> list[int]:
    return [history.proposal.values["model.filters"] for history in read_record().trials.values()]


@pytest.mark.parametrize("oracle", ["random", "grid", "bayesian"])
def test_what_is_larger_is_no_trial_and_its_number_is_said_once(oracle: str) -> None:
    said = sweep_waiting(*SPACE, f"search={oracle}", "search.max_trials=null", LIMIT)
    assert sorted(list_filters()) == [1, 2]
    assert "at most 4 trials" in said
    (sentence,) = [line for line in said.splitlines() if "search.max_parameters)" in line]
    assert f"{read_record().refused_draws} configuration" in sentence
    assert "4,000 parameters" in sentence


def test_the_size_that_is_limited_is_the_one_that_a_trial_reports() -> None:
    job = compose_job([*SPACE, "model.filters=2"])
    assert ModelSizes(Path("sizes.json")).count(job.config.settings, FASHION_MNIST) == count_parameters(2)
    code = run_sweep([job], "python -m fmnist_sweep", View(Console(file=io.StringIO()), None))
    assert code is ExitCode.DONE
    (run,) = search_runs(open_existing_store(None, "fashion-mnist"), {"fmnist.kind": "trial"})
    assert run.metrics["parameters"] == count_parameters(2)


def test_an_extended_study_goes_on_with_what_it_left_out() -> None:
    sweep_waiting(*SPACE, "search.max_trials=1", LIMIT)
    (first,) = list_filters()
    sweep_waiting(*SPACE, "search.max_trials=2", LIMIT)
    assert len(list_study_folders(Path("mlruns"))) == 1
    assert sorted(list_filters()) == [1, 2] and list_filters()[0] == first


def test_a_limit_makes_another_study_and_no_limit_the_same_as_ever() -> None:
    sweep_waiting(*SPACE, "search.max_trials=1")
    sweep_waiting(*SPACE, "search.max_trials=1", "search.max_parameters=null")
    assert len(list_study_folders(Path("mlruns"))) == 1
    sweep_waiting(*SPACE, "search.max_trials=1", "search.max_parameters=100000")
    assert len(list_study_folders(Path("mlruns"))) == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            (),
            [
                "none of 4 configurations",
                "model.filters=1",
                f"has {count_parameters(1):,} parameters",
                "raise the limit",
            ],
        ),
        (("search=grid",), ["none of 4 configurations", "model.filters=1"]),
        (("model.filters=8",), [f"its configuration has {count_parameters(8):,} parameters"]),
        (
            (
                "model.filters={tune: int, min_value: 10, max_value: 13}",
                "regularization.l2={tune: float, min_value: 0.0, max_value: 0.1}",
            ),
            ["none of 1,000 configurations", "model.filters=10 ", f"has {count_parameters(10):,} parameters"],
        ),
        (("search=grid", "model.filters={tune: int, min_value: 4, max_value: 4000}"), ["none of 50 configurations"]),
    ],
)
def test_a_limit_that_nothing_meets_is_refused_before_anything_is_created(
    overrides: Sequence[str], words: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "none of 50 configurations" in words:
        monkeypatch.setattr(size_limit, "_MAX_SAMPLES", 50)  # each of another size, which takes about 10 ms
    limit = 15_000 if "regularization.l2" in "".join(overrides) else 1000
    with pytest.raises(ConfigError) as caught:
        sweep_waiting(*SPACE, *overrides, f"search.max_parameters={limit}", "search.max_trials=2")
    for word in (f"search.max_parameters={limit} (study cnn · rmsprop)", *words):
        assert word in str(caught.value)
    assert not Path("mlruns").exists()


def test_hyperband_is_refused_where_too_few_are_small_enough_for_its_rungs() -> None:
    given = (*SPACE, "search=hyperband", "train.epochs=3", "model.filters={tune: int, min_value: 1, max_value: 40}")
    with pytest.raises(ConfigError, match=r"begins 5 different trials, and only 4 of the 40 configurations"):
        sweep_waiting(*given, "search.max_parameters=7000")
    assert not Path("mlruns").exists()
    sweep_waiting(*given, f"search.max_parameters={count_parameters(9)}")
    assert max(list_filters()) <= 9


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "many", "true"])
def test_a_limit_that_is_no_number_of_parameters_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.max_parameters=.*command line.*expected a whole number from 1 to"):
        compose_job([f"search.max_parameters={value}"])


def test_each_model_is_counted_once_and_kept_for_later_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_job([*SPACE, "model.filters=4"]).config.settings
    sizes = ModelSizes(Path("cache/sizes.json"))
    assert [sizes.count(config, FASHION_MNIST), sizes.count(config, FASHION_MNIST)] == [count_parameters(4)] * 2
    sizes.keep()

    def count_again(*_arguments: Any) -> int:
        raise AssertionError("counted again")

    monkeypatch.setattr(model_sizes, "count_parameters", count_again)
    assert ModelSizes(Path("cache/sizes.json")).count(config, FASHION_MNIST) == count_parameters(4)
    kept = Path("cache/sizes.json")
    for damaged in (b"", b"[]", b'{"format": 1}', kept.read_bytes().replace(b"6410", b"-1"), b"\xff" * 100):
        kept.write_bytes(damaged)
        with pytest.raises(AssertionError):
            ModelSizes(kept).count(config, FASHION_MNIST)


def test_the_file_of_sizes_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_sizes, "_MAX_ENTRIES", 2)
    for filters in (1, 2, 3):
        sizes = ModelSizes(Path("sizes.json"))
        sizes.count(compose_job([*SPACE, f"model.filters={filters}"]).config.settings, FASHION_MNIST)
        sizes.keep()
    assert sorted(json.loads(Path("sizes.json").read_text())["sizes"].values()) == [
        count_parameters(2),
        count_parameters(3),
    ]
