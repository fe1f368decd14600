"""Figures are the same bytes whatever the user's matplotlib is set to."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.process import run

DRAW = """
import hashlib
import numpy as np
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.plots import draw_confusion_matrix
figure = draw_confusion_matrix(np.eye(10, dtype=int).tolist(), list("abcdefghij"), "a $b$ title")
print(hashlib.sha256(encode_png(figure)).hexdigest())
"""
STYLE = (
    "text.usetex: True\nbackend: module://nowhere\nfont.size: 30\naxes.facecolor: red\nnonsense: 3\nsavefig.dpi: 20\n"
)


def draw(folder: Path, **environment: str | None) -> str:
    ended = run("-c", DRAW, cwd=folder, environment={"PYTHONPATH": os.pathsep.join([str(ROOT)]), **environment})
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


@pytest.mark.slow
def test_a_figure_follows_neither_the_backend_nor_the_style_of_the_environment(tmp_path: Path) -> None:
    plain, styled = tmp_path / "plain", tmp_path / "styled"
    plain.mkdir()
    styled.mkdir()
    (styled / "matplotlibrc").write_text(STYLE)
    expected = draw(plain, MPLBACKEND=None)
    assert draw(plain, MPLBACKEND="module://matplotlib_inline.backend_inline") == expected
    assert draw(styled, MPLBACKEND="nonsense") == expected
    assert draw(plain, MPLBACKEND="TkAgg", MPLCONFIGDIR=str(styled)) == expected


def test_the_variable_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

    monkeypatch.setenv("MPLBACKEND", "module://a_notebooks")
    prepare_matplotlib.cache_clear()
    prepare_matplotlib()
    assert os.environ["MPLBACKEND"] == "module://a_notebooks"


def _list_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_function_that_imports_matplotlib_prepares_it_before() -> None:
    count = 0
    for path in (ROOT / "fmnist_sweep").rglob("*.py"):
        for function in _list_functions(ast.parse(path.read_text())):
            for place, statement in enumerate(function.body):
                if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("matplotlib"):
                    calls = [ast.unparse(earlier) for earlier in function.body[:place]]
                    assert "prepare_matplotlib()" in calls, f"{path}: {function.name}"
                    count += 1
    assert count > 8
