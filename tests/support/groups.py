"""Groups of tests that run one after the other in one process, the longest first (pytest -n 2 --dist loadgroup).

A test without an xdist_group mark is of its file's group. Groups begin in the order of the seconds they take, the
longest first, as tests/group_seconds.txt says; one that is not in there begins after those that are. To measure anew:
GROUP_SECONDS=tests/group_seconds.txt in the environment of a whole run.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.support import ROOT

SECONDS = ROOT / "tests" / "group_seconds.txt"
MEASURED = "GROUP_SECONDS"


def group_of(item: pytest.Item) -> str:
    """The group a test is of."""
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0]) if mark else item.nodeid.partition("::")[0]


def form_groups(items: list[pytest.Item]) -> None:
    """Mark each test with its group, and put the longest groups first."""
    seconds = read_seconds()
    places: dict[str, int] = {}
    for item in items:
        group = group_of(item)
        places.setdefault(group, len(places))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (-seconds.get(group_of(item), 0.0), places[group_of(item)]))


def read_seconds() -> dict[str, float]:
    """How long each group takes; empty where there is no table."""
    lines = SECONDS.read_text().splitlines() if SECONDS.exists() else []
    return {group: float(seconds) for seconds, group in (line.split(maxsplit=1) for line in lines)}


def write_seconds(reports: Iterable[pytest.TestReport]) -> None:
    """Add what this run measured to the table that the environment names."""
    found: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        _, mark, group = report.nodeid.rpartition("@")
        found[group if mark and "]" not in group else report.nodeid.partition("::")[0]] += report.duration
    _write(Path(os.environ[MEASURED]), read_seconds() | found)


def _write(path: Path, seconds: Mapping[str, float]) -> None:
    order = sorted(seconds, key=lambda group: (-seconds[group], group))
    path.write_text("".join(f"{seconds[group]:.1f} {group}\n" for group in order if seconds[group] >= 1))
