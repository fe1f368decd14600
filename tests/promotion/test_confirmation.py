"""A configuration's confirmations, read back from a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.configuration import TrialConfiguration
from fmnist_sweep.promotion.confirmation import read_confirmations
from fmnist_sweep.tracking.names import TEST_OPENED_TAG
from fmnist_sweep.tracking.store import Store
from tests.support.versions import connect_store

SETTINGS: dict[str, Any] = {"model": {}, "optimizer": {}, "regularization": {}, "train": {}}
CONFIGURATION = TrialConfiguration("a trial", SETTINGS, {}, "d:1", "val_loss", 1, ())


def test_a_run_that_was_killed_before_it_had_parameters_is_no_confirmation(tmp_path: Path) -> None:
    store = connect_store(tmp_path)
    for number, seed in enumerate([7, None, 3]):
        tags = {"fmnist.kind": "confirmation", "fmnist.journal": "token", "fmnist.trial_id": f"{number:04d}"}
        tags["fmnist.study_id"] = "study"
        run = store.client.create_run(store.experiment_id, tags=tags)
        if seed is not None:
            store.client.log_param(run.info.run_id, "seed", seed)
    runs = read_confirmations(store, CONFIGURATION, "token").runs
    assert [run.params["seed"] for run in runs] == ["3", "7"]


def make_confirmation(store: Store, journal: str, **tags: str) -> str:
    """A finished training of the configuration, and its run's id."""
    marks = {"fmnist.kind": "confirmation", "fmnist.journal": journal, "fmnist.trial_id": "0000"}
    marks |= {"fmnist.study_id": "study", "fmnist.config_hash": CONFIGURATION.key, **tags}
    run = str(store.client.create_run(store.experiment_id, tags=marks).info.run_id)
    store.client.log_param(run, "seed", 7)
    store.client.log_metric(run, "best_val_accuracy", 0.5)
    store.client.set_terminated(run)
    return run


@pytest.mark.parametrize(
    ("journal", "tags"), [("own", {}), ("own", {TEST_OPENED_TAG: "2026"}), ("other", {TEST_OPENED_TAG: "2026"})]
)
def test_a_deleted_training_is_never_left_out_in_silence(tmp_path: Path, journal: str, tags: dict[str, str]) -> None:
    store = connect_store(tmp_path)
    kept, deleted = make_confirmation(store, "own"), make_confirmation(store, journal, **tags)
    store.client.delete_run(deleted)
    with pytest.raises(PromotionRefused) as refused:
        read_confirmations(store, CONFIGURATION, "own")
    assert "of the trainings of a trial with fresh seeds none may be left out" in str(refused.value)
    assert str(refused.value).endswith(f"mlflow runs restore --run-id {deleted}.")
    store.client.restore_run(deleted)
    confirmations = read_confirmations(store, CONFIGURATION, "own")
    assert {run.run_id for run in (*confirmations.runs, *confirmations.other_runs)} == {kept, deleted}


def test_a_deleted_training_that_counted_nowhere_stops_no_promotion(tmp_path: Path) -> None:
    store = connect_store(tmp_path)
    make_confirmation(store, "own")
    unscored = make_confirmation(store, "other")
    followed = make_confirmation(store, "own", **{"fmnist.followed_by": "0"})
    for run in (unscored, followed):
        store.client.delete_run(run)
    assert len(read_confirmations(store, CONFIGURATION, "own").runs) == 1
