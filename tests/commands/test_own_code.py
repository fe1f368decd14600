"""Own code through the real commands: the project that docs/own-code.md shows, and what is refused of other plugins."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist_sweep.data import load_splits, open_test
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder, open_existing_store
from fmnist_sweep.training import own_code
from tests.conftest import data_config
from tests.support import ROOT
from tests.support.in_process import run_command, run_verb

TEMPLATE = ROOT / "fmnist_sweep/assets/project"
TINY = (
    *("data=drawn", "data.images=200", "train=default", "train.epochs=2", "train.precision=float32"),
    *("optimizer.learning_rate=0.01", "model.filters=4", "model.blocks=1", "executor=in_process"),
)
OWN = ("--config-dir", "conf", "plugins=my_models.py", "model=separable", *TINY)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What `fmnist-sweep new` writes."""
    written = run_verb("new", "project", cwd=tmp_path)
    assert written.returncode == ExitCode.DONE, written.stderr
    return tmp_path / "project"


def test_new_prints_commands_that_can_be_pasted_and_writes_over_nothing(tmp_path: Path) -> None:
    written = run_verb("new", "a project", cwd=tmp_path)
    first, *sweeps = [line.strip() for line in written.stdout.splitlines() if line.startswith("  ")]
    assert first == "cd 'a project'"
    for line in sweeps:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "fmnist_sweep"]
        shown = run_command(*words[3:], "data=drawn", "data.limit=200", "plan=true", cwd=tmp_path / "a project")
        assert shown.returncode == ExitCode.DONE, shown.stderr
    written_files = {path.relative_to(TEMPLATE) for path in TEMPLATE.rglob("*") if "__pycache__" not in path.parts}
    assert written_files == {path.relative_to(tmp_path / "a project") for path in (tmp_path / "a project").rglob("*")}
    refused = run_verb("new", "a project", cwd=tmp_path)
    assert refused.returncode == ExitCode.CONFIG
    assert "there is something already; name a folder that is new or empty" in refused.stderr


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """A plugin of one test is none of the next, in whatever file that is."""
    own_code.activate_plugins([])
    yield
    own_code.activate_plugins([])


@pytest.mark.slow
def test_the_model_that_new_writes_is_trained_and_loaded_in_bfloat16_too(project: Path) -> None:
    words = [word.replace("=float32", "=mixed_bfloat16") for word in OWN]
    ended = run_command(*words, "train.epochs=1", "search.max_trials=1", cwd=project)
    assert ended.returncode == ExitCode.DONE, ended.stderr + ended.stdout


def test_a_model_of_ones_own_is_trained_and_is_another_study_once_its_code_changes(project: Path) -> None:
    first = run_command(*OWN, cwd=project)
    assert first.returncode == ExitCode.DONE, first.stderr + first.stdout
    again = run_command(*OWN, cwd=project)
    assert "nothing" in again.stdout or "done" in again.stdout
    (study,) = list_study_folders(locate_state_folder(build_default_uri(project)))
    words = shlex.split(study.read_record().about["command"])
    assert f"plugins={project.resolve()}/my_models.py" in words, words
    source = project / "my_models.py"
    source.write_text(source.read_text() + "\n# changed\n")
    changed = run_command(*OWN, "plan=true", cwd=project)
    assert changed.returncode == ExitCode.DONE, changed.stderr
    assert study.name not in changed.stdout


