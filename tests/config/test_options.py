"""One study over the options of a group: how they are composed, named, repeated, and what is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.commands import build_trial_command
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.identity import identify_study, label_studies, make_trial_name
from fmnist_sweep.config.job import Job
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.search.parameters import list_parameters
from tests.support.in_process import run_command
from tests.support.small import resolved, search_of

OPTIMIZERS = "optimizer={tune: option, of: [rmsprop, adam, adamw, sgd]}"
MODELS = "model={tune: option, of: [cnn, simple]}"
FILTERS = "model.filters={{tune: choice, values: [8, 16], when: {}, otherwise: {}}}"


def names(*overrides: str) -> list[str]:
    return [parameter.name for parameter in list_parameters(compose_job(overrides).config.settings)]


def compose_with(*words: str) -> Job:
    (job,) = compose_jobs(words)
    return job


def test_each_option_is_composed_as_if_it_had_been_chosen() -> None:
    optimizer = compose_job([OPTIMIZERS]).config.settings["optimizer"]
    assert list(optimizer["settings"]) == optimizer["of"] == ["rmsprop", "adam", "adamw", "sgd"]
    for option, settings in optimizer["settings"].items():
        assert settings == compose_job([f"optimizer={option}"]).config.settings["optimizer"]


def test_the_defaults_list_of_an_option_is_composed_with_it() -> None:
    train = compose_job(["train={tune: option, of: [default, augmented]}"]).config.settings["train"]
    assert train["settings"]["augmented"] == compose_job(["train=augmented"]).config.settings["train"]


def test_a_tunable_of_an_option_is_named_by_the_option() -> None:
    assert names(MODELS, OPTIMIZERS) == [
        *("model", "model.cnn.filters", "model.cnn.conv_layers", "optimizer"),
        *(f"optimizer.{name}.learning_rate" for name in ("rmsprop", "adam", "adamw", "sgd")),
        *("optimizer.sgd.momentum", "regularization.dropout"),
    ]


def test_two_options_may_tune_the_same_key() -> None:
    both = ("regularization={tune: option, of: [dropout, dropout_bn, none]}", "regularization.dropout_bn.dropout=0.1")
    assert "regularization.dropout.dropout" in names(*both)
    assert "regularization.dropout_bn.dropout" not in names(*both)
    assert "regularization.dropout_bn.dropout" in names(both[0])


def test_an_override_of_one_option_pins_narrows_or_tunes_it_alone() -> None:
    assert "optimizer.sgd.momentum" not in names(OPTIMIZERS, "optimizer.sgd.momentum=0.9")
    settings = compose_job([MODELS, "model.cnn.filters.values=[4, 6]", OPTIMIZERS]).config.settings
    assert settings["model"]["settings"]["cnn"]["filters"]["values"] == [4, 6]
    tuned = "optimizer.rmsprop.momentum={tune: float, min_value: 0.1, max_value: 0.9}"
    assert [name for name in names(OPTIMIZERS, tuned) if name.endswith("momentum")] == [
        *("optimizer.rmsprop.momentum", "optimizer.sgd.momentum"),
    ]
    narrowed = compose_job([OPTIMIZERS, "optimizer.adam.learning_rate.max_value=0.1"]).config.settings["optimizer"]
    assert narrowed["settings"]["adam"]["learning_rate"]["max_value"] == 0.1
    assert narrowed["settings"]["adamw"]["learning_rate"]["max_value"] == 0.008


def test_an_override_of_the_groups_own_key_counts_for_all_options() -> None:
    optimizer = compose_job([OPTIMIZERS, "optimizer.learning_rate=0.02"]).config.settings["optimizer"]
    assert {settings["learning_rate"] for settings in optimizer["settings"].values()} == {0.02}


def test_the_last_choice_of_a_group_counts() -> None:
    assert names(OPTIMIZERS, "optimizer=adam") == names("optimizer=adam")
    assert names("optimizer=adam", OPTIMIZERS) == names(OPTIMIZERS)


def test_options_of_ones_own_folder_are_found_and_a_recipe_may_say_which(tmp_path: Path) -> None:
    for name, text in {
        "optimizer/mine.yaml": "name: adam\nlearning_rate: {tune: choice, values: [0.1, 0.2]}\n",
        "experiment/both.yaml": "# @package _global_\noptimizer: {tune: option, of: [sgd, mine]}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    folder = ("--config-dir", str(tmp_path))
    typed = compose_with(*folder, "optimizer={tune: option, of: [sgd, mine]}")
    recipe = compose_with(*folder, "experiment=both")
    assert recipe.config.settings == typed.config.settings
    assert "optimizer.mine.learning_rate" in [each.name for each in list_parameters(typed.config.settings)]
    rate = "optimizer.learning_rate=0.05"
    pinned = compose_with(*folder, "experiment=both", "optimizer=sgd", "optimizer.momentum=0.9", rate)
    assert pinned.config.settings["optimizer"] == {
        "name": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "nesterov": False,
    }
    assert list_parameters(compose_with(*folder, "experiment=both", "optimizer.sgd.momentum=0.5").config.settings)


def test_with_m_there_may_be_a_study_over_options_beside_another() -> None:
    jobs = compose_jobs(["-m", "optimizer={tune: option, of: [adam, sgd]}", "model=cnn,simple"])
    assert [set(job.config.settings["optimizer"]["settings"]) for job in jobs] == [{"adam", "sgd"}] * 2
    assert label_studies(jobs) == ["cnn", "simple"]
    assert label_studies(jobs[:1]) == ["cnn · adam, sgd"]


BAD = {
    "unknown option": ("optimizer={tune: option, of: [adam, nadam]}", "has no option nadam.*allowed: adam, adamw"),
    "misspelled option": ("optimizer={tune: option, of: [adm]}", "did you mean adam"),
    "none": ("optimizer={tune: option, of: []}", "`of` lists one or more options of optimizer"),
    "without of": ("optimizer={tune: option}", "`of` lists one or more"),
    "no list": ("optimizer={tune: option, of: adam}", "`of` lists one or more"),
    "a number": ("optimizer={tune: option, of: [adam, 3]}", "`of` lists one or more"),
    "null": ("optimizer={tune: option, of: [null]}", "`of` lists one or more"),
    "twice": ("optimizer={tune: option, of: [adam, sgd, adam]}", "lists adam twice"),
    "a path": ("optimizer={tune: option, of: [../model/cnn]}", "has no option ../model/cnn"),
    "another key": ("optimizer={tune: option, of: [adam], default: adam}", "unknown key default; allowed: tune, of"),
    "data": ("data={tune: option, of: [drawn]}", "model, optimizer, regularization, train only.*with -m"),
    "search": ("search={tune: option, of: [random, grid]}", "model, optimizer, regularization, train only"),
    "executor": ("executor={tune: option, of: [local]}", "model, optimizer, regularization, train only"),
    "a choice": ("optimizer={tune: choice, values: [adam]}", "write 'optimizer={tune: option, of: .A, B.}'"),
    "a key": ("model.filters={tune: option, of: [32, 64]}", "is for a whole group.*write tune: choice"),
    "an inner section": ("train.schedule={tune: option, of: [constant]}", "is for a whole group"),
    "another group": ("regularization={tune: option, of: [none, early_stopping]}", "early_stopping also sets train"),
    "alone": ("regularization={tune: option, of: [early_stopping]}", "early_stopping also sets train"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_choice_of_options_is_refused_by_what_was_typed(case: str, tmp_path: Path) -> None:
    override, reason = BAD[case]
    refuse([override], override, reason)


@pytest.mark.parametrize(
    ("overrides", "shown", "reason"),
    [
        (["optimizer.momentum=0.9"], "optimizer.momentum=0.9", "no such key.*composed with optimizer=adam"),
        (["optimizer.sgd.momentun=0.9"], "optimizer.sgd.momentun=0.9", "did you mean optimizer.momentum"),
        (["optimizer.sgd.momentum=-3"], "optimizer.sgd.momentum=-3", "a number from 0"),
        (["optimizer.learning_rate=-3"], "optimizer.rmsprop.learning_rate=-3 .command line", "a number above 0"),
        (["optimizer.nadam.momentum=0.9"], "optimizer.nadam.momentum=0.9", "holds no keys here"),
    ],
)
def test_an_override_that_an_option_does_not_take_is_named(overrides: list[str], shown: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^{shown}.*{reason}"):
        compose_job([OPTIMIZERS, *overrides])


def test_an_override_of_an_option_that_is_not_searched_is_refused() -> None:
    refuse(["optimizer={tune: option, of: [adam, adamw]}", "optimizer.sgd.momentum=0.9"], "", "sgd is none of the opt")


def test_an_option_that_is_itself_a_choice_or_overrides_another_group_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer/any.yaml").write_text("tune: option\nof: [adam, sgd]\n")
    (tmp_path / "train/own.yaml").write_text("defaults: [default, override /optimizer: sgd, _self_]\n")
    for word, reason in {
        "optimizer={tune: option, of: [any, rmsprop]}": "any is itself a choice of options",
        "train={tune: option, of: [default, own]}": "own also sets optimizer",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            compose_with("--config-dir", str(tmp_path), word)
    assert compose_with("--config-dir", str(tmp_path), "optimizer=any").config.settings["optimizer"]["of"] == [
        *("adam", "sgd")
    ]


def test_hydra_is_asked_for_one_option_of_a_group(tmp_path: Path) -> None:
    ended = run_command("--cfg", "job", "optimizer={tune: option, of: [adam, sgd]}", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert "write optimizer=adam here, or plan=true" in ended.stderr
    assert run_command("--help", "optimizer={tune: option, of: [adam, sgd]}", cwd=tmp_path).returncode == 0


def test_hyperband_needs_the_same_epochs_in_all_options() -> None:
    refuse(
        ["search=hyperband", "train={tune: option, of: [default, cosine]}", "train.cosine.epochs=5"],
        *("train.epochs", "have 3 and 5"),
    )


def test_options_that_watch_the_validation_images_are_refused_where_those_are_trained_on() -> None:
    refuse(["data.include_validation=true", "train={tune: option, of: [default, plateau]}"], "", "goes by validation")


def refuse(overrides: Sequence[str], shown: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        compose_job(overrides)
    assert str(refused.value).startswith(shown[:60])
    assert str(refused.value).count("\n") == 0


def condition(when: str, otherwise: str = "4") -> str:
    return FILTERS.format(when, otherwise)


BAD_CONDITIONS = {
    "no such tunable": ([condition("{model.nothing: [1]}")], "when names model.nothing, and no tunable"),
    "misspelled": ([condition("{model.conv_layer: [1]}")], "did you mean model.conv_layers"),
    "fixed": ([condition("{train.batch_size: [128]}")], "no tunable but fixed to 64"),
    "pinned beside it": ([condition("{model.conv_layers: [2]}"), "model.conv_layers=2"], "fixed to 2"),
    "never taken": ([condition("{model.conv_layers: [2, 5]}")], "model.conv_layers: 5, which it never takes"),
    "of another type": ([condition("{model.conv_layers: [two]}")], "conv_layers: two, which it never takes"),
    "true for 1": ([condition("{model.conv_layers: [true]}")], "conv_layers: true, which it never takes"),
    "between steps": ([condition("{regularization.dropout: [0.15]}")], "dropout: 0.15, which it never takes"),
    "continuous": (["regularization=l2", condition("{regularization.l2: [0.0001]}")], "none of them exactly"),
    "unknown option": ([OPTIMIZERS, condition("{optimizer: [nadam]}")], "optimizer: nadam, which it never takes"),
    "key of several options": ([OPTIMIZERS, condition("{optimizer.momentum: [0.9]}")], "did you mean optimizer.sgd"),
    "itself": ([condition("{model.filters: [8]}")], "conditions of model.filters form a circle"),
    "circle": (
        [
            condition("{model.conv_layers: [1]}"),
            "model.conv_layers={tune: int, min_value: 1, max_value: 2, when: {model.filters: [8]}, otherwise: 1}",
        ],
        "conditions of model.filters, model.conv_layers form a circle",
    ),
    "without otherwise": (
        ["model.filters={tune: choice, values: [8], when: {model.conv_layers: [2]}}"],
        "add otherwise: VALUE",
    ),
    "without when": (["model.filters={tune: choice, values: [8], otherwise: 4}"], "add when: {KEY: .VALUE.}"),
    "otherwise of another kind": (
        [condition("{model.conv_layers: [2]}", "wide")],
        "otherwise is wide; expected a whol",
    ),
    "otherwise outside": ([condition("{model.conv_layers: [2]}", "-4")], "otherwise is -4; expected a whole number"),
    "otherwise null": ([condition("{model.conv_layers: [2]}", "null")], "otherwise is None; expected a whole number"),
    "no condition": ([condition("{}")], "expected names of tunables and lists"),
    "no values": ([condition("{model.conv_layers: []}")], "expected names of tunables and lists"),
    "no list": ([condition("{model.conv_layers: 2}")], "expected names of tunables and lists"),
    "a text": ([condition("model.conv_layers")], "expected names of tunables and lists"),
}


@pytest.mark.parametrize("case", BAD_CONDITIONS)
def test_a_condition_that_cannot_be_met_is_refused_by_its_tunable(case: str) -> None:
    overrides, reason = BAD_CONDITIONS[case]
    refuse(overrides, "model.filters", reason)


def test_a_condition_in_a_file_gives_way_to_what_is_pinned_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/own.yaml").write_text(
        "builder: cnn\nkernel_size: 3\nconv_layers: {tune: int, min_value: 1, max_value: 3}\n"
        "filters: {tune: choice, values: [8, 16], when: {model.conv_layers: [2, 3]}, otherwise: 4}\n"
        "dense_units: {tune: choice, values: [8, 9], when: {model.filters: [8]}, otherwise: 7}\n"
    )
    folder = ("--config-dir", str(tmp_path), "model=own")
    assert compose_with(*folder, "model.conv_layers=2").config.settings["model"] == {
        "builder": "cnn",
        "kernel_size": 3,
        "conv_layers": 2,
        "filters": {"tune": "choice", "values": [8, 16]},
        "dense_units": {"tune": "choice", "values": [8, 9], "when": {"model.filters": [8]}, "otherwise": 7},
    }
    assert compose_with(*folder, "model.conv_layers=1").config.settings["model"] == {
        "builder": "cnn",
        "kernel_size": 3,
        "conv_layers": 1,
        "filters": 4,
        "dense_units": 7,
    }
    # Within an option, the file's own keys are those of the option.
    settings = compose_with(*folder[:2], "model={tune: option, of: [own, simple]}").config.settings
    conditions = {parameter.name: parameter.conditions for parameter in list_parameters(settings)}
    assert conditions["model.own.filters"] == (("model", ("own",)), ("model.own.conv_layers", (2, 3)))


@pytest.mark.parametrize(
    "overrides", [*([override] for override, _ in BAD.values()), *(words for words, _ in BAD_CONDITIONS.values())][::9]
)
def test_a_refusal_is_one_sentence_with_its_exit_code_and_nothing_is_created(
    overrides: list[str], tmp_path: Path
) -> None:
    ended = run_command("data=drawn", *overrides, cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert ended.stderr.startswith("fmnist_sweep: ")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


STUDIES = {
    "options": (MODELS, OPTIMIZERS, "optimizer.sgd.nesterov=true", "optimizer.adamw.weight_decay=0.01"),
    "train": ("train={tune: option, of: [default, cosine, plateau]}", "train.epochs=2", "train.cosine.batch_size=64"),
    "regularization": (
        "regularization={tune: option, of: [none, dropout_bn, l2]}",
        "regularization.dropout_bn.batch_normalization_layers=1",
    ),
    "condition": ("model.filters={tune: choice, values: [8, 16], when: {model.conv_layers: [2, 3]}, otherwise: 4}",),
    "both": (OPTIMIZERS, "model.dense_units={tune: choice, values: [8, 16], when: {optimizer: [sgd]}, otherwise: 4}"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_command_of_a_trial_composes_what_was_trained(name: str) -> None:
    job = compose_job(["data=drawn", "search=random", *STUDIES[name]])
    study, search = identify_study(job, "label", job.config.settings, ""), search_of(job)
    for _ in range(3):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        config = resolved(job, proposal.values)
        words = shlex.split(build_trial_command(study, config, None, 2, proposal.values))[3:]
        assert not any("tune" in word for word in words)
        again = compose_job(words)
        assert resolved(again, {}) == config
        assert set(proposal.values) <= set(study.tuned_keys)


def test_a_trial_is_named_by_what_was_drawn_for_it() -> None:
    values = {"model": "cnn", "model.cnn.filters": 32, "model.cnn.conv_layers": 2, "optimizer": "adam"}
    assert make_trial_name("label", values, None) == "label · cnn · adam · 2 conv · 32 filters"
    values = {"model": "simple", "optimizer": "sgd", "optimizer.sgd.momentum": 0.9}
    assert make_trial_name("label", values, 3) == "label · simple · sgd · momentum 0.9 · 3 epochs"


def test_a_study_over_options_is_named_by_all_that_its_options_are() -> None:
    def study_id(*overrides: str) -> str:
        job = compose_job(overrides)
        stored: Any = json.loads(json.dumps(job.config.settings))
        assert stored == job.config.settings
        return identify_study(job, "", job.config.settings, "").id

    ids = {
        study_id(words)
        for words in (
            "optimizer={tune: option, of: [adam, sgd]}",
            "optimizer={tune: option, of: [sgd, adam]}",  # another sequence of draws
            "optimizer={tune: option, of: [adam, sgd, adamw]}",
            "optimizer=adam",
        )
    }
    assert len(ids) == 4
    two = "optimizer={tune: option,of: [adam,sgd]}"
    assert study_id(two, "search.max_trials=7") in ids
    assert study_id(two, "optimizer.sgd.nesterov=true") not in ids
