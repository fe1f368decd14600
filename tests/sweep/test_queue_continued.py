"""A sweep whose studies overlap is broken off, and the same command goes on with it: what is trained, and when."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.search.ask_and_tell import Search
from fmnist_sweep.study.folder import OpenStudy
from fmnist_sweep.sweep import proposals, supervisor
from fmnist_sweep.training.events import TrialEvent, TrialStart
from tests.support.overlaps import BOTH, noted, records, runs, sweep


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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
