"""What a user can get wrong in a command: one sentence, a documented exit code, and nothing left behind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fmnist_sweep import __version__
from fmnist_sweep.errors import ExitCode
from tests.support.refusals import VERBS, check_refused, run_without_data
from tests.support.small import DRAWN, SPACE_OF_54

LINE = "command line"


# These run as processes of their own, as a user's shell starts them; the others in this process.
AS_PROCESSES = {"unknown key", "code", "grammar", "the second study"}


CONFIG_MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown key": (["model.filter=3"], ["model.filter=3", "did you mean model.filters?", LINE]),
    "unknown option": (["optimizer=adamm"], ["optimizer=adamm", "did you mean optimizer=adam?", "rmsprop, sgd", LINE]),
    "empty option": (["model="], ["model=", "allowed: bn_dropout, cnn", LINE]),
    "null option": (["model=null"], ["model=null", "bn_dropout, cnn", LINE]),
    "unknown group": (["optimiser=adam"], ["optimiser=adam", "did you mean optimizer?", LINE]),
    "unknown experiment": (["experiment=model_9"], ["experiment=model_9", "model_1", LINE]),
    "unknown root key": (["+epochs=3"], ["epochs=3", "allowed: data, model", LINE]),
    "a deleted group": (["~model"], ["~model", "bn_dropout, cnn", LINE]),
    "a deleted key": (["~model.filters"], ["model.filters", "missing", "from 1 to 4096", LINE]),
    "a key of another option": (["search.alpha=1"], ["search.alpha=1", "it belongs to search=bayesian", LINE]),
    "a key below null": (
        ["train.early_stopping.patience=3"],
        ["train.early_stopping.patience=3", "give it whole", LINE],
    ),
    "dropout above one": (["regularization.dropout=1.5"], ["regularization.dropout=1.5", "from 0 and below 1", LINE]),
    "dropout may become too high": (
        ["regularization.dropout.max_value=1.5"],
        ["regularization.dropout={", "may draw 1.5", "from 0 and below 1", LINE],
    ),
    "dropout of words": (["regularization.dropout=much"], ["regularization.dropout=much", "a number from 0", LINE]),
    "negative filters": (["model.filters=-3"], ["model.filters=-3", "a whole number from 1 to 4096", "tune", LINE]),
    "filters of words": (["model.filters=abc"], ["model.filters=abc", "a whole number from 1 to 4096", LINE]),
    "half a batch": (["train.batch_size=1.5"], ["train.batch_size=1.5", "a whole number from 1 to 65536", LINE]),
    "empty choice": (["model.filters.values=[]"], ["model.filters.values=[]", "one or more", LINE]),
    "a choice of mixed types": (["model.filters.values=[32,abc]"], ["[32, abc]", "one type", "int and str", LINE]),
    "a choice twice": (["model.filters.values=[32,32]"], ["[32, 32]", "each value once", LINE]),
    "a choice not allowed": (["model.filters.values=[32,0]"], ["may draw 0", "from 1 to 4096", LINE]),
    "minimum above maximum": (["model.conv_layers.min_value=5"], ["min_value 5 is above max_value 4", LINE]),
    "an unknown kind of tunable": (
        ["model.dense_units={tune: guess, values: [3]}"],
        ["model.dense_units={tune: guess, values: [3]}", "guess is unknown", "choice, int, float, boolean", LINE],
    ),
    "an unknown argument of a tunable": (
        ["model.dense_units={tune: choice, values: [8], stepp: 1}"],
        ["model.dense_units.stepp=1", "allowed: tune, values", LINE],
    ),
    "a range without an end": (
        ["model.dense_units={tune: int, min_value: 8}"],
        ["model.dense_units.max_value", "missing", "a whole number", LINE],
    ),
    "a range of fractions": (
        ["model.dense_units={tune: int, min_value: 1.5, max_value: 8}"],
        ["model.dense_units.min_value=1.5", "expected a whole number", LINE],
    ),
    "a mapping that is no tunable": (
        ["model.dense_units={tun: choice, values: [8]}"],
        ["model.dense_units={tun: choice, values: [8]}", "a mapping with the key tune", LINE],
    ),
    "pooling too deep": (["model.conv_layers=6"], ["model.conv_layers=6", "28 → 14 → 7 → 3 → 1", LINE]),
    "pooling may become too deep": (["model.conv_layers.max_value=6"], ["may draw 6", "28 → 14 → 7 → 3 → 1", LINE]),
    "too many blocks": (
        ["model=two_conv", "model.blocks=[[8],[8],[8],[8],[8]]"],
        ["model.blocks=[[8], [8], [8], [8], [8]]", "28 → 14 → 7 → 3 → 1", LINE],
    ),
    "a block that is no list": (
        ["model=two_conv", "model.blocks=3"],
        ["model.blocks=3", "a list of one or more", LINE],
    ),
    "no epochs": (["train.epochs=0"], ["train.epochs=0", "a whole number from 1 to 1000000", LINE]),
    "negative seed": (["seed=-1"], ["seed=-1", "from 0 to 2147483647", LINE]),
    "seed of words": (["seed=abc"], ["seed=abc", "from 0 to 2147483647", LINE]),
    "unknown loss": (["train.loss=hinge"], ["train.loss=hinge", "binary_crossentropy", LINE]),
    "unknown precision": (["train.precision=float16"], ["train.precision=float16", "mixed_bfloat16 or auto", LINE]),
    "unknown monitor": (
        ["train.early_stopping={monitor: val_los, patience: 1, min_delta: 0}"],
        ["train.early_stopping.monitor=val_los", "val_loss or val_accuracy", LINE],
    ),
    "unknown builder": (["model.builder=resnet"], ["model.builder=resnet", "cnn, conv_stack, mlp", LINE]),
    "a builder that is a list": (["model.builder=[cnn]"], ["model.builder=[cnn]", "cnn, conv_stack, mlp", LINE]),
    "code": (["+model._target_=os.system"], ["model._target_=os.system", "a config names no code", LINE]),
    "unknown executor": (["executor=slurm"], ["executor=slurm", "in_process", LINE]),
    "unknown fallback": (["data.fallback=mnist"], ["data.fallback=mnist", "drawn or null", LINE]),
    "flag of words": (["plan=maybe"], ["plan=maybe", "true or false", LINE]),
    "missing environment variable": (["seed=${oc.env:NOT_SET_ANYWHERE}"], ["seed=${oc.env:", "NOT_SET_ANYWHERE", LINE]),
    "unknown resolver": (["seed=${nope:1}"], ["seed=${nope:1}", "nope", LINE]),
    "grammar": (["model.filters=[1,"], ["model.filters=[1,", "cannot be read", "each of them closed", LINE]),
    "no value": (["model.filters"], ["model.filters", "expected KEY=VALUE", LINE]),
    "several mistakes": (["model.filters=-3", "model.dense_units=-1"], ["model.filters=-3", "(and 1 more)"]),
    "the second study": (["-m", "model.filters=32,-3"], ["model.filters=-3", "from 1 to 4096", LINE]),
    "several stores": (["-m", "tracking.experiment=a,b"], ["tracking", "a single value"]),
    "a log level": (["hydra.verbose=1"], ["hydra.verbose=1", "expected true, false", LINE]),
    "a fraction of a log level": (["hydra.verbose=2.5"], ["hydra.verbose=2.5", "expected true, false", LINE]),
    "a logger without a name": (["hydra.verbose=[1]"], ["hydra.verbose=[1]", "expected true, false", LINE]),
    "a mapping of loggers": (["hydra.verbose={a: 1}"], ["hydra.verbose={a: 1}", "expected true, false", LINE]),
    "a log level from elsewhere": (["hydra.verbose=${seed}"], ["hydra.verbose=1", "expected true, false", LINE]),
    "a logger from nowhere": (["hydra.verbose=[${nope}]"], ["nope"]),
    "a search without an end": (
        ["data=drawn", "data.images=200", "search.max_trials=null", "regularization=l2"],
        ["search.max_trials=null", "continuous", "search.max_minutes"],
    ),
    "hyperband in too small a space": (
        [*DRAWN, *SPACE_OF_54, "search=hyperband", "train.epochs=9", "regularization=none"],
        ["search=hyperband", "17 different trials", "only 9", "search=grid"],
    ),
    "asha with tuned epochs": (
        ["search=asha", "train.epochs={tune: choice, values: [2,3]}"],
        ["train.epochs={tune: choice, values: [2, 3]}", "asha itself", "a plain number", LINE],
    ),
    "hyperband with tuned epochs": (
        ["search=hyperband", "train.epochs={tune: choice, values: [2,3]}"],
        ["train.epochs={tune: choice, values: [2, 3]}", "a plain number", LINE],
    ),
}


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES)
def test_a_mistake_in_a_config_is_told_in_one_sentence_and_nothing_is_created(mistake: str, empty: Path) -> None:
    overrides, words = CONFIG_MISTAKES[mistake]
    check_refused(run_without_data(empty, *overrides, process=mistake in AS_PROCESSES), ExitCode.CONFIG, words, empty)


def test_a_mistake_in_a_file_of_ones_own_is_told_with_that_file(empty: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "own.yaml").write_text("builder: mlp\ndense_widths: [0]\n")
    ended = run_without_data(empty, "--config-dir", str(folder), "model=own")
    check_refused(
        ended, ExitCode.CONFIG, ["model.dense_widths.0=0", f"{folder}/model/own.yaml", "from 1 to 4096"], empty
    )


@pytest.mark.parametrize(
    "words", [("report",), ("-m", "promote", "--run", "x"), ("data=drawn", "compare", "--by-config")]
)
def test_a_verb_of_the_other_command_is_told_with_the_command_to_type(words: tuple[str, ...], empty: Path) -> None:
    verb = next(word for word in words if word.isidentifier())
    typed = shlex.join(words[words.index(verb) :])
    check_refused(run_without_data(empty, *words), ExitCode.CONFIG, [verb, f"type 'fmnist-sweep {typed}'"], empty)


def test_the_version_is_this_programs_and_not_hydras(empty: Path) -> None:
    for module in ("fmnist_sweep", "fmnist_sweep.cli.main"):
        ended = run_without_data(empty, "--version", module=module)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.strip().endswith(f", version {__version__}")


def test_a_number_of_cores_that_is_none_is_refused(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "all")
    ended = run_without_data(empty, "data=drawn", "data.images=200", "plan=true")
    assert ended.returncode == ExitCode.CONFIG
    assert "LOKY_MAX_CPU_COUNT=all: expected a number" in ended.stderr and ended.stderr.count("\n") == 1


def test_a_grid_needs_no_budget(empty: Path) -> None:
    ended = run_without_data(empty, *SPACE_OF_54, "search=grid", "data=drawn", "data.images=200", "plan=true")
    assert (ended.returncode, ended.stderr) == (ExitCode.DONE, "")
    assert "54 trials" in ended.stdout
    assert list(empty.iterdir()) == []


def test_promoting_a_run_and_a_study_at_once_is_refused(empty: Path) -> None:
    ended = run_without_data(empty, "promote", "--run", "a", "--study", "b", module=VERBS)
    check_refused(ended, ExitCode.CONFIG, ["--run", "--study", "exclude each other"], empty)
