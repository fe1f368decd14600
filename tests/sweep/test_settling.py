"""search.until=settled: when it ends a search, that any slots end it at the same trial, and what follows."""

from __future__ import annotations

import io
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.schema import Config
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.publish import rebuild_report
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.journal import JournalEvent
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep.plan import plan_studies
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.sweep.settling import LEAST_TRIALS, awaits_results, is_settled
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialResult, TrialSpec
from tests.support.simulated import simulated

SPACE = (
    *("data=drawn", "data.images=400", "data.validation=0.5", "train.precision=float32", "train.epochs=1"),
    *("model.filters={tune: int, min_value: 1, max_value: 512}", "model.conv_layers=1"),
    *("model.dense_units={tune: int, min_value: 8, max_value: 512}", "regularization=none"),
)
SETTLED = ("search.until=settled", "promote.gain=0.1")
IN_ORDER = ("search.synchronous=true", "search.ahead=3")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(*overrides: str) -> Config:
    space = SPACE if not any(each.startswith("train=") for each in overrides) else (*SPACE[:3], *SPACE[5:])
    return compose_job([*space, *overrides]).config


def told(
    accuracies: list[float | None], *, every: float = 10.0, running: int = 0, epochs: int | None = None
) -> StudyRecord:
    """What a journal says of these trials, which ended one after the other, and of some that still run."""
    record = StudyRecord({})
    for number, accuracy in enumerate([*accuracies, *[-1.0] * running]):
        ids = {"trial_id": f"{number:04d}", "attempt": 1}
        proposal = {"trial_id": ids["trial_id"], "values": {"model.filters": number + 1}, "epochs": epochs}
        record.apply(JournalEvent("asked", {"proposal": {**proposal, "continues": None, "seed_state": 0}}))
        record.apply(JournalEvent("attempt", ids))
        seconds = {"seconds": every * (number + 1)}
        if accuracy is None:
            record.apply(JournalEvent("failed", {**ids, **seconds}))
        elif accuracy >= 0:
            body = {**ids, **seconds, "best_val_accuracy": accuracy, "score": accuracy}
            record.apply(JournalEvent("finished", body))
    return record


def spread(count: int, sd: float) -> list[float | None]:
    return [float(value) for value in np.random.default_rng(0).normal(0.9, sd, count)]


@pytest.mark.parametrize(
    ("overrides", "record", "settled"),
    [
        (("search.until=settled",), told(spread(LEAST_TRIALS, 0.0005)), True),
        (("search.until=null",), told(spread(LEAST_TRIALS, 0.0005)), False),
        ((), told(spread(LEAST_TRIALS, 0.0005)), False),
        (("search.until=settled",), told(spread(LEAST_TRIALS - 1, 0.0005)), False),
        (("search.until=settled",), told([*spread(LEAST_TRIALS - 1, 0.0005), None]), False),  # failed ones say little
        (("search.until=settled",), told([None] * 40), False),
        (("search.until=settled",), told(spread(40, 0.02)), False),
        (("search.until=settled", "promote.gain=0.2"), told(spread(40, 0.02)), True),
        # An hour has 6 trials of ten minutes, and 3,600 of a second.
        (("search.until=settled",), told(spread(20, 0.004), every=600), True),
        (("search.until=settled",), told(spread(20, 0.004), every=1), False),
        # In order, no clock decides.
        (("search.until=settled", *IN_ORDER), told(spread(20, 0.004), every=600), True),
        (("search.until=settled", *IN_ORDER), told(spread(20, 0.004), every=1), True),
        # A study that searches whole options of train.
        (("train={tune: option, of: [default, cosine]}", "search.until=settled"), told(spread(40, 0.0005)), True),
        # Hyperband's short trials are not what their configurations come to.
        (("search=hyperband", "train.epochs=9", "search.until=settled"), told(spread(40, 0.0005), epochs=3), False),
        (("search=hyperband", "train.epochs=9", "search.until=settled"), told(spread(40, 0.0005), epochs=9), True),
    ],
)
def test_a_search_has_settled_when_another_hour_promises_less_than_the_gain(
    overrides: tuple[str, ...], record: StudyRecord, settled: bool
) -> None:
    assert is_settled(config(*overrides), record) is settled


def test_in_order_the_newest_trials_do_not_decide() -> None:
    asked = config("search=random", "search.until=settled", *IN_ORDER)
    accuracies = [*spread(LEAST_TRIALS, 0.0005), 0.99, 0.01]  # of 14 trials the first 12 count when the 15th is due
    assert is_settled(asked, told(accuracies))
    assert not is_settled(config("search.until=settled"), told(accuracies))
    assert not awaits_results(asked, told(accuracies[:-2], running=2))
    assert awaits_results(asked, told(accuracies[:-3], running=3))
    unordered = config("search=random", "search.until=settled")
    assert not awaits_results(unordered, told(accuracies[:-3], running=3))
    assert not awaits_results(config("search=random", *IN_ORDER), told(accuracies[:-3], running=3))


