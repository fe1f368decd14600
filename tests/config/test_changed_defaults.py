"""Changed defaults: what was named before keeps its id, and stored commands compose what they composed then."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fmnist_sweep.config import changed_defaults, identity
from fmnist_sweep.config.changed_defaults import _HISTORY, _Change, _list_precision_changes
from fmnist_sweep.config.commands import build_sweep_command, build_trial_command, pin_changed_defaults
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.earlier_jobs import list_earlier_jobs
from fmnist_sweep.config.folders import find_experiments_folder
from fmnist_sweep.config.identity import Study, identify_study
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.keys import find_value, flatten_config
from fmnist_sweep.data import load_splits
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.promotion.configuration import parse_repeat_command
from fmnist_sweep.search.ask_and_tell import Proposal
from fmnist_sweep.sweep.live_trial import list_trial_params, resolve_trial_config
from tests.support import ROOT
from tests.support.small import search_of

THEN: dict[str, Any] = json.loads((ROOT / "tests/support/stores/before-the-rooms.json").read_text())
KERAS = "train.normalization=keras"
DEFAULTS = (*_HISTORY[:2], *_HISTORY[3:])  # without what differs from processor to processor
XEON = {"vendor_id": "GenuineIntel", "flags": "fpu avx512f avx512_bf16"}
EPYC = {"vendor_id": "AuthenticAMD", "flags": "fpu avx512f avx512_bf16"}
# In float32, with the versions of `THEN`, on data whose hash is all zeros, before there was train.normalization.
DOCUMENTED = {
    "bn_dropout": "4de575031e95",
    "deep_conv": "0d03304b461b",
    "double_conv": "98676ebb7c09",
    "model_1": "e4181938eabd",
    "model_2": "0eadab79c192",
    "model_3": "a3a6a8a4844c",
    "model_4": "872e3d8703fa",
    "regularized": "dc1b5b8b3e79",
    "simple": "4bae6a8032c3",
    "two_conv": "5ca8005c4e76",
}
WIDENED = ("model_3", "model_4")
NARROW = "model.dense_widths=[128]"  # the dense layer that they had
# All that the default space changed, as it was.
PINNED = (
    *("train=default", "optimizer.learning_rate=0.001", "model.growth=1", "model.pooling=after_activation"),
    *("model.filters=4", "model.conv_layers=1", "model.dense_units=8"),
)
NORMALIZED = {
    "regularization=dropout_bn": "bdff4e4bf21f",
    "regularization=early_stopping": "206d0bd3c5e4",
    "regularization.batch_normalization={tune: boolean}": "e6a45de83330",
}


@pytest.fixture(autouse=True)
def _versions_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "read_library_versions", lambda: THEN["versions"])
    monkeypatch.setattr(changed_defaults, "_HISTORY", DEFAULTS)


def named(*overrides: str, data: str = "0" * 64) -> Study:
    return identified(compose_job(overrides), data)


def identified(job: Job, data: str = "0" * 64) -> Study:
    settings = {**job.config.settings, "train": {**job.config.settings["train"], "precision": "float32"}}
    return identify_study(job, "label", settings, data)


def normalization(settings: Mapping[str, Any]) -> object:
    return settings["train"].get("normalization")


def test_the_documented_models_keep_their_ids_but_for_what_normalises_or_was_widened() -> None:
    recipes = {path.stem for path in find_experiments_folder().glob("*.yaml")} - {"speedrun"}  # which came later
    assert recipes == DOCUMENTED.keys()
    now = {recipe: named(f"experiment={recipe}").id for recipe in recipes}
    assert {recipe for recipe in recipes if now[recipe] != DOCUMENTED[recipe]} == {"bn_dropout", *WIDENED}
    then = {recipe: [KERAS, *([NARROW] if recipe in WIDENED else [])] for recipe in recipes}
    assert {recipe: named(f"experiment={recipe}", *then[recipe]).id for recipe in recipes} == DOCUMENTED


@pytest.mark.parametrize("typed", [(), ("model.blocks=[[4],[4]]",)])
@pytest.mark.parametrize("recipe", WIDENED)
def test_a_study_of_a_recipe_that_was_widened_is_found_and_continued(recipe: str, typed: tuple[str, ...]) -> None:
    overrides = (f"experiment={recipe}", *typed)
    former_id = named(*overrides, NARROW).id
    assert typed or former_id == DOCUMENTED[recipe]
    earlier = (identified(each.job) for each in list_earlier_jobs(compose_job(overrides)))
    former = next(study for study in earlier if study.id == former_id)
    completed = shlex.split(pin_changed_defaults(build_sweep_command(overrides), former.identity))[3:]
    assert f"++{NARROW}" in completed
    assert named(*completed).id == former.id


@pytest.mark.parametrize("study_id", THEN["studies"])
def test_a_stored_study_of_each_oracle_is_what_its_command_composed_before_and_is_continued_by_the_printed_one(
    study_id: str,
) -> None:
    overrides = THEN["studies"][study_id]["overrides"]
    job = compose_job(overrides)
    data = load_splits(job.config.data).sha256
    assert named(*overrides, data=data).id != study_id
    found = {identified(earlier.job, data).id: earlier.overrides for earlier in list_earlier_jobs(job)}
    assert named(*overrides, *found[study_id], data=data).id == study_id
    # `studies` knows the settings alone.
    stored = identified(compose_job([*overrides, *found[study_id]]), data).identity
    completed = shlex.split(pin_changed_defaults(build_sweep_command(overrides), stored))[3:]
    assert named(*completed, data=data).id == study_id


# What `python -m fmnist_sweep -m optimizer=...` composed before the default space changed.
FORMER = {
    "optimizer=rmsprop": "eabc9f9f4b2f",
    "optimizer=adam": "d87d4c672a8c",
    "optimizer=adamw": "7f75f9ae499e",
    "optimizer=sgd": "9bad9ddf01ef",
}


@pytest.mark.parametrize("override", FORMER)
def test_what_the_default_command_named_before_is_found_and_composed_again(override: str) -> None:
    earlier = {identified(each.job).id: each for each in list_earlier_jobs(compose_job([override]))}[FORMER[override]]
    assert named(override).id != FORMER[override]
    assert named(override, *earlier.overrides).id == FORMER[override]


@pytest.mark.parametrize("override", FORMER)
def test_the_table_of_changes_ends_with_what_the_files_say_now(override: str) -> None:
    config = compose_job([override]).config
    settings = {**config.settings, "search": {"name": config.search.name, **config.oracle}}
    newest = {change.key: change for change in itertools.chain(*DEFAULTS) if is_concerned(change, settings)}
    assert len(newest) == 14
    assert {key: find_value(settings, key) for key in newest} == {key: newest[key].now for key in newest}
    assert all(change.was != change.now for change in itertools.chain(*DEFAULTS))


def is_concerned(change: _Change, settings: Mapping[str, Any]) -> bool:
    return change.where is None or find_value(settings, change.where[0]) == change.where[1]


def test_whoever_named_an_option_or_a_value_then_means_the_same_now() -> None:
    former = (
        *("model.filters=4", "model.conv_layers=1", "model.dense_units=8", "optimizer.learning_rate=0.001"),
        "search=random",
    )
    named_options = ("train=default", "regularization=dropout", "model.growth=1", "model.pooling=after_activation")
    assert list(list_earlier_jobs(compose_job([*former, *named_options]))) == []
    (earlier,) = list_earlier_jobs(compose_job([*former, *named_options[1:]]))
    assert {override.partition("=")[0] for override in earlier.overrides} == {
        *("++train.epochs", "++train.batch_size", "train.schedule", "++train.augmentation.flip")
    }


@pytest.mark.parametrize(
    ("typed", "then"),
    [
        (("search=asha",), ("++search.restart=false",)),
        (("search=hyperband", "train.epochs=4"), ("++search.restart=false",)),
        (("search=asha", "search.restart=true"), ()),
        ((), ("search=random",)),
        (("model.filters=24", "search.objective=val_loss"), ("search=random",)),
        (("search=tpe",), ()),
        (("search=random",), ()),
        (("search.name=grid",), ()),
        (("experiment=two_conv",), ()),
    ],
)
def test_what_a_command_named_before_the_searches_changed_is_found_and_continued(
    typed: tuple[str, ...], then: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_defaults, "_HISTORY", _HISTORY[3:])
    assert [earlier.overrides for earlier in list_earlier_jobs(compose_job(typed))] == ([then] if then else [])
    for stored in (named(*typed, *then), named(*typed)):
        completed = shlex.split(pin_changed_defaults(build_sweep_command(typed), stored.identity))[3:]
        assert named(*completed).id == stored.id


def earlier_ids(*overrides: str) -> set[str]:
    return {identified(earlier.job).id for earlier in list_earlier_jobs(compose_job(overrides))}


@pytest.mark.parametrize("override", NORMALIZED)
def test_a_study_that_may_normalise_is_another_one_by_default_and_the_former_with_keras(override: str) -> None:
    assert NORMALIZED[override] in earlier_ids(override)
    for keras in (KERAS, "~train.normalization"):
        assert earlier_ids(override, keras, "search=random") == {NORMALIZED[override]}
    assert named(override).id != named(override, KERAS).id


LATER = {  # with the value that a config which lacks the key has
    "model.growth": "1",
    "model.pooling": "after_activation",
    "model.residual": "false",
    "model.head": "flatten",
    "model.whitening": "false",
    "model.members": "1",
    "train.label_smoothing": "0.0",
    "train.averaging": "0.0",
    "train.batch_growth": "null",
    "train.resolution": "null",
    "train.replicas": "1",
}


def test_a_key_that_came_later_is_left_out_with_its_neutral_value_and_decides_with_another() -> None:
    pinned = [f"{key}={value}" for key, value in LATER.items()]
    bare = [f"~{key}" for key, value in LATER.items() if value != "null"]  # which is nothing already
    assert named(*pinned).id == named(*bare).id
    assert not set(LATER) & flatten_config(named(*pinned).settings).keys()
    others = {
        *(("model.growth=2",), ("model.pooling=before_normalization",), ("model.residual=true",)),
        *(("model.head=global_average",), ("train.label_smoothing=0.1",), ("train.averaging=0.9",)),
        *(("train.batch_growth={factor: 2, every: 1}",), ("model.whitening=true",), ("train.replicas=2",)),
        ("model.members=2",),
        ("model.head=global_average", "train.resolution={start: 20, step: 4, every: 1}"),
    }
    ids = {
        named(*[word for word in pinned if word.partition("=")[0] not in " ".join(other)], *other).id
        for other in others
    }
    assert len(ids) == len(others) and named(*pinned).id not in ids


def test_a_neutral_value_that_was_drawn_stays_among_the_parameters_of_its_trial() -> None:
    study = named("model.residual={tune: boolean}", "model.filters=4")
    assert find_value(study.settings, "model.residual") == {"tune": "boolean"}
    proposal = search_of(study.job).ask()
    assert isinstance(proposal, Proposal)
    for residual in (True, False):
        drawn = replace(proposal, values={**proposal.values, "model.residual": residual})
        config = resolve_trial_config(study.settings, drawn)
        assert find_value(config, "model.residual", False) is residual
        assert list_trial_params(drawn, config)["model.residual"] is residual


def test_a_study_that_never_normalises_is_the_same_one_with_either() -> None:
    plain = "regularization=dropout"
    assert named(plain, KERAS).id == named(plain).id == named(plain, "~train.normalization").id
    assert normalization(compose_job([plain, "train.normalization=fused"]).config.settings) is None


@pytest.mark.parametrize("value", ["Fused", "null", "true", "{tune: choice, values: [fused, keras]}"])
def test_another_normalisation_is_refused_with_the_allowed_ones(value: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.normalization.*fused.*keras"):
        compose_job([f"train.normalization={value}"])


@pytest.mark.parametrize("normalizes", [True, False])
def test_a_trial_that_happens_not_to_normalise_is_the_configuration_it_is_elsewhere(normalizes: bool) -> None:
    study = named("regularization.batch_normalization={tune: boolean}")
    proposal = search_of(study.job).ask()
    assert isinstance(proposal, Proposal)
    values = {**proposal.values, "regularization.batch_normalization": normalizes}
    config = resolve_trial_config(study.settings, replace(proposal, values=values))
    assert normalization(config) == ("fused" if normalizes else None)
    words = shlex.split(build_trial_command(study, config, "no internet", 2))
    assert ("train.normalization=fused" in words) is normalizes
    assert compose_job(words[3:]).config.settings == config


def test_a_command_from_before_is_completed_so_that_it_composes_what_it_did() -> None:
    then = named("regularization=dropout_bn", KERAS)
    command = pin_changed_defaults("python -m fmnist_sweep regularization=dropout_bn", then.identity)
    assert named(*shlex.split(command)[3:]).id == then.id
    assert pin_changed_defaults(command, then.identity) == command
    for unchanged in ("python -m fmnist_sweep regularization=none", "python -m 'fmnist_sweep"):
        assert pin_changed_defaults(unchanged, named("regularization=none").identity) == unchanged


def test_a_trial_stored_before_is_repeated_with_the_arithmetic_of_then() -> None:
    """As a promotion does: settings of a trial's config.yaml, overrides of its overrides.txt."""
    then = named("regularization=dropout_bn", "regularization.dropout=0.2", "model=two_conv", KERAS)
    _, overrides = parse_repeat_command(
        "python -m fmnist_sweep regularization=dropout_bn regularization.dropout=0.2 model=two_conv "
        "executor=in_process executor.threads=2 train.epochs=3 train.precision=float32 seed=1"
    )
    job = compose_job(overrides)
    assert normalization(job.config.settings) == "fused"  # what this command means by itself
    study = Study("id", "label", job, then.settings, {})
    words = shlex.split(build_trial_command(study, then.settings, None, 2))
    assert compose_job(words[3:]).config.settings == then.settings


