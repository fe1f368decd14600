"""What a promotion says of the trials that its finalists were chosen from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.analysis.fronts import parse_cost_limits
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.candidates import Candidates, PromotionTarget, find_candidates
from fmnist_sweep.tracking.store import Store, build_default_uri, open_store
from fmnist_sweep.tracking.trials import StoredTrial

BEST = StoredTrial("a", "adam", "finished", {}, {}, {}, 0, 1)


@pytest.mark.parametrize(
    ("finalists", "rivals", "ties", "words"),
    [
        (1, 2, 1, "sweep s has 2 finished trials; no other configuration is indistinguishable from the best"),
        (2, 9, 2, "sweep s has 9 finished trials; 2 configurations, the best included, are indistinguishable from it"),
        (
            *(2, 9, 5),
            "sweep s has 9 finished trials; 5 configurations, the best included, are indistinguishable from it; "
            "promote.finalists takes the best 2",
        ),
        (
            *(1, 9, 5),
            "sweep s has 9 finished trials; 5 configurations, the best included, are indistinguishable from it; "
            "promote.finalists takes the best one",
        ),
    ],
)
def test_the_number_of_equals_is_told(finalists: int, rivals: int, ties: int, words: str) -> None:
    assert Candidates((BEST,) * finalists, "sweep s", rivals, ties, ()).describe_ties() == words


@pytest.fixture
def sized_store(tmp_path: Path) -> Store:
    """A study of three trials on Fashion-MNIST: the better, the larger; the best does not say its bytes."""
    store = open_store(build_default_uri(tmp_path), "fashion-mnist")
    for number, accuracy in enumerate((0.7, 0.8, 0.9)):
        told = {"kind": "trial", "study_id": "a", "trial_id": f"000{number}", "attempt": "1", "journal": "j"}
        told |= {"data": "fashion_mnist:000000000000", "canonical": "true"}
        tags = {f"fmnist.{key}": value for key, value in told.items()}
        run_id = store.client.create_run(store.experiment_id, None, tags, f"trial {number}").info.run_id
        metrics = {"best_val_accuracy": accuracy, "parameters": 1000.0 * (number + 1), "ms_per_image": 0.25 * number}
        for key, value in metrics.items() | ({("size_bytes", 5000.0)} if number < 2 else set()):
            store.client.log_metric(run_id, key, value)
        store.client.log_param(run_id, "model.filters", number)
        store.client.set_terminated(run_id, "FINISHED")
    return store


def test_the_best_of_what_fits_all_limits_is_the_finalist(sized_store: Store) -> None:
    for limits, name in (
        ((), "trial 2"),
        (("parameters=2000",), "trial 1"),
        (("parameters=2999.5", "bytes=5000"), "trial 1"),
        (("parameters=2000", "milliseconds=0.25"), "trial 1"),
        (("milliseconds=0.5",), "trial 2"),
        (("bytes=1000000000",), "trial 1"),
        (("parameters=1000",), "trial 0"),
    ):
        found = find_candidates(sized_store, PromotionTarget(study_id="a", limits=parse_cost_limits(limits)), 1, False)
        assert [trial.name for trial in found.finalists] == [name], limits
        assert found.scope == (f"study a, within {' '.join(limits)}," if limits else "study a")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            ("parameters=999",),
            "parameters=999: study a has no finished trial of so little; the least is 1,000:",
        ),
        (("bytes=6000", "milliseconds=0.1"), "milliseconds=0.1: study a has no finished trial of so little"),
    ],
)
def test_a_limit_that_nothing_meets_is_refused(sized_store: Store, limits: tuple[str, ...], words: str) -> None:
    with pytest.raises(PromotionRefused) as refused:
        find_candidates(sized_store, PromotionTarget(study_id="a", limits=parse_cost_limits(limits)), 3, False)
    assert str(refused.value).startswith(f"--within {words}")


def test_a_run_that_is_named_has_to_fit_too(sized_store: Store) -> None:
    run = sized_store.client.search_runs([sized_store.experiment_id])[0]
    size = run.data.metrics["parameters"]
    for most, fits in ((size, True), (size - 1, False)):
        target = PromotionTarget(run_id=run.info.run_id, limits=parse_cost_limits((f"parameters={most}",)))
        if fits:
            assert find_candidates(sized_store, target, 3, False).finalists[0].run_id == run.info.run_id
        else:
            with pytest.raises(PromotionRefused, match=f"run {run.info.run_id} has no finished trial of so little"):
                find_candidates(sized_store, target, 3, False)
