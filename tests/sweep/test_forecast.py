"""What a sweep will cost: told beforehand, and held against what it then really cost."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search import space, tunable
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.search.estimates import count_possible_trials
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.sweep.forecast import (
    Forecast,
    StudyWork,
    describe_forecast,
    forecast_study,
    refuse_full_disk,
    sum_forecasts,
)
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.training import models
from fmnist_sweep.training.probe import TrainingCost, measure_training_cost
from tests.support import small

SPACE = (
    *small.TINY,
    "model.filters={tune: int, min_value: 2, max_value: 40}",
    "model.conv_layers={tune: int, min_value: 1, max_value: 2}",
)
MEASURED = TrainingCost(epoch_seconds=10.0, parameters=1_000_000, start_seconds=1.0)


def forecast_of(job: Job, probed: TrainingCost = MEASURED, **changes: Any) -> Forecast:
    """The forecast of a study's first run, changed as given."""
    config = job.config
    trials = count_possible_trials(config.search.name, config.oracle, config.settings)
    budget = math.inf if config.search.max_trials is None else config.search.max_trials
    given: dict[str, Any] = {
        "search_name": config.search.name,
        "oracle": config.oracle,
        "settings": config.settings,
        "trials": min(trials, budget),
        "ended_trials": 0,
        "max_minutes": config.search.max_minutes,
        "keep_models": config.tracking.keep_models,
        "validation_images": 100,
    }
    return forecast_study(probed, StudyWork(**given | changes))


def epochs_asked_for(job: Job, most: float = math.inf) -> list[int]:
    """Epochs that each trial of a search trains beyond those that the same values were trained for before."""
    asked, trained, found = small.search_of(job), dict[str, int](), list[int]()
    while len(found) < most and isinstance(proposal := asked.ask(), Proposal):
        named = json.dumps(proposal.values, sort_keys=True)
        epochs = proposal.epochs or int(job.config.settings["train"]["epochs"])
        found.append(epochs if proposal.restarts else epochs - trained.get(named, 0))
        trained[named] = epochs
        asked.tell(proposal.trial_id, float(proposal.values["model.filters"]))
    return found


@pytest.mark.parametrize(
    "search",
    [
        ("search=random", "search.max_trials=5"),
        ("search=random", "search.max_trials=null"),
        ("search=grid", "model.filters.max_value=6"),
        ("search=bayesian", "search.max_trials=6"),
        ("search=hyperband", "train.epochs=4", "search.factor=2"),
        ("search=hyperband", "train.epochs=9", "model.filters.max_value=400", "search.iterations=2"),
        ("search=hyperband", "train.epochs=9", "search.max_trials=11"),
        ("search=hyperband", "train.epochs=9", "search.restart=true"),
    ],
)
def test_trials_and_epochs_are_those_that_the_search_then_asks_for(search: tuple[str, ...]) -> None:
    job = compose_job([*SPACE, "train.epochs=3", *search])
    said = forecast_of(job)
    asked = epochs_asked_for(job, said.trials)
    assert (said.trials, said.epochs) == (len(asked), sum(asked))


@pytest.mark.parametrize("search", [("search=random", "search.max_trials=12"), ("search=hyperband", "train.epochs=9")])
def test_what_is_done_is_not_forecast_again(search: tuple[str, ...]) -> None:
    job = compose_job([*SPACE, *search])
    asked = epochs_asked_for(job, forecast_of(job).trials)
    left = forecast_of(job, ended_trials=7)
    assert (left.trials, left.epochs) == (len(asked) - 7, sum(asked[7:]))


def test_a_finished_study_costs_nothing() -> None:
    job = compose_job([*SPACE, "search.max_trials=3"])
    assert forecast_of(job, ended_trials=3) == forecast_of(job, ended_trials=5) == Forecast(0, 0, 0, 0, 0)
    assert describe_forecast(forecast_of(job, ended_trials=3)) == "nothing is left to train"


def test_a_config_without_tunables_is_one_trial_for_hyperband_too() -> None:
    said = forecast_of(compose_job([*small.TINY, "search=hyperband", "train.epochs=9"]))
    assert (said.trials, said.epochs) == (1, 9)


def test_tuned_epochs_count_as_their_longest() -> None:
    epochs = "train.epochs={tune: int, min_value: 2, max_value: 5}"
    assert forecast_of(compose_job([*SPACE, epochs, "search.max_trials=3"])).epochs == 15


def test_minutes_are_those_of_the_epochs_and_of_what_each_trial_costs_besides() -> None:
    said = forecast_of(compose_job([*SPACE, "train.epochs=3", "search.max_trials=4"]))
    assert 4 * 3 * 10 < said.minutes * 60 < 4 * (3 * 10 + 3)


@pytest.mark.parametrize("search", ["random", "hyperband"])
def test_after_the_budget_of_minutes_the_running_trial_ends_and_none_begins(search: str) -> None:
    job = compose_job([*SPACE, f"search={search}", "train.epochs=9", "search.max_trials=null"])
    whole = forecast_of(job)
    said = forecast_of(job, max_minutes=whole.minutes / 2)
    one_less = forecast_of(job, trials=said.trials - 1)
    assert one_less.minutes < whole.minutes / 2 <= said.minutes
    assert said == forecast_of(job, trials=said.trials)
    assert forecast_of(job, max_minutes=10 * whole.minutes) == whole
    assert forecast_of(job, max_minutes=0.0).trials == 0


