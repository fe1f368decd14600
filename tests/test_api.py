"""Sweeps from Python: the same studies as the command's, the same sentences, and a process that is left as it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fmnist_sweep as fs
from fmnist_sweep.data import LABELS, load_splits
from fmnist_sweep.report.notebook import NotebookBars
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.prediction_files import read_predictions
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store
from fmnist_sweep.training import own_code
from tests.conftest import Command, data_config, needs_fashion_mnist
from tests.support import ROOT
from tests.support.in_process import run_command, run_verb
from tests.support.process import LIMIT_SECONDS, start
from tests.support.promotions import SMALL
from tests.support.small import SMALLEST

STUDIES = (
    *(*SMALLEST, "regularization=none", "optimizer=rmsprop,adam", "search=grid", "model.filters.values=[2,4]"),
    *("train.epochs=1", "executor=in_process"),
)
LIBRARIES = ("numpy", "pandas", "tensorflow", "keras", "mlflow", "hydra", "matplotlib", "rich", "click")


def in_python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter's answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=LIMIT_SECONDS
    )


def test_the_import_alone_loads_no_library_and_offers_every_name() -> None:
    code = f"import fmnist_sweep, sys; print(*[name for name in {LIBRARIES} if name in sys.modules])"
    assert in_python(code).stdout == "\n"
    assert {"run", "load", "predict", "trials", "Sweep", "ConfigError"} <= set(dir(fs))
    for name in fs.__all__:
        assert getattr(fs, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'sweeps'"):  # `sweep` is a room
        _ = fs.sweeps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def swept(folder: Path) -> Any:
    """Two studies of two trials on drawn images, run from Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return fs.run(*STUDIES, quiet=True)


