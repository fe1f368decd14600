"""A store that was moved or copied: it is noticed, and after the relocation all its addresses lead to where it is."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import Locked, StoreError
from fmnist_sweep.study.folder import RunLocation
from fmnist_sweep.study.journal import Journal
from fmnist_sweep.study.lock import lock_folder
from fmnist_sweep.tracking.addresses import move_address, parse_local_address
from fmnist_sweep.tracking.relocation import Relocation, relocate_store
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store, open_store, refuse_moved_store
from tests.support.relocations import (
    list_addresses,
    list_journals,
    look_at_contents,
    look_at_files,
    run_forked,
    run_killed,
    write_journal,
    write_run,
    write_store,
)

EXPERIMENT = "fashion-mnist"
ODD_NAMES = ("a b", "ü#x", "a;b@c+d,e=f", "'quoted' \"twice\"", "back\\slash", "line\nbreak")

pytestmark = pytest.mark.usefixtures("quick_stores")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody has open: it was made by a process that has ended."""
    folder = tmp_path_factory.mktemp("template") / "project"
    folder.mkdir()
    run_forked(lambda: write_store(folder))
    return folder


@pytest.fixture
def copied(template: Path, tmp_path: Path) -> Path:
    """A copy of that store; the original is still there."""
    return Path(shutil.copytree(template, tmp_path / "copy"))


