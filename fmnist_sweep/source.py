"""Which version of this project's own code is running."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def source_commit() -> str:
    """The commit of the checkout this code runs from, with + when it was changed; "none" where there is none."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "none"
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git here, or one that hangs
        return "none"
    return answer.stdout.strip() or "none"
