"""The schema: what is allowed, what a message says, and where a value was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fmnist_sweep.config.changed_defaults import NEUTRAL_VALUES
from fmnist_sweep.config.check import check_config
from fmnist_sweep.config.compose import compose_data, compose_job
from fmnist_sweep.config.folders import find_conf_folder, find_experiments_folder
from fmnist_sweep.config.origins import ValueOrigins
from fmnist_sweep.config.schema import Config
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.factories import ORACLES
from fmnist_sweep.search.parameters import find_tunables
from fmnist_sweep.training import models
from fmnist_sweep.training.optimization import OPTIMIZERS
from tests.support.in_process import run_command


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_job(overrides)
    return str(caught.value)


def config(*overrides: str) -> Config:
    return compose_job(overrides).config


def test_the_defaults_are_checked_and_say_where_they_go() -> None:
    made = config()
    assert set(made.settings) == {"model", "optimizer", "regularization", "train", "seed"}
    assert [name for name, _ in find_tunables(made.settings)] == [
        "model.filters",
        "model.conv_layers",
        "optimizer.learning_rate",
        "regularization.dropout",
    ]
    assert (made.search.name, made.oracle) == ("tpe", {"initial_points": 8})
    assert config("search=random").oracle == config("search.name=random").oracle == {}
    assert config("search=bayesian").oracle == {"alpha": 1e-4, "beta": 2.6, "initial_points": 4}


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.conv_layers=4"],
        ["regularization.dropout=0"],
        ["train.epochs={tune: int, min_value: 1, max_value: 3}"],
        ["train.augmentation.flip={tune: boolean}", "train.augmentation.shift={tune: choice, values: [0, 2]}"],
        ["train.early_stopping={monitor: val_accuracy, patience: {tune: choice, values: [1, 2]}, min_delta: 0}"],
        ["regularization.batch_normalization_layers={tune: choice, values: [1, 2]}"],
        ["regularization.dropout_after={tune: choice, values: [dense, every_layer]}"],
        ["optimizer=adamw", "optimizer.weight_decay={tune: float, min_value: 0.001, max_value: 0.1, sampling: log}"],
        ["train=plateau", "train.schedule.patience={tune: choice, values: [1, 2]}"],
        ["model=simple", "model.dense_widths=[]"],
        ["model=two_conv", "model.blocks=[[8],[8],[8],[8]]"],
        ["seed=0"],
        ["seed=2147483647"],
        ["search.max_trials=null", "search.max_minutes=0.5"],
        ["optimizer.learning_rate=10"],
        ["+model.filters.default=24"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_what_is_allowed_is_taken(overrides: list[str]) -> None:
    assert config(*overrides)


def test_whole_numbers_may_stand_for_numbers_and_are_the_same_setting() -> None:
    assert config("regularization.dropout=0").settings == config("regularization.dropout=0.0").settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.filters=true", "expected a whole number from 1 to 4096"),
        ("model.filters='64'", "expected a whole number from 1 to 4096"),
        ("model.filters=null", "model.filters=null"),
        ("model.filters=[64]", "takes one value, not a list; write model.filters=64"),
        ("regularization.dropout=1.0", "expected a number from 0 and below 1"),
        ("regularization.dropout=.nan", "regularization.dropout"),
        ("optimizer.learning_rate=.inf", "expected a number above 0 and up to 10"),
        ("optimizer.momentum=1.0", "expected a number from 0 and below 1"),
        ("regularization.batch_normalization=1", "expected true or false"),
        ("regularization.batch_normalization_layers=0", "expected a whole number from 1 to 1000000 or null"),
        ("train.augmentation.shift=9", "expected a whole number from 0 to 8"),
        ("train.loss={tune: choice, values: [hinge]}", "may draw hinge; expected sparse_categorical_crossentropy"),
        ("train.precision={tune: choice, values: [float32]}", "expected float32, mixed_bfloat16 or auto"),
        ("seed=2147483648", "from 0 to 2147483647"),
        ("search.max_minutes=-1", "expected a number above 0 and up to 1000000000 or null"),
        ("executor.threads=0", "expected a whole number from 1 to 1024 or null"),
        ("tracking.experiment=", "expected a text of 1 to 256 characters"),
        ("data.validation=0", "expected a number above 0 and below 1"),
        ("regularization.dropout.step=0", "step must be above 0"),
        ("regularization.dropout.min_value=0.6", "min_value 0.6 is above max_value 0.3"),
        ("+regularization.dropout.default=0.6", "default"),
        ("+regularization.dropout.sampling=log", "needs a min_value above 0"),
        ("+model.filters.default=50", "the default must be one of the values"),
        ("model.filters.values=[[1],[2]]", "model.filters.values.0=[1]"),
        ("model.filters.tune=float", "model.filters.min_value (command line): missing; expected a number"),
        ("~search.max_minutes", "null already"),
        ("+model.filters=3", "leave out the +"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_key_and_the_allowed_values(override: str, words: str) -> None:
    said = message(override)
    assert words in said
    assert override.lstrip("+~").split("=")[0].rsplit(".", 1)[0] in said
    assert "command line" in said
    assert "\n" not in said
    assert said.endswith(".")


def test_every_keyword_of_a_named_function_can_be_set_and_no_other() -> None:
    for builder in models.BUILDERS:
        assert "unknown key" in message(f"model.builder={builder}", "+model.nonsense=1") or builder != "cnn"
    for optimizer in OPTIMIZERS:
        assert "unknown key" in message(f"optimizer={optimizer}", "+optimizer.nonsense=1")
    for oracle in ORACLES:
        assert "unknown key" in message(f"search={oracle}", "+search.nonsense=1")


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["model.filters=-1"], "command line"),
        (["model.filters.values=[-1]"], "command line"),
        (["model=two_conv", "+model.nope=1"], "command line"),
    ],
)
def test_a_value_of_the_command_line_is_said_to_be_from_there(overrides: list[str], place: str) -> None:
    assert f"({place})" in message(*overrides)


def origins(*overrides: str) -> ValueOrigins:
    job = compose_job(overrides)
    return ValueOrigins(job.overrides, job.choices, [str(find_conf_folder())])


@pytest.mark.parametrize(
    ("overrides", "key", "place"),
    [
        ([], "model.filters", "conf/model/cnn.yaml"),
        ([], "train.epochs", "conf/train/one_cycle.yaml"),
        ([], "seed", "conf/config.yaml"),
        (["model=two_conv"], "model.blocks", "conf/model/two_conv.yaml"),
        (["experiment=model_1"], "train.batch_size", "experiments/model_1.yaml"),
        (["experiment=model_1"], "model.blocks", "conf/model/model_1.yaml"),
        (["experiment=model_1"], "data.fallback", "experiments/model_1.yaml"),
        (["experiment=model_1", "train.batch_size=3"], "train.batch_size", "command line"),
        (["regularization=early_stopping"], "train.early_stopping", "conf/regularization/early_stopping.yaml"),
        (["regularization=early_stopping"], "train.early_stopping.patience", "conf/regularization/early_stopping.yaml"),
        (["regularization=early_stopping"], "train.batch_size", "conf/train/one_cycle.yaml"),
        (["model.filters.values=[8]"], "model.filters", "command line"),
        (["model.filters=8"], "model.filters", "command line"),
        (["model.filters=8"], "model.dense_units", "conf/model/cnn.yaml"),
        (["optimizer=adam"], "optimizer.learning_rate", "conf/optimizer/adam.yaml"),
    ],
)
def test_the_place_of_a_value_is_the_file_or_the_command_line_it_was_written_in(
    overrides: list[str], key: str, place: str
) -> None:
    assert origins(*overrides).locate(key) == place


def test_a_config_is_data_and_names_no_code_wherever_it_stands() -> None:
    for key in ("model._target_", "train.schedule._target_", "regularization.dropout._target_"):
        assert "a config names no code" in message(f"+{key}=os.system")


def test_a_mapping_without_a_section_or_with_one_too_many_is_refused() -> None:
    def where(key: str) -> str:
        return "somewhere"

    with pytest.raises(ConfigError, match="data=null"):
        check_config({}, where)
    with pytest.raises(ConfigError, match="nonsense=1"):
        check_config({"nonsense": 1}, where)


@pytest.mark.parametrize("name", ["data", "model", "optimizer", "train", "regularization", "search"])
def test_a_default_lives_in_one_place_the_yaml(name: str) -> None:
    for path in sorted((find_conf_folder() / name).glob("*.yaml")):
        content: Any = yaml.safe_load(path.read_text())
        if name == "regularization" and "regularization" in content:
            content = content["regularization"]
        if "defaults" in content or name == "train":
            continue
        made = config(f"{name}={path.stem}")
        composed = {**made.to_mapping(), **made.settings}
        check_config(composed, lambda _: "somewhere")
        for key in content:
            if key in ("builder", "name", "source") or content[key] is None or "${" in str(content[key]):
                continue
            if f"{name}.{key}" in NEUTRAL_VALUES:  # what was stored before there was such a key lacks it
                continue
            missing = {**composed, name: {other: value for other, value in composed[name].items() if other != key}}
            with pytest.raises(ConfigError, match=rf"^{name}\.{key} \(somewhere\): missing; expected"):
                check_config(missing, lambda _: "somewhere")
    assert "model.filters (command line): missing; expected" in message("~model.filters")


def test_looking_at_data_composes_the_data_section_alone() -> None:
    assert compose_data(["data=drawn", "data.images=300"]).images == 300
    assert compose_data([]).source == "fashion_mnist"
    with pytest.raises(ConfigError, match=r"did you mean data\.images"):
        compose_data(["data.imagess=3"])
    with pytest.raises(ConfigError, match="only overrides of data"):
        compose_data(["train.epochs=3"])


def test_a_recipe_that_holds_a_mistake_is_named(tmp_path: Path) -> None:
    recipe = yaml.safe_load((find_experiments_folder() / "model_1.yaml").read_text())
    job = compose_job(["experiment=model_1"])
    settings = {**job.config.settings, "train": {**job.config.settings["train"], "batch_size": 0}}
    assert recipe["train"]["batch_size"] == 256
    raw = {**job.config.to_mapping(), **settings}
    with pytest.raises(
        ConfigError, match=r"train\.batch_size=0 \(experiments/model_1\.yaml\): expected a whole number"
    ):
        check_config(raw, ValueOrigins([], job.choices, [str(find_conf_folder())]).locate)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("model.filters", "{tune: int, min_value: 8, max_value: 64}"),
        ("model.filters", "{tune: choice, values: [2, 3]}"),
        ("model.dense_units", "{tune: choice, values: [64, 128]}"),
        ("regularization.batch_normalization_layers", "{tune: int, min_value: 1, max_value: 2}"),
    ],
)
def test_a_tunable_given_as_a_mapping_takes_the_place_of_what_was_there(key: str, given: str) -> None:
    section, name = key.split(".")
    assert config(f"{key}={given}").settings[section][name] == yaml.safe_load(given)


def test_a_tunable_given_as_a_mapping_is_taken_in_a_multirun_too(tmp_path: Path) -> None:
    from fmnist_sweep.config.overrides import replace_tunables

    given = ["-m", "optimizer=rmsprop,adam", "model.filters={tune: int, min_value: 8, max_value: 64}"]
    done = run_command(*given, "data=drawn", "data.images=200", "plan=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert compose_job(given[2:]).overrides == tuple(given[2:])
    assert len(replace_tunables(given)) == 4


UNBOUNDED = {
    "search.max_minutes": (),
    "search.trial_minutes": (),
    "search.alpha": ("search=bayesian",),
    "search.beta": ("search=bayesian",),
    "executor.gpus": ("executor=ray",),
    "checkpoint.every_seconds": (),
    "train.early_stopping.min_delta": ("train.early_stopping={monitor: val_loss, patience: 2, min_delta: 0.0}",),
    "optimizer.learning_rate": (),
    "data.validation": (),
    "train.epochs": (),
    "promote.gain": (),
}


@pytest.mark.parametrize("key", UNBOUNDED)
@pytest.mark.parametrize("number", ["1e400", "inf", "-inf", "nan", "1e308", "9" * 290])
def test_no_number_is_endless_or_beyond_all_that_can_be_counted_with(key: str, number: str) -> None:
    sentence = message(*UNBOUNDED[key], f"{key}={number}")
    assert sentence.startswith(f"{key}=")
    assert " (command line): expected a " in sentence
    assert " number" in sentence


@pytest.mark.parametrize("key", ["min_value", "max_value", "step"])
@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_no_tunable_has_an_endless_bound(key: str, number: str) -> None:
    tunable = {"tune": "float", "min_value": "0.001", "max_value": "0.1", key: number}
    text = ", ".join(f"{name}: {value}" for name, value in tunable.items())
    sentence = message(f"optimizer.learning_rate={{{text}}}")
    assert sentence.startswith(f"optimizer.learning_rate.{key}={number} (command line): expected a number")
