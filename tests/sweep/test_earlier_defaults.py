"""A command that named a study before a default changed says so, and prints the command that continues it."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fmnist_sweep.cli.studies import StudyProgress, list_study_progress
from fmnist_sweep.config import changed_defaults
from fmnist_sweep.config.changed_defaults import _HISTORY, _list_precision_changes
from fmnist_sweep.config.commands import build_sweep_command
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.job import Job
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.report.terminal import View
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.sweep import session
from fmnist_sweep.sweep.run import run_sweep
from fmnist_sweep.training import backend
from tests.support.simulated import simulated
from tests.support.small import FILTERS, SMALLEST

NORMALIZING = (*SMALLEST, "regularization.batch_normalization=true")
SPACE = (*NORMALIZING, FILTERS, "regularization.dropout=0.1", "train.epochs=1")


XEON = {"vendor_id": "GenuineIntel", "flags": "avx512f avx512_bf16"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Without what differs from processor to processor.
    monkeypatch.setattr(changed_defaults, "_HISTORY", _HISTORY[:2])


def run(*overrides: str, jobs: Sequence[Job] | None = None) -> str:
    """What a command says; jobs: that it composes, if not those of its overrides."""
    shown = io.StringIO()
    view = View(Console(file=shown, width=2000), None)
    command = build_sweep_command(overrides)
    with simulated(1, lambda spec: 0.0, drawn=False):
        assert run_sweep(jobs or [compose_job(overrides)], command, view) is ExitCode.DONE
    return shown.getvalue()


@pytest.fixture
def _then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of then does not say which defaults it was begun with."""
    monkeypatch.setattr(session, "DEFAULTS_VERSION", 0)


def run_as_then(*overrides: str, trials: int) -> None:
    """What the command was before the default changed."""
    composed = compose_job([*overrides, f"search.max_trials={trials}", "train.normalization=keras"])
    typed = (*overrides, f"search.max_trials={trials}")
    run(*typed, jobs=[replace(composed, overrides=typed)])


def read_continuing_command(said: str) -> list[str]:
    """The overrides of the printed command."""
    (line,) = re.findall("to continue it instead: (.*)", said)
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "fmnist_sweep"]
    return words[3:]


def list_trial_counts() -> list[int]:
    return [folder.read_record().trial_count for folder in list_study_folders(Path("mlruns"))]


def test_a_command_that_names_another_study_now_says_how_to_continue_the_unfinished_one() -> None:
    run_as_then(*SPACE, trials=1)
    (former,) = list_study_folders(Path("mlruns"))
    planned = run(*SPACE, "search.max_trials=3", "plan=true")
    assert f"study {former.name} of the same command was begun with train.normalization=keras" in planned
    assert "is unfinished (1 trial)" in planned
    run(*read_continuing_command(planned))
    assert list_trial_counts() == [3]
    said = run(*SPACE, "search.max_trials=3")
    assert f"study {former.name} of the same command" in said and "is done (3 trials)" in said
    assert "to continue it" not in said
    assert list_trial_counts() == [3, 3]
    assert "of the same command" not in run(*SPACE, "search.max_trials=4")  # the new one has begun
    assert list_trial_counts() == [3, 4]


@pytest.mark.parametrize("override", ["train.normalization=fused", "fresh=true", "seed=5", "regularization=none"])
def test_a_command_that_could_not_have_named_it_says_nothing(override: str) -> None:
    run_as_then(*SPACE, trials=1)
    given = [word for word in SPACE if not (override == "regularization=none" and word.startswith("regularization"))]
    assert "of the same command" not in run(*given, "search.max_trials=2", "plan=true", override)


@pytest.mark.usefixtures("_then")
def test_studies_prints_a_command_that_continues_a_study_from_before() -> None:
    run_as_then(*SPACE, trials=1)
    (progress,) = list_study_progress(Path("mlruns"))
    assert isinstance(progress, StudyProgress)
    words = shlex.split(progress.command)[3:]
    run(*(word.replace("max_trials=1", "max_trials=2") for word in words))
    assert list_trial_counts() == [2]


def test_studies_prints_the_command_of_a_study_begun_with_the_present_defaults_as_it_was_typed() -> None:
    run(*SPACE, "search.max_trials=1", "train.normalization=keras")
    run_as_typed = build_sweep_command([*SPACE, "search.max_trials=1", "train.normalization=keras"])
    (progress,) = list_study_progress(Path("mlruns"))
    assert isinstance(progress, StudyProgress)
    assert progress.command == run_as_typed


def test_a_study_that_auto_began_in_the_slower_precision_is_named_and_continued_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "read_cpu_info", lambda: XEON)
    monkeypatch.setattr(changed_defaults, "_HISTORY", (*_HISTORY[:2], tuple(_list_precision_changes(XEON))))
    space = [override for override in SPACE if not override.startswith("train.precision=")]
    typed = (*space, "search.max_trials=1")
    composed = compose_job([*typed, "train.precision=mixed_bfloat16"])
    run(*typed, jobs=[replace(composed, overrides=typed)])
    (former,) = list_study_folders(Path("mlruns"))
    said = run(*space, "search.max_trials=2", "plan=true")
    assert f"study {former.name} of the same command was begun with train.precision=mixed_bfloat16" in said
    run(*read_continuing_command(said))
    assert list_trial_counts() == [2]
