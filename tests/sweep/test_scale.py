"""Many slots: the real supervisor, journal and store with trials that only wait."""

from __future__ import annotations

import io
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import study_run
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialFailure, TrialResult, TrialSpec, TrialStart
from tests.support.simulated import simulated

SPACE = (
    *("data=drawn", "data.images=400", "data.validation=0.5", "train.precision=float32", "train.epochs=1"),
    *("model.filters={tune: int, min_value: 1, max_value: 512}", "model.conv_layers=1"),
    *(
        "model.dense_units={tune: int, min_value: 8, max_value: 512}",
        "regularization=none",
        "optimizer.learning_rate=0.001",
    ),
)
HYPERBAND = ("search=hyperband", "train.epochs=9", "search.iterations=5")
Proposed = list[tuple[str, dict[str, Any], int | None, str | None]]


@pytest.fixture(autouse=True, scope="module")
def _in_one_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder with one store for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("scale"))
        yield


def up_to(seconds: float, seed: int) -> Callable[[TrialSpec], float]:
    """So long does a trial take, another time with each seed."""
    return lambda spec: random.Random(f"{seed} {spec.trial_id}").uniform(0, seconds)


def name_trial(key: str) -> str:
    """The id of a trial in its study, of what the executor calls it."""
    return key.partition("/")[2]


def sweep(
    name: str,
    *overrides: str,
    slots: int,
    seed: int = 0,
    longest: float = 0.1,
    stop_after: int = 0,
    stored: bool = True,
    drawn: bool = True,
) -> list[str]:
    """Run the study of this name, or go on with it; the trials in the order they ended.

    stop_after: so many results, the user asks for an end. Each name is an experiment of its own in the one store.
    """
    stop, ended = Stop(), list[str]()

    def heard(event: TrialEvent) -> None:
        if isinstance(event, TrialResult):
            ended.append(name_trial(event.trial_id))
            if len(ended) == stop_after:
                stop.receive_signal(signal.SIGINT, None)

    job = compose_job([*SPACE, *overrides, f"tracking.experiment={name}"])
    view = View(Console(file=io.StringIO()), None)
    with simulated(slots, up_to(longest, seed), heard, stored=stored, drawn=drawn):
        if stop_after:
            with pytest.raises(KeyboardInterrupt):
                run_sweep([job], "fmnist_sweep", view, stop)
        else:
            assert run_sweep([job], "fmnist_sweep", view, stop) is ExitCode.DONE
    return ended


def record(name: str) -> StudyRecord:
    """What the journal of the study of this name says."""
    (study,) = (study for study in list_study_folders(Path("mlruns")) if study.read_location().experiment == name)
    return study.read_record()