def test_a_sweep_gives_its_trials_its_best_its_report_and_a_model_that_predicts_what_was_scored(
    folder: Path, swept: fs.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    table = swept.trials()
    assert (len(table), set(table["state"]), set(table["sweep_id"])) == (4, {"finished"}, {swept.id})
    best = swept.best
    assert best is not None
    assert best["best_val_accuracy"] == table["best_val_accuracy"].max()
    assert swept.report() == folder / "mlruns" / "reports" / f"sweep-{swept.id}.html"
    assert swept.report().is_file()
    stored = read_predictions(open_existing_store(swept.uri, "fashion-mnist"), best["run_id"])
    assert stored is not None
    images = load_splits(data_config(source="drawn", validation=0.1)).validation.images
    np.testing.assert_allclose(swept.model("best").predict(images, verbose=0), stored.probabilities, atol=1e-5)
    last = table.iloc[-1]
    assert swept.model(last["run_id"]).count_params() == last["parameters"]
    with pytest.raises(fs.ConfigError, match="names no trial of sweep"):
        swept.model("worst")
    assert swept.id in repr(swept)
    assert len(fs.trials()) == 4


def test_the_command_continues_what_python_began(folder: Path, swept: fs.Sweep) -> None:
    done = run_command("-m", *STUDIES, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already done, 2 trials") == 2
    assert "epoch" not in done.stdout.split("best epoch")[0]
    assert len(list_study_folders(folder / "mlruns")) == 2


@pytest.mark.slow
def test_python_continues_what_the_command_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (*SMALLEST, "search=random", "model.filters={tune: int, min_value: 2, max_value: 9}", "train.epochs=1")
    done = run_command(*overrides, "search.max_trials=1", "executor=in_process", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    sweep = fs.run(*overrides, "search.max_trials=2", "executor=in_process", quiet=True)
    assert len(sweep.trials()) == 2
    assert len(list_study_folders(tmp_path / "mlruns")) == 1


def test_a_mistake_is_an_exception_with_the_commands_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for overrides in (("model.filters=-3",), ("optimiser=adam",), ("search.max_trials",)):
        refused = run_command(*overrides, cwd=tmp_path)
        with pytest.raises(fs.ConfigError) as error:
            fs.run(*overrides)
        assert refused.stderr == f"fmnist_sweep: {error.value}\n"
    calls: dict[Callable[[], Any], str] = {
        lambda: fs.run(("optimizer=adam",)): "each a text such as",  # type: ignore[arg-type]
        lambda: fs.run("--help"): "--help: fs.run takes overrides and -m, --multirun, --config-dir",
        lambda: fs.predict("bag.png"): "takes a list of at least one",
        lambda: fs.predict([]): "takes a list of at least one",
    }
    for call, sentence in calls.items():
        with pytest.raises(fs.ConfigError, match=sentence):
            call()
    with pytest.raises(fs.StoreError, match="does not exist: run a sweep here first"):
        fs.load("champion")
    with pytest.raises(fs.StoreError, match="does not exist: run a sweep here first"):
        fs.predict(["bag.png"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_own_code_is_named_as_on_the_command_line_and_its_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = run_verb("new", "project", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    monkeypatch.chdir(tmp_path / "project")
    words = ("data=drawn", "data.images=200", "train=default", "train.epochs=1", "train.precision=float32")
    try:
        sweep = fs.run(
            *(
                "--config-dir",
                "conf",
                "plugins=my_models.py",
                "model=separable",
                *words,
                "optimizer.learning_rate=0.01",
            ),
            *("model.filters=4", "model.blocks=1", "search.max_trials=1", "executor=in_process"),
            quiet=True,
        )
        own_code.activate_plugins([])  # as another run without it does
        assert len(sweep.trials()) == 1
        assert sweep.model("best").input_shape == (None, 28, 28, 1)
    finally:
        own_code.activate_plugins([])


def test_drawn_images_are_never_promoted(folder: Path, swept: fs.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(fs.PromotionRefused, match="is never promoted"):
        swept.promote(seeds=2, quiet=True)
    with pytest.raises(fs.ConfigError, match="finalists are trained exactly as their trials were"):
        swept.promote("model.filters=4", quiet=True)
    with pytest.raises(fs.StoreError, match="nothing is registered yet"):
        fs.load(uri=build_default_uri(folder))


def test_a_users_process_is_left_as_it_was(folder: Path, swept: fs.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "svg")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 7.0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    sweep = fs.run(*STUDIES, "search.max_trials=3", quiet=True)
    sweep.trials()
    assert os.environ["MPLBACKEND"] == "svg"
    assert matplotlib.rcParams["lines.linewidth"] == 7.0
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert root.level == logging.INFO


@pytest.mark.slow
def test_an_interrupted_cell_keeps_its_epoch_and_the_same_call_continues(tmp_path: Path) -> None:
    overrides = (*SMALLEST, "train.epochs=2000", "search=grid", "model.filters=2", "executor=in_process")
    code = f"import fmnist_sweep as fs; fs.run(*{overrides!r})"
    with start("-c", code, cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)}) as process:
        process.wait_for("epoch 2/2000")
        process.send_signal(signal.SIGINT)
        ended = process.end()
    assert "KeyboardInterrupt: interrupted: what is finished is kept, and the same call continues" in ended.stderr
    (study,) = list_study_folders(tmp_path / "mlruns")
    # It needs no `if __name__ == "__main__"`: multiprocessing, which would run the script again, starts no worker.
    in_workers = code.replace("'executor=in_process'", "'executor=local', 'executor.workers=1'")
    (tmp_path / "script.py").write_text(f"{in_workers}\n")
    with start("script.py", cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)}) as process:
        process.wait_for("on from epoch")
        process.send_signal(signal.SIGINT)
        ended = process.end()
    assert "epoch 1/2000" not in ended.stdout
    assert "KeyboardInterrupt: interrupted: what is finished is kept" in ended.stderr
    assert [folder.name for folder in list_study_folders(tmp_path / "mlruns")] == [study.name]


def test_bars_that_were_never_shown_leave_nothing_in_a_notebook() -> None:
    bars = NotebookBars()
    bars.close()
    assert bars._handle is None


def test_a_notebooks_bars_show_each_trial_and_their_text_is_no_markup() -> None:
    bars = NotebookBars()
    bars._handle = _Shown()
    sweep = bars.add_task("sweep", total=None)
    trial = bars.add_task("8 <filters>", total=4, completed=1, note="waits")
    bars.update(sweep, completed=3, note="best 0.9000")
    bars.update(trial, completed=2, note="accuracy 0.8")
    assert bars.format_text().splitlines() == [
        f"sweep [{'.' * 24}] 3/? epochs  best 0.9000",
        f"8 <filters> [{'#' * 12}{'.' * 12}] 2/4 epochs  accuracy 0.8",
    ]
    assert '8 &lt;filters&gt; <progress value="2" max="4"></progress> 2/4 epochs  accuracy 0.8' in bars.format_html()
    bars.remove_task(trial)
    bars.close()
    assert (bars.format_text(), bars._handle.drawn) == ("", 6)


class _Shown:
    """In place of what a notebook shows."""

    drawn = 0

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw and set(content) == {"text/plain", "text/html"}
        self.drawn += 1


@pytest.mark.slow
@needs_fashion_mnist
def test_the_best_is_promoted_loaded_and_labels_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_verb: Command
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    sweep = fs.run("data.limit=2000", "model.filters=8", "train.epochs=2", *SMALL, quiet=True)
    promoted = sweep.promote("executor=in_process", seeds=2, quiet=True)
    assert (promoted.exit_code, promoted.version, promoted.is_champion) == (0, "1", True)
    again = sweep.promote("executor=in_process", seeds=2, quiet=True)
    assert (again.version, "is still version 1" in again.lines[0]) == ("1", True)
    images = load_splits(data_config(dir=os.environ["FMNIST_DATA_DIR"], limit=2000, validation=0.1)).train.images[:2]
    Image.fromarray(images[0, :, :, 0]).save("garment.png")
    table = fs.predict(["garment.png"])
    expected = fs.load("champion").predict(images[:1], verbose=0)[0]
    np.testing.assert_allclose(table.loc[0, list(LABELS)].to_numpy(dtype=float), expected, atol=1e-5)
    assert table.loc[0, "label"] == LABELS[int(expected.argmax())]
    card = warm_verb("card", cwd=tmp_path)
    assert card.stdout.startswith("# cnn")


def test_importing_the_package_imports_none_of_its_libraries() -> None:
    code = (
        "import sys, fmnist_sweep\nassert callable(fmnist_sweep.trials)\n"
        "print(sorted({'numpy', 'pandas', 'mlflow', 'click', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
