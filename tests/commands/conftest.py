"""What several of the tests of whole commands share: a sweep to hold theirs against, and folders to begin from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support import audit, strikes
from tests.support.faults import THREE_TRIALS
from tests.support.zygote import Zygote


@pytest.fixture(scope="session")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> audit.Found:
    """What THREE_TRIALS leave behind when nothing goes wrong; their figures are stand-ins."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = zygote.run(*THREE_TRIALS, cwd=folder, environment={"FAULTS_PLAIN": "1"})
    assert ended.code == 0, ended
    found: audit.Found = zygote.call("tests.support.audit:look", folder)
    audit.check(found, found)
    return found


@pytest.fixture(scope="session")
def promotion_base(zygote: Zygote, shared_folder: Path) -> Path:
    """A folder with an old champion and a better sweep, made once; `strikes.copy_base` copies it."""
    folder = shared_folder / "promotion base"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed to make it
            strikes.make_base(zygote, folder)
            (folder / "made").touch()
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The empty folder a command is run in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def plain_figures() -> Iterator[None]:
    """Stand-ins for the figures of trials, see tests/support/altered.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTS_PLAIN", "1")
        yield


@pytest.fixture
def own_code_forgotten() -> Iterator[None]:
    """A plugin of one test is none of the next, in whatever file that is."""
    from fmnist_sweep.training import own_code

    own_code.activate_plugins([])
    yield
    own_code.activate_plugins([])