REFUSED = {
    "missing": (None, "plugins=mine.py: this file cannot be read (No such file or directory); name another."),
    "syntax": ("def f(:\n", "the plugin mine.py, line 1 cannot be imported (SyntaxError: "),
    "raises": ("x = 1\nraise OSError('no disk')\n", "the plugin mine.py, line 2 cannot be imported (OSError: no disk)"),
    "neighbour": ("import other\n", "a file may not import its neighbours: put both into one file, or make a package"),
    "exit": ("import sys\nsys.exit(3)\n", "the plugin mine.py, line 2 cannot be imported (SystemExit: 3)"),
    "no annotation": (
        "from fmnist_sweep.plugins import model\n@model\ndef net(*, width): ...\n",
        "mine.py: the model net: its parameter width has no annotation",
    ),
    "taken": (
        "from fmnist_sweep.plugins import optimizer\n@optimizer\ndef sgd(*, learning_rate: float): ...\n",
        "mine.py: the optimizer sgd: there already is the project's own with this name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_plugin_that_cannot_be_used_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    source, words = REFUSED[case]
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    (tmp_path / "other.py").write_text("")
    before = set(tmp_path.iterdir())
    ended = run_command("plugins=mine.py", "data=drawn", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plugins=mine.txt", "expected the name of a Python file, as in plugins=my_models.py"),
        ("+plugins=mine.py", "expected plugins=FILE.py, or plugins=[A.py,B.py]"),
        ("plugins=a.py,b.py", "expected plugins=FILE.py, or plugins=[A.py,B.py]"),
        ("plugins.first=a.py", "expected plugins=FILE.py, or plugins=[A.py,B.py]"),
    ],
)
def test_a_word_that_names_no_plugin_is_refused(override: str, words: str, tmp_path: Path) -> None:
    ended = run_command(override, "data=drawn", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert words in ended.stderr


def test_no_file_of_configs_names_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/sly.yaml").write_text("# @package _global_\nplugins: mine.py\n")
    (tmp_path / "mine.py").write_text("raise AssertionError('it was imported')\n")
    ended = run_command("--config-dir", "conf", "experiment=sly", "data=drawn", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert "a config names no code; type plugins=FILE.py on the command line" in ended.stderr


NET = """\
import keras
from typing import Annotated, Literal
from pydantic import Field
from fmnist_sweep.plugins import metric, model


@keras.saving.register_keras_serializable()
class Doubling(keras.layers.Layer):
    def __init__(self, by=2, **options):
        super().__init__(**options)
        self.by = by

    def call(self, values):
        return values * self.by

    def get_config(self):
        return {**super().get_config(), "by": self.by}


@model
def net(*, units: Annotated[int, Field(ge=1)], bad: Literal["no", "yes"] = "no") -> keras.Model:
    if bad == "yes":
        raise ArithmeticError("a bad one")
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    values = Doubling(3)(keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(pixels)))
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax", dtype="float32")(values))


@metric
def top_two(labels, probabilities):
    return (probabilities.argsort(axis=1)[:, -2:] == labels[:, None]).any(axis=1).mean()
"""
NET_WORDS = ("--config-dir", "conf", "plugins=mine.py", "model=net", *TINY[:6], "executor=in_process")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/net.yaml").write_text("builder: net\nunits: 4\n")
    return tmp_path


FAULTS = {
    "no model": ("return keras.Model(", "(", "model.builder=net: it returned a NoneType; expected a keras.Model"),
    "wrong output": ("Dense(10", "Dense(7", "model.builder=net: its model gives (None, 7); expected (None, 10)"),
    "wrong input": ("(28, 28, 1)", "(28, 28, 3)", "model.builder=net: its model takes (None, 28, 28, 3); expected"),
    "raises": ('bad == "yes"', "bad", "it cannot be built (ArithmeticError: a bad one) at mine.py, line 23"),
    "not registered": (
        "@keras.saving.register_keras_serializable()",
        "",
        "it cannot be loaded once it is saved (Type",
    ),
    "half a config": (', "by": self.by', "", "loaded, it predicts something else: get_config must return all"),
    "a metric of no number": (
        ".any(axis=1).mean()",
        "",
        "it cannot compute its metrics (ValueError: the metric top",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_rehearsal_shows_what_is_wrong_before_anything_is_created(case: str, net: Path) -> None:
    right, wrong, words = FAULTS[case]
    assert right in NET
    (net / "mine.py").write_text(NET.replace(right, wrong))
    before = set(net.iterdir())
    ended = run_command(*NET_WORDS, cwd=net)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr + ended.stdout
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert set(net.iterdir()) == before


def test_a_metric_of_ones_own_is_logged_and_searched_for_and_an_exception_is_its_trials_failure(net: Path) -> None:
    (net / "mine.py").write_text(NET)
    words = ("search=grid", "search.objective=val_top_two", '+model.bad={tune: choice, values: ["yes", "no"]}')
    (net / "mine.py").write_text(NET.replace('bad == "yes"', 'bad == "no"'))  # the rehearsal takes the later one
    ended = run_command(*NET_WORDS, *words, cwd=net)
    assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr + ended.stdout
    store = open_existing_store(build_default_uri(net), "fashion-mnist")
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    (finished,) = [run for run in runs if run.info.status == "FINISHED"]
    (failed,) = [run for run in runs if run.info.status == "FAILED"]
    history = store.client.get_metric_history(finished.info.run_id, "val_top_two")
    assert [row.step for row in history] == [1, 2]
    assert all(0 < row.value <= 1 for row in history)
    (study,) = list_study_folders(locate_state_folder(build_default_uri(net)))
    outcomes = [trial.outcome or {} for trial in study.read_record().trials.values()]
    (scored,) = [outcome for outcome in outcomes if outcome.get("score") is not None]
    assert scored["score"] == max(row.value for row in history)
    (trace,) = [outcome["traceback"] for outcome in outcomes if outcome.get("traceback")]
    assert 'raise ArithmeticError("a bad one")' in trace
    assert f"{net.resolve()}/mine.py" in trace
    assert failed.data.params["plugins.mine.py"] == finished.data.params["plugins.mine.py"]
    refused = run_command(*NET_WORDS, "search.objective=val_top_three", cwd=net)
    assert "expected val_accuracy, val_loss or val_top_two; mine.py registers nothing of this name" in refused.stderr


@pytest.mark.slow
def test_one_study_over_own_and_other_models_regularizes_those_that_take_it(net: Path) -> None:
    (net / "mine.py").write_text(NET)
    models = "model={tune: option, of: [net, simple]}"
    words = ("regularization.dropout={tune: choice, values: [0.1, 0.2]}", "model.simple.dense_widths=[4]")
    chosen = [word for word in NET_WORDS if word != "model=net"]
    ended = run_command(*chosen, models, *words, "search=grid", "train.epochs=1", cwd=net)
    assert ended.returncode == ExitCode.DONE, ended.stderr + ended.stdout
    store = open_existing_store(build_default_uri(net), "fashion-mnist")
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    params = [run.data.params for run in runs]
    assert sorted((each["model.builder"], each.get("regularization.dropout", "-")) for each in params) == [
        *[("mlp", "0.1"), ("mlp", "0.2")],
        ("net", "-"),
    ]


PETS = """\
from typing import Annotated

import numpy as np
from pydantic import Field
from fmnist_sweep.plugins import data_source


@data_source
def pets(path, part):
    assert part == "train", "the test part was read"
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 60, (60, 8, 9, 3)).astype(np.uint8)
    images[np.arange(60), labels] = 220
    return images, np.array(["cat", "dog", "emu"])[labels]


@data_source
def numbered(path, *, first: Annotated[int, Field(ge=0, le=90)] = 0):
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 9), dtype=np.uint8)
    return images[first:], (np.arange(90) % 3)[first:]
"""
PET_WORDS = (
    *("data=npz", "data.source=pets", "data.dir=pets", "plugins=mine.py", "model=simple", "model.dense_widths=[4]"),
    *("train=default", "train.epochs=1", "train.batch_size=16", "train.precision=float32", "executor=in_process"),
    *("optimizer.learning_rate=0.01", "regularization=none"),
)


def test_images_that_a_function_of_ones_own_reads_are_trained_on_and_their_test_part_stays_closed(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(PETS)
    (tmp_path / "pets").mkdir()
    ended = run_command(*PET_WORDS, cwd=tmp_path)
    assert ended.returncode == ExitCode.DONE, ended.stderr + ended.stdout
    assert "8x9 pixels" in ended.stdout
    assert "3 labels" in ended.stdout
    assert "promote the best: fmnist-sweep promote --experiment pets --plugins mine.py\n" in ended.stdout
    (study,) = list_study_folders(locate_state_folder(build_default_uri(tmp_path)))
    assert list(study.read_record().about["identity"]["plugins"]) == ["mine.py"]
    own_code.activate_typed([str(tmp_path / "mine.py")])
    values = {"name": None, "labels": None, "test": 0.2, "test_seed": 0, "dir": str(tmp_path / "pets"), "first": 30}
    data = choose_data_schema("numbered")(**{**data_config().model_dump(), "source": "numbered", **values})
    train, test = load_splits(data), open_test(data, reason="a test", ledger=tmp_path / "ledger")
    assert len(train.train.labels) + len(train.validation.labels) + len(test.labels) == 60
    assert 5 < len(test.labels) < 30
    assert data.describe_content()["first"] == 30
    shown = run_verb("data", *PET_WORDS[:1], "data.source=pets", "data.dir=pets", "--plugins", "mine.py", cwd=tmp_path)
    assert "the test part was read" in shown.stderr  # which the verb counts


def test_a_data_source_has_settings_like_other_own_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PETS)
    (tmp_path / "pets").mkdir()
    (tmp_path / "conf/data").mkdir(parents=True)
    keys = (ROOT / "conf/data/npz.yaml").read_text().replace("source: npz", "source: numbered")
    (tmp_path / "conf/data/numbered.yaml").write_text(f"{keys}first: 30\n")
    words = ("--config-dir", "conf", "data=numbered", *PET_WORDS[2:], "plan=true")
    ended = run_command(*words, cwd=tmp_path)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    for typed, said in {
        "data.first=91": "data.first=91 (command line): expected a whole number from 0 to 90",
        "data.frist=1": "data.frist",
    }.items():
        ended = run_command(*words, typed, cwd=tmp_path)
        assert ended.returncode == ExitCode.CONFIG
        assert said in ended.stderr


UNKNOWN = {
    "model.builder=separable": "; code of your own is named with plugins=FILE.py.",
    "optimizer.name=lion": "; code of your own is named with plugins=FILE.py.",
    "train.schedule.name=warm": "; code of your own is named with plugins=FILE.py.",
    "train.augmentation={name: cut}": "; code of your own is named with plugins=FILE.py.",
    "search.name=climb": "; code of your own is named with plugins=FILE.py.",
    "search.objective=val_top_two": "; code of your own is named with plugins=FILE.py.",
    "data.source=pets": "; code of your own is named with plugins=FILE.py.",
    "model=separable": "; an option of your own is found with --config-dir FOLDER, in FOLDER/model/.",
    "model={tune: option, of: [cnn, separable]}": "--config-dir FOLDER, in FOLDER/model/.",
}


@pytest.mark.parametrize("typed", UNKNOWN)
def test_a_name_that_is_registered_nowhere_is_refused_with_a_hint_at_own_code(typed: str, tmp_path: Path) -> None:
    ended = run_command(typed, cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert ended.stderr.endswith(f"{UNKNOWN[typed]}\n")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


WRONG_PETS = {
    "no pair": (
        "return images[first:], (np.arange(90) % 3)[first:]",
        "return images",
        "it returned a ndarray; expected a pair",
    ),
    "wrong type": ("dtype=np.uint8", "dtype=np.int64", "images of the shape (90, 8, 9) and the type int64; expected"),
    "too few labels": (
        "np.arange(90) % 3",
        "np.arange(80) % 3",
        "labels of the shape (80,) and the type int64; exp",
    ),
    "raises": ("images = np.random", "raise OSError('gone')\n    images = np.random", "raised an error with"),
    "a taken name": ("def numbered", "def npz", "the data source npz: there already is the project's own"),
}


@pytest.mark.parametrize("case", WRONG_PETS)
def test_a_function_that_reads_no_labelled_images_is_one_sentence(case: str, tmp_path: Path) -> None:
    right, wrong, words = WRONG_PETS[case]
    head, numbered = PETS.split("\n\n\n@data_source\ndef numbered", 1)
    (tmp_path / "mine.py").write_text(head + ("\n\n\n@data_source\ndef numbered" + numbered).replace(right, wrong))
    (tmp_path / "pets").mkdir()
    before = set(tmp_path.iterdir())
    ended = run_command(*PET_WORDS, "data.source=numbered", cwd=tmp_path)
    assert ended.returncode in (ExitCode.DATA, ExitCode.CONFIG)
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


CLIMB = """\
from fmnist_sweep.plugins import oracle, batch_schedule


@oracle
def climb(space, trials, *, seed: int, step: int):
    tried = [trial["values"]["model.units"] for trial in trials]
    return None if len(tried) == 3 else {"model.units": 4 + step * len(tried)}


@batch_schedule
def fall(base, finished_epochs, epochs, history, *, to: float):
    return base * (1 - (1 - to) * finished_epochs / epochs)
"""
CLIMB_WORDS = (
    *(*NET_WORDS, "plugins=climb.py", "search.name=climb", "+search.step=2", "search.max_trials=null"),
    *("model.units={tune: int, min_value: 4, max_value: 9}", "train.schedule={name: fall, to: 0.5}"),
)


@pytest.mark.slow
def test_two_files_give_one_study_its_model_its_oracle_and_its_schedule(net: Path) -> None:
    (net / "mine.py").write_text(NET)
    (net / "climb.py").write_text(CLIMB)
    for words, trials in ((("search.max_trials=2",), 2), ((), 3)):  # the second continues the first
        ended = run_command(*CLIMB_WORDS, *words, cwd=net)
        assert ended.returncode == ExitCode.DONE, ended.stderr + ended.stdout
        (study,) = list_study_folders(locate_state_folder(build_default_uri(net)))
        drawn = [trial.proposal.values["model.units"] for trial in study.read_record().trials.values()]
        assert drawn == [4, 6, 8][:trials]
    store = open_existing_store(build_default_uri(net), "fashion-mnist")
    run = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")[0]
    rates = [row.value for row in store.client.get_metric_history(run.info.run_id, "learning_rate")]
    assert rates == pytest.approx([0.009375, 0.006875])  # the means of two batches, at 0 and 0.5, at 1 and 1.5
    (net / "climb.py").write_text(CLIMB.replace("len(tried) == 3", "1 / 0"))
    before = {path: path.stat().st_mtime_ns for path in net.rglob("*") if "mlruns" in path.parts}
    refused = run_command(*CLIMB_WORDS, cwd=net)
    assert refused.returncode == ExitCode.CONFIG
    assert "search.name=climb: the oracle raised an error (ZeroDivisionError: division by zero)" in refused.stderr
    assert before.keys() == {path for path in net.rglob("*") if "mlruns" in path.parts}
