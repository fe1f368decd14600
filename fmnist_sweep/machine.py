"""What of a machine can change the last bits of a training: its processor and what that can do."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

# Instructions that TensorFlow's kernels are chosen by.
_TOLD = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@cache
def described() -> str:
    """The processor, those of its instructions that matter, and the system: `AMD EPYC avx2 avx512f, Linux x86_64`.

    Where the system does not tell its processor, its architecture alone.
    """
    told: dict[str, str] = {}
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.is_file() else ():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    flags = [flag for flag in _TOLD if flag in told.get("flags", "").split()]
    processor = " ".join([told.get("model name", platform.processor() or "unknown processor"), *flags])
    return f"{processor}, {platform.system()} {platform.machine()}"
