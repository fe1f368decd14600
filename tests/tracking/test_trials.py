"""The trials of a store: of several attempts at one, the last."""

from __future__ import annotations

from pathlib import Path

import fmnist_sweep
from fmnist_sweep.tracking.runs import RunInfo, kill_run, link_attempts, start_run
from fmnist_sweep.tracking.store import build_default_uri, open_store


def test_an_attempt_that_another_followed_is_left_out(tmp_path: Path) -> None:
    store = open_store(build_default_uri(tmp_path), "fashion-mnist")
    tags = {"fmnist.study_id": "s", "fmnist.trial_id": "0000"}
    dead, last = (
        start_run(store, RunInfo("trial", "one", tags | {"fmnist.attempt": attempt}, "none"), may_exist=False)
        for attempt in "12"
    )
    kill_run(store, dead)
    link_attempts(store, dead, last, 2)
    frame = fmnist_sweep.trials(store.uri)
    assert frame["run_id"].tolist() == [last]
    assert frame["attempt"].tolist() == [2]