def test_minutes_bound_a_search_without_end() -> None:
    job = compose_job([*SPACE, "regularization.dropout={tune: float, min_value: 0.0, max_value: 0.5}"])
    said = forecast_of(job, trials=math.inf, max_minutes=60.0)
    assert 0 < said.trials < 60 * 60
    assert math.isfinite(said.megabytes)
    assert "as many trials as time allows" in describe_forecast(forecast_of(job, trials=math.inf))


def test_the_parameters_are_those_of_the_largest_model_of_the_space() -> None:
    choice = "model.dense_units={tune: choice, values: [8, 32, 16]}"
    settings = compose_job([*SPACE, choice, "model.filters.max_value=5", "regularization=dropout_bn"]).config.settings
    named = {name: tunable.parse_tunable(spec) for name, spec in find_tunables(settings)}
    values = {
        "model.filters": range(2, 6),
        "model.conv_layers": [1, 2],
        "model.dense_units": [8, 32, 16],
        "regularization.dropout": [0.5],
    }
    assert set(values) == set(named)
    every = (
        space.resolve_tunables(settings, dict(zip(values, chosen, strict=True)))
        for chosen in itertools.product(*values.values())
    )
    largest = max(models.build_model(each["model"], each["regularization"]).count_params() for each in every)
    assert measure_training_cost(settings, small.splits()).parameters == largest


def test_a_model_too_large_for_the_memory_is_counted_all_the_same() -> None:
    # 13 GB of weights; the middle of the space is small.
    filters, units = (f"model.{name}={{tune: choice, values: [2, 3, 4096]}}" for name in ("filters", "dense_units"))
    probed = measure_training_cost(compose_job([*small.TINY, filters, units]).config.settings, small.splits())
    assert probed.parameters > 3_000_000_000
    assert math.isfinite(probed.epoch_seconds)


def test_a_configuration_that_cannot_be_built_leaves_the_time_unknown() -> None:
    settings = compose_job(small.TINY).config.settings
    probed = measure_training_cost({**settings, "model": {**settings["model"], "filters": -1}}, small.splits())
    assert math.isnan(probed.epoch_seconds)
    said = forecast_of(compose_job([*SPACE, "search.max_trials=2"]), probed, max_minutes=1.0)
    assert said.trials == 2
    assert "unknown time" in describe_forecast(said)


@pytest.mark.parametrize("batch", ["train.batch_size=64", "train.batch_size=65536"])
def test_fewer_images_than_a_batch_are_enough(batch: str) -> None:
    probed = measure_training_cost(
        compose_job([*small.TINY, batch]).config.settings, small.splits(train=12, validation=10)
    )
    assert 0 < probed.epoch_seconds < math.inf


def test_a_trial_trains_the_same_after_a_probe_as_without_one() -> None:
    import keras

    given, data = small.spec([*small.TINY, "regularization=dropout", "regularization.dropout=0.2"]), small.splits()
    before = small.finished(given, data)
    state, drawn = random.getstate(), np.random.get_state(legacy=False)
    measure_training_cost({**given.config, "train": {**given.config["train"], "precision": "mixed_bfloat16"}}, data)
    assert random.getstate() == state
    np.testing.assert_equal(np.random.get_state(legacy=False), drawn)
    assert keras.config.dtype_policy().name == "float32"
    after = small.finished(given, data)
    np.testing.assert_array_equal(before.probabilities, after.probabilities)


@pytest.mark.slow
def test_the_minutes_are_about_those_of_a_real_fit() -> None:
    given, data = small.spec([*small.TINY, "model.filters=16", "train.epochs=3"]), small.splits(3000, 500)
    probed = measure_training_cost(given.config, data)
    said = probed.start_seconds + 3 * probed.epoch_seconds
    real = small.finished(given, data).fit_seconds
    assert said / 500 < real < said * 500  # in seconds, even where the machine stands still for half a minute


@pytest.mark.slow
def test_the_megabytes_are_about_those_of_a_real_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = compose_job([*SPACE, "search.max_trials=2", "model.dense_units=64"])
    assert run_sweep([job], "python -m fmnist_sweep", View(Console(file=io.StringIO()), None)) is ExitCode.DONE
    left = [path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))]
    megabytes = sum(path.stat().st_blocks * 512 for path in left) / 1e6
    parameters = measure_training_cost(job.config.settings, small.splits()).parameters
    said = forecast_of(job, TrainingCost(1.0, parameters), validation_images=20)
    assert said.megabytes / 2 < megabytes < said.megabytes * 2


