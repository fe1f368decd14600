"""A model, a metric, an oracle and a schedule of one's own through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder, open_existing_store
from tests.support.in_process import run_command
from tests.support.small import DRAWN

pytestmark = pytest.mark.usefixtures("own_code_forgotten")

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
NET_WORDS = (
    *("--config-dir", "conf", "plugins=mine.py", "model=net", *DRAWN, "train=default", "train.epochs=2"),
    *("train.precision=float32", "optimizer.learning_rate=0.01", "executor=in_process"),
)


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
