"""A store that was moved or copied: after the relocation all its addresses lead to where it is, whatever kills it."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import Locked, StoreError
from fmnist_sweep.study.journal import Journal
from fmnist_sweep.study.lock import lock_folder
from fmnist_sweep.tracking.addresses import parse_local_address
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store, open_store
from tests.support.relocation_checks import (
    EXPERIMENT,
    accept_any_place,
    check_place,
    check_settled,
    copy_file_alone,
    hide_folder,
    read_refusal,
    relocate,
    run_sql,
)
from tests.support.relocations import (
    list_addresses,
    list_journals,
    look_at_files,
    run_forked,
    run_killed,
    write_journal,
    write_run,
)

ODD_NAMES = ("a b", "ü#x", "a;b@c+d,e=f", "'quoted' \"twice\"", "back\\slash", "line\nbreak")


# What is rewritten.


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_moved_store_gives_back_what_was_in_it(copied: Path, template: Path, tmp_path: Path, name: str) -> None:
    moved = copied.rename(tmp_path / name)
    run_ids = [run_id for (run_id,) in run_sql(moved, "SELECT run_uuid FROM runs")]
    with hide_folder(template):
        relocation = relocate(moved)
        assert relocation.counts == {
            "experiment": 1 + _has_default(template, moved),
            "run": 2,
            "model": 1,
            "registered version": 1,
            "trace": 0,
            "study": 1,
            "sweep": 1,
        }
        assert relocation.former == (template / "mlruns",)
        check_settled(moved, template)
        store = open_existing_store(build_default_uri(moved), EXPERIMENT)
        for run_id in run_ids:
            path = store.client.download_artifacts(run_id, "note.txt", str(tmp_path))
            assert Path(path).read_text() == "what is in it"
        (version,) = store.client.search_model_versions("name = 'fashion-mnist'")
        place = parse_local_address(store.client.get_model_version_download_uri("fashion-mnist", version.version))
        assert place is not None and (place / "MLmodel").is_file()
        write_run(open_store(build_default_uri(moved), EXPERIMENT))
        assert not template.exists()


def _has_default(template: Path, folder: Path) -> int:
    """Whether MLflow's own experiment stood in the template; its tables may be copied from elsewhere."""
    return int(
        any(
            place == str(folder / "mlruns" / "0")
            for (place,) in run_sql(folder, "SELECT artifact_location FROM experiments")
        )
    )


def test_the_old_place_is_not_touched(copied: Path, template: Path) -> None:
    before = look_at_files(template)
    relocate(copied)
    check_settled(copied, template)
    assert look_at_files(template) == before


def test_plain_paths_stay_plain_paths_and_uris_stay_uris(copied: Path, template: Path) -> None:
    run_sql(copied, "UPDATE runs SET artifact_uri = substr(artifact_uri, 8) WHERE rowid = 1")
    relocate(copied)
    addresses = [str(address) for (address,) in run_sql(copied, "SELECT artifact_uri FROM runs ORDER BY rowid")]
    assert addresses[0].startswith(f"{copied}/mlruns/artifacts/")
    assert addresses[1].startswith(f"file://{copied}/mlruns/artifacts/")
    check_settled(copied, template)


def test_there_and_back_again_is_the_same_store(copied: Path, template: Path, tmp_path: Path) -> None:
    relocate(copied)
    first = list_addresses(copied), list_journals(copied)
    there = copied.rename(tmp_path / "there")
    relocate(there)
    back = there.rename(copied)
    relocate(back)
    assert (list_addresses(back), list_journals(back)) == first


def test_every_copy_of_the_database_is_kept(copied: Path, template: Path, tmp_path: Path) -> None:
    before = list_addresses(copied)
    copies = []
    for name in ("one", "two"):
        copied = copied.rename(tmp_path / name)
        copy = relocate(copied).copy
        assert copy is not None
        copies.append(copied / "mlruns" / copy.name)
    copies = [copied / "mlruns" / copy.name for copy in copies]
    assert len({*copies}) == 2 and all(copy.is_file() for copy in copies)
    shutil.copy(copies[0], copied / "mlruns" / "mlflow.db")
    assert list_addresses(copied) == before


