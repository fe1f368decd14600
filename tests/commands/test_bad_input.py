"""What a user can get wrong: one sentence, a documented exit code, and nothing left behind."""

from __future__ import annotations

import csv
import gzip
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep import __version__
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.store import build_default_uri, open_store
from tests.support import ROOT
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.process import LIMIT_SECONDS
from tests.support.small import DRAWN, SPACE_OF_54

LINE = "command line"
# These run as processes of their own, as a user's shell starts them; the others in this process.
AS_PROCESSES = {"unknown key", "code", "grammar", "the second study", "IDX truncated", "gzip truncated", "CSV with NaN"}


def run(
    folder: Path, *arguments: str, module: str = "fmnist_sweep", home: Path | None = None, process: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command in a folder, without any data of this machine."""
    environment = clean_environment(KERAS_HOME=str(home or folder.parent / "no-keras"))
    if not process:
        call = run_command if module == "fmnist_sweep" else run_verb
        return call(*arguments, cwd=folder, environment=environment)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The empty folder a command is run in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def refused(ended: subprocess.CompletedProcess[str], code: ExitCode, words: Sequence[str], folder: Path) -> None:
    """One sentence on standard error that has these words, this exit code, and nothing new in the folder."""
    said = ended.stderr
    assert len(said.splitlines()) == 1, said
    sentence = said.strip()
    assert sentence.endswith(".")
    assert sentence.startswith(("fmnist_sweep: ", "fmnist-sweep: "))
    assert ended.returncode == code, said
    assert [word for word in words if word not in sentence] == [], sentence
    assert ended.stdout == ""
    assert list(folder.iterdir()) == []


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
    refused(run(empty, *overrides, process=mistake in AS_PROCESSES), ExitCode.CONFIG, words, empty)


def test_a_mistake_in_a_file_of_ones_own_is_told_with_that_file(empty: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "own.yaml").write_text("builder: mlp\ndense_widths: [0]\n")
    ended = run(empty, "--config-dir", str(folder), "model=own")
    refused(ended, ExitCode.CONFIG, ["model.dense_widths.0=0", f"{folder}/model/own.yaml", "from 1 to 4096"], empty)


@pytest.mark.parametrize(
    "words", [("report",), ("-m", "promote", "--run", "x"), ("data=drawn", "compare", "--by-config")]
)
def test_a_verb_of_the_other_command_is_told_with_the_command_to_type(words: tuple[str, ...], empty: Path) -> None:
    verb = next(word for word in words if word.isidentifier())
    typed = shlex.join(words[words.index(verb) :])
    refused(run(empty, *words), ExitCode.CONFIG, [verb, f"type 'fmnist-sweep {typed}'"], empty)


def test_the_version_is_this_programs_and_not_hydras(empty: Path) -> None:
    for module in ("fmnist_sweep", "fmnist_sweep.cli.main"):
        ended = run(empty, "--version", module=module)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.strip().endswith(f", version {__version__}")


def test_a_number_of_cores_that_is_none_is_refused(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "all")
    ended = run(empty, "data=drawn", "data.images=200", "plan=true")
    assert ended.returncode == ExitCode.CONFIG
    assert "LOKY_MAX_CPU_COUNT=all: expected a number" in ended.stderr and ended.stderr.count("\n") == 1


def test_a_grid_needs_no_budget(empty: Path) -> None:
    ended = run(empty, *SPACE_OF_54, "search=grid", "data=drawn", "data.images=200", "plan=true")
    assert (ended.returncode, ended.stderr) == (ExitCode.DONE, "")
    assert "54 trials" in ended.stdout
    assert list(empty.iterdir()) == []


# Damaged data. Each function fills a folder and gives the overrides that name it, and what the sentence says.
Damage = Callable[[Path], tuple[list[str], list[str]]]


def idx(images: int, *, cut: int = 0) -> bytes:
    header = b"".join(number.to_bytes(4, "big") for number in (2051, images, 28, 28))
    content = header + bytes(images * 28 * 28)
    return content[: len(content) - cut]


def idx_labels(images: int) -> bytes:
    return (2049).to_bytes(4, "big") + images.to_bytes(4, "big") + bytes(number % 10 for number in range(images))


def truncated_idx(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(40, cut=100))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_labels(40))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte"), "truncated", "40 images"]


def truncated_gzip(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(40))[:-20])
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_labels(40)))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte.gz")]


def swapped_idx(folder: Path) -> tuple[list[str], list[str]]:
    (folder / "train-images-idx3-ubyte").write_bytes(idx_labels(40))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(40))
    return [f"data.dir={folder}"], [str(folder / "train-images-idx3-ubyte"), "2051", "swapped"]


def written_csv(folder: Path, change: Callable[[list[str], list[list[object]]], None]) -> list[str]:
    header = ["label", *(f"pixel{number}" for number in range(1, 785))]
    generator = np.random.default_rng(0)
    rows: list[list[object]] = [[n % 10, *generator.integers(0, 256, 784).tolist()] for n in range(40)]
    change(header, rows)
    with (folder / "fashion-mnist_train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return ["data=kaggle_csv", f"data.dir={folder}"]


def missing_column(folder: Path) -> tuple[list[str], list[str]]:
    def change(header: list[str], rows: list[list[object]]) -> None:
        header.pop(7)
        for row in rows:
            row.pop(7)

    return written_csv(folder, change), ["fashion-mnist_train.csv", "no pixel7", "784"]


def changed(row: int, column: int, value: object, words: list[str]) -> Damage:
    def damage(folder: Path) -> tuple[list[str], list[str]]:
        def change(header: list[str], rows: list[list[object]]) -> None:
            rows[row][column] = value

        return written_csv(folder, change), ["fashion-mnist_train.csv", f"line {row + 2}", *words]

    return damage


def no_such_folder(folder: Path) -> tuple[list[str], list[str]]:
    return [f"data.dir={folder / 'nope'}"], [str(folder / "nope"), "data.dir"]


def nowhere_to_be_had(folder: Path) -> tuple[list[str], list[str]]:
    return ["data.fallback=null", "data.download=false"], ["no-keras", "data.dir", "data.download"]


def more_than_there_is(folder: Path) -> tuple[list[str], list[str]]:
    return ["data=drawn", "data.images=200", "data.limit=201"], ["data.limit=201", "200"]


DATA_MISTAKES: dict[str, Damage] = {
    "no such folder": no_such_folder,
    "nowhere to be had": nowhere_to_be_had,
    "a limit above what there is": more_than_there_is,
    "IDX truncated": truncated_idx,
    "gzip truncated": truncated_gzip,
    "IDX swapped": swapped_idx,
    "CSV without a column": missing_column,
    "CSV with NaN": changed(3, 5, "nan", ["pixel5", "'nan'", "0 to 255"]),
    "CSV with nothing": changed(3, 5, "", ["pixel5", "nothing", "0 to 255"]),
    "CSV with label 10": changed(6, 0, 10, ["column label", "'10'", "0 to 9"]),
    "CSV with value 256": changed(0, 784, 256, ["pixel784", "'256'", "0 to 255"]),
}


@pytest.mark.parametrize("mistake", DATA_MISTAKES)
def test_damaged_or_missing_data_is_told_in_one_sentence_and_nothing_is_created(
    mistake: str, empty: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    overrides, words = DATA_MISTAKES[mistake](folder)
    refused(run(empty, *overrides, process=mistake in AS_PROCESSES), ExitCode.DATA, words, empty)


QUICK = ("data=drawn", "data.images=200", "train.epochs=1", "search.max_trials=1")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told_by_the_store(ended: subprocess.CompletedProcess[str], words: Sequence[str]) -> None:
    assert ended.returncode == ExitCode.STORE, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr


def test_a_store_at_an_address_of_unknown_kind_is_refused(empty: Path) -> None:
    ended = run(empty, *QUICK, "tracking.uri=ftp://x")
    told_by_the_store(ended, ["tracking.uri=ftp://x", "sqlite:///FILE", "http://HOST:PORT"])
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", [("data=drawn", "plan=true", "tracking.uri={uri}"), ("compare", "--uri", "{uri}")])
def test_a_store_that_is_a_pipe_is_refused_and_stays_what_it_is(command: tuple[str, ...], empty: Path) -> None:
    pipe = empty.parent / "pipe"
    os.mkfifo(pipe)
    words = [word.format(uri=f"sqlite:///{pipe}") for word in command]
    module = "fmnist_sweep" if "plan=true" in words else "fmnist_sweep.cli.main"
    refused(run(empty, *words, module=module), ExitCode.STORE, [str(pipe), "device or a pipe", "name a file"], empty)
    assert pipe.is_fifo()


@pytest.mark.parametrize("plan", ["true", "false"])
@pytest.mark.parametrize(
    "address",
    [
        *("sqlite:x.db", "sqlite:/x.db", "sqlite://x.db", "x.db", "mlruns", "/x.db", "file:///x", "http:/h:5000"),
        *("http://", "http://:5000", "http://h:nan", "https://h:99999", "databricks", "h:5000", "http://[::1"),
    ],
)
def test_an_address_that_is_none_is_refused_whether_planned_or_run(address: str, plan: str, empty: Path) -> None:
    ended = run(empty, *QUICK, f"tracking.uri={address}", f"plan={plan}")
    told_by_the_store(ended, [f"tracking.uri={address}", "sqlite:///FILE", "http://HOST:PORT"])
    assert list(empty.iterdir()) == []


def test_a_store_that_cannot_be_written_is_refused(empty: Path) -> None:
    ended = run(empty, *QUICK, "tracking.uri=sqlite:////proc/nope/x.db")
    told_by_the_store(ended, ["/proc/nope/x.db", "cannot be written", "tracking.uri=sqlite:///FILE"])
    assert list(empty.iterdir()) == []


def test_a_store_whose_folder_is_a_file_is_refused_and_the_file_is_left_alone(empty: Path) -> None:
    (empty / "mlruns").write_text("mine")
    ended = run(empty, *QUICK)
    told_by_the_store(ended, ["mlruns/mlflow.db", "cannot be written"])
    assert [path.name for path in empty.iterdir()] == ["mlruns"]
    assert (empty / "mlruns").read_text() == "mine"


def test_a_database_of_something_else_is_refused_and_left_alone(empty: Path) -> None:
    (empty / "other.db").write_text("this is no database, and it is somebody's" * 100)
    before = (empty / "other.db").read_bytes()
    ended = run(empty, *QUICK, "tracking.uri=sqlite:///other.db")
    told_by_the_store(ended, ["other.db"])
    assert (empty / "other.db").read_bytes() == before


def test_a_tracking_server_that_is_not_there_is_told_within_seconds(empty: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    ended = run(empty, *QUICK, f"tracking.uri={address}")
    told_by_the_store(ended, [f"tracking.uri={address}", "no tracking server answers"])
    assert list(empty.iterdir()) == []


VERBS = "fmnist_sweep.cli.main"


@pytest.mark.parametrize("verb", ["ui", "promote"])
def test_a_verb_without_a_store_says_how_to_get_one(verb: str, empty: Path) -> None:
    ended = run(empty, verb, module=VERBS, process=verb == "ui")
    refused(ended, ExitCode.STORE, ["mlruns/mlflow.db does not exist", "run a sweep", "--uri"], empty)


def test_promoting_a_run_and_a_study_at_once_is_refused(empty: Path) -> None:
    ended = run(empty, "promote", "--run", "a", "--study", "b", module=VERBS)
    refused(ended, ExitCode.CONFIG, ["--run", "--study", "exclude each other"], empty)


def test_looking_at_data_takes_no_override_of_anything_else(empty: Path) -> None:
    ended = run(empty, "data", "model=cnn", module=VERBS)
    refused(ended, ExitCode.CONFIG, ["model=cnn", "only overrides of data"], empty)


def test_looking_at_data_that_is_missing_is_told_as_in_a_sweep(empty: Path, tmp_path: Path) -> None:
    ended = run(empty, "data", f"data.dir={tmp_path / 'nope'}", module=VERBS)
    refused(ended, ExitCode.DATA, [str(tmp_path / "nope")], empty)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which no trial has been logged."""
    folder = tmp_path_factory.mktemp("store")
    open_store(build_default_uri(folder), "fashion-mnist")
    return folder


def told(ended: subprocess.CompletedProcess[str], words: Sequence[str]) -> None:
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr


def test_promoting_a_run_that_is_not_there_is_refused(store: Path) -> None:
    ended = run(store, "promote", "--run", "nonsense", module=VERBS)
    assert ended.returncode == ExitCode.REFUSED, ended.stderr
    told(ended, ["nonsense", "fmnist-sweep ui"])


def test_an_experiment_that_is_not_in_the_store_is_told(store: Path) -> None:
    ended = run(store, "promote", "--experiment", "other", module=VERBS)
    assert ended.returncode == ExitCode.STORE
    told(ended, ["other", "--experiment"])


def test_a_port_that_is_taken_is_told(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(store, "ui", "--port", str(port), module=VERBS)
    assert ended.returncode == ExitCode.CONFIG
    told(ended, [f"--port={port}", "name a free one"])
