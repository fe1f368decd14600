"""Which executor a sweep gets: as said, as begun, or as measured."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.executors import Placement
from fmnist_sweep.executors.local import LocalExecutor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.sweep import costs, executor_choice
from fmnist_sweep.sweep import placement as arranging
from fmnist_sweep.sweep.plan import PlannedStudy, plan_studies
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.training import backend
from fmnist_sweep.training.probe import TrainingCost
from tests.support.small import DRAWN, TINY

FOUR = ("model.filters={tune: int, min_value: 2, max_value: 60}", "search.max_trials=4")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_SWEEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda number: monkeypatch.setattr(backend, "count_usable_cores", lambda: number)


def view() -> tuple[View, io.StringIO]:
    shown = io.StringIO()
    return View(Console(file=shown, width=500), None), shown


def planned(*overrides: str) -> Sequence[PlannedStudy]:
    return plan_studies([compose_job([*TINY, *FOUR, *overrides])], Path("mlruns"), view()[0].say)


def settled(*overrides: str) -> Placement | None:
    plan = planned(*overrides)
    return arranging._choose_without_measuring(plan[0].study.job.config.executor, plan)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["executor=in_process"], Placement("in_process", 1, 8)),
        (["executor=in_process", "executor.threads=3"], Placement("in_process", 1, 3)),
        (["executor=local"], Placement("local", 8, 1)),
        (["executor=local", "executor.workers=3"], Placement("local", 3, 2)),
        (["executor=local", "executor.threads=4"], Placement("local", 2, 4)),
        (["executor=local", "executor.workers=16"], Placement("local", 16, 1)),
        (["executor.workers=4"], Placement("local", 4, 2)),
        (["executor.workers=1"], Placement("in_process", 1, 8)),
        (["search.max_trials=1"], Placement("in_process", 1, 8)),
        (["executor.threads=8"], Placement("in_process", 1, 8)),
        (["executor=ray", "executor.threads=2"], Placement("ray", 0, 2)),
        ([], None),
    ],
)
def test_what_is_said_is_done_and_only_the_rest_is_measured(
    overrides: list[str], expected: Placement | None, cores: Callable[[int], None]
) -> None:
    cores(8)
    assert settled(*overrides) == expected


def test_on_one_core_nothing_is_measured(cores: Callable[[int], None]) -> None:
    cores(1)
    assert settled() == Placement("in_process", 1, 1)


def test_the_trials_of_all_studies_share_the_workers(cores: Callable[[int], None]) -> None:
    cores(4)
    one_trial_each = [
        compose_job([*TINY, *FOUR, "search.max_trials=1", f"optimizer={name}"]) for name in ("rmsprop", "adam", "sgd")
    ]
    plan = plan_studies(one_trial_each, Path("mlruns"), view()[0].say)
    assert arranging._choose_without_measuring(one_trial_each[0].config.executor, plan) is None
    assert arranging._choose_without_measuring(one_trial_each[0].config.executor, plan[:1]) == Placement(
        "in_process", 1, 4
    )


def test_there_are_no_more_workers_than_memory_has_room_for(
    cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(64)
    monkeypatch.setattr(arranging, "_read_free_bytes", lambda: 7e9)
    assert settled("executor=local") == Placement("local", 4, 16)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of one trial in this process on two threads; nothing may be changed in there."""
    folder = tmp_path_factory.mktemp("begun")
    job = compose_job([*TINY, *FOUR, "search.max_trials=1", "executor=in_process", "executor.threads=2"])
    shown, said = view()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(backend, "count_usable_cores", lambda: 2)
        assert run_sweep([job], "python -m fmnist_sweep", shown) is ExitCode.DONE, said.getvalue()
    return folder


