"""A configuration's confirmations, read back from a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmnist_sweep.promotion.configuration import TrialConfiguration
from fmnist_sweep.promotion.confirmation import read_confirmations
from tests.tracking.test_registry import connected

SETTINGS: dict[str, Any] = {"model": {}, "optimizer": {}, "regularization": {}, "train": {}}


def test_a_run_that_was_killed_before_it_had_parameters_is_no_confirmation(tmp_path: Path) -> None:
    store = connected(tmp_path)
    for number, seed in enumerate([7, None, 3]):
        tags = {"fmnist.kind": "confirmation", "fmnist.journal": "token", "fmnist.trial_id": f"{number:04d}"}
        tags["fmnist.study_id"] = "study"
        run = store.client.create_run(store.experiment_id, tags=tags)
        if seed is not None:
            store.client.log_param(run.info.run_id, "seed", seed)
    configuration = TrialConfiguration("a trial", SETTINGS, {}, "d:1", "val_loss", 1, ())
    runs = read_confirmations(store, configuration, "token").runs
    assert [run.params["seed"] for run in runs] == ["3", "7"]
