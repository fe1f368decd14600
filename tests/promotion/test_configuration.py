"""A trial's configuration: the same but for the seed, as a job that is trained again and as what a version says."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.config.commands import build_trial_command
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.identity import Study, identify_study
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.promotion.configuration import (
    TrialConfiguration,
    list_keys,
    parse_configuration,
    parse_repeat_command,
    serialize_configuration,
)
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Search
from tests.support.small import resolved

GIVEN = [
    ["model.filters.values=[8,16]", "search=grid"],
    ["regularization=l2", "optimizer=sgd", "search.objective=val_loss"],
    ["train.early_stopping={monitor: val_loss, patience: 3, min_delta: 0.001}", "train=cosine"],
    ["experiment=model_3"],
    ["regularization=dropout_bn", "regularization.dropout=0.1"],
    ["regularization=dropout_bn", "regularization.dropout=0.1", "train.normalization=keras"],
    ["data.limit=2000", "data.split_seed=4", "tracking.experiment=other", "executor.threads=1", "fresh=true"],
]


def configuration(*overrides: str, seed: int = 1) -> tuple[TrialConfiguration, dict[str, Any]]:
    """That of a trial of this command, and the trial's config."""
    job = compose_job([*overrides, f"seed={seed}", "train.precision=float32"])
    found = identify_study(job, "", job.config.settings, "sha")
    config = resolved(job)
    flags, words = parse_repeat_command(build_trial_command(found, config, None, 2))
    settings = {key: value for key, value in config.items() if key != "seed"}
    objective = job.config.search.objective
    made = TrialConfiguration(
        "a trial", settings, job.config.data.describe_content(), "fashion_mnist:1", objective, seed, words, flags
    )
    return made, config


def trained_again(of: TrialConfiguration, seeds: int = 3) -> Study:
    job = of.make_job(compose_job(["search=grid"]).config, seeds, "/data", "fmnist-sweep promote")
    return identify_study(job, job.label or "", job.config.settings, "sha")


@pytest.mark.parametrize("overrides", GIVEN, ids=" ".join)
def test_it_is_trained_again_as_it_was_but_with_seeds_that_no_search_uses(overrides: list[str]) -> None:
    made, config = configuration(*overrides)
    again = trained_again(made)
    assert again.tuned_keys == ["seed"]
    assert again.job.config.search.objective == made.objective
    assert again.job.config.data.describe_content() == made.data
    assert (again.job.config.data.dir, again.job.config.data.fallback) == ("/data", None)
    oracle = Search("grid", {}, again.settings, made.objective)
    first, second = (oracle.ask() for _ in range(2))
    assert [each.values["seed"] for each in (first, second)] == [10001, 10002]  # type: ignore[union-attr]
    assert space.resolve_tunables(again.settings, {"seed": 10002}) == {**config, "seed": 10002}


@pytest.mark.parametrize("overrides", GIVEN, ids=" ".join)
def test_the_command_of_a_confirmation_composes_exactly_it(overrides: list[str]) -> None:
    made, config = configuration(*overrides)
    again = trained_again(made)
    words = shlex.split(build_trial_command(again, {**config, "seed": 10001}, None, 2))
    assert words[:3] == ["python", "-m", "fmnist_sweep"]
    job = compose_job(words[3:])
    assert job.config.settings == {**config, "seed": 10001}
    assert job.config.data.describe_content() == made.data
    assert job.config.search.objective == made.objective
    assert not job.config.fresh
    assert job.config.tracking.experiment == "fashion-mnist"


def test_a_version_from_before_a_default_changed_is_trained_as_it_was() -> None:
    """Its settings have no train.normalization, and its overrides compose another one now."""
    made, config = configuration("regularization=dropout_bn", "regularization.dropout=0.1", "train.normalization=keras")
    then = replace(made, overrides=tuple(word for word in made.overrides if "normalization=" not in word))
    assert compose_job(then.overrides).config.settings["train"]["normalization"] == "fused"
    again = trained_again(parse_configuration(serialize_configuration(then)))
    assert "normalization" not in again.settings["train"]
    words = shlex.split(build_trial_command(again, {**config, "seed": 10001}, None, 2))
    assert compose_job(words[3:]).config.settings == {**config, "seed": 10001}


def test_trainings_that_differ_in_their_seed_alone_are_one_configuration() -> None:
    one, other = configuration("search=grid", seed=1)[0], configuration("search=grid", seed=7)[0]
    assert one.key == other.key
    assert list_keys([one, other]) == [one.key]
    for changed in (["train.epochs=2"], ["optimizer=sgd"], ["model.dense_units=48"], ["search.objective=val_loss"]):
        assert configuration("search=grid", *changed)[0].key != one.key
    assert replace(one, data_tag="fashion_mnist:2").key != one.key
    assert one.include_validation_images(3).key != one.key


def test_a_configuration_that_was_chosen_with_one_of_the_fresh_seeds_is_not_trained_with_it_again() -> None:
    made = configuration(seed=10002)[0]
    assert made.fresh_seeds[:3] == [10001, 10003, 10004]
    assert len(made.fresh_seeds) == len(configuration()[0].fresh_seeds) == 100


def test_more_seeds_continue_the_same_study_and_it_is_no_study_of_a_sweep() -> None:
    made, config = configuration()
    assert trained_again(made, 3).id == trained_again(made, 9).id
    plain = compose_job(["search=grid", "train.precision=float32"])
    single = identify_study(plain, "", {**config, "seed": 10001}, "sha")
    assert trained_again(made).id != single.id


def test_what_a_version_says_of_it_gives_it_back() -> None:
    made = replace(configuration("data.limit=2000")[0], trial_run="abc", flags=("--config-dir", "/mine"))
    assert parse_configuration(serialize_configuration(made)) == made
    for text in ("{}", "[]", '{"name": 3}', "no json"):
        with pytest.raises(ValueError):
            parse_configuration(text)


def test_on_all_images_it_trains_as_long_as_was_best_on_the_same_schedule() -> None:
    made = configuration("train=cosine", "train.epochs=9")[0].include_validation_images(4)
    train = trained_again(made).settings["train"]
    assert (train["epochs"], train["early_stopping"], train["schedule"]["over_epochs"]) == (4, None, 9)
    assert trained_again(made).job.config.data.include_validation
    with pytest.raises(ConfigError, match=r"data\.include_validation=true .* train\.schedule"):
        trained_again(configuration("train=plateau")[0].include_validation_images(4))


def test_a_configuration_from_a_store_that_cannot_be_trained_is_refused_by_name() -> None:
    made = configuration()[0]
    for section, change in {
        "model": {"builder": "os.system"},
        "train": {"epochs": "many"},
        "optimizer": {"_target_": "builtins.print"},
    }.items():
        hostile = replace(made, settings={**made.settings, section: {**made.settings[section], **change}})
        with pytest.raises(ConfigError, match="the configuration of a trial"):
            trained_again(hostile)


def test_a_folder_of_the_users_own_configs_stays_in_the_command() -> None:
    words = [
        "python",
        "-m",
        "fmnist_sweep",
        "--config-dir",
        "/my configs",
        "model=mine",
        "executor.threads=2",
        "seed=3",
    ]
    assert parse_repeat_command(shlex.join(words)) == (("--config-dir", "/my configs"), ("model=mine",))
    assert Path(parse_repeat_command(shlex.join(words))[0][1]).name == "my configs"
