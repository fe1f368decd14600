"""What of a machine can change the last bits of a training: its processor and what that can do."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

# Instructions that TensorFlow's kernels are chosen by.
_TOLD = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@cache
def described() -> str:
    """The processor, those of its instructions that matter, GPUs, and the system, in words.

    Such as `AMD EPYC avx2 avx512f, Linux x86_64`; where the system does not tell its processor, its architecture alone.
    """
    told: dict[str, str] = {}
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.is_file() else ():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    gpus = [_model(path) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    flags = [flag for flag in _TOLD if flag in told.get("flags", "").split()]
    processor = " ".join([told.get("model name", platform.processor() or "unknown processor"), *flags])
    processor = ", ".join([processor, *gpus])
    return f"{processor}, {platform.system()} {platform.machine()}"


def _model(information: Path) -> str:
    """What a GPU's driver calls it."""
    lines = information.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "a GPU")


@cache
def source_commit() -> str:
    """The commit of the checkout this code runs from, with + when it was changed; "none" where there is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "none"
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git here, or one that hangs
        return "none"
    return answer.stdout.strip() or "none"
