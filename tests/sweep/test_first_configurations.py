"""search.first and search.like in sweeps: known configurations are the first trials, and a study is named by them."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.cli.studies import StudyProgress, list_study_progress
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.overrides import is_override_of
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.queries import StoredRun, search_runs
from fmnist_sweep.tracking.store import open_existing_store
from tests.support.simulated import sweep_waiting
from tests.support.small import SMALLEST

SPACE = (
    *(*SMALLEST, "model.filters={tune: choice, values: [1,2,3,4,5,6,7,8]}", "train.epochs=1"),
    *("regularization=dropout", "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5, step: 0.1}"),
)
FIRST = "search.first=[{model.filters: 6}, {regularization.dropout: 0.3}]"
TWO = [{"model.filters": 6, "regularization.dropout": 0.0}, {"model.filters": 1, "regularization.dropout": 0.3}]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def list_values() -> list[list[dict[str, Any]]]:
    """The values of each study's trials, in the order in which they were proposed."""
    records = [folder.read_record() for folder in list_study_folders(Path("mlruns"))]
    return [[history.proposal.values for history in record.trials.values()] for record in records]


def list_runs(kind: str = "trial") -> list[StoredRun]:
    runs = search_runs(open_existing_store(None, "fashion-mnist"), {"fmnist.kind": kind})
    return sorted(runs, key=lambda run: run.start_time)


@pytest.mark.parametrize("oracle", list(ORACLES))
def test_known_configurations_are_the_first_trials_of_every_oracle(oracle: str) -> None:
    epochs = ("train.epochs=3",) if oracle in ("hyperband", "asha") else ()
    said = sweep_waiting(*SPACE, f"search={oracle}", "search.max_trials=4", *epochs, FIRST)
    (values,) = list_values()
    assert values[:2] == TWO
    assert len(values) >= 4
    assert "begins with 2 known configurations" in said
    trained = [(run.params["model.filters"], run.params["regularization.dropout"]) for run in list_runs()]
    assert set(trained) >= {("6", "0.0"), ("1", "0.3")}


def test_the_defaults_come_first() -> None:
    sweep_waiting(*SPACE, "search.max_trials=2", "search.first=default")
    ((first, second),) = list_values()
    assert first == {"model.filters": 1, "regularization.dropout": 0.0} != second


@pytest.mark.slow
def test_a_real_small_sweep_trains_what_comes_first_and_no_larger_model() -> None:
    given = (*SPACE, "search.max_trials=3", "search.first=[{model.filters: 2}]", "search.max_parameters=7000")
    view = View(Console(file=io.StringIO()), None)
    assert run_sweep([compose_job(given)], "python -m fmnist_sweep", view) is ExitCode.DONE
    runs = list_runs()
    assert runs[0].params["model.filters"] == "2"
    assert len(runs) == 3 and all(run.metrics["parameters"] <= 7000 for run in runs)


def test_what_comes_first_has_to_be_small_enough() -> None:
    with pytest.raises(ConfigError, match=r"what is to come first, model\.filters=6 .* has 9,566 parameters"):
        sweep_waiting(*SPACE, FIRST, "search.max_parameters=7000")
    assert not Path("mlruns").exists()


def test_a_study_is_named_by_what_comes_first_and_not_by_how_that_is_said() -> None:
    sweep_waiting(*SPACE, "search.max_trials=2")
    sweep_waiting(*SPACE, "search.max_trials=2", "search.first=[]")
    assert len(list_values()) == 1
    sweep_waiting(*SPACE, "search.max_trials=1", "search.first=default")
    sweep_waiting(*SPACE, "search.max_trials=2", "search.first=[{model.filters: 1}]")
    assert [len(values) for values in list_values()] == [2, 2]


def test_a_study_like_a_run_begins_with_its_values_after_what_comes_first() -> None:
    sweep_waiting(*SPACE, "search.max_trials=1", "search.first=[{model.filters: 7, regularization.dropout: 0.4}]")
    (run,) = list_runs()
    for name in (run.run_id, run.run_id[:8]):
        sweep_waiting(
            *SPACE, "search.max_trials=2", "search.first=default", f"search.like={name}", "seed=5", "train.epochs=2"
        )
    _, values = list_values()
    assert values == [
        {"model.filters": 1, "regularization.dropout": 0.0},
        {"model.filters": 7, "regularization.dropout": 0.4},
    ]