def test_a_search_that_only_settling_would_end_is_refused(tmp_path: Path) -> None:
    continuous = "optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}"
    job = compose_job([*SPACE, continuous, "search.max_trials=null", *SETTLED])
    with pytest.raises(ConfigError, match=r"give search.max_trials or search.max_minutes \(search.until=settled may"):
        plan_studies([job], tmp_path, lambda text, style: None)


def sweep(name: str, *overrides: str, slots: int, seed: int = 0, stop_after: int = 0, stored: bool = False) -> str:
    """Run the study of this name, or go on with it; what it showed. stop_after: results until the user ends it."""
    stop, results = Stop(), list[str]()
    generator = random.Random(seed)

    def heard(event: TrialEvent) -> None:
        if isinstance(event, TrialResult):
            results.append(event.trial_id)
            if len(results) == stop_after:
                stop.receive_signal(signal.SIGINT, None)

    def wait(spec: TrialSpec) -> float:
        return generator.uniform(0, 0.05)

    job, shown = compose_job([*SPACE, *overrides, f"tracking.experiment={name}"]), io.StringIO()
    with simulated(slots, wait, heard, stored=stored, drawn=False):
        try:
            assert run_sweep([job], "fmnist_sweep", View(Console(file=shown, width=200), None), stop) is ExitCode.DONE
        except KeyboardInterrupt:
            assert stop_after
    return shown.getvalue()


def record_of(name: str) -> StudyRecord:
    (study,) = (study for study in list_study_folders(Path("mlruns")) if study.read_location().experiment == name)
    return study.read_record()


def values_of(name: str) -> list[object]:
    return [history.proposal.values for history in record_of(name).trials.values()]


@pytest.mark.parametrize(
    "search",
    [
        pytest.param(("search=random",), marks=pytest.mark.slow),
        pytest.param(("search=grid",), marks=pytest.mark.slow),
        ("search=asha", "train.epochs=4", "search.factor=2", "search.lowest_epochs=2"),
        pytest.param(
            ("search=hyperband", "train.epochs=4", "search.factor=2", "search.iterations=9"), marks=pytest.mark.slow
        ),
    ],
    ids=["random", "grid", "asha", "hyperband"],
)
def test_in_order_every_run_ends_at_the_same_trial(search: tuple[str, ...]) -> None:
    given = (*search, *SETTLED, *IN_ORDER, "search.max_trials=60", "model.dense_units=8")
    for slots in (1, 3):
        sweep(f"in-order-{slots}", *given, slots=slots, seed=slots)
        assert values_of(f"in-order-{slots}") == values_of("in-order-1")
    assert LEAST_TRIALS <= len(values_of("in-order-1")) < 60
    sweep("broken", *given, slots=3, seed=4, stop_after=5)
    assert len(values_of("broken")) < len(values_of("in-order-1"))
    sweep("broken", *given, slots=2, seed=5)
    assert values_of("broken") == values_of("in-order-1")


def test_a_study_that_has_settled_is_done_until_it_is_told_to_go_on() -> None:
    shown = sweep("settled", "search.until=settled", "promote.gain=0.9", "search.max_trials=16", slots=1)
    assert "search.until=settled: it ends earlier once further trials are expected to gain less than 0.9" in shown
    count = len(values_of("settled"))
    assert count == LEAST_TRIALS
    again = sweep("settled", "search.until=settled", "promote.gain=0.9", "search.max_trials=16", slots=1)
    assert "already done" in again
    assert "search.until=null goes on with one that has settled" in again
    assert len(values_of("settled")) == count
    sweep("settled", "search.max_trials=16", slots=1)
    assert len(values_of("settled")) == 16


def test_a_sweep_says_at_its_end_what_its_trials_say_and_its_report_does(tmp_path: Path) -> None:
    shown = sweep("said", "search.max_trials=8", slots=2, stored=True)
    said = [line for line in shown.splitlines() if line.startswith("- ")]
    assert said[-1].startswith("- Another hour, about ")
    assert shown.index("What these trials say:") < shown.index(said[0]) < shown.rindex("8 trials,")
    sentence = said[-1][2:].partition("; to train")[0]
    for report in Path("mlruns/reports").glob("*.html"):
        assert sentence in report.read_text()
    store = open_existing_store(None, "said")
    again, _ = rebuild_report(store, study_id=None, sweep_id=None, data_dir=None, out=tmp_path / "again.html")
    assert sentence in again.read_text()
