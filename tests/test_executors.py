"""Where trials run: slots, specs in, events out."""

from __future__ import annotations

import pytest
from small import TINY, finished, spec

from fmnist_sweep import executors
from fmnist_sweep.compose import compose_job
from fmnist_sweep.data import load
from fmnist_sweep.executors import Executor
from fmnist_sweep.interrupts import Stop
from fmnist_sweep.trial import EpochEnd, Event, TrialFailure, TrialResult, TrialSpec


def ended(executor: Executor) -> list[Event]:
    """The events of the trial under way, to its end."""
    events = [executor.next_event()]
    while isinstance(events[-1], EpochEnd):
        events.append(executor.next_event())
    return events


def in_process() -> Executor:
    return executors.make(compose_job(["executor=in_process"]).config.executor, Stop())


def test_a_trial_sends_each_epoch_and_then_its_result() -> None:
    with in_process() as executor:
        executor.submit(spec([*TINY, "train.epochs=2"]))
        events = ended(executor)
    assert [type(event) for event in events] == [EpochEnd, EpochEnd, TrialResult]
    assert {event.trial_id for event in events} == {"0"}


def test_a_failed_trial_sends_its_failure_and_frees_its_slot() -> None:
    given = spec(TINY)
    broken = spec(TINY, model={**given.config["model"], "conv_layers": 6})
    with in_process() as executor:
        executor.submit(broken)
        assert [type(event) for event in ended(executor)] == [TrialFailure]
        executor.submit(given)
        assert isinstance(ended(executor)[-1], TrialResult)


def test_a_trial_gives_what_it_gives_without_an_executor() -> None:
    given = spec(TINY)
    with in_process() as executor:
        executor.submit(given)
        result = ended(executor)[-1]
    assert isinstance(result, TrialResult)
    alone = finished(given, load(given.data))
    assert (result.probabilities == alone.probabilities).all()


def test_no_more_trials_are_taken_than_there_are_slots() -> None:
    given: TrialSpec = spec(TINY)
    with in_process() as executor:
        for _ in range(executor.slots):
            executor.submit(given)
        with pytest.raises(RuntimeError, match="slot"):
            executor.submit(given)


def test_waiting_for_nothing_is_an_error_and_does_not_hang() -> None:
    with in_process() as executor, pytest.raises(RuntimeError, match="no trial"):
        executor.next_event()


def test_what_was_under_way_is_dropped_when_the_executor_closes() -> None:
    executor = in_process()
    with executor:
        executor.submit(spec([*TINY, "train.epochs=3"]))
        executor.next_event()
    with pytest.raises(RuntimeError, match="no trial"):
        executor.next_event()
