"""The trials of all studies of a sweep share the slots: what one study cannot use goes to the next one."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.terminal import View
from fmnist_sweep.sweep import delivery, supervisor
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.runs import log_epochs
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialFailure, TrialResult, TrialSpec
from tests.support.overlaps import BOTH, TINY, events, noted, records, runs, sweep
from tests.support.process import LIMIT_SECONDS
from tests.support.small import DRAWN

SPACE = (
    *(*DRAWN, "data.validation=0.5", "train.precision=float32", "model.conv_layers=1", "regularization=none"),
    "model.filters={tune: int, min_value: 1, max_value: 512}",
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_last_trial_of_a_study_trains_beside_the_first_of_the_next() -> None:
    heard: list[str] = []

    def hear(event: TrialEvent) -> None:
        heard.append(f"{type(event).__name__} {event.trial_id}")

    with noted() as notes:
        code, shown = sweep(
            "search.max_trials=3",
            heard=hear,
            until={
                "1/0002": lambda: "TrialStart 2/0000" in heard,
                "2/0002": lambda: "rmsprop closed" in notes,
            },
        )
    assert code is ExitCode.DONE
    assert heard.index("TrialStart 1/0002") < heard.index("TrialStart 2/0000") < heard.index("TrialResult 1/0002")
    assert heard.index("TrialResult 1/0002") < heard.index("TrialResult 2/0002")
    # The first study is closed while the second one trains, and shown.
    assert notes.index("adam attempt 0000") < notes.index("rmsprop finished 0002") < notes.index("rmsprop closed")
    assert notes.index("rmsprop closed") < notes.index("adam finished 0002")
    assert shown.index("\nrmsprop: 3 trials") < shown.index("\nadam: 3 trials")
    assert shown.index("study 2 of 2: adam") < shown.index("study 2, trial 1: ") < shown.index("\nrmsprop: 3 trials")
    assert {run.info.status for kind in ("sweep", "study", "trial") for run in runs(kind)} == {"FINISHED"}
    (parent,) = runs("sweep")
    assert parent.data.metrics["trials_finished"] == 6
    parents = {run.info.run_id: run.data.tags["fmnist.study_id"] for run in runs("study")}
    for run in runs("trial"):
        assert parents[run.data.tags["mlflow.parentRunId"]] == run.data.tags["fmnist.study_id"]


@pytest.mark.slow
def test_in_one_process_a_study_is_closed_before_the_next_one_begins() -> None:
    shown = io.StringIO()
    jobs = [compose_job([*TINY, "search.max_trials=2", "executor=in_process", *own]) for own in BOTH]
    with noted() as notes:
        run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=shown, width=200), None))
    assert notes.index("rmsprop closed") < notes.index("adam opened")
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    begun = [line for line in lines if line.startswith(("study 1 of", "study 2 of", "trial 1:"))]
    assert [line.partition(":")[0] for line in begun] == ["study 1 of 2", "trial 1", "study 2 of 2", "trial 1"]


@pytest.mark.parametrize(
    "search",
    [
        pytest.param(("search=random", "search.max_trials=5"), marks=pytest.mark.slow),
        pytest.param(("search=grid", "model.filters={tune: choice, values: [2,3,4,5,6]}"), marks=pytest.mark.slow),
        pytest.param(
            ("search=hyperband", "train.epochs=4", "search.factor=2", "search.synchronous=true", "search.ahead=2"),
            marks=pytest.mark.slow,
        ),
        (
            *("search=asha", "train.epochs=4", "search.factor=2", "search.max_trials=5"),
            *("search.synchronous=true", "search.ahead=2"),
        ),
    ],
    ids=["random", "grid", "synchronous", "asha"],
)
def test_what_is_proposed_and_reached_is_that_of_one_study_after_the_other(search: tuple[str, ...]) -> None:
    heard: list[str] = []
    given = (*SPACE, *search)
    assert sweep(*given, "tracking.experiment=alone", slots=1, stored=False)[0] is ExitCode.DONE
    # The first trial of the first study ends after many later ones, and after the first of the second study.
    code, _ = sweep(
        *(*given, "tracking.experiment=together"),
        slots=3,
        until={"1/0000": lambda: "2/0000" in heard},
        stored=False,
        heard=lambda event: heard.append(event.trial_id),
    )
    assert code is ExitCode.DONE
    # The second study began while the first one still trained.
    first, second = ([place for place, key in enumerate(heard) if key.startswith(study)] for study in "12")
    assert second[0] < first[-1]
    for alone, shared in zip(records("alone"), records("together"), strict=True):
        assert list(alone.trials) == list(shared.trials)
        for one, other in zip(alone.trials.values(), shared.trials.values(), strict=True):
            assert one.proposal == other.proposal
            assert (one.outcome or {})["score"] == (other.outcome or {})["score"]
    kinds = [event.kind for event in events(1, "together")]
    assert kinds.count("exhausted") <= 1


def test_a_study_that_cannot_be_opened_breaks_off_no_trial_of_the_one_before_it() -> None:
    assert sweep("search.max_trials=1")[0] is ExitCode.DONE
    (deleted,) = (run for run in runs("study") if "adam" in run.info.run_name)
    open_existing_store(None, "fashion-mnist").client.delete_run(deleted.info.run_id)
    for _ in range(2):
        with noted() as notes, pytest.raises(StoreError, match=f"no longer has run {deleted.info.run_id}"):
            sweep("search.max_trials=4", until={"1/0003": lambda: "adam opened" in notes})
        first, second = records()
        assert [history.state for history in first.trials.values()] == ["finished"] * 4
        assert all(len(history.attempts) == 1 for history in first.trials.values())
        assert (first.state, second.state, len(second.trials)) == ("closed", "interrupted", 1)


def test_fail_fast_stops_its_own_study_alone() -> None:
    def fate(spec: TrialSpec) -> TrialEvent | None:
        return TrialFailure(spec.trial_id, "it was to fail", "", []) if spec.trial_id == "1/0000" else None

    code, _ = sweep("search.max_trials=4", "search.fail_fast=true", fate=fate)
    assert code is ExitCode.SOME_FAILED
    first, second = records()
    assert [history.state for history in first.trials.values()] == ["failed", "finished"]
    assert [history.state for history in second.trials.values()] == ["finished"] * 4


def test_the_minutes_of_a_study_count_from_its_first_trial() -> None:
    limited = (*BOTH[1], "search.max_minutes=0.01", "search.max_trials=2")
    given = (*BOTH[0], "search.max_trials=2"), limited
    begun: list[float] = []
    code, _ = sweep(
        studies=given,
        slots=1,
        heard=lambda event: begun.append(time.monotonic()),
        until={"1/0001": lambda: time.monotonic() >= begun[0] + 0.7},
    )
    assert code is ExitCode.DONE
    # The whole sweep had more minutes than the second study has.
    assert records()[0].seconds > 0.6
    assert len(records()[1].trials) >= 1


def test_no_study_is_opened_or_closed_beside_trials_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would wait for the store, and then end the sweep; meanwhile trials that can be trained are trained."""
    is_away, failures = True, 0

    def log_unless_away(*arguments: Any) -> None:
        nonlocal failures
        if is_away:
            failures += 1
            raise ConnectionError("no answer")
        log_epochs(*arguments)

    def look_unless_away(*arguments: Any) -> bool:
        if is_away:
            raise ConnectionError("no answer")
        return is_run_active(*arguments)

    def is_known_to_be_away() -> bool:
        return failures > 2

    def hear(event: TrialEvent) -> None:
        nonlocal is_away
        if isinstance(event, TrialResult) and event.trial_id == "1/0001":
            is_away = False

    monkeypatch.setattr(delivery, "log_epochs", log_unless_away)
    monkeypatch.setattr(supervisor, "is_run_active", look_unless_away)
    monkeypatch.setattr(delivery, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(delivery, "PATIENCE_SECONDS", LIMIT_SECONDS)
    with noted() as notes:
        code, shown = sweep("search.max_trials=2", until={"1/0001": is_known_to_be_away}, heard=hear)
    assert code is ExitCode.DONE, shown
    assert "the tracking store is away" in shown
    assert notes.index("rmsprop finished 0001") < notes.index("adam opened")
    assert [record.state for record in records()] == ["closed", "closed"]
