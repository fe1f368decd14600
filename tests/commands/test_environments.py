"""The real command in environments that a notebook, a terminal or another project leaves behind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fmnist_sweep.study.folder import list_study_folders
from tests.support.environments import ODD
from tests.support.process import LIMIT_SECONDS, SWEEP, VERB, Done, build_environment, run, start
from tests.support.small import SMALLEST

STUDY = (*SMALLEST, "model.filters={tune: int, min_value: 2, max_value: 4}", "train.epochs=1", "search.max_trials=1")


def check_answer(ended: Done, code: int = 0) -> None:
    """Plain text, the one sentence of what is not followed, and nothing of libraries."""
    assert ended.returncode == code, ended
    assert ended.output.isascii()
    (said,) = ended.stderr.splitlines()
    assert said.startswith("fmnist_sweep: not followed: MLFLOW_TRACKING_URI=http://127.0.0.1:1, ")
    assert "tracking.experiment=theirs" in said


def check_results(folder: Path, trials: int = 1) -> None:
    (study,) = list_study_folders(folder / "mlruns")
    histories = study.read_record().trials.values()
    assert len(histories) == trials and {history.state for history in histories} == {"finished"}
    reports = list((folder / "mlruns" / "reports").glob("*.html"))
    assert reports and all(report.read_text(encoding="utf-8").count("·") for report in reports)
    assert len(list((folder / "mlruns" / "artifacts").glob("*/artifacts/confusion_matrix.png"))) == trials
    assert {path.name for path in folder.iterdir()} == {"mlruns"}


@pytest.mark.slow
def test_a_sweep_and_a_verb_follow_nothing_of_an_odd_environment_and_say_so(tmp_path: Path) -> None:
    ended = run(*SWEEP, *STUDY, "search.max_trials=2", "executor=in_process", cwd=tmp_path, environment=ODD)
    check_answer(ended)
    assert "+ DRAWN - cnn - rmsprop" in ended.stdout
    check_results(tmp_path, trials=2)
    listed = run(*VERB, "compare", cwd=tmp_path, environment={**ODD, "COLUMNS": "160"})
    check_answer(listed)
    assert "2 of 2 trials." in listed.stdout


@pytest.mark.slow
@pytest.mark.parametrize("executor", [("executor=local", "executor.workers=2"), ("executor=ray",)])
def test_workers_follow_it_as_little(executor: tuple[str, ...], tmp_path: Path) -> None:
    if executor == ("executor=ray",) and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'fmnist_sweep[ray]'")
    check_answer(run(*SWEEP, *STUDY, *executor, cwd=tmp_path, environment=ODD))
    check_results(tmp_path)


@pytest.mark.slow
def test_a_sweep_with_closed_streams_in_a_folder_that_the_locale_cannot_spell_leaves_what_it_always_leaves(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ü鞋"
    folder.mkdir()
    words = [*SWEEP, *STUDY, "executor=local", "executor.workers=2"]
    code = f"import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, *{words!r}])"
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert run("-c", code, cwd=folder, environment=ascii_only).returncode == 0
    check_results(folder)


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["1", "1000000000"])
def test_a_terminal_of_any_width_and_encoding_shows_a_sweep(columns: str, tmp_path: Path) -> None:
    typed = [sys.executable, *SWEEP, *STUDY, "executor=in_process"]
    given = {"COLUMNS": columns, "TERM": "dumb", "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-c", f"import pty, sys; sys.exit(pty.spawn({typed!r}) >> 8)"],
        cwd=tmp_path,
        env=build_environment(given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stdout
    check_results(tmp_path)


@pytest.mark.parametrize("reads", [0, 40])
def test_a_verb_whose_reader_stops_says_nothing_of_it(reads: int, tmp_path: Path) -> None:
    with start(*VERB, "compare", "--help", cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process._process.stdout is not None
        process._process.stdout.read(reads)
        process._process.stdout.close()
        assert process.end().stderr == ""
