"""What a user gets: the wheel in a clean environment, from another folder; start-up times."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS


def _checked(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_in_a_clean_environment_sweeps_from_any_folder(tmp_path: Path) -> None:
    _checked([sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("conf", "experiments"):
        inside = {name.removeprefix(f"fmnist_sweep/{folder}/") for name in names}
        for path in (ROOT / folder).rglob("*.yaml"):
            assert path.relative_to(ROOT / folder).as_posix() in inside
    assert not any("mlruns" in name or name.startswith("tests/") for name in names)

    _checked([sys.executable, "-m", "venv", "clean"], tmp_path)
    python = str(tmp_path / "clean" / "bin" / "python")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    _checked([*install, "-c", str(ROOT / "constraints.txt"), str(wheel)], tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    small = ("data=drawn", "data.images=200", "train.epochs=1", "search.max_trials=1", "model.filters=4")
    shown = _checked([python, "-m", "fmnist_sweep", "-m", "optimizer=rmsprop,adam", *small], elsewhere)
    assert "2 trials" in shown
    assert (elsewhere / "mlruns" / "mlflow.db").is_file()
    assert {path.name for path in elsewhere.iterdir()} == {"mlruns"}
    assert "fmnist-sweep" in _checked([str(tmp_path / "clean" / "bin" / "fmnist-sweep"), "--help"], elsewhere)
    plan = _checked([python, "-m", "fmnist_sweep", "experiment=model_3", "data=drawn", "plan=true"], elsewhere)
    assert "model_3" in plan


def test_help_and_config_errors_need_neither_tensorflow_nor_mlflow(tmp_path: Path) -> None:
    # What is imported is the reason for the time it takes; the time itself depends on the machine.
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('fmnist_sweep', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    for argument in ("--help", "model.filters=-3"):
        done = subprocess.run(
            [sys.executable, "-c", code, argument], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("HEAVY []\n"), done.stdout[-200:]


def test_help_of_the_verbs_needs_no_library_of_numbers_or_configs(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('fmnist_sweep.cli.main', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'pandas', 'hydra', 'mlflow', 'tensorflow', 'keras', 'matplotlib', 'yaml'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    for words in (["--help"], ["predict", "--help"], ["studies", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("HEAVY []\n"), done.stdout[-200:]


def test_help_names_every_group_and_option(sweep: Command, tmp_path: Path) -> None:
    shown = sweep("--help", cwd=tmp_path).stdout
    for path in (ROOT / "conf").glob("[!h]*/*.yaml"):
        assert path.parent.name in shown
        assert path.stem in shown
    for path in (ROOT / "experiments").glob("*.yaml"):
        assert path.stem in shown


def test_no_committed_dependency_file_records_an_address() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        assert not re.search(r"https?://|index-url", (ROOT / name).read_text()), name
