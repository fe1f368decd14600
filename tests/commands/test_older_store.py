"""A store made by an older commit continues: a study of each oracle and one that normalises, killed in mid-trial.

tests/support/stores/NAME.tar.xz is what the commands of NAME.json left in the folder /tmp/fmnist-sweep-NAME when
SIGKILL met each in the first epochs of its second trial; the JSON also holds what the trials came to when the commit of
then continued them. A setting that has another default now is among its overrides, with the value of then. The
folder's own path is in the store and in the journals, so it is unpacked there.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fmnist_sweep.config.commands import pin_changed_defaults
from fmnist_sweep.config.identity import read_library_versions
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.study.journal import read_events
from fmnist_sweep.training.environment import describe_machine
from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS
from tests.support.zygote import Zygote

STORES = ROOT / "tests" / "support" / "stores"


@dataclass(frozen=True)
class OlderStore:
    """A folder as the kills left it, and what the JSON says of it."""

    folder: Path
    then: dict[str, Any]


@pytest.fixture(scope="module", params=["before-the-rooms", "before-fused-normalization"])
def older_store(request: pytest.FixtureRequest) -> Iterator[OlderStore]:
    """Only one run of the tests at a time may have it."""
    folder = Path(f"/tmp/fmnist-sweep-{request.param}")  # where it stood when it was made
    with FileLock(f"{folder}.lock", timeout=LIMIT_SECONDS):
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(STORES / f"{request.param}.tar.xz") as archive:
            archive.extractall(folder.parent, filter="data")
        yield OlderStore(folder, json.loads((STORES / f"{request.param}.json").read_text()))
        shutil.rmtree(folder)


def complete(overrides: list[str], state: Path) -> list[str]:
    """The overrides of a command of then, with those that `fmnist-sweep studies` adds: defaults have changed since."""
    for folder in list_study_folders(state):
        about = folder.read_record().about
        words = shlex.split(about["command"])[3:]
        if set(overrides) - {"train.normalization=keras"} <= set(words):
            return shlex.split(pin_changed_defaults(about["command"], about["identity"]))[3:]
    raise AssertionError(f"no study was begun with {overrides}")


@pytest.mark.slow
def test_a_study_of_each_oracle_that_an_older_commit_began_continues_as_it_would_have_then(
    older_store: OlderStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    then, state = older_store.then, older_store.folder / "mlruns"
    if read_library_versions() != then["versions"]:
        pytest.fail("other libraries make other studies of these commands: make the store anew with the new versions")
    journals = {folder.name: folder.path / "journal.db" for folder in list_study_folders(state)}
    before = {name: read_events(path) for name, path in journals.items()}
    assert journals.keys() == then["studies"].keys()
    with Zygote(tmp_path_factory.mktemp("zygote") / "z") as zygote:
        for study in then["studies"].values():
            ended = zygote.run(*complete(study["overrides"], state), cwd=older_store.folder)
            assert ended.code == 0, ended.output
    assert {folder.name for folder in list_study_folders(state)} == journals.keys()
    for folder in list_study_folders(state):
        events, record = read_events(folder.path / "journal.db"), folder.read_record()
        assert events[: len(before[folder.name])] == before[folder.name]
        assert record.state == "closed"
        trials, expected = record.trials, then["studies"][folder.name]["trials"]
        assert list(trials) == list(expected)
        killed = [trial_id for trial_id, trial in trials.items() if len(trial.attempts) > 1]
        assert killed == ["0001"]
        # The older commit drew the figures of a trial before it noted that it had been delivered.
        drawn_then = [event.body["trial_id"] for event in before[folder.name] if event.kind == "delivered"]
        drawn_now = [event.body["trial_id"] for event in events if event.kind == "drawn"]
        trained = [trial.trial_id for trial in record.trained_trials]
        assert sorted([*drawn_then, *drawn_now]) == trained and drawn_then
        for trial in record.trained_trials:
            run_id = trial.attempts[-1].run_id
            assert len(list((state / "artifacts").glob(f"{run_id}/artifacts/*.png"))) == 4
        if describe_machine() != then["machine"]:  # another processor adds up in another order
            continue
        for trial_id, trial in trials.items():
            assert trial.proposal.values == expected[trial_id]["values"]
            assert trial.duplicate_of == expected[trial_id]["same_as"]
            assert (trial.outcome or {}).get("score") == expected[trial_id]["score"]