def test_keeping_fewer_models_needs_less_room() -> None:
    job = compose_job([*SPACE, "search.max_trials=10"])
    every, one = forecast_of(job), forecast_of(job, keep_models=1)
    assert every.megabytes - one.megabytes == pytest.approx(9 * 4, rel=0.05)  # 4 bytes for each of a million parameters
    assert every.scratch_megabytes == one.scratch_megabytes > 3 * 16
    assert forecast_of(job, keep_models=20) == every


def test_rungs_that_restart_need_no_room_for_checkpoints_to_go_on_from() -> None:
    hyperband = (*SPACE, "search=hyperband", "train.epochs=9")
    restarting, going_on = (
        forecast_of(compose_job([*hyperband, f"search.restart={restart}"])) for restart in ("true", "false")
    )
    assert restarting.trials == going_on.trials
    assert restarting.scratch_megabytes < going_on.scratch_megabytes


def test_studies_add_up_and_share_the_room_they_need_while_they_run() -> None:
    assert sum_forecasts([Forecast(1, 2, 3, 4, 5), Forecast(10, 20, 30, 40, 3)]) == Forecast(11, 22, 33, 44, 5)
    assert sum_forecasts([]) == Forecast(0, 0, 0, 0, 0)


def made_of(trials: float, seconds: float, width: int) -> Forecast:
    """The forecast of a study alone."""
    return Forecast(trials, trials, math.ceil(trials / width) * seconds / 60, 1, 1, seconds, width)


@pytest.mark.parametrize(
    ("studies", "slots", "seconds"),
    [
        ([(3, 60, 2), (3, 60, 2)], 2, 180),  # the last trial of the first runs beside the first of the second
        ([(1, 60, 2), (1, 60, 2), (1, 60, 2)], 2, 120),
        ([(4, 60, 2)], 2, 120),
        ([(1, 600, 2), (20, 60, 2)], 2, 900),  # many short ones beside a long one
        ([(4, 60, 1), (4, 60, 4)], 4, 240),  # a search that trains one at a time leaves the others to the next
        ([(0, 60, 2), (2, 30, 2)], 2, 30),
        ([(5, 60, 2), (1000, 1, 2)], 2, 650),
        ([(3, 60, 1), (3, 60, 1)], 1, 360),
        ([(100, 0.1, 50), (100, 0.1, 50)], 50, 200 * 0.41),  # the supervisor takes longer than the trials
    ],
)
def test_studies_share_the_slots(studies: list[tuple[int, float, int]], slots: int, seconds: float) -> None:
    said = sum_forecasts([made_of(*study) for study in studies], slots)
    assert said.minutes * 60 == pytest.approx(seconds)


def test_the_minutes_of_studies_that_share_slots_are_unknown_or_endless_where_those_of_one_are() -> None:
    known = made_of(3, 60, 2)
    assert math.isnan(sum_forecasts([known, made_of(2, math.nan, 2)], 2).minutes)
    assert math.isinf(sum_forecasts([known, Forecast(math.inf, math.inf, math.inf, 1, 1, 60, 2)], 2).minutes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Forecast(8, 24, 220 / 60, 60.4, 9), "about 8 trials, 24 epochs, 3 min 40 s, at most 60 MB on disk"),
        (Forecast(1, 1, 0.1, 0.3, 9), "about 1 trial, 1 epoch, 6 s, at most 1 MB on disk"),
        (Forecast(500, 12000, 300, 4321, 9), "about 500 trials, 12,000 epochs, 5 h 00 min, at most 4.3 GB on disk"),
        (
            Forecast(10**6, 10**7, 60, 2.5e6, 9),
            "about 1000000 trials, 10,000,000 epochs, 1 h 00 min, at most 2.5 TB on disk",
        ),
        (Forecast(2, 4, math.nan, 3, 9), "about 2 trials, 4 epochs, for an unknown time, at most 3 MB on disk"),
        (
            Forecast(math.inf, math.inf, math.inf, math.inf, 9),
            "as many trials as time allows; nothing but the disk limits them",
        ),
    ],
)
def test_a_forecast_reads_as_a_line(given: Forecast, said: str) -> None:
    assert describe_forecast(given) == said


def test_a_sweep_that_the_disk_cannot_hold_is_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    job = compose_job([*SPACE, "search.max_trials=1000000"])
    with pytest.raises(StoreError) as refused:
        refuse_full_disk(folder, forecast_of(job, trials=10.0**12))
    sentence = str(refused.value)
    assert sentence.startswith(f"{folder}: 1000000000000 trials may need up to ")
    for part in (" TB, and only ", " is free there", "tracking.keep_models=1", "search.max_trials", "sqlite:///FILE"):
        assert part in sentence
    assert "\n" not in sentence
    assert not (tmp_path / "not").exists()


def test_what_is_free_counts_for_what_stays_and_what_passes_together(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize / 1e6
    refuse_full_disk(tmp_path, Forecast(1, 1, 1, 0.4 * free, 0.4 * free))
    with pytest.raises(StoreError):
        refuse_full_disk(tmp_path, Forecast(1, 1, 1, 0.6 * free, 0.6 * free))


def test_a_search_without_any_end_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unlimited room"):
        refuse_full_disk(tmp_path, Forecast(math.inf, math.inf, math.inf, math.inf, 1))
