"""No file of the working directory is imported, by a command or by an interpreter that it starts."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from fmnist_sweep.process.interpreter import build_child_environment, build_python_command
from tests.support import ROOT
from tests.support.process import SWEEP, VERB, run
from tests.support.traps import NAMES, set_traps

# What `python -m fmnist_sweep` and the script fmnist-sweep do first, as far as the path is concerned.
AS_MODULE = "import sys; sys.argv = ['-m', 'x']; sys.orig_argv = ['python', '-m', 'fmnist_sweep', 'x']; "
AS_SCRIPT = "import sys; sys.argv = ['/usr/bin/fmnist-sweep', 'ui']; "
SHOW = "import fmnist_sweep; print(*sys.path, sep='\\n')"


@pytest.mark.parametrize("command", [(*SWEEP, "optimizer=nonsense"), (*VERB, "compare", "--sort", "nonsense")])
def test_a_command_imports_nothing_of_its_folder_and_says_once_what_is_not_used(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    mark = set_traps(tmp_path)
    ended = run(*command, cwd=tmp_path)
    assert not mark.exists(), mark.read_text()
    assert ended.returncode in (2, 4), ended
    first, *others = ended.stderr.splitlines()
    assert first.startswith("fmnist_sweep: not used") and "__future__.py, click.py, dataclasses.py" in first
    assert len(others) == 1 and "Traceback" not in ended.output


def test_an_ordinary_folder_with_files_of_other_names_is_not_mentioned(tmp_path: Path) -> None:
    for name in ("images.py", "test.py", "setup.py", "queue.txt", "a b.py", ".py"):
        (tmp_path / name).touch()
    (tmp_path / "numpy").mkdir()  # no package: what is installed is found before it
    ended = run("-c", AS_MODULE + SHOW, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("started", [AS_MODULE, AS_SCRIPT])
@pytest.mark.parametrize("path", [None, ":/nowhere", "/nowhere:", "/nowhere::/there"])
def test_the_working_directory_leaves_the_path_however_it_came_there(
    started: str, path: str | None, tmp_path: Path
) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {started}{SHOW}"
    ended = run("-c", code, cwd=tmp_path, environment={"PYTHONPATH": path})
    assert ended.returncode == 0, ended
    found = ended.stdout.splitlines()
    assert str(tmp_path) not in found and "" not in found
    assert ("/nowhere" in found) == (path is not None)


def test_a_folder_that_the_user_put_on_the_path_stays_there(tmp_path: Path) -> None:
    for named in (str(tmp_path), "."):
        ended = run("-c", AS_MODULE + SHOW, cwd=tmp_path, environment={"PYTHONPATH": f"{named}:{ROOT}"})
        assert str(tmp_path) in ended.stdout.splitlines()


def test_a_program_of_the_users_keeps_its_path(tmp_path: Path) -> None:
    (tmp_path / "queue.py").touch()
    ended = run("-c", f"import sys; {SHOW}", cwd=tmp_path)
    assert ended.stdout.splitlines()[0] == "" and ended.stderr == ""


def test_a_file_that_python_took_before_anybody_could_prevent_it_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "queue.py").touch()
    ended = run("-c", "import queue; " + AS_MODULE + SHOW, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and f"{tmp_path}/queue.py was taken for Python's own" in ended.stderr


@pytest.mark.parametrize("path", [None, "{user}", ":{user}", "{user}:"])
def test_a_child_imports_from_the_users_folders_and_not_from_the_working_directory(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, user = tmp_path / "here", tmp_path / "user"
    mark = set_traps(folder)
    user.mkdir()
    grandchild = (
        "import subprocess; subprocess.run([sys.executable, '-c', 'import sys; print(*sys.path, sep=chr(10))'])"
    )
    show = f"import sys; print(*sys.path, sep=chr(10)); import queue, json; {grandchild}; sys.exit(3)"
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path.format(user=user))
    ended = subprocess.run(
        build_python_command("nothing", before=show),
        cwd=folder,
        env=build_child_environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 3, ended.stderr
    found = ended.stdout.splitlines()
    assert found.count(str(user)) == (0 if path is None else 2)
    assert str(folder) not in found and "" not in found and not mark.exists()


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_command_keeps_the_assertions_that_libraries_need(level: str, tmp_path: Path) -> None:
    mapping = "model.filters={tune: int, min_value: 2, max_value: 4}"  # Hydra reads it within assertions
    ended = run(*SWEEP, mapping, "--cfg", "job", cwd=tmp_path, environment={"PYTHONOPTIMIZE": level})
    assert ended.returncode == 0 and "min_value: 2" in ended.stdout, ended
    assert "Commands:" in run(*VERB, "--help", cwd=tmp_path, environment={"PYTHONOPTIMIZE": level}).stdout
    refused = run("-" + "O" * int(level), *SWEEP, mapping, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "fmnist_sweep: python -O takes away assertions that Hydra needs: leave it out.\n"


def test_a_command_ends_at_its_end(tmp_path: Path) -> None:
    ended = run(*VERB, "compare", cwd=tmp_path, environment={"PYTHONINSPECT": "1"})
    assert ended.returncode == 4 and ended.stderr.count("\n") == 1, ended


def test_a_command_names_files_in_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    folder = tmp_path / "ü鞋"
    folder.mkdir()
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ended = run(*VERB, "compare", cwd=folder, environment=ascii_only)
    assert ended.stderr.startswith(rf"fmnist-sweep: {tmp_path}/\xfc\u978b/mlruns/mlflow.db does not exist"), ended


@pytest.mark.parametrize("command", [(*SWEEP, "plan=true"), (*VERB, "compare")])
def test_a_command_in_a_folder_that_is_gone_says_so(command: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    leave = f"import os, sys; os.rmdir({str(folder)!r}); os.execv(sys.executable, [sys.executable, *{command!r}])"
    ended = run("-c", leave, cwd=folder)
    assert ended.returncode == 2
    assert ended.stderr == "fmnist_sweep: the folder that this was typed in is gone: go to another one.\n"


def test_interpreters_are_started_in_one_way_only() -> None:
    """Whoever starts one asks fmnist_sweep/process/interpreter.py for the command and for the environment."""
    forking = {"multiprocessing.Process", "ProcessPoolExecutor", "multiprocessing.Pool", "joblib.Parallel", "os.system"}
    starts = {"subprocess.Popen", "subprocess.run", "os.execv", "os.execve", "os.posix_spawn"}
    found = {}
    for path in sorted((ROOT / "fmnist_sweep").rglob("*.py")):
        source = path.read_text()
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        names = {ast.unparse(call.func) for call in calls}
        assert names.isdisjoint(forking), path
        if path.name == "interpreter.py":
            continue
        assert "sys.executable" not in source, path
        if names & starts:
            found[path.name] = "build_child_environment" in source and "build_python_command" in source
    assert found == {
        "environment.py": False,  # git
        **dict.fromkeys(("fork_server.py", "worker.py", "ray_node.py", "documented.py", "export_runtime.py"), True),
    }


def test_the_names_of_the_traps_are_those_of_modules() -> None:
    import importlib.util

    assert all(importlib.util.find_spec(name) for name in NAMES if name != "ray")
