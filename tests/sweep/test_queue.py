"""The trials of all studies of a sweep share the slots: what one study cannot use goes to the next one."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.report.terminal import View
from fmnist_sweep.search.ask_and_tell import Search
from fmnist_sweep.study.folder import OpenStudy, list_study_folders
from fmnist_sweep.study.journal import JournalEvent, read_events
from fmnist_sweep.study.record import StudyRecord
from fmnist_sweep.sweep import delivery, proposals, supervisor
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.tracking.queries import is_run_active
from fmnist_sweep.tracking.runs import log_epochs
from fmnist_sweep.tracking.store import open_existing_store
from fmnist_sweep.training.events import TrialEvent, TrialFailure, TrialResult, TrialSpec, TrialStart
from tests.support.process import LIMIT_SECONDS
from tests.support.simulated import simulated
from tests.support.small import DRAWN, FILTERS, SMALLEST

TINY = (*SMALLEST, FILTERS, "regularization=none", "train.epochs=1")
SPACE = (
    *(*DRAWN, "data.validation=0.5", "train.precision=float32", "model.conv_layers=1", "regularization=none"),
    "model.filters={tune: int, min_value: 1, max_value: 512}",
)
BOTH = ("optimizer=rmsprop",), ("optimizer=adam",)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


Holds = Mapping[str, Callable[[], bool]]


def sweep(
    *overrides: str,
    slots: int = 2,
    until: Holds = MappingProxyType({}),
    studies: tuple[tuple[str, ...], ...] = BOTH,
    heard: Callable[[TrialEvent], None] = lambda event: None,
    stop: Stop | None = None,
    **simulation: Any,
) -> tuple[ExitCode, str]:
    """The exit code of a sweep with trials that only wait, and what it showed.

    overrides: for all studies. until: what trials wait for, by study and number (2/0000: the first of the second).
    """
    shown = io.StringIO()
    jobs = [compose_job([*TINY, *overrides, *own]) for own in studies]

    def holds(spec: TrialSpec) -> bool:
        return spec.trial_id in until and not until[spec.trial_id]()

    with simulated(slots, lambda spec: 0.0, heard, drawn=False, holds=holds, **simulation):
        code = run_sweep(jobs, "python -m fmnist_sweep", View(Console(file=shown, width=200), None), stop)
    return code, shown.getvalue()


def records(experiment: str = "fashion-mnist") -> list[StudyRecord]:
    """What the journals of an experiment's studies say, in the order of BOTH."""
    folders = [
        folder for folder in list_study_folders(Path("mlruns")) if folder.read_location().experiment == experiment
    ]
    return sorted((folder.read_record() for folder in folders), key=lambda record: record.about["label"], reverse=True)


def events(number: int, experiment: str = "fashion-mnist") -> list[JournalEvent]:
    """What is in the journal of the number-th study."""
    token = records(experiment)[number - 1].about["token"]
    (folder,) = (
        folder for folder in list_study_folders(Path("mlruns")) if folder.read_record().about["token"] == token
    )
    return read_events(folder.path / "journal.db")


def runs(kind: str) -> list[Any]:
    store = open_existing_store(None, "fashion-mnist")
    return list(store.client.search_runs([store.experiment_id], f"tags.`fmnist.kind` = '{kind}'"))


@contextmanager
def noted() -> Iterator[list[str]]:
    """The events that go into the studies' journals, in their order, each with its study's label and its trial's id."""
    notes: list[str] = []
    append = OpenStudy.append_event

    def append_and_note(self: OpenStudy, kind: str, **body: Any) -> None:
        append(self, kind, **body)
        notes.append(" ".join([self.record.about["label"].split(" ")[0], kind, *filter(None, [body.get("trial_id")])]))

    with mock.patch.object(OpenStudy, "append_event", append_and_note):
        yield notes


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
        ("search=random", "search.max_trials=5"),
        ("search=grid", "model.filters={tune: choice, values: [2,3,4,5,6]}"),
        ("search=hyperband", "train.epochs=4", "search.factor=2", "search.synchronous=true", "search.ahead=2"),
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


def test_an_end_that_is_asked_for_in_the_overlap_closes_the_runs_of_both_studies_and_both_continue() -> None:
    stop, begun = Stop(), set[str]()

    def hear(event: TrialEvent) -> None:
        if isinstance(event, TrialStart):
            begun.add(event.trial_id)
        if begun == {"1/0000", "1/0001", "2/0000"} and not stop.is_requested:
            stop.receive_signal(signal.SIGINT, None)

    given = ("search.max_trials=2", "train.epochs=4")
    with pytest.raises(KeyboardInterrupt):
        sweep(
            *given,
            until={key: lambda: stop.is_requested for key in ("1/0001", "2/0000")},
            heard=hear,
            stop=stop,
        )
    assert [record.state for record in records()] == ["interrupted", "interrupted"]
    assert sorted(run.info.status for run in runs("trial")) == ["FINISHED", "KILLED", "KILLED"]
    assert {run.info.status for kind in ("sweep", "study") for run in runs(kind)} == {"KILLED"}
    code, shown = sweep(*given)
    assert code is ExitCode.DONE
    assert shown.count("on from epoch") == 2
    assert [len(record.trials) for record in records()] == [2, 2]
    assert "Nothing to do" in sweep(*given)[1]