def test_the_addresses_in_typed_commands_are_rewritten_and_hydra_reads_them(copied: Path, template: Path) -> None:
    uri = build_default_uri(template)
    word = f"tracking.uri={uri}"
    write_journal(copied / "mlruns", "studies", "typed", uri, f"python -m fmnist_sweep {word} optimizer=adam")
    other = f"python -m fmnist_sweep data.dir={template}/data 'tracking.uri=\"sqlite:////elsewhere/x.db\"'"
    write_journal(copied / "mlruns", "studies", "other", uri, other)
    write_journal(copied / "mlruns", "studies", "open", uri, f"{other} 'without an end")
    moved = copied.rename(copied.with_name("it's a, ü"))
    relocate(moved)
    journals = list_journals(moved)
    commands = [event.body["command"] for event in journals["mlruns/studies/typed/journal.db"][:2]]
    assert len({*commands}) == 1
    config = compose_job(shlex.split(commands[0])[3:]).config
    assert config.tracking.uri == build_default_uri(moved)
    assert journals["mlruns/studies/other/journal.db"][0].body["command"] == other
    assert journals["mlruns/studies/open/journal.db"][0].body["command"] == f"{other} 'without an end"


def test_journals_of_a_server_and_damaged_ones_stay_as_they_are(copied: Path, template: Path) -> None:
    write_journal(copied / "mlruns", "studies", "server", "http://tracker:5000")
    damaged = write_journal(copied / "mlruns", "studies", "damaged", build_default_uri(template))
    with closing(sqlite3.connect(damaged, isolation_level=None)) as database:
        database.execute("UPDATE events SET body = '{}' WHERE number = 2")  # in the middle
    before = damaged.read_bytes()
    for _ in range(2):
        relocation = relocate(copied)
        assert [str(damaged) in str(error) for error in relocation.damaged] == [True]
        assert damaged.read_bytes() == before
    assert relocation.former == ()
    damaged.unlink()
    assert list_journals(copied)["mlruns/studies/server/journal.db"][0].body["uri"] == "http://tracker:5000"


def test_a_relocated_journal_can_be_appended_to(copied: Path) -> None:
    relocate(copied)
    (path,) = copied.glob("mlruns/studies/*/journal.db")
    journal, events = Journal.open(path)
    journal.append("opened", command="x")
    journal.close()
    assert len(list_journals(copied)["mlruns/studies/abc123def456/journal.db"]) == len(events) + 1


def test_journals_alone_in_the_wrong_place_are_put_right_without_a_copy_of_the_database(
    copied: Path, template: Path
) -> None:
    relocate(copied)
    write_journal(copied / "mlruns", "studies", "left", build_default_uri(template))
    relocation = relocate(copied)
    assert (relocation.counts["study"], relocation.copy) == (1, None)
    check_settled(copied, template)


# What is missing.


def test_runs_whose_artifacts_are_gone_or_were_left_behind_are_named(copied: Path, template: Path) -> None:
    first, second = (str(run_id) for (run_id,) in run_sql(copied, "SELECT run_uuid FROM runs ORDER BY rowid"))
    run_forked(lambda: write_run(open_store(build_default_uri(accept_any_place(copied)), "new")))
    shutil.rmtree(copied / "mlruns" / "artifacts" / first)
    assert [(each.run_id, each.old is not None) for each in relocate(copied).missing] == [(first, True)]
    moved = copied.rename(copied.with_name("moved"))
    shutil.rmtree(moved / "mlruns" / "artifacts" / second)
    assert {(each.run_id, each.old) for each in relocate(moved).missing} == {(first, None), (second, None)}