def test_what_a_study_was_begun_with_is_on_record(
    begun: Path, cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    monkeypatch.chdir(begun)
    (folder,) = list_study_folders(Path("mlruns"))
    assert folder.read_record().about["executor"] == {
        "name": "in_process",
        "workers": 1,
        "threads": 2,
        "measured": False,
    }
    assert settled() is None  # it was said, not found to be the quickest


@pytest.mark.parametrize(
    ("found", "has", "overrides", "expected"),
    [
        (Placement("local", 2, 1, True), 2, [], Placement("local", 2, 1, True)),
        (Placement("local", 2, 1, True), 8, [], Placement("local", 3, 1, True)),  # three trials are left
        (Placement("local", 8, 1, True), 8, ["executor.workers=1"], Placement("local", 1, 1, True)),
        (Placement("in_process", 1, 2, True), 8, [], Placement("in_process", 1, 2, True)),
        (Placement("in_process", 1, 8, True), 2, [], None),
        (Placement("local", 2, 1, True), 2, ["executor.threads=2"], Placement("in_process", 1, 2)),
        (Placement("in_process", 1, 2), 2, [], None),
    ],
)
def test_what_was_measured_is_kept_to(
    found: Placement,
    has: int,
    overrides: list[str],
    expected: Placement | None,
    begun: Path,
    cores: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(begun)
    cores(has)
    plan = planned(*overrides)
    assert plan[0].record is not None
    plan[0].record.about["executor"] = arranging.dump_placement(found)
    assert arranging._choose_without_measuring(plan[0].study.job.config.executor, plan) == expected


def test_without_workers_one_process_does_it(
    cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cores(2)
    (tmp_path / "tensorflow.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(backend, "set_threads", lambda threads: None)
    monkeypatch.setattr(costs, "measure_training_cost", lambda settings, splits: TrainingCost(40.0, 1000))
    shown, said = view()
    plan = planned()
    with arranging.open_executor(plan, plan[0].study.job.config, Stop(), shown.say) as (executor, arrangement, _):
        assert (arrangement.name, executor.slots) == ("in_process", 1)
    assert "workers cannot be used here (worker" in said.getvalue()


def test_a_sweep_of_moments_starts_no_workers() -> None:
    shown, said = view()
    assert run_sweep([compose_job([*TINY, *FOUR])], "python -m fmnist_sweep", shown) is ExitCode.DONE
    assert "measuring" not in said.getvalue()
    assert "executor: in_process, " in said.getvalue()


@pytest.mark.parametrize(("seconds", "chosen"), [(30.0, "local"), (90.0, "in_process")])
def test_what_takes_less_time_is_taken(
    seconds: float, chosen: str, cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real workers train; only the figures of the two probes are given, because a busy machine would give any."""
    cores(2)
    monkeypatch.setattr(backend, "set_threads", lambda threads: None)
    monkeypatch.setattr(costs, "measure_training_cost", lambda settings, splits: TrainingCost(40.0, 1000))
    monkeypatch.setattr(costs, "_measure_study_in_workers", lambda executor, planned: TrainingCost(seconds, 1000))
    shown, said = view()
    plan = planned()
    config = plan[0].study.job.config
    with arranging.open_executor(plan, config, Stop(), shown.say) as (executor, arrangement, expected):
        assert arrangement.name == chosen
        assert executor.slots == (2 if chosen == "local" else 1)
        assert expected.minutes == pytest.approx(2 * (seconds + 0.41) / 60 if chosen == "local" else 4 * 40.41 / 60)
    assert "measuring whether local, 2 workers of 1 thread take less time than in_process, 2 threads" in said.getvalue()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured, and when workers start and TensorFlow is imported here. Four trials take minutes.

    No worker is started: none would get a trial, and each executor's workers take seconds to import TensorFlow.
    """
    noted: list[str] = []

    def measure(settings: object, splits: object) -> TrainingCost:
        noted.append("measured here")
        return TrainingCost(40.0, 1000, 0.5)

    def measure_in_workers(executor: object, planned: object) -> TrainingCost:
        noted.append("measured in workers")
        return TrainingCost(30.0, 1000, 0.5)

    monkeypatch.setattr(LocalExecutor, "_start_worker", lambda self: noted.append("worker started"))
    monkeypatch.setattr(backend, "set_threads", lambda threads: noted.append("tensorflow imported"))
    monkeypatch.setattr(backend, "import_tensorflow", lambda: noted.append("tensorflow imported"))
    monkeypatch.setattr(costs, "measure_training_cost", measure)
    monkeypatch.setattr(costs, "_measure_study_in_workers", measure_in_workers)
    return noted


def opened(*overrides: str) -> tuple[str, float, str]:
    """The executor that a sweep opens, the minutes that it expects, and what it says."""
    shown, said = view()
    plan = planned(*overrides)
    config = plan[0].study.job.config
    with arranging.open_executor(plan, config, Stop(), shown.say) as (executor, arrangement, expected):
        assert executor.concurrent == (arrangement.name == "local" and not config.plan)
        return str(arrangement), expected.minutes, said.getvalue()


def test_workers_are_started_before_tensorflow_is_imported_here(timed: list[str]) -> None:
    """They import it, too, which takes as long: the one beside the other."""
    opened("executor=local", "executor.workers=1")
    assert timed == ["worker started", "tensorflow imported", "measured in workers"]
    timed.clear()
    opened("executor=local", "executor.workers=1")
    assert timed == ["worker started"]


def test_where_much_is_left_workers_start_before_it_is_measured_whether_they_are_needed(
    timed: list[str], cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    monkeypatch.setattr(executor_choice, "_MANY_IMAGES", 640)  # four trials of one epoch of 160 images
    monkeypatch.setattr(LocalExecutor, "wait_until_ready", lambda self: timed.append("workers ready"))
    opened()
    assert timed[:5] == [
        "worker started",
        "worker started",
        "tensorflow imported",
        "workers ready",
        "tensorflow imported",
    ]
    assert timed[5:] == ["measured here", "measured in workers"]


def test_a_choice_that_was_measured_is_not_measured_again_for_another_study_of_the_same_models(
    timed: list[str], cores: Callable[[int], None], tmp_path: Path
) -> None:
    cores(2)
    chosen, minutes, said = opened()
    assert "measured in workers" in timed
    assert "executor: local, 2 workers of 1 thread (measured: 2.6" in said
    timed.clear()
    again = opened("optimizer=sgd", "seed=7")
    assert timed == ["worker started"] * 2
    assert again[:2] == (chosen, minutes)
    file = tmp_path / "cache" / "measurements.json"
    assert "executor: local, 2 workers of 1 thread (measured earlier: 2.6" in again[2]
    assert f"as quick as in_process, 2 threads; remove {file} to measure again)" in again[2].replace("\n", "")
    timed.clear()
    file.unlink()
    opened()
    assert "measured here" in timed and "measured in workers" in timed


@pytest.mark.parametrize("change", ["train.batch_size=32", "model.dense_units=16", "data.images=300"])
def test_another_model_batch_or_number_of_images_is_measured(
    change: str, timed: list[str], cores: Callable[[int], None]
) -> None:
    cores(2)
    opened()
    timed.clear()
    opened(change)
    assert "measured here" in timed and "measured in workers" in timed


def test_more_epochs_are_not_measured_again(timed: list[str], cores: Callable[[int], None]) -> None:
    cores(2)
    _, minutes, _ = opened()
    timed.clear()
    assert opened("train.epochs=2")[1] == pytest.approx(2 * minutes, rel=0.1)
    assert timed == ["worker started"] * 2


def test_what_was_measured_earlier_may_speak_against_workers(
    timed: list[str], cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    monkeypatch.setattr(costs, "_measure_study_in_workers", lambda executor, planned: TrainingCost(90.0, 1000, 0.5))
    first = opened()
    timed.clear()
    again = opened()
    assert timed == ["tensorflow imported"]
    assert again[:2] == first[:2]
    assert "executor: in_process, 2 threads (measured earlier: local, 2 workers of 1 thread would take 1.1" in again[2]


def test_a_plan_of_what_was_measured_answers_without_tensorflow(timed: list[str], cores: Callable[[int], None]) -> None:
    cores(2)
    chosen, minutes, _ = opened()
    timed.clear()
    assert opened("plan=true")[:2] == (chosen, minutes)
    assert not timed


def test_a_plan_starts_no_workers(cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    cores(2)
    monkeypatch.setattr(backend, "set_threads", lambda threads: None)
    plan = planned("executor=local", "plan=true")
    with arranging.open_executor(plan, plan[0].study.job.config, Stop(), view()[0].say) as (executor, arrangement, _):
        assert arrangement == Placement("local", 2, 1)
        assert not executor.concurrent


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("executor.workers=0", "from 1 to 1024 or null"),
        ("executor.attempts=0", "a whole number from 1 to 1000000"),
        ("executor=in_process executor.workers=2", "a whole number from 1 to 1"),
        ("executor=ray executor.gpus=1.5", "whole GPUs"),
        ("executor=ray executor.gpus=-1", "from 0 to 1024"),
        ("executor=local executor.address=here", "belongs to executor=ray"),
        ("executor.name=slurm", "allowed: auto, in_process, local, ray"),
        ("search.trial_minutes=0", "above 0 and up to 1000000000 or null"),
        ("search.until=soon", "expected settled or null"),
        ("search.ahead=0", "a whole number from 1 to 1000000"),
        ("search.synchronous=maybe", "true or false"),
    ],
)
def test_what_cannot_be_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose_job([*DRAWN, *override.split()])


def test_a_synchronous_search_is_another_study_only_where_results_matter() -> None:
    def name(*overrides: str) -> str:
        return planned(*overrides)[0].study.id

    assert name("search.synchronous=true") == name()
    assert name("search=grid", "search.synchronous=true") == name("search=grid")
    assert name("search=bayesian", "search.ahead=2") == name("search=bayesian")
    assert name("search=bayesian", "search.synchronous=true") != name("search=bayesian")
    assert name("search=bayesian", "search.synchronous=true", "search.ahead=2") != name(
        "search=bayesian", "search.synchronous=true"
    )
    for unrelated in ("executor=local", "executor.attempts=5", "search.trial_minutes=3", "search.until=settled"):
        assert name(*unrelated.split()) == name()
