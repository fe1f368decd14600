"""A folder that was copied or moved: every command refuses it until it is relocated, and then all of them work."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.store import build_default_uri
from tests.conftest import Command, needs_fashion_mnist
from tests.support import audit
from tests.support.faults import THREE_TRIALS
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.promotions import SMALL, TWO, epochs, look, swept
from tests.support.relocations import look_at_contents, look_at_files
from tests.support.served import Served
from tests.support.zygote import Kill, Zygote

pytestmark = pytest.mark.usefixtures("plain_figures")

SWEEP = ("data.limit=400", "model.filters.values=[4,8]", "train.epochs=1", *SMALL)
VERBS = (
    ("compare",),
    ("documented", "test", "003"),
    ("history",),
    ("predict", "bag.png"),
    ("promote", *TWO),
    ("report",),
    ("reproduce",),
    ("rollback",),
    ("studies",),
    ("ui", "--port", "5997"),
)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command, warm_verb: Command) -> Path:
    """A sweep of two trials and a champion."""
    folder = swept(tmp_path_factory.mktemp("origin"), warm_sweep, *SWEEP)
    garment = np.zeros((28, 28), np.uint8)
    garment[6:22, 8:20] = 220
    Image.fromarray(garment).save(folder / "bag.png")
    assert warm_verb("promote", *TWO, cwd=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def copied(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(origin, tmp_path_factory.mktemp("copied") / "copy"))


@pytest.fixture(scope="module")
def relocated(copied: Path) -> Path:
    done = run_verb("relocate", cwd=copied)
    assert done.returncode == 0, done.stderr
    return copied


@pytest.mark.slow
@needs_fashion_mnist
def test_a_copy_is_refused_by_every_command_and_stays_as_it_is(copied: Path) -> None:
    before = look_at_contents(copied)
    sweeps = [run_command(*SWEEP, *more, cwd=copied) for more in ((), ("fresh=true",), ("plan=true",), ("-m",))]
    for done in [*sweeps, *(run_verb(*words, cwd=copied, environment=clean_environment()) for words in VERBS)]:
        assert done.returncode == ExitCode.STORE, done
        assert done.stderr.count("\n") == 1
        assert "mlflow.db was moved or copied: by its addresses" in done.stderr
        assert "; fmnist-sweep relocate rewrites them" in done.stderr
        assert done.stdout == ""
    assert look_at_contents(copied) == before


@pytest.mark.slow
@needs_fashion_mnist
def test_a_relocated_copy_works_as_the_original_which_stays_as_it_is(
    origin: Path, relocated: Path, warm_verb: Command
) -> None:
    before = look_at_files(origin)
    runs, again = set(look(relocated).runs), run_verb("relocate", cwd=relocated)
    assert (again.returncode, again.stdout.startswith("nothing to do")) == (0, True)
    swept_again = run_command(*SWEEP, cwd=relocated)
    assert "Nothing to do" in swept_again.stdout
    for words in VERBS[2:7]:
        done = (warm_verb if words[0] == "reproduce" else run_verb)(*words, cwd=relocated)
        assert done.returncode == 0, done.stdout + done.stderr
        assert words[0] == "reproduce" or not epochs(done.stdout)
    assert "2 of 2 trials" in run_verb("compare", cwd=relocated).stdout
    listed = run_verb("studies", cwd=relocated).stdout
    assert str(relocated) in listed
    assert str(origin) not in listed
    assert set(look(relocated).runs) == runs
    assert look_at_files(origin) == before


@pytest.mark.slow
@needs_fashion_mnist
def test_a_moved_folder_with_an_odd_name_goes_on_and_begins_anew(
    relocated: Path, warm_sweep: Command, warm_verb: Command
) -> None:
    moved = Path(shutil.copytree(relocated, relocated.with_name("was here"))).rename(relocated.with_name("a b ü#"))
    refused = warm_sweep(*SWEEP, cwd=moved)
    assert refused.returncode == ExitCode.STORE
    assert warm_verb("relocate", cwd=moved).returncode == 0
    assert "Nothing to do" in warm_sweep(*SWEEP, cwd=moved).stdout
    fresh = warm_sweep(*SWEEP, "fresh=true", cwd=moved)
    assert fresh.returncode == 0, fresh.stderr
    state = look(moved)
    assert len(state.kind("trial")) == 4
    assert all((moved / "mlruns" / "artifacts" / run_id).is_dir() for run_id in state.runs)


@pytest.mark.slow
def test_a_sweep_that_was_killed_and_moved_continues_as_if_it_had_not_been(
    zygote: Zygote, undisturbed: audit.Found, tmp_path: Path
) -> None:
    folder, plain = tmp_path / "here", {"FAULTS_PLAIN": "1"}
    kill = Kill("file 0001/000003.npz", 1, "after")
    assert zygote.run(*THREE_TRIALS, cwd=folder, kill=kill, environment=plain).killed
    moved = folder.rename(tmp_path / "there")
    assert zygote.run(*THREE_TRIALS, cwd=moved, environment=plain).code == ExitCode.STORE
    relocated = zygote.run("relocate", cwd=moved, entry="fmnist_sweep.cli.main:main")
    assert relocated.code == 0, relocated
    ended = zygote.run(*THREE_TRIALS, cwd=moved, environment=plain)
    assert ended.code == 0, ended
    audit.check(zygote.call("tests.support.audit:look", moved), undisturbed)
    assert not folder.exists()


def test_only_a_file_can_be_relocated(tmp_path: Path) -> None:
    for words, code, told in (
        (("--uri", "http://127.0.0.1:1"), ExitCode.CONFIG, "a server keeps its own addresses"),
        (("--uri", "postgresql://a:secret@b/c"), ExitCode.CONFIG, "a server keeps its own addresses"),
        ((), ExitCode.STORE, "does not exist: type the command in the folder that holds mlruns/"),
        (("--uri", "sqlite:///x%y.db"), ExitCode.STORE, "cannot hold an MLflow store"),
    ):
        done = run_verb("relocate", *words, cwd=tmp_path, environment=clean_environment())
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
        assert told in done.stderr
        assert "secret" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_fashion_mnist
def test_a_store_is_not_relocated_under_a_ui(origin: Path, tmp_path: Path, warm_verb: Command) -> None:
    folder = Path(shutil.copytree(origin, tmp_path / "copy"))
    assert warm_verb("relocate", cwd=folder).returncode == 0
    with Served(folder):
        # As if it had been moved while the UI is served.
        with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db", isolation_level=None)) as database:
            database.execute("UPDATE experiments SET artifact_location = 'file:///gone/mlruns/artifacts'")
        held = warm_verb("relocate", cwd=folder)
        assert held.returncode == ExitCode.LOCKED
        assert "end it, then type the command again" in held.stderr
    assert warm_verb("relocate", "--uri", build_default_uri(folder), cwd=tmp_path).returncode == 0
