"""Commands that are refused: run without any data of this machine, and what they must say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fmnist_sweep.errors import ExitCode
from tests.support import ROOT
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.process import LIMIT_SECONDS

VERBS = "fmnist_sweep.cli.main"


def run_without_data(
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


def check_refused(ended: subprocess.CompletedProcess[str], code: ExitCode, words: Sequence[str], folder: Path) -> None:
    """Check that a command ended so, with one sentence of these words on standard error, and nothing in the folder."""
    said = ended.stderr
    assert len(said.splitlines()) == 1, said
    sentence = said.strip()
    assert sentence.endswith(".")
    assert sentence.startswith(("fmnist_sweep: ", "fmnist-sweep: "))
    assert ended.returncode == code, said
    assert [word for word in words if word not in sentence] == [], sentence
    assert ended.stdout == ""
    assert list(folder.iterdir()) == []
