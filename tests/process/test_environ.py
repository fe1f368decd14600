"""The home folder, where there is one and where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.process.environ import find_home


def test_the_home_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_home() == tmp_path


def test_a_user_whom_the_system_does_not_know_has_a_home_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number: no HOME, no entry among the users."""
    import pwd

    def know_nobody(_: int) -> pwd.struct_passwd:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    with pytest.raises(RuntimeError):
        Path.home()
    assert not find_home().exists()
