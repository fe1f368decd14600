"""What can change the last bits of a training: the processor and its instructions, and the code's commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# Instructions that TensorFlow's kernels are chosen by.
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@cache
def read_cpu_info() -> Mapping[str, str]:
    """What the system tells of its first processor, by name ("model name", "flags"); empty where it tells nothing."""
    file = Path("/proc/cpuinfo")
    cpu_info: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        key, _, value = line.partition(":")
        cpu_info.setdefault(key.strip(), value.strip())
    return cpu_info


@cache
def describe_machine() -> str:
    """The processor, those of its instructions that matter, GPUs, and the system, in words.

    Such as `AMD EPYC avx2 avx512f, Linux x86_64`; where the system does not tell its processor, its architecture alone.
    """
    cpu_info = read_cpu_info()
    flags = [flag for flag in _INSTRUCTION_SETS if flag in cpu_info.get("flags", "").split()]
    processor = " ".join([cpu_info.get("model name", platform.processor() or "unknown processor"), *flags])
    processor = ", ".join([processor, *list_gpu_models()])
    return f"{processor}, {platform.system()} {platform.machine()}"


@cache
def list_gpu_models() -> tuple[str, ...]:
    """What the driver calls each GPU of this machine, whether TensorFlow can use it or not."""
    return tuple(map(_read_gpu_model, sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))))


def _read_gpu_model(path: Path) -> str:
    """What a GPU's driver calls it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "a GPU")


@cache
def read_source_commit() -> str:
    """The commit of the checkout this code runs from, with + when it was changed; "none" where there is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "none"
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of another one
    try:
        completed_process = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here, or one that hangs
        return "none"
    return completed_process.stdout.strip() or "none"