def test_a_file_without_its_artifacts_is_not_relocated_before_they_are_copied(template: Path, tmp_path: Path) -> None:
    state = copy_file_alone(template, tmp_path)
    before = list_addresses(tmp_path)
    with pytest.raises(StoreError, match=r"all 2 runs are still in .*copy that folder here first"):
        relocate(tmp_path)
    assert list_addresses(tmp_path) == before
    assert not list(state.glob("*before-relocation*"))
    shutil.copytree(template / "mlruns" / "artifacts", state / "artifacts")
    relocate(tmp_path)
    check_place(tmp_path)


# Who else is there.


def test_a_store_that_another_process_has_open_is_refused_as_it_is(copied: Path) -> None:
    before = list_addresses(copied), list_journals(copied)
    with closing(sqlite3.connect(copied / "mlruns" / "mlflow.db")) as other:  # as a UI, a sweep or a notebook has
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT * FROM runs").fetchall()
        with pytest.raises(Locked, match=r"mlflow\.db open \(a sweep, fmnist-sweep ui, a notebook\)"):
            relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before
    assert not list(copied.glob("mlruns/*before-relocation*"))
    relocate(copied)


@pytest.mark.parametrize("kind", ["studies", "sweeps"])
def test_a_study_or_sweep_that_is_held_is_named(copied: Path, kind: str) -> None:
    before = list_addresses(copied), list_journals(copied)
    with (
        lock_folder(copied / "mlruns" / kind / "abc123def456", "it"),
        pytest.raises(Locked, match=r"abc123def456 is being run by process"),
    ):
        relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before


def test_a_file_that_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "mlruns" / "mlflow.db"
    file.parent.mkdir()
    for content in (b"", b"no database", os.urandom(5000)):
        file.write_bytes(content)
        with pytest.raises(StoreError, match="expected the SQLite file of an MLflow store"):
            relocate(tmp_path)
        assert file.read_bytes() == content
        check_place(tmp_path)


# What a kill leaves.


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_a_kill_at_any_step_leaves_the_old_store_or_the_new_one_and_the_same_command_finishes(
    template: Path, copied: Path, tmp_path: Path, stride: int
) -> None:
    before = look_at_files(template)
    old = list_addresses(copied)
    relocate(Path(shutil.copytree(copied, tmp_path / "another")))  # so that no fork has to import anything
    untouched = Path(shutil.copytree(copied, tmp_path / "untouched"))
    steps = run_killed(lambda: relocate(copied))
    new = list_addresses(copied), list_journals(copied)
    assert steps > 40
    for number in {*range(1, steps + 1, stride), *range(steps - 10, steps + 1)}:
        shutil.rmtree(copied)
        shutil.copytree(untouched, copied)
        assert run_killed(lambda: relocate(copied), number) == number - 1
        _is_old_or_new(copied, old, new[0])
        relocate(copied)
        assert (list_addresses(copied), list_journals(copied)) == new, number
        check_place(copied, None)
        assert not [path for path in copied.rglob(".*") if "before-relocation" in path.name]
    assert look_at_files(template) == before


def _is_old_or_new(folder: Path, old: set[str], new: set[str]) -> None:
    found = list_addresses(folder) if _can_be_read(folder) else old
    assert found in (old, new)
    if found == old:
        read_refusal(folder)
    else:
        check_place(folder, None)
        uris = {events[0].body["uri"] for events in list_journals(folder).values()}
        assert uris == {build_default_uri(folder)}


def _can_be_read(folder: Path) -> bool:
    """Whether SQLite need not first undo what the kill interrupted, for which it must be allowed to write."""
    rollback = folder / "mlruns" / "mlflow.db-journal"
    return not rollback.exists() or not rollback.stat().st_size


def test_what_cannot_be_written_is_said(copied: Path) -> None:
    before = list_addresses(copied), list_journals(copied)
    lock = copied / "mlruns" / "mlflow.db.lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(StoreError, match=r"mlflow\.db\.lock cannot be written \(.*\): mend that"):
        relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before