def test_what_a_command_named_before_is_found_unless_it_fixes_the_value_itself() -> None:
    pinned = (*PINNED, "regularization.dropout=0.2", "search=random")
    (earlier,) = list_earlier_jobs(compose_job(["regularization=dropout_bn", *pinned]))
    assert normalization(earlier.job.config.settings) is None
    composed = compose_job(["regularization=dropout_bn", *pinned, *earlier.overrides])
    assert composed.config.settings == earlier.job.config.settings
    for fixed in (KERAS, "train.normalization=fused", "++train.normalization=fused", "regularization=none"):
        given = [fixed] if fixed.startswith("reg") else ["regularization=dropout_bn", fixed]
        assert list(list_earlier_jobs(compose_job([*given, *pinned]))) == []


@pytest.mark.parametrize(
    "cpu_info", [EPYC, XEON | {"flags": "avx2"}, XEON | {"flags": "amx_bf16 avx512_bf16"}, {}], ids=str
)
def test_auto_means_what_it_always_meant_on_other_processors(cpu_info: dict[str, str]) -> None:
    assert _list_precision_changes(cpu_info) == []


@pytest.mark.parametrize("typed", [(), ("train.precision=auto",), ("++train.precision=auto",)])
def test_what_auto_named_before_on_a_processor_that_is_slow_in_bfloat16_is_found_and_continued(
    typed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_defaults, "_HISTORY", (*DEFAULTS, tuple(_list_precision_changes(XEON))))
    words = (*typed, *PINNED, "regularization.dropout=0.2", "search=random")
    job = compose_job(words)
    latest, *_ = list_earlier_jobs(job)
    then = identify_study(latest.job, "label", latest.job.config.settings, "0" * 64)
    assert latest.overrides == ("++train.precision=mixed_bfloat16",)
    # `studies` knows what was typed, and the stored settings.
    completed = shlex.split(pin_changed_defaults(build_sweep_command(words), then.identity))[3:]
    settings = compose_job(completed).config.settings
    assert identify_study(compose_job(completed), "label", settings, "0" * 64).id == then.id
    fixed = [each.overrides for each in list_earlier_jobs(compose_job([*words, "train.precision=float32"]))]
    assert not any("precision" in override for overrides in fixed for override in overrides)