@contextmanager
def _gone(folder: Path) -> Iterator[None]:
    """Without that folder, as if it had been moved."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        away.rename(folder)


def _relocate(folder: Path) -> Relocation:
    return relocate_store(build_default_uri(folder))


def _check(folder: Path, experiment: str | None = EXPERIMENT) -> None:
    refuse_moved_store(build_default_uri(folder), experiment)


def _refused(folder: Path, experiment: str | None = EXPERIMENT) -> str:
    with pytest.raises(StoreError) as refusal:
        _check(folder, experiment)
    return str(refusal.value)


def _sql(folder: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db", isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()


def _is_settled(folder: Path, former: Path) -> None:
    """All addresses lead here, none to where it was, and the store says so."""
    assert _all_lead_to(folder, former)
    _check(folder, None)
    again = _relocate(folder)
    assert (again.former, again.counts, again.copy) == ((), {}, None)


def _all_lead_to(folder: Path, former: Path) -> bool:
    addresses = list_addresses(folder)
    assert addresses
    paths = {parse_local_address(address) for address in addresses}
    outside = {path for path in paths if path is not None and path.is_relative_to(former)}
    uris = {events[0].body["uri"] for events in list_journals(folder).values()}
    return not outside and uris == {f"sqlite:///{folder}/mlruns/mlflow.db"}


# What is noticed.


def test_a_copy_is_refused_with_the_command_that_helps_and_nothing_is_made(copied: Path, template: Path) -> None:
    before = look_at_contents(copied)
    told = _refused(copied)
    assert f"{template}/mlruns/artifacts" in told
    assert f"fmnist-sweep relocate --uri sqlite:///{copied}/mlruns/mlflow.db" in told
    for opened in (open_store, open_existing_store):
        with pytest.raises(StoreError, match="fmnist-sweep relocate"):
            opened(build_default_uri(copied), EXPERIMENT)
    assert look_at_contents(copied) == before


def test_the_command_needs_no_address_where_the_store_is_the_default_one(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    assert "; fmnist-sweep relocate rewrites" in _refused(copied)


def test_a_store_whose_old_place_is_gone_is_refused_and_the_old_path_is_not_made_again(
    copied: Path, template: Path
) -> None:
    with _gone(template):
        _refused(copied)
        with pytest.raises(StoreError):
            open_store(build_default_uri(copied), EXPERIMENT)
        assert not template.exists()


def test_a_store_whose_old_path_was_silently_made_again_is_refused(copied: Path, template: Path) -> None:
    with _gone(template):
        (template / "mlruns" / "artifacts").mkdir(parents=True)
        _refused(copied)


def test_a_file_that_was_copied_without_its_artifacts_is_refused(template: Path, tmp_path: Path) -> None:
    _copy_file_alone(template, tmp_path)
    _refused(tmp_path)


def _copy_file_alone(template: Path, folder: Path) -> Path:
    """The state folder of a copy of a store without its artifacts and journals."""
    state = folder / "mlruns"
    state.mkdir()
    for file in (template / "mlruns").glob("mlflow.db*"):
        shutil.copy(file, state)
    return state


def test_a_run_that_alone_has_the_old_address_is_noticed(copied: Path, template: Path) -> None:
    old, new = (f"file://{folder}/mlruns" for folder in (template, copied))
    _sql(copied, "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", old, new)
    _refused(copied)
    _relocate(copied)
    _is_settled(copied, template)


def test_each_experiment_is_checked_on_its_own(template: Path, copied: Path) -> None:
    _sql(copied, "DELETE FROM model_versions")
    run_forked(lambda: write_run(open_store(build_default_uri(copied), "new")))
    _check(copied, "new")
    _refused(copied)
    _refused(copied, None)
    right = {address for address in list_addresses(copied) if str(copied) in address}
    assert right
    assert _relocate(copied).counts["run"] == 2
    _is_settled(copied, template)
    assert right < list_addresses(copied)


def test_a_registered_version_of_another_experiment_is_needed_too(copied: Path) -> None:
    run_forked(lambda: write_run(open_store(build_default_uri(_emptied(copied)), "new")))
    _refused(copied, "new")


def _emptied(copied: Path) -> Path:
    """The folder, in which an experiment may be made although another is in the wrong place."""
    from fmnist_sweep.tracking import store

    store.refuse_moved_store = lambda uri, experiment: None
    return copied


# What is none of its business.


@pytest.mark.parametrize("by", ["a link", "dots", "a slash", "a relative path"])
def test_another_path_to_the_same_store_is_no_other_place(
    template: Path, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(template)
    (tmp_path / "link").symlink_to(template)
    uris = {
        "a link": f"sqlite:///{tmp_path}/link/mlruns/mlflow.db",
        "dots": f"sqlite:///{template}/mlruns/artifacts/../mlflow.db",
        "a slash": f"sqlite:///{template}//mlruns/./mlflow.db",
        "a relative path": "sqlite:///mlruns/mlflow.db",
    }
    refuse_moved_store(uris[by], None)
    assert relocate_store(build_default_uri(template)).former == ()


def test_a_link_left_at_the_old_place_is_enough(template: Path, tmp_path: Path) -> None:
    with _gone(template):
        moved = template.with_name("away")
        template.symlink_to(moved)
        try:
            _check(moved)
            assert RunLocation(build_default_uri(moved), "x").is_same(
                RunLocation(f"sqlite:///{template}/mlruns/mlflow.db", "x")
            )
        finally:
            template.unlink()


@pytest.mark.parametrize(
    "address", ["s3://bucket/artifacts", "mlflow-artifacts:/1", "http://host/artifacts", "file://host/x/artifacts"]
)
def test_artifacts_that_are_not_on_this_machine_are_left_alone(copied: Path, address: str) -> None:
    _sql(copied, "DELETE FROM runs")
    _sql(copied, "DELETE FROM logged_models")
    _sql(copied, "UPDATE experiments SET artifact_location = ?", address)
    _check(copied)
    _relocate(copied)
    assert {location for (location,) in _sql(copied, "SELECT artifact_location FROM experiments")} == {address}


@pytest.mark.parametrize("name", ["artifacts", "somewhere"])
@pytest.mark.parametrize("has_runs", [False, True])
def test_an_artifact_location_of_the_users_own_is_left_alone(
    template: Path, tmp_path: Path, name: str, has_runs: bool
) -> None:
    folder, own = tmp_path / "store", tmp_path / "own" / name

    def write() -> None:
        store = open_store(build_default_uri(folder), EXPERIMENT)
        store.client.create_experiment("own", artifact_location=own.as_uri())
        if has_runs:
            write_run(open_store(build_default_uri(folder), "own"))

    folder.mkdir()
    run_forked(write)
    _check(folder, None)
    moved = folder.rename(tmp_path / "moved")
    _check(moved, "own")
    _relocate(moved)
    assert (own.as_uri(),) in _sql(moved, "SELECT artifact_location FROM experiments")
    assert own.exists() == has_runs


def test_artifacts_put_elsewhere_by_hand_stay_there(copied: Path, template: Path, tmp_path: Path) -> None:
    large_disk = (copied / "mlruns" / "artifacts").rename(tmp_path / "artifacts")
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        _sql(copied, f"UPDATE {table} SET {column} = replace({column}, ?, ?)", f"{template}/mlruns", str(tmp_path))
    _sql(copied, "DELETE FROM logged_models")
    _sql(copied, "DELETE FROM model_versions")
    _check(copied)
    _relocate(copied)
    assert (large_disk.as_uri(),) in _sql(copied, "SELECT artifact_location FROM experiments")


def test_a_location_of_the_users_own_inside_the_folder_comes_along(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    inside, beside = folder / "mlruns" / "mine", folder / "own"

    def write() -> None:
        store = open_store(build_default_uri(folder), EXPERIMENT)
        write_run(store)
        for name, location in (("inside", inside), ("beside", beside)):
            store.client.create_experiment(name, artifact_location=str(location))
            write_run(open_store(build_default_uri(folder), name))

    folder.mkdir()
    run_forked(write)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for name in ("inside", "beside"):
        _refused(copy, name)
    _relocate(copy)
    places = dict(_sql(copy, "SELECT name, artifact_location FROM experiments"))
    assert (places["inside"], places["beside"]) == (str(copy / "mlruns" / "mine"), str(copy / "own"))


def test_an_experiment_that_another_program_made_beside_the_file_is_noticed_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "project"

    def write() -> None:
        client = open_store(build_default_uri(folder), EXPERIMENT).client
        client.create_experiment("foreign", artifact_location=(folder / "mlruns" / "artifacts").as_uri())
        write_run(open_store(build_default_uri(folder), "foreign"))

    folder.mkdir()
    run_forked(write)
    _sql(folder, "DELETE FROM experiment_tags")
    moved = Path(shutil.copytree(folder, tmp_path / "copy"))
    state = (moved / "mlruns").rename(moved / "results")
    with pytest.raises(StoreError, match="experiment foreign"):
        refuse_moved_store(f"sqlite:///{state}/mlflow.db", "foreign")
    relocate_store(f"sqlite:///{state}/mlflow.db")
    refuse_moved_store(f"sqlite:///{state}/mlflow.db", "foreign")


# What is rewritten.


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_moved_store_gives_back_what_was_in_it(copied: Path, template: Path, tmp_path: Path, name: str) -> None:
    moved = copied.rename(tmp_path / name)
    run_ids = [run_id for (run_id,) in _sql(moved, "SELECT run_uuid FROM runs")]
    with _gone(template):
        relocation = _relocate(moved)
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
        _is_settled(moved, template)
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
            for (place,) in _sql(folder, "SELECT artifact_location FROM experiments")
        )
    )


def test_the_old_place_is_not_touched(copied: Path, template: Path) -> None:
    before = look_at_files(template)
    _relocate(copied)
    _is_settled(copied, template)
    assert look_at_files(template) == before


def test_plain_paths_stay_plain_paths_and_uris_stay_uris(copied: Path, template: Path) -> None:
    _sql(copied, "UPDATE runs SET artifact_uri = substr(artifact_uri, 8) WHERE rowid = 1")
    _relocate(copied)
    addresses = [str(address) for (address,) in _sql(copied, "SELECT artifact_uri FROM runs ORDER BY rowid")]
    assert addresses[0].startswith(f"{copied}/mlruns/artifacts/")
    assert addresses[1].startswith(f"file://{copied}/mlruns/artifacts/")
    _is_settled(copied, template)


def test_there_and_back_again_is_the_same_store(copied: Path, template: Path, tmp_path: Path) -> None:
    _relocate(copied)
    first = list_addresses(copied), list_journals(copied)
    there = copied.rename(tmp_path / "there")
    _relocate(there)
    back = there.rename(copied)
    _relocate(back)
    assert (list_addresses(back), list_journals(back)) == first


def test_every_copy_of_the_database_is_kept(copied: Path, template: Path, tmp_path: Path) -> None:
    before = list_addresses(copied)
    copies = []
    for name in ("one", "two"):
        copied = copied.rename(tmp_path / name)
        copy = _relocate(copied).copy
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
    _relocate(moved)
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
        relocation = _relocate(copied)
        assert [str(damaged) in str(error) for error in relocation.damaged] == [True]
        assert damaged.read_bytes() == before
    assert relocation.former == ()
    damaged.unlink()
    assert list_journals(copied)["mlruns/studies/server/journal.db"][0].body["uri"] == "http://tracker:5000"


def test_a_relocated_journal_can_be_appended_to(copied: Path) -> None:
    _relocate(copied)
    (path,) = copied.glob("mlruns/studies/*/journal.db")
    journal, events = Journal.open(path)
    journal.append("opened", command="x")
    journal.close()
    assert len(list_journals(copied)["mlruns/studies/abc123def456/journal.db"]) == len(events) + 1


def test_journals_alone_in_the_wrong_place_are_put_right_without_a_copy_of_the_database(
    copied: Path, template: Path
) -> None:
    _relocate(copied)
    write_journal(copied / "mlruns", "studies", "left", build_default_uri(template))
    relocation = _relocate(copied)
    assert (relocation.counts["study"], relocation.copy) == (1, None)
    _is_settled(copied, template)


# What is missing.


def test_runs_whose_artifacts_are_gone_or_were_left_behind_are_named(copied: Path, template: Path) -> None:
    first, second = (str(run_id) for (run_id,) in _sql(copied, "SELECT run_uuid FROM runs ORDER BY rowid"))
    run_forked(lambda: write_run(open_store(build_default_uri(_emptied(copied)), "new")))
    shutil.rmtree(copied / "mlruns" / "artifacts" / first)
    assert [(each.run_id, each.old is not None) for each in _relocate(copied).missing] == [(first, True)]
    moved = copied.rename(copied.with_name("moved"))
    shutil.rmtree(moved / "mlruns" / "artifacts" / second)
    assert {(each.run_id, each.old) for each in _relocate(moved).missing} == {(first, None), (second, None)}


def test_a_file_without_its_artifacts_is_not_relocated_before_they_are_copied(template: Path, tmp_path: Path) -> None:
    state = _copy_file_alone(template, tmp_path)
    before = list_addresses(tmp_path)
    with pytest.raises(StoreError, match=r"all 2 runs are still in .*copy that folder here first"):
        _relocate(tmp_path)
    assert list_addresses(tmp_path) == before
    assert not list(state.glob("*before-relocation*"))
    shutil.copytree(template / "mlruns" / "artifacts", state / "artifacts")
    _relocate(tmp_path)
    _check(tmp_path)


# Who else is there.


def test_a_store_that_another_process_has_open_is_refused_as_it_is(copied: Path) -> None:
    before = list_addresses(copied), list_journals(copied)
    with closing(sqlite3.connect(copied / "mlruns" / "mlflow.db")) as other:  # as a UI, a sweep or a notebook has
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT * FROM runs").fetchall()
        with pytest.raises(Locked, match=r"mlflow\.db open \(a sweep, fmnist-sweep ui, a notebook\)"):
            _relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before
    assert not list(copied.glob("mlruns/*before-relocation*"))
    _relocate(copied)


@pytest.mark.parametrize("kind", ["studies", "sweeps"])
def test_a_study_or_sweep_that_is_held_is_named(copied: Path, kind: str) -> None:
    before = list_addresses(copied), list_journals(copied)
    with (
        lock_folder(copied / "mlruns" / kind / "abc123def456", "it"),
        pytest.raises(Locked, match=r"abc123def456 is being run by process"),
    ):
        _relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before


def test_a_file_that_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "mlruns" / "mlflow.db"
    file.parent.mkdir()
    for content in (b"", b"no database", os.urandom(5000)):
        file.write_bytes(content)
        with pytest.raises(StoreError, match="expected the SQLite file of an MLflow store"):
            _relocate(tmp_path)
        assert file.read_bytes() == content
        _check(tmp_path)


# What a kill leaves.


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_kill_at_any_step_leaves_the_old_store_or_the_new_one_and_the_same_command_finishes(
    template: Path, copied: Path, tmp_path: Path, stride: int
) -> None:
    before = look_at_files(template)
    old = list_addresses(copied)
    _relocate(Path(shutil.copytree(copied, tmp_path / "another")))  # so that no fork has to import anything
    untouched = Path(shutil.copytree(copied, tmp_path / "untouched"))
    steps = run_killed(lambda: _relocate(copied))
    new = list_addresses(copied), list_journals(copied)
    assert steps > 40
    for number in {*range(1, steps + 1, stride), *range(steps - 10, steps + 1)}:
        shutil.rmtree(copied)
        shutil.copytree(untouched, copied)
        assert run_killed(lambda: _relocate(copied), number) == number - 1
        _is_old_or_new(copied, old, new[0])
        _relocate(copied)
        assert (list_addresses(copied), list_journals(copied)) == new, number
        _check(copied, None)
        assert not [path for path in copied.rglob(".*") if "before-relocation" in path.name]
    assert look_at_files(template) == before


def _is_old_or_new(folder: Path, old: set[str], new: set[str]) -> None:
    found = list_addresses(folder) if _can_be_read(folder) else old
    assert found in (old, new)
    if found == old:
        _refused(folder)
    else:
        _check(folder, None)
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
        _relocate(copied)
    assert (list_addresses(copied), list_journals(copied)) == before


# The addresses themselves.


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/a b/c", "/a b/c"),
        ("/a%20b#c?d", "/a%20b#c?d"),
        ("file:///a%20b/%C3%BC%23", "/a b/ü#"),
        ("file:/a/b/", "/a/b"),
        ("FILE:///a", "/a"),
        ("file://localhost/a", "/a"),
        ("//a/b", "/a/b"),
        ("file://host/a", None),
        ("file://[/a", None),
        ("s3://a/b", None),
        ("mlflow-artifacts:/a", None),
        ("models:/m-1", None),
        ("relative/a", None),
        ("", None),
        ("/a\0b", None),
        ("file:///a%00b", None),
        (None, None),
        (3, None),
    ],
)
def test_an_address_names_a_folder_of_this_machine_or_none(address: object, path: str | None) -> None:
    assert parse_local_address(address) == (None if path is None else Path(path))


def test_the_innermost_folder_decides_where_an_address_goes() -> None:
    moves = {Path("/a"): Path("/x y"), Path("/a/b"): Path("/z%")}
    assert move_address("file:///a/c/d", moves) == "file:///x%20y/c/d"
    assert move_address("/a/b/d", moves) == "/z%/d"
    assert move_address("file:///a/b", moves) == "file:///z%25"
    assert move_address("/ab/c", moves) is None
