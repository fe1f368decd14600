"""A store made by an older commit continues: a study of each oracle, killed in mid-trial.

tests/support/stores/before-the-rooms.tar.xz is what the commands of before-the-rooms.json left in the folder below
when SIGKILL met each in the first epochs of its second trial; the JSON also holds what the trials came to when the
commit of then continued them. The folder's own path is in the store and in the journals, so it is unpacked there.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fmnist_sweep.config.identity import read_library_versions
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.journal import read_events
from fmnist_sweep.training.environment import describe_machine
from tests.support import ROOT
from tests.support.zygote import Zygote

STORES = ROOT / "tests" / "support" / "stores"
FOLDER = Path("/tmp/fmnist-sweep-before-the-rooms")  # where it stood when it was made
THEN: dict[str, Any] = json.loads((STORES / "before-the-rooms.json").read_text())


@pytest.fixture(scope="module")
def older_store() -> Iterator[Path]:
    """The folder as the kills left it; only one run of the tests at a time may have it."""
    with FileLock(f"{FOLDER}.lock", timeout=600):
        shutil.rmtree(FOLDER, ignore_errors=True)
        with tarfile.open(STORES / "before-the-rooms.tar.xz") as archive:
            archive.extractall(FOLDER.parent, filter="data")
        yield FOLDER
        shutil.rmtree(FOLDER)


@pytest.mark.slow
def test_a_study_of_each_oracle_that_an_older_commit_began_continues_as_it_would_have_then(
    older_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if read_library_versions() != THEN["versions"]:
        pytest.fail("other libraries make other studies of these commands: make the store anew with the new versions")
    journals = {folder.name: folder.path / "journal.db" for folder in list_study_folders(older_store / "mlruns")}
    before = {name: read_events(path) for name, path in journals.items()}
    assert journals.keys() == THEN["studies"].keys()
    with Zygote(tmp_path_factory.mktemp("zygote") / "z") as zygote:
        for study in THEN["studies"].values():
            ended = zygote.run(*study["overrides"], cwd=older_store)
            assert ended.code == 0, ended.output
    assert {folder.name for folder in list_study_folders(older_store / "mlruns")} == journals.keys()
    for folder in list_study_folders(older_store / "mlruns"):
        events, record = read_events(folder.path / "journal.db"), folder.read_record()
        assert events[: len(before[folder.name])] == before[folder.name]
        assert record.state == "closed"
        trials, expected = record.trials, THEN["studies"][folder.name]["trials"]
        assert list(trials) == list(expected)
        killed = [trial_id for trial_id, trial in trials.items() if len(trial.attempts) > 1]
        assert killed == ["0001"]
        if describe_machine() != THEN["machine"]:  # another processor adds up in another order
            continue
        for trial_id, trial in trials.items():
            assert trial.proposal.values == expected[trial_id]["values"]
            assert trial.duplicate_of == expected[trial_id]["same_as"]
            assert (trial.outcome or {}).get("score") == expected[trial_id]["score"]
