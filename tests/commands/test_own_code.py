"""Own code through the real commands: the project that docs/own-code.md shows, and what is refused of other plugins."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder
from tests.support import ROOT
from tests.support.in_process import run_command, run_verb

pytestmark = pytest.mark.usefixtures("own_code_forgotten")

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
