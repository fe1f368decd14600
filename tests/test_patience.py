"""No test depends on how fast the machine is: what they wait for has one limit, far off, and no speed is asserted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

CLOCKS = ("monotonic", "perf_counter", "process_time", "time")
SHORT = re.compile(r"search\.trial_minutes=0?\.\d")  # on a loaded machine sound trials take as long


def find_haste(source: str) -> Iterator[str]:
    """What in a test's source ends, or fails, where the machine is slow."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in ("timeout", "within") and is_number(node.value):
            yield f"line {node.value.lineno}: {node.arg}={ast.unparse(node.value)}"
        elif isinstance(node, ast.Compare) and reads_clock(node) and any(map(is_number, node.comparators)):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SHORT.search(node.value):
            yield f"line {node.lineno}: {node.value}"


def is_number(node: ast.expr) -> bool:
    """Whether it is a number of seconds; 0 waits for nothing."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value > 0


def reads_clock(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in CLOCKS
        and ast.unparse(each.func.value) == "time"
        for each in ast.walk(node)
    )


FILES = sorted(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve())


def test_no_test_is_in_a_hurry() -> None:
    found = [f"{path.relative_to(ROOT)}, {haste}" for path in FILES for haste in find_haste(path.read_text())]
    assert not found, "wait for the state, or take LIMIT_SECONDS of tests/support/process.py:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "assert time.monotonic() - begun < 5",
        "assert 3 > 1 and time.perf_counter() - began <= 0.5",
        "run(command, timeout=60)",
        "assert are_gone(pids, within=20)",
        "begin(*STUDY, 'search.trial_minutes=0.1')",
    ],
)
def test_what_hurries_is_found(source: str) -> None:
    assert len(list(find_haste(source))) == 1


@pytest.mark.parametrize("source", ["run(timeout=LIMIT_SECONDS)", "are_gone(pids, within=0)", "time.time() < deadline"])
def test_what_waits_is_not(source: str) -> None:
    assert not list(find_haste(source))
