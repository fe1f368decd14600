"""Findings: what trials come to, against small cases worked out by hand, and how seldom the store is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fmnist_sweep.analysis import findings, peers
from fmnist_sweep.analysis.comparison import SEED_SD
from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.settings import find_varied_settings, select_distinct_settings
from fmnist_sweep.report import wording
from fmnist_sweep.tracking.prediction_files import Predictions
from fmnist_sweep.tracking.trials import StoredTrial
from fmnist_sweep.training.evaluation import compute_wilson_interval
from tests.support.stored import Simulation, pictures, simulation, trial


def predictions(right: int, images: int = 200, index: int = 0) -> Predictions:
    """The first `right` images right, the others taken for the next label."""
    labels = np.arange(images, dtype=np.int64) % 10
    predicted = np.where(np.arange(images) < right, labels, (labels + 1) % 10)
    probabilities = np.full((images, 10), 0.02, np.float32)
    probabilities[np.arange(images), predicted] = 0.82
    return Predictions(np.arange(images, dtype=np.int64) + index, labels, probabilities)


def gathered(found: Simulation, images: int | None = None) -> Findings:
    shown = None if images is None else pictures(images)
    return findings.compute_findings(
        found.trials,
        read_predictions=found.predictions_of,
        read_curves=found.curves_of,
        validation_images=shown,
        twins=None if images is None else np.arange(images) == 7,
    )


def of(*trials: StoredTrial, images: int = 200) -> Simulation:
    """These trials with predictions that fit their accuracies."""
    predicted = {t.run_id: predictions(round(t.accuracy * images), images) for t in trials if t.accuracy is not None}
    return Simulation(list(trials), predicted)


def test_trials_are_ranked_and_the_first_of_equals_is_the_best() -> None:
    found = gathered(of(trial(1, 0.8), trial(2), trial(3, 0.9), trial(4, 0.9), trial(5, state="killed")))
    assert [t.trial_id for t in found.trials] == ["0003", "0004", "0001", "0002", "0005"]
    assert [row.rank for row in found.rows] == [1, 2, 3, None, None]
    assert found.best is found.trials[0]
    assert found.states == {"finished": 3, "failed": 1, "killed": 1}


def test_rows_say_interval_and_tie_by_run() -> None:
    found = gathered(of(trial(1, 0.95), trial(2, 0.945), trial(3, 0.5)))
    rows = {row.run_id: row for row in found.rows}
    assert (rows["run0001"].low, rows["run0001"].high) == compute_wilson_interval(190, 200)
    assert [rows[f"run000{number}"].tied for number in (1, 2, 3)] == [True, True, False]
    assert found.tied_places == (1,)
    assert found.images == 200 and found.is_comparable


def test_what_varied_leaves_out_what_did_not_and_bookkeeping_and_the_seed() -> None:
    given: dict[str, Any] = {"model__filters": 32, "data__dir": "/a", "seed": 1, "optimizer__momentum": 0}
    other = given | {"model__filters": 64, "data__dir": "/b", "seed": 2, "optimizer__momentum": 0.0}
    (only,) = find_varied_settings([trial(1, 0.9, **given), trial(2, 0.8, **other)])
    assert (only.key, only.values) == ("model.filters", (32, 64))


def test_a_setting_that_some_trials_lack_varied() -> None:
    (only,) = find_varied_settings([trial(1, 0.9, optimizer__momentum=0.9), trial(2, 0.9)])
    assert only.values == (0.9, None) and only.numeric
    assert only.levels == [0.9, None]


def test_an_axis_is_logarithmic_where_values_span_factors() -> None:
    rates = find_varied_settings([trial(1, 0.9, rate=1e-4, units=128), trial(2, 0.9, rate=1e-2, units=64)])
    assert {setting.key: setting.log for setting in rates} == {"rate": True, "units": False}
    assert not find_varied_settings([trial(1, 0.9, rate=0.0), trial(2, 0.9, rate=1.0)])[0].log


def test_settings_that_changed_together_are_one() -> None:
    trials = [
        trial(n, 0.9, builder=b, epochs=e, x=x)
        for n, b, e, x in ((1, "cnn", 10, 1), (2, "mlp", 20, 1), (3, "mlp", 20, 2))
    ]
    first, second = select_distinct_settings(find_varied_settings(trials))
    assert (first.key, first.same_as, second.key) == ("builder", ("epochs",), "x")


def test_a_name_stands_for_the_settings_that_changed_with_it() -> None:
    settings: list[dict[str, Any]] = [
        {"optimizer.learning_rate": rate, "optimizer.name": name, "optimizer.momentum": momentum}
        for rate, name, momentum in ((0.01, "adam", None), (0.02, "sgd", 0.9))
    ]
    (only,) = select_distinct_settings(find_varied_settings([trial(n, 0.9, **each) for n, each in enumerate(settings)]))
    assert (only.key, only.same_as) == ("optimizer.name", ("optimizer.learning_rate", "optimizer.momentum"))


def test_trials_that_differ_in_their_seed_alone_are_one_configuration() -> None:
    seeds = [trial(n, a, filters=f, seed=s) for n, a, f, s in ((1, 0.9, 32, 1), (2, 0.92, 32, 2), (3, 0.8, 64, 1))]
    again = trial(4, 0.92, filters=32, seed=2)
    found = gathered(of(*seeds, again))
    (only,) = found.repeated_configurations
    assert only.repeats.n == 2, "the same seed once more is no further draw"
    assert only.repeats.mean == pytest.approx(0.91)
    assert only.repeats.sd == pytest.approx(0.0141421, abs=1e-6)
    assert [row.configuration for row in found.rows] == [0, 0, 0, 1]


def test_values_that_only_look_alike_in_a_table_are_two_configurations() -> None:
    rates = [trial(1, 0.9, rate=0.00123441, seed=1), trial(2, 0.8, rate=0.00123442, seed=2)]
    assert gathered(of(*rates)).repeated_configurations == ()


@pytest.mark.parametrize("great", [10**400, 10**39, float("nan"), float("inf")])
def test_numbers_that_no_forest_can_hold_are_shown_as_text(great: float) -> None:
    trials = [trial(n, 0.5 + n / 100, data__drawn_seed=great if n == 0 else n) for n in range(10)]
    (only,) = gathered(of(*trials)).varied_settings
    assert not only.numeric


def test_the_spread_over_seeds_is_assumed_until_it_is_measured_well() -> None:
    few = gathered(of(*(trial(n, 0.9 + 0.01 * n, seed=n) for n in range(3))))
    assert (few.seed_spread.sd, few.seed_spread.freedom) == (SEED_SD, 0)
    many = gathered(of(*(trial(n, 0.9 + 0.01 * n, seed=n) for n in range(5))))
    assert many.seed_spread.sd == pytest.approx(np.std([0, 0.01, 0.02, 0.03, 0.04], ddof=1))
    assert many.seed_spread.freedom == 4


def test_best_so_far_goes_by_when_trials_ended_and_counts_failed_ones() -> None:
    found = gathered(of(trial(3, 0.9), trial(1, 0.8), trial(2), trial(4, 0.85)))
    assert [(found.trials[end.place].trial_id, end.cpu_seconds, end.best) for end in found.cost_points] == [
        ("0001", 10.0, 0.8),
        ("0002", 20.0, 0.8),
        ("0003", 30.0, 0.9),
        ("0004", 40.0, 0.9),
    ]
    assert found.cpu_seconds == 40.0


def test_time_that_a_promoted_trial_took_over_is_counted_once() -> None:
    rung, promoted = trial(1, 0.8), trial(2, 0.9)
    promoted.tags["fmnist.continues"] = "0001"  # type: ignore[index]
    promoted.metrics["cpu_seconds"] = 25.0  # type: ignore[index]
    found = gathered(of(rung, promoted))
    assert found.cpu_seconds == 25.0
    assert [end.cpu_seconds for end in found.cost_points] == [10.0, 25.0]


def test_trials_whose_time_nobody_measured_are_said_to_be_left_out() -> None:
    failed = trial(2)
    del failed.metrics["cpu_seconds"]  # type: ignore[attr-defined]
    more = " ".join(wording.describe_search(gathered(of(trial(1, 0.9), failed)), ""))
    assert more.startswith("Training took 10 s of processor time, without the 1 trial that did not finish.")


def test_failures_are_grouped_by_cause_whatever_their_numbers() -> None:
    other = trial(9)
    other.tags["fmnist.failure"] = "OutOfMemoryError: no room for 12 GiB"  # type: ignore[index]
    found = gathered(of(trial(1), other, trial(2), trial(3)))
    assert [(cause.kind, len(cause.places)) for cause in found.failures] == [("Diverged", 3), ("OutOfMemoryError", 1)]
    assert found.failures[0].message == "loss is nan after epoch 1"


def test_the_store_is_read_seldom() -> None:
    study = simulation(120, 400, failures=5)
    found = gathered(study)
    assert len(study.read) == len(set(study.read)), "no trial's predictions are read twice"
    # Those near the best, and those that the standings ask for; not the rest of the field.
    asked = {row.run_id for row in found.rows if row.difference is not None and row.difference.only_a is not None}
    assert set(study.read) >= asked | {found.trials[0].run_id}
    assert len(study.read) < 115
    assert study.curves_read == [t.run_id for t in found.trials[:50]]


def test_beyond_a_number_trials_are_not_compared_and_it_is_not_claimed_that_they_tie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "MOST_COMPARED", 3)
    found = gathered(of(*(trial(n, 0.9 - 0.005 * n) for n in range(6))))
    assert [row.tied for row in found.rows] == [True, True, True, None, None, None]


def test_only_trials_with_the_same_validation_images_are_compared() -> None:
    study = of(trial(1, 0.9), trial(2, 0.89), trial(3, 0.85), trial(4, 0.84))
    for number in (3, 4):
        study.trials[number - 1].tags["fmnist.data"] = "fashion_mnist:other"  # type: ignore[index]
        study.predicted[f"run000{number}"] = predictions(round(170 - number), index=5)
    found = gathered(study)
    assert [row.tied for row in found.rows] == [True, True, None, None]
    assert found.incomparable_trials == 2
    assert found.rows[2].low == compute_wilson_interval(170, 200)[0], "of as many images as that data set has"
    assert study.read.count("run0004") == 0, "one look for each data set"
    assert "2 trials were judged on other validation images" in wording.describe_other_images(found)


def test_the_same_images_under_another_name_are_the_same() -> None:
    study = of(trial(1, 0.9), trial(2, 0.89))
    study.trials[1].tags["fmnist.data"] = "fashion_mnist:more_to_train_on"  # type: ignore[index]
    for each in study.trials:
        each.tags["fmnist.canonical"] = "true"  # type: ignore[index]
    found = gathered(study)
    assert found.incomparable_trials == 0 and found.rows[1].tied is True


def test_other_images_that_are_labelled_alike_are_not_the_same() -> None:
    study = of(trial(1, 0.9), trial(2, 0.89))
    study.trials[1].tags["fmnist.data"] = "fashion_mnist:inverted"  # type: ignore[index]
    found = gathered(study)
    assert found.incomparable_trials == 1 and found.rows[1].tied is None


def test_predictions_that_belong_to_another_accuracy_are_not_believed() -> None:
    study = of(trial(1, 0.9), trial(2, 0.89))
    study.predicted["run0002"] = predictions(100)
    assert gathered(study).rows[1].tied is None
    study.predicted["run0001"] = predictions(100)
    assert not gathered(study).is_comparable


def test_without_predictions_there_is_a_ranking_and_nothing_more() -> None:
    study = of(trial(1, 0.9), trial(2, 0.89))
    study.predicted.clear()
    found = gathered(study)
    assert [row.rank for row in found.rows] == [1, 2]
    assert (found.images, found.mistakes, found.optimism) == (None, None, None)
    assert "nothing can be said of which others are as good" in wording.describe_tied_trials(found)


@pytest.mark.parametrize("trials", [[], [trial(1)]], ids=["none", "failed"])
def test_nothing_finished_is_a_finding_too(trials: list[StoredTrial]) -> None:
    found = gathered(of(*trials))
    assert found.best is None
    assert wording.describe_best(found)[0].startswith("No trial finished")


def test_pictures_of_another_number_than_the_predictions_are_left_out() -> None:
    assert gathered(of(trial(1, 0.9)), images=199).pictures is None
    found = gathered(of(trial(1, 0.9)), images=200)
    assert found.pictures is not None
    assert found.mistakes is not None and found.mistakes.twins == 1
    assert found.mistakes.accuracy_without_twins is not None and found.mistakes.accuracy_without_twins.n == 199


def test_the_best_is_judged_label_by_label() -> None:
    mistakes = gathered(of(trial(1, 0.9))).mistakes
    assert mistakes is not None
    assert mistakes.accuracy.value == pytest.approx(0.9)
    assert np.asarray(mistakes.confusion).trace() == 180
    # The last 20 images, two of each label, are taken for the next label.
    assert [score.recall for score in mistakes.scores] == [0.9] * 10
    assert sum(pair.count for pair in mistakes.pairs) == 12, "six pairs of two"


def test_where_nothing_is_wrong_no_share_of_the_mistakes_is_told() -> None:
    mistakes = gathered(of(trial(1, 1.0))).mistakes
    assert mistakes is not None
    assert ("mistakes inside the upper body", "no mistakes at all") in wording.list_accuracies(mistakes)


def test_the_answer_is_told_in_words_with_every_figure() -> None:
    found = gathered(of(trial(1, 0.95, filters=32), trial(2, 0.945, filters=64), trial(3, filters=96)))
    before, name, after = wording.describe_best(found)
    low, high = compute_wilson_interval(190, 200)
    assert before + name + after == (
        "Best of 3 trials (2 finished, 1 failed): trial 1 · filters 32, validation accuracy "
        f"0.9500 [{low:.4f}, {high:.4f}] (95% Wilson interval, 200 images)."
    )
    more = " ".join(wording.describe_search(found, "Searched filters with random."))
    assert more.startswith("Searched filters with random. Training took 30 s of processor time.")
    assert found.optimism is not None and f"expect about {found.optimism.expected:.4f} on new images" in more
    assert "The other trial is not distinguishable from the best (≈)." in more


def test_a_repeated_best_is_told_as_mean_and_spread() -> None:
    found = gathered(of(trial(1, 0.95, seed=1), trial(2, 0.93, seed=2)))
    assert "Over its seeds this configuration reached 0.9400 ± 0.0141 (n=2)." in " ".join(
        wording.describe_search(found, "")
    )