def proposed(name: str) -> Proposed:
    """What the oracle proposed, in order."""
    found = [history.proposal for history in record(name).trials.values()]
    return [(one.trial_id, one.values, one.epochs, one.continues) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize("search", [("search=random",), HYPERBAND], ids=["random", "hyperband"])
def test_with_fifty_slots_every_trial_ends_once_in_store_and_journal(search: tuple[str, ...]) -> None:
    name = f"stored-{search[0][7:]}"
    given = (*search, "search.max_trials=60", "tracking.keep_models=1")
    ended = sweep(name, *given, slots=50, longest=2, drawn=False)
    known = record(name)
    assert len(known.trials) == len(set(ended)) == len(ended) == 60
    assert ended != sorted(ended)  # they came in another order than they were begun
    assert {history.state for history in known.trials.values()} == {"finished"}
    assert all(history.is_settled and len(history.attempts) == 1 for history in known.trials.values())
    store = open_existing_store(None, name)
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    assert Counter(run.data.tags["fmnist.trial_id"] for run in runs) == Counter(ended)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_id for run in runs} == {history.attempts[0].run_id for history in known.trials.values()}
    for run in runs:
        outcome = known.trials[run.data.tags["fmnist.trial_id"]].outcome or {}
        assert run.data.metrics["best_val_accuracy"] == outcome["best_val_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        ("search=random", "search.max_trials=60"),
        ("search=grid", "model.filters.max_value=10", "model.dense_units.max_value=13"),
    ],
    ids=["random", "grid"],
)
def test_what_needs_no_results_proposes_the_same_with_one_slot_and_with_fifty(search: tuple[str, ...]) -> None:
    one, fifty = f"one-{search[0][7:]}", f"fifty-{search[0][7:]}"
    sweep(one, *search, slots=1, longest=0, stored=False)
    ended = sweep(fifty, *search, slots=50, longest=1, stored=False)
    assert proposed(one) == proposed(fifty)
    assert len({str(values) for _, values, _, _ in proposed(fifty)}) == len(ended) == 60
    assert ended != sorted(ended)


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        ("search=bayesian", "search.initial_points=4", "search.max_trials=10"),
        (*HYPERBAND, "search.max_trials=24"),
    ],
    ids=["bayesian", "hyperband"],
)
def test_a_synchronous_search_proposes_the_same_whatever_runs_it_and_interrupts_it(search: tuple[str, ...]) -> None:
    in_order, kind = (*search, "search.synchronous=true", "search.ahead=4"), search[0][7:]
    orders = []
    for slots in (1, 3, 4):
        orders.append(sweep(f"{kind}-{slots}", *in_order, slots=slots, seed=slots, stored=False))
        assert proposed(f"{kind}-{slots}") == proposed(f"{kind}-1")
        assert sorted(orders[-1]) == sorted(orders[0]) == orders[0]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    ended = sweep(f"{kind}-broken", *in_order, slots=3, seed=4, stop_after=4, stored=False)
    assert len(proposed(f"{kind}-broken")) < len(proposed(f"{kind}-1"))
    ended += sweep(f"{kind}-broken", *in_order, slots=4, seed=5, stop_after=1, stored=False)
    ended += sweep(f"{kind}-broken", *in_order, slots=2, seed=6, stored=False)
    assert proposed(f"{kind}-broken") == proposed(f"{kind}-1")
    assert sorted(ended) == orders[0]


@pytest.mark.slow
def test_what_ended_in_time_is_not_overdue_because_it_had_to_wait_to_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    job = compose_job([*SPACE, "search.max_trials=8", "search.trial_minutes=30", "tracking.experiment=overdue"])
    begun, later, shown = set[str](), [0.0], io.StringIO()

    def heard(event: TrialEvent) -> None:
        begun.update([event.trial_id] if isinstance(event, TrialStart) else [])
        if isinstance(event, TrialResult):
            later[0] = 3600.0  # as if it took an hour to log the first of them

    clock = SimpleNamespace(**{**vars(time), "monotonic": lambda: time.monotonic() + later[0]})
    monkeypatch.setattr(study_run, "time", clock)
    # All end together.
    with simulated(8, lambda spec: 0.0, heard, holds=lambda spec: len(begun) < 8):
        assert run_sweep([job], "fmnist_sweep", View(Console(file=shown), None)) is ExitCode.DONE, shown.getvalue()


def test_a_trial_begun_before_another_failed_fast_is_trained_to_its_end() -> None:
    stop = Stop()
    arguments = [*SPACE, "train.epochs=3", "search.max_trials=9", "search.fail_fast=true", "tracking.experiment=fast"]

    def fate(spec: TrialSpec) -> TrialEvent | None:
        return TrialFailure(spec.trial_id, "it was to fail", "", []) if name_trial(spec.trial_id) == "0000" else None

    def heard(event: TrialEvent) -> None:
        if isinstance(event, TrialFailure):
            stop.receive_signal(signal.SIGINT, None)

    view = View(Console(file=io.StringIO()), None)
    with simulated(2, lambda spec: 1.0, heard, fate=fate), pytest.raises(KeyboardInterrupt):
        run_sweep([compose_job(arguments)], "fmnist_sweep", view, stop)
    assert [history.state for history in record("fast").trials.values()] == ["failed", "running"]
    shown = io.StringIO()
    with simulated(2, lambda spec: 0.1, fate=fate):
        code = run_sweep([compose_job(arguments)], "fmnist_sweep", View(Console(file=shown), None))
        assert code is ExitCode.SOME_FAILED
        assert [history.state for history in record("fast").trials.values()] == ["failed", "finished"]
        run_sweep([compose_job(arguments)], "fmnist_sweep", View(Console(file=shown), None))
    assert "Nothing to do" in shown.getvalue()
