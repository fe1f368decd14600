"""The benchmarks of training run to their end, so that their figures can be had again after a default has changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS

SMALLEST = {
    "pipeline.py": ["--rounds=1", "--images=128", "data=drawn", "data.images=300"],
    "precision.py": ["--rounds=1", "--images=200"],
    "checkpoint.py": ["--rounds=1", "--images=300", "--filters=4"],
    "replicas.py": ["--rounds=1", "--images=256", "data=drawn", "data.images=300"],
    "engine.py": ["--models=cnn", "--rounds=1", "--seconds=0.01"],
}
RATIO = {
    "pipeline.py": r"CPU time: mean \d",
    "precision.py": r"ratio float32/mixed_bfloat16: median \d",
    "checkpoint.py": r"ratio \d",
    "replicas.py": r"one network / 2 replicas: median \d",
    "engine.py": r"\| cnn \|.* \d+\.\d+ \(",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_prints_a_ratio(name: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *SMALLEST[name]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(RATIO[name], done.stdout), done.stdout