def test_a_study_like_a_run_goes_on_when_the_run_is_gone() -> None:
    sweep_waiting(*SPACE, "search.max_trials=1", "search.first=[{model.filters: 7}]")
    (run,) = list_runs()
    given = (*SPACE, f"search.like={run.run_id}", "seed=5")
    sweep_waiting(*given, "search.max_trials=1")
    open_existing_store(None, "fashion-mnist").client.delete_run(run.run_id)
    sweep_waiting(*given, "search.max_trials=2")
    _, progress = list_study_progress(Path("mlruns"))
    assert isinstance(progress, StudyProgress)
    words = shlex.split(progress.command)[3:]
    assert not any(word.startswith("search.like") for word in words)
    sweep_waiting(*(word.replace("max_trials=2", "max_trials=3") for word in words))
    assert [len(values) for values in list_values()] == [1, 3]
    with pytest.raises(ConfigError, match="no trial or confirmation"):
        sweep_waiting(*given, "search.like=ffffffffffff")


def test_a_study_cannot_be_like_a_run_of_other_settings() -> None:
    sweep_waiting(*SPACE, "search.max_trials=1", "search.first=[{model.filters: 7}]")
    (run,) = list_runs()
    (study,) = list_runs("study")
    refused = {
        ("model.filters=3",): "that trial has model.filters=7, and this study model.filters=3; give it the same",
        ("optimizer=sgd",): "that trial has ",
        ("model.filters={tune: int, min_value: 1, max_value: 5}",): "model.filters=7 is outside of the space",
        ("model=model_1", "model.blocks=[[7]]"): "this study model.blocks=[[7]]",
        ("train.batch_size=128",): "train.batch_size=64, and this study train.batch_size=128",
        ("optimizer=sgd", "optimizer.momentum={tune: float, min_value: 0.0, max_value: 0.9}"): "that trial has ",
        (f"search.like={study.run_id}",): "no trial or confirmation",
        ("search.like=ffffffff",): "no trial or confirmation",
        ("search.like=12345678",): "no trial or confirmation",
        ("search.like=1234e56",): "no trial or confirmation",
        (f"search.like={run.run_id[:4]}",): "no trial or confirmation",
        ('search.like="a\' OR 1"',): "no trial or confirmation",
        ("tracking.experiment=other",): "no trial or confirmation in the experiment other",
    }
    for overrides, words in refused.items():
        keys = [override.split("=")[0] for override in overrides]
        given = [word for word in (*SPACE, f"search.like={run.run_id}", "seed=5") if not is_override_of(word, keys)]
        with pytest.raises(ConfigError) as caught:
            sweep_waiting(*given, *overrides)
        assert "search.like=" in str(caught.value) and words in str(caught.value), overrides
    assert len(list_values()) == 1


def test_options_and_conditions_come_first_and_are_found_in_a_recorded_trial() -> None:
    space = (
        *(*SMALLEST, "model.filters=2", "train.epochs=1", "regularization=none"),
        *("optimizer={tune: option, of: [rmsprop, sgd]}", "optimizer.sgd.momentum={tune: choice, values: [0.5, 0.9]}"),
        *("optimizer.rmsprop.learning_rate=0.001", "optimizer.sgd.learning_rate=0.1"),
    )
    known = {"optimizer": "sgd", "optimizer.sgd.momentum": 0.9}
    sweep_waiting(*space, "search.max_trials=1", "search.first=[{optimizer: sgd, optimizer.sgd.momentum: 0.9}]")
    (run,) = list_runs()
    sweep_waiting(*space, "search.max_trials=1", f"search.like={run.run_id}", "seed=5")
    assert list_values() == [[known], [known]]
    other = tuple(word.replace("[rmsprop, sgd]", "[rmsprop, adam]") for word in space if "sgd." not in word)
    with pytest.raises(ConfigError, match="no option that is searched of optimizer"):
        sweep_waiting(*other, f"search.like={run.run_id}")


def test_without_a_store_there_is_no_run_to_be_like() -> None:
    with pytest.raises(ConfigError, match="no trial or confirmation"):
        sweep_waiting(*SPACE, "search.like=0123456789abcdef")
    assert not Path("mlruns").exists()
