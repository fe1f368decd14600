"""Importance of settings: what mattered comes first, what did not is near 0, and silence where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest

from fmnist_sweep.analysis import importance
from fmnist_sweep.analysis.settings import VariedSetting


def study(trials: int = 60, noise: float = 0.0, seed: int = 0) -> tuple[list[VariedSetting], list[float]]:
    """Two thirds of the variance hang on the rate, one third on the optimizer, nothing on the batch size."""
    generator = np.random.default_rng(seed)
    rates = 10 ** generator.uniform(-4, -2, trials)
    optimizers = generator.choice(["adam", "rmsprop"], trials)
    batches = generator.choice([64, 128, 256], trials)
    rate = (np.log10(rates) + 3) * np.sqrt(2)  # uniform on ±1 has a variance of 1/3; this one of 2/3
    optimizer = np.where(optimizers == "adam", 1.0, -1.0) * np.sqrt(1 / 3)
    accuracies = 0.9 + 0.01 * (rate + optimizer) + noise * generator.normal(size=trials)
    settings = [
        VariedSetting("optimizer.learning_rate", tuple(rates.tolist()), log=True),
        VariedSetting("optimizer.name", tuple(optimizers.tolist()), same_as=("optimizer.momentum",)),
        VariedSetting("train.batch_size", tuple(batches.tolist())),
    ]
    return settings, accuracies.tolist()


def test_shares_of_the_variance_are_those_that_made_it() -> None:
    found = importance.measure_importance(*study(300))
    assert [item.key for item in found.settings] == ["optimizer.learning_rate", "optimizer.name", "train.batch_size"]
    assert [item.value for item in found.settings] == pytest.approx([2 / 3, 1 / 3, 0], abs=0.08)
    assert found.r_squared is not None and found.r_squared > 0.95
    assert found.trials == 300 and found.no_ranking_reason is None


def test_uncertainty_is_a_range_about_the_value_and_shrinks_with_more_trials() -> None:
    few, many = importance.measure_importance(*study(20)), importance.measure_importance(*study(300))
    for found in (few, many):
        assert all(item.low <= item.value <= item.high for item in found.settings)
    width = [next(i.high - i.low for i in f.settings if i.key == "optimizer.learning_rate") for f in (few, many)]
    assert width[1] < 0.5 * width[0]


def test_the_same_trials_have_the_same_importance_and_settings_that_changed_together_are_named() -> None:
    found = importance.measure_importance(*study())
    assert importance.measure_importance(*study()) == found
    assert {item.key: item.same_as for item in found.settings}["optimizer.name"] == ("optimizer.momentum",)


def test_with_few_configurations_no_ranking_is_claimed_however_many_seeds_they_have() -> None:
    settings, accuracies = study(7)
    assert importance.measure_importance(settings, accuracies).settings == ()
    repeated = [VariedSetting(setting.key, setting.values * 3) for setting in settings]
    found = importance.measure_importance(repeated, accuracies * 3, list(range(7)) * 3)
    assert found.settings == () and found.r_squared is None
    assert found.no_ranking_reason is not None and "Only 7" in found.no_ranking_reason


def test_pure_noise_is_given_no_ranking() -> None:
    settings, _ = study(40)
    found = importance.measure_importance(settings, np.random.default_rng(3).normal(0.9, 0.01, 40).tolist())
    assert found.settings == ()
    assert found.r_squared is not None and found.r_squared <= 0
    assert found.no_ranking_reason is not None and "no ranking is claimed" in found.no_ranking_reason


def test_seeds_of_one_configuration_do_not_pass_for_knowledge_of_it() -> None:
    # Each configuration has an accuracy of its own that no setting explains; a forest that had seen one seed of it
    # would know the others.
    generator = np.random.default_rng(0)
    own = generator.normal(0.9, 0.01, 30)
    settings = [VariedSetting("regularization.dropout", tuple(np.repeat(generator.uniform(0, 0.5, 30), 4).tolist()))]
    accuracies = np.repeat(own, 4).tolist()
    assert importance.measure_importance(settings, accuracies, np.repeat(np.arange(30), 4).tolist()).settings == ()
    assert importance.measure_importance(settings, accuracies).settings != ()


def test_a_missing_number_and_failed_trials_are_coped_with() -> None:
    settings, accuracies = study(60, noise=0.001)
    momentum = tuple(None if place % 2 else 0.9 for place in range(60))
    holes = [None if place % 10 == 0 else accuracy for place, accuracy in enumerate(accuracies)]
    found = importance.measure_importance([*settings, VariedSetting("optimizer.momentum", momentum)], holes)
    assert found.trials == 54
    assert {item.key for item in found.settings} >= {"optimizer.learning_rate", "optimizer.momentum"}


@pytest.mark.parametrize("accuracy", [None, 0.9], ids=["none finished", "all alike"])
def test_nothing_to_explain_is_said_in_words(accuracy: float | None) -> None:
    settings, accuracies = study(20)
    found = importance.measure_importance(settings, [accuracy] * len(accuracies))
    assert found.settings == () and found.no_ranking_reason


def test_a_diverged_trial_does_not_make_all_others_alike() -> None:
    accuracies = np.array([0.1, 0.9, 0.91, 0.92, 0.93, 0.94])
    raised = importance.clip_outliers(accuracies)
    assert raised[0] == pytest.approx(0.9025 - 3 * (0.9275 - 0.9025))
    assert raised[1:].tolist() == accuracies[1:].tolist()
    assert importance.clip_outliers(np.array([])).tolist() == []


def test_a_setting_of_one_option_neither_takes_from_the_choice_of_it_nor_hides_behind_it() -> None:
    generator = np.random.default_rng(3)
    names = generator.choice(["rmsprop", "adam", "adamw", "sgd"], 400)
    momenta = generator.choice([0.0, 0.5, 0.9], 400)
    is_sgd = names == "sgd"
    accuracies = 0.9 - 0.01 * is_sgd + 0.01 * np.where(is_sgd, momenta, 0.0) + 0.001 * generator.normal(size=400)

    def only(option: str, values: object) -> tuple[object, ...]:
        column = np.broadcast_to(np.array(values, dtype=object), 400)
        return tuple(value if name == option else None for name, value in zip(names, column, strict=True))

    settings = [
        VariedSetting("optimizer.name", tuple(names.tolist())),
        VariedSetting("optimizer.nesterov", only("sgd", False)),
        VariedSetting("optimizer.weight_decay", only("adamw", 0.004)),
        VariedSetting("optimizer.momentum", only("sgd", momenta.tolist())),
    ]
    found = {item.key: item for item in importance.measure_importance(settings, accuracies.tolist()).settings}
    assert set(found) == {"optimizer.name", "optimizer.momentum"}
    assert found["optimizer.name"].same_as == ("optimizer.nesterov", "optimizer.weight_decay")
    # What hangs on the optimizer, whatever the momentum would be: p (1 - p) (0.01 (1 - m))², its mean over momenta.
    effects = [3 / 16 * (0.01 * (1 - momentum)) ** 2 for momentum in (0.0, 0.5, 0.9)]
    assert found["optimizer.name"].value == pytest.approx(np.mean(effects) / np.var(accuracies), abs=0.1)
    within = np.var([0.0, 0.005, 0.009]) / 4
    assert found["optimizer.momentum"].value == pytest.approx(within / np.var(accuracies), rel=0.5)  # a quarter has it


def test_what_is_absent_for_another_reason_than_an_option_still_counts() -> None:
    generator = np.random.default_rng(4)
    layers = [None if drawn else 4 for drawn in generator.integers(0, 2, 60)]
    settings = [
        VariedSetting("regularization.batch_normalization_layers", tuple(layers)),
        VariedSetting("train.batch_size", tuple(generator.choice([64, 128], 60).tolist())),
    ]
    found = importance.measure_importance(settings, [0.9 if value is None else 0.8 for value in layers])
    assert found.settings[0].key == "regularization.batch_normalization_layers"
    assert found.settings[0].value > 0.9