def test_trials_that_were_begun_go_on_before_the_oracle_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """KerasTuner takes seconds to import; it is ready before a trial ends all the same."""
    stop, begun, notes = Stop(), set[str](), list[str]()

    def hear(event: TrialEvent) -> None:
        if isinstance(event, TrialStart):
            begun.add(event.trial_id)
        if len(begun) == 2 and not stop.is_requested:
            stop.receive_signal(signal.SIGINT, None)

    def search(*arguments: Any) -> Search:
        notes.append("oracle restored")
        return Search(*arguments)

    monkeypatch.setattr(proposals, "Search", search)
    given = ("search.max_trials=4", "train.epochs=4")
    with pytest.raises(KeyboardInterrupt):
        sweep(*given, studies=BOTH[:1], heard=hear, stop=stop, until={"1/0001": lambda: stop.is_requested})
    assert notes == ["oracle restored"]
    (before,) = records()
    left = [history.trial_id for history in before.trials.values() if history.outcome is None]
    notes.clear()
    code, _ = sweep(
        *given,
        studies=BOTH[:1],
        heard=lambda event: notes.append(f"{type(event).__name__} {event.trial_id}"),
        until={f"1/{trial_id}": lambda: "oracle restored" in notes for trial_id in left},
    )
    assert code is ExitCode.DONE
    assert notes.count("oracle restored") == 1
    order = [notes.index(each) for each in (f"TrialStart 1/{left[0]}", "oracle restored", f"TrialResult 1/{left[0]}")]
    assert order == sorted(order)
    assert "Nothing to do" in sweep(*given, studies=BOTH[:1])[1]


class Killed(BaseException):
    """The process is gone at this point."""


@pytest.mark.parametrize(
    ("label", "kind", "trial_id"),
    [
        ("adam", "opened", None),
        pytest.param("adam", "attempt", "0000", marks=pytest.mark.slow),
        pytest.param("rmsprop", "finished", "0002", marks=pytest.mark.slow),
        ("rmsprop", "closing", None),
    ],
)
def test_killed_in_the_overlap_the_same_command_trains_what_is_left(
    label: str, kind: str, trial_id: str | None
) -> None:
    append = OpenStudy.append_event

    def append_or_die(self: OpenStudy, note: str, **body: Any) -> None:
        append(self, note, **body)
        if (self.record.about["label"].split(" ")[0], note, body.get("trial_id")) == (label, kind, trial_id):
            raise Killed

    given, heard = ("search.max_trials=3",), list[str]()
    # Nothing of a process that is killed closes its runs.
    with (
        mock.patch.object(OpenStudy, "append_event", append_or_die),
        mock.patch.object(supervisor.Supervisor, "_kill_running"),
        mock.patch("fmnist_sweep.sweep.parent_runs.kill_parent_run"),
        pytest.raises(Killed),
    ):
        sweep(
            *given,
            until={"1/0002": lambda: "2/0000" in heard, "2/0000": lambda: False},
            heard=lambda event: heard.append(event.trial_id),
        )
    assert sweep(*given)[0] is ExitCode.DONE
    assert [record.state for record in records()] == ["closed", "closed"]
    for record in records():
        assert [history.state for history in record.trials.values()] == ["finished"] * 3
        assert all(history.is_settled for history in record.trials.values())
    trials = runs("trial")
    assert {run.info.status for kind in ("sweep", "study") for run in runs(kind)} == {"FINISHED"}
    assert [run.info.status for run in trials].count("FINISHED") == 6
    assert {run.info.status for run in trials} <= {"FINISHED", "KILLED"}
    assert "Nothing to do" in sweep(*given)[1]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_ended_and_was_not_delivered_is_delivered_once_workers_have_something_to_do(is_damaged: bool) -> None:
    append = OpenStudy.append_event

    def append_or_die(self: OpenStudy, note: str, **body: Any) -> None:
        append(self, note, **body)
        if note == "finished":
            raise Killed

    given = ("search.max_trials=3",)
    with (
        mock.patch.object(OpenStudy, "append_event", append_or_die),
        mock.patch.object(supervisor.Supervisor, "_kill_running"),
        mock.patch("fmnist_sweep.sweep.parent_runs.kill_parent_run"),
        pytest.raises(Killed),
    ):
        sweep(*given, studies=BOTH[:1], until={"1/0001": lambda: False})
    if is_damaged:
        (result,) = Path("mlruns/studies").glob("*/results/*")
        result.write_bytes(b"")
    with noted() as notes:
        code, shown = sweep(
            *given,
            studies=BOTH[:1],
            heard=lambda event: notes.append(f"{type(event).__name__} {event.trial_id}"),
            until={"1/0001": lambda: any(note in notes for note in ("cnn delivered 0000", "cnn lost 0000"))},
        )
    assert code is ExitCode.DONE
    assert notes.index("TrialStart 1/0001") < notes.index(f"cnn {'lost' if is_damaged else 'delivered'} 0000")
    assert ("this trial is trained again" in shown) == is_damaged == ("TrialResult 1/0000" in notes)
    (record,) = records()
    assert [history.state for history in record.trials.values()] == ["finished"] * 3
    assert not record.unsettled_trials
    assert [run.info.status for run in runs("trial")].count("FINISHED") == 3


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
