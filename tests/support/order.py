"""The order in which test files are handed to processes: the longest first (pytest -n 2 --dist loadfile).

tests/file_seconds.txt says how long each takes; a file that is not in there comes after those that are. To measure
anew: FILE_SECONDS=tests/file_seconds.txt in the environment of a whole run. A file stays in one process, so that what
its tests share is made once. xdist's own groups (loadgroup) do not work with pytest 9.2, which ignores their marks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support import ROOT

SECONDS = ROOT / "tests" / "file_seconds.txt"
MEASURED = "FILE_SECONDS"


def name_file(nodeid: str) -> str:
    """The file of a test, below the checkout."""
    return nodeid.partition("::")[0]


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first; within a file their order stays."""
    seconds = read_seconds()
    items.sort(key=lambda item: -seconds.get(name_file(item.nodeid), 0.0))


def read_seconds() -> dict[str, float]:
    """How long each file takes; empty where there is no table."""
    lines = SECONDS.read_text().splitlines() if SECONDS.exists() else []
    return {name: float(seconds) for seconds, name in (line.split(maxsplit=1) for line in lines)}


def write_seconds(reports: Iterable[pytest.TestReport]) -> None:
    """Put what this run measured into the table that the environment names."""
    measured: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        measured[name_file(report.nodeid)] += report.duration
    seconds = read_seconds() | measured
    order = sorted(seconds, key=lambda name: (-seconds[name], name))
    lines = [f"{seconds[name]:.1f} {name}\n" for name in order if seconds[name] >= 1 and (ROOT / name).exists()]
    Path(os.environ[MEASURED]).write_text("".join(lines))
