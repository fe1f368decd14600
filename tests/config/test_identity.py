"""Identity: what a study is named by, what it is called, and the command that repeats a trial."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from fmnist_sweep.config import identity as study
from fmnist_sweep.config.commands import build_continuing_command, build_trial_command
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import find_experiments_folder
from fmnist_sweep.config.identity import Study
from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.data import DataConfig, load_splits
from fmnist_sweep.search import space
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.sweep.live_trial import resolve_trial_config
from tests.support.small import resolved, search_of

# A repetition insists on the data that was seen; where it comes from may differ.
STRICT = {"fallback": None}


def named(*overrides: str, data: str = "0" * 64) -> Study:
    job = compose_job(overrides)
    train = {**job.config.settings["train"]}
    train["precision"] = "float32" if train["precision"] == "auto" else train["precision"]
    return study.identify_study(job, "label", {**job.config.settings, "train": train}, data)


@pytest.mark.parametrize("override", ["fresh=true", "+fresh=true", "++fresh=true"])
def test_the_command_that_continues_begins_nothing_anew_however_it_was_written(override: str) -> None:
    command = f"python -m fmnist_sweep --config-dir fresh {override} seed=3"
    assert build_continuing_command(command) == "python -m fmnist_sweep --config-dir fresh seed=3"


def test_the_same_content_has_the_same_name_however_it_was_written() -> None:
    assert named().id == named("model=cnn").id == named("train.epochs=5").id
    assert named("seed=3", "model.filters=32").id == named("model.filters=32", "seed=3").id
    assert len(named().id) == 12


@pytest.mark.parametrize(
    "overrides",
    [
        ["search.max_trials=99"],
        ["search.max_minutes=5"],
        ["search.fail_fast=true"],
        ["executor.threads=1"],
        ["tracking.experiment=other"],
        ["tracking.uri=sqlite:///elsewhere.db"],
        ["plan=true"],
        ["data.dir=/somewhere/else"],
        ["data.download=false"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_how_and_where_it_runs_is_not_in_the_name(overrides: list[str]) -> None:
    assert named(*overrides).id == named().id


ANOTHER = [
    ["model.filters=32"],
    ["model.filters.values=[32,64]"],
    ["model.dense_units=32"],
    ["model.kernel_size=5"],
    ["model=two_conv"],
    ["optimizer=adam"],
    ["optimizer.learning_rate=0.002"],
    ["optimizer.momentum=0.1"],
    ["regularization.dropout=0.1"],
    ["regularization=l2"],
    ["regularization.dropout.max_value=0.4"],
    ["regularization.l2=0.1"],
    ["regularization.batch_normalization=false"],
    ["train.epochs=4"],
    ["train.batch_size=32"],
    ["train.loss=binary_crossentropy"],
    ["train.precision=mixed_bfloat16"],
    ["train.augmentation.flip=false"],
    ["train.batch_growth={factor: 2, every: 2}"],
    ["model.head=global_average"],
    ["model.head=global_average", "train.resolution={start: 20, step: 4, every: 1}"],
    ["model.head=global_average", "train.resolution={start: 20, step: 4, every: 2}"],
    ["train=cosine"],
    ["train.early_stopping={monitor: val_loss, patience: 1, min_delta: 0.0}"],
    ["seed=2"],
    ["search.objective=val_loss"],
    ["search=grid"],
    ["search=bayesian"],
    ["search=bayesian", "search.beta=1.0"],
    ["search=hyperband", "train.epochs=4"],
    ["search=hyperband", "train.epochs=4", "search.factor=2"],
    ["search=hyperband", "train.epochs=4", "search.iterations=2"],
    ["search=hyperband", "train.epochs=4", "search.restart=false"],
    ["search=asha", "train.epochs=4"],
    ["search=asha", "train.epochs=4", "search.factor=2"],
    ["search=asha", "train.epochs=4", "search.lowest_epochs=2"],
    ["search=asha", "train.epochs=4", "search.proposer=tpe"],
    ["search=asha", "train.epochs=4", "search.proposer=tpe", "search.initial_points=3"],
    ["search=asha", "train.epochs=4", "search.restart=false"],
    ["search=asha", "train.epochs=4", "search.synchronous=true"],
    ["search=random"],
    ["search=tpe", "search.initial_points=3"],
    ["search=tpe", "search.synchronous=true"],
]


def test_whatever_decides_the_results_is_in_the_name() -> None:
    names = {" ".join(overrides): named(*overrides).id for overrides in [[], *ANOTHER]}
    names["other data"] = named(data="1" * 64).id
    assert len(set(names.values())) == len(names) == len(ANOTHER) + 2


def test_other_versions_of_the_libraries_give_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = named().id
    monkeypatch.setattr(study, "read_library_versions", lambda: {"keras": "99"})
    assert named().id != before


def test_the_version_of_optuna_is_in_the_name_of_those_studies_alone_that_it_draws_for() -> None:
    drawn_by_optuna = [[], ["search=tpe"], ["search=asha", "search.proposer=tpe"]]
    others = [
        ["search=random"],
        ["search=asha"],
        ["search=bayesian"],
        ["search=hyperband", "train.epochs=4"],
        ["search=grid"],
    ]
    for overrides in [*drawn_by_optuna, *others]:
        versions = named(*overrides).identity["versions"]
        assert ("optuna" in versions) == (overrides in drawn_by_optuna)
        assert set(versions) - {"optuna"} == set(study.read_library_versions())


def test_what_only_tpe_would_use_is_not_in_the_name_of_asha_without_it() -> None:
    assert named("search=asha", "search.initial_points=3").id == named("search=asha").id


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_rungs_that_go_on_are_named_as_before_there_was_a_choice(name: str) -> None:
    assert "restart" not in named(f"search={name}", "train.epochs=4", "search.restart=false").identity["search"]
    assert "restart" not in named(f"search={name}", "train.epochs=4", "~search.restart").identity["search"]


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert study.hash_content({"a": 1, "b": {"c": 2, "d": 3}}) == study.hash_content({"b": {"d": 3, "c": 2}, "a": 1})
    assert study.hash_content({"a": 1}) != study.hash_content({"a": 2})


@pytest.mark.parametrize(
    ("jobs", "labels"),
    [
        ([["optimizer=rmsprop"], ["optimizer=adam"]], ["rmsprop", "adam"]),
        (
            [["optimizer=rmsprop", "model.filters=32"], ["optimizer=rmsprop", "model.filters=64"]],
            ["32 filters", "64 filters"],
        ),
        ([["optimizer.learning_rate=0.1", "seed=1"], ["optimizer.learning_rate=0.2", "seed=1"]], ["lr 0.1", "lr 0.2"]),
        (
            [["optimizer=adam", "seed=1"], ["optimizer=adam", "seed=2"], ["optimizer=sgd", "seed=1"]],
            ["adam · seed 1", "adam · seed 2", "sgd · seed 1"],
        ),
        ([["experiment=model_1"], ["experiment=model_2"]], ["model_1", "model_2"]),
        ([["experiment=model_1"]], ["model_1"]),
        ([["optimizer=adam", "model=two_conv"]], ["two_conv · adam"]),
        ([[]], ["cnn · rmsprop"]),
    ],
)
def test_a_label_is_what_sets_a_study_apart_from_the_others(jobs: list[list[str]], labels: list[str]) -> None:
    assert study.label_studies([compose_job(overrides) for overrides in jobs]) == labels


def test_a_trial_is_called_by_its_study_and_its_values_network_first() -> None:
    values = {"regularization.dropout": 0.2, "model.filters": 64, "model.conv_layers": 3}
    assert study.make_trial_name("rmsprop", values, None) == "rmsprop · 3 conv · 64 filters · dropout 0.2"
    assert study.make_trial_name("rmsprop", values, 9) == "rmsprop · 3 conv · 64 filters · dropout 0.2 · 9 epochs"
    assert study.make_trial_name("rmsprop", {}, 1) == "rmsprop · 1 epoch"
    assert study.make_trial_name("model_1", {}, None) == "model_1"


def test_long_floats_are_cut_in_a_name() -> None:
    assert study.make_trial_name("adam", {"optimizer.learning_rate": 0.00123456789}, None) == "adam · lr 0.001235"


def test_flat_joins_keys_with_dots_and_keeps_lists() -> None:
    assert flatten_config({"a": {"b": [1, 2], "c": {"d": None}}, "e": 1}) == {"a.b": [1, 2], "a.c.d": None, "e": 1}


def repeated(found: Study, config: dict[str, Any], drawn_for: str | None = None) -> tuple[list[str], Any]:
    """The overrides of the printed command, read as a shell would, and the job they compose."""
    words = shlex.split(build_trial_command(found, config, drawn_for, 2))
    assert words[:3] == ["python", "-m", "fmnist_sweep"]
    return words[3:], compose_job(words[3:])


REPEATED = [
    [],
    ["model.filters.values=[8,16]", "search=grid"],
    ["~model.filters", "+model.filters={tune: int, min_value: 8, max_value: 64, step: 8}"],
    ["model.dense_units={tune: choice, values: [64, 128]}", "model.kernel_size=5"],
    ["regularization=l2", "optimizer=sgd"],
    ["regularization.batch_normalization={tune: boolean}"],
    ["train.loss={tune: choice, values: [binary_crossentropy, categorical_crossentropy]}"],
    ["train.epochs={tune: choice, values: [2, 3]}"],
    ["train.early_stopping={monitor: val_loss, patience: 3, min_delta: 0.001}", "train=cosine"],
    [
        "model.head=global_average",
        "train.resolution={start: {tune: int, min_value: 16, max_value: 24}, step: 4, every: 1}",
        "train.batch_growth={factor: {tune: choice, values: [1.5, 2.0]}, every: 2}",
    ],
    ["train=exponential", "train.schedule.factor={tune: float, min_value: 0.5, max_value: 0.9}"],
    ["model=two_conv", "model.blocks=[[8],[16,16]]", "regularization=early_stopping"],
    ["search=bayesian", "search.max_trials=3", "search.objective=val_loss", "seed=7"],
    ["optimizer.learning_rate={tune: float, min_value: 1e-5, max_value: 1e-2, sampling: log}", "plan=true"],
    ["data=drawn", "data.images=300", "data.limit=200"],
    ["data.dir=/a folder/with spaces", "data.fallback=null"],
]


@pytest.mark.parametrize("overrides", REPEATED, ids=" ".join)
def test_the_printed_command_composes_exactly_this_trial(overrides: list[str]) -> None:
    found = named(*overrides)
    proposal = search_of(found.job).ask()
    assert isinstance(proposal, Proposal)
    config = resolve_trial_config(found.settings, proposal)
    _, job = repeated(found, config)
    assert job.config.settings == config
    assert job.config.data.model_copy(update=STRICT) == found.job.config.data.model_copy(update=STRICT)
    assert job.config.search.objective == found.job.config.search.objective
    assert job.config.plan is False
    assert study.identify_study(job, "", job.config.settings, "").tuned_keys == []


def test_a_trial_of_hyperband_is_repeated_with_the_epochs_of_its_rung() -> None:
    found = named("search=hyperband", "train.epochs=9", "train=cosine")
    proposal = search_of(found.job).ask()
    assert isinstance(proposal, Proposal)
    config = space.resolve_tunables(found.settings, proposal.values)
    config["train"]["epochs"] = 1
    config["train"]["schedule"]["over_epochs"] = 9  # as the rung is trained: the first epoch of nine
    overrides, job = repeated(found, config)
    assert "train.epochs=1" in overrides
    assert job.config.settings == config


@pytest.mark.parametrize("recipe", sorted(path.stem for path in find_experiments_folder().glob("*.yaml")))
def test_an_experiment_is_repeated_by_its_name(recipe: str) -> None:
    found = named(f"experiment={recipe}")
    overrides, job = repeated(found, dict(found.settings))
    assert f"experiment={recipe}" in overrides
    assert job.config.settings == found.settings
    assert job.config.data.model_copy(update=STRICT) == found.job.config.data.model_copy(update=STRICT)


def test_a_trial_on_stand_in_images_is_repeated_on_the_same_images() -> None:
    found = named("data.images=300", "data.validation=0.2", "data.limit=250", "data.dir=/nope", "data.split_seed=4")
    _, job = repeated(found, resolved(found.job), "no internet")
    assert job.config.data.source == "drawn"
    stand_in = DataConfig(**{**found.job.config.data.model_dump(), "source": "drawn", "dir": None})
    assert load_splits(job.config.data).sha256 == load_splits(stand_in).sha256


def test_the_command_says_the_precision_that_auto_became() -> None:
    found = named("train.precision=auto")
    overrides, _ = repeated(
        found, resolved(replace(found.job, config=replace(found.job.config, settings=dict(found.settings))))
    )
    assert "train.precision=float32" in overrides
