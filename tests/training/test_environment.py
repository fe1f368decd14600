"""The commit that a run records is that of this program, whatever the environment says of another repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fmnist_sweep.training.environment import read_source_commit


@pytest.fixture(autouse=True)
def fresh() -> None:
    read_source_commit.cache_clear()


def test_variables_of_another_repository_do_not_reach_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = read_source_commit()
    assert expected == "none" or re.fullmatch(r"[0-9a-f]{40}\+?", expected)
    read_source_commit.cache_clear()
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # as within a hook
        monkeypatch.setenv(name, str(tmp_path / "other"))
    assert read_source_commit() == expected


@pytest.mark.parametrize("kind", ["folder", "file", "nothing"])
def test_without_a_git_that_runs_there_is_none(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if kind == "folder":
        (tmp_path / "git").mkdir()
    if kind == "file":
        (tmp_path / "git").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_source_commit() == "none"
