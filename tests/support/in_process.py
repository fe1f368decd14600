"""The real command in this process: for what is refused before anything is trained.

    ended = run_command("model.filters=-3", cwd=folder)     # python -m fmnist_sweep model.filters=-3
    ended = run_verb("promote", "--run", "x", cwd=folder)   # fmnist-sweep promote --run x

Both return what subprocess.run would: exit code, standard output and standard error as text.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

from fmnist_sweep.training import backend

# What the machine's user may have set and what would reach into a test.
_PERSONAL = ("FMNIST_", "KAGGLE", "MLFLOW_", "KERAS_HOME")


def clean_environment(**given: str) -> dict[str, str]:
    """The environment without any data or store of this machine."""
    own = ("FMNIST_SWEEP_CACHE",)  # of the tests
    kept = {key: value for key, value in os.environ.items() if key in own or not key.startswith(_PERSONAL)}
    return {**kept, "COLUMNS": "200", **given}


def run_command(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m fmnist_sweep ARGUMENTS` in a folder; environment: all of it (default: this process's)."""
    from fmnist_sweep.__main__ import __file__, main
    from tests.support.caches import clear_splits_cache

    try:
        return _run([str(__file__), *arguments], main, cwd, environment)
    finally:
        clear_splits_cache()


def run_verb(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`fmnist-sweep ARGUMENTS` in a folder."""
    from fmnist_sweep.cli.main import main

    return _run(["fmnist-sweep", *arguments], lambda: main(prog_name="fmnist-sweep"), cwd, environment)


def _run(
    words: list[str], main: Callable[[], int | None], cwd: Path, environment: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    output, errors = io.StringIO(), io.StringIO()
    with _in_folder(cwd), mock.patch.object(sys, "argv", words), contextlib.ExitStack() as changed:
        # TensorFlow takes a number of threads once in a process, and that of one command is not that of the next.
        changed.enter_context(mock.patch.object(backend, "set_threads", lambda _: backend.import_tensorflow()))
        changed.enter_context(mock.patch.object(backend, "split_threads"))
        if environment is not None:
            changed.enter_context(mock.patch.dict(os.environ, dict(environment), clear=True))
        changed.enter_context(contextlib.redirect_stdout(output))
        changed.enter_context(contextlib.redirect_stderr(errors))
        try:
            code = main() or 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except Exception:  # as the interpreter would
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
