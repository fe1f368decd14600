"""The folder of the data files, which each verb that needs images takes in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from tests.conftest import Command
from tests.support.in_process import clean_environment, run_verb

IMAGES = {
    "data": ("data",),
    "report": ("report",),
    "compare": ("compare",),
    "promote": ("promote",),
    "reproduce": ("reproduce",),
    "documented run": ("documented", "run", "003"),
    "documented test": ("documented", "test", "003"),
}
OVERRIDABLE = ("data", "promote", "documented run", "documented test")


@pytest.mark.parametrize("name", IMAGES)
def test_a_folder_of_the_data_files_that_is_empty_is_refused(name: str, tmp_path: Path) -> None:
    done = run_verb(*IMAGES[name], "--data-dir", "", cwd=tmp_path, environment=clean_environment())
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert done.stderr.startswith("fmnist-sweep: --data-dir: the folder is missing; write --data-dir FOLDER")


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_a_folder_named_as_an_option_and_as_an_override_is_refused(name: str, tmp_path: Path) -> None:
    words = (*IMAGES[name], "data.dir=there", "--data-dir", "here")
    done = run_verb(*words, cwd=tmp_path, environment=clean_environment())
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert done.stderr == "fmnist-sweep: data.dir=there: use --data-dir instead.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["my images, ü", "2026"])
def test_the_data_are_looked_at_in_the_folder_of_the_option_and_not_of_the_variable(
    folder: str, tmp_path: Path
) -> None:
    environment = clean_environment(FMNIST_DATA_DIR=str(tmp_path / "elsewhere"))
    done = run_verb("data", "--data-dir", folder, cwd=tmp_path, environment=environment)
    assert done.returncode == ExitCode.DATA
    assert f"/{folder} is not a folder" in done.stderr
    assert "elsewhere" not in done.stderr


def test_the_write_ups_are_trained_on_the_folder_of_the_option(tmp_path: Path, warm_verb: Command) -> None:
    done = warm_verb("documented", "run", "003", "--data-dir", "my images", "plan=true", cwd=tmp_path)
    assert done.returncode == ExitCode.DATA, done.stderr
    assert "'data.dir=my images'" in done.stdout
    assert "my images" in done.stderr
