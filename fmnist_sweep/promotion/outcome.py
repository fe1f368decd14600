"""What a promotion came to, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from fmnist_sweep.errors import ExitCode


@dataclass(frozen=True)
class Outcome:
    """code: to end with. said: lines to print. version: registered now or before; None where there is none."""

    code: ExitCode
    said: tuple[str, ...] = ()
    version: str | None = None
