"""Which stores are refused as moved or copied, and which are in their place, although by another path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fmnist_sweep.errors import StoreError
from fmnist_sweep.study.folder import RunLocation
from fmnist_sweep.tracking.relocation import relocate_store
from fmnist_sweep.tracking.store import build_default_uri, open_existing_store, open_store, refuse_moved_store
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
from tests.support.relocations import list_addresses, look_at_contents, run_forked, write_run


def test_a_copy_is_refused_with_the_command_that_helps_and_nothing_is_made(copied: Path, template: Path) -> None:
    before = look_at_contents(copied)
    told = read_refusal(copied)
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
    assert "; fmnist-sweep relocate rewrites" in read_refusal(copied)


def test_a_store_whose_old_place_is_gone_is_refused_and_the_old_path_is_not_made_again(
    copied: Path, template: Path
) -> None:
    with hide_folder(template):
        read_refusal(copied)
        with pytest.raises(StoreError):
            open_store(build_default_uri(copied), EXPERIMENT)
        assert not template.exists()


def test_a_store_whose_old_path_was_silently_made_again_is_refused(copied: Path, template: Path) -> None:
    with hide_folder(template):
        (template / "mlruns" / "artifacts").mkdir(parents=True)
        read_refusal(copied)


def test_a_file_that_was_copied_without_its_artifacts_is_refused(template: Path, tmp_path: Path) -> None:
    copy_file_alone(template, tmp_path)
    read_refusal(tmp_path)


def test_a_run_that_alone_has_the_old_address_is_noticed(copied: Path, template: Path) -> None:
    old, new = (f"file://{folder}/mlruns" for folder in (template, copied))
    run_sql(copied, "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", old, new)
    read_refusal(copied)
    relocate(copied)
    check_settled(copied, template)


def test_each_experiment_is_checked_on_its_own(template: Path, copied: Path) -> None:
    run_sql(copied, "DELETE FROM model_versions")
    run_forked(lambda: write_run(open_store(build_default_uri(copied), "new")))
    check_place(copied, "new")
    read_refusal(copied)
    read_refusal(copied, None)
    right = {address for address in list_addresses(copied) if str(copied) in address}
    assert right
    assert relocate(copied).counts["run"] == 2
    check_settled(copied, template)
    assert right < list_addresses(copied)


def test_a_registered_version_of_another_experiment_is_needed_too(copied: Path) -> None:
    run_forked(lambda: write_run(open_store(build_default_uri(accept_any_place(copied)), "new")))
    read_refusal(copied, "new")


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
    with hide_folder(template):
        moved = template.with_name("away")
        template.symlink_to(moved)
        try:
            check_place(moved)
            assert RunLocation(build_default_uri(moved), "x").is_same(
                RunLocation(f"sqlite:///{template}/mlruns/mlflow.db", "x")
            )
        finally:
            template.unlink()


@pytest.mark.parametrize(
    "address", ["s3://bucket/artifacts", "mlflow-artifacts:/1", "http://host/artifacts", "file://host/x/artifacts"]
)
def test_artifacts_that_are_not_on_this_machine_are_left_alone(copied: Path, address: str) -> None:
    run_sql(copied, "DELETE FROM runs")
    run_sql(copied, "DELETE FROM logged_models")
    run_sql(copied, "UPDATE experiments SET artifact_location = ?", address)
    check_place(copied)
    relocate(copied)
    assert {location for (location,) in run_sql(copied, "SELECT artifact_location FROM experiments")} == {address}


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
    check_place(folder, None)
    moved = folder.rename(tmp_path / "moved")
    check_place(moved, "own")
    relocate(moved)
    assert (own.as_uri(),) in run_sql(moved, "SELECT artifact_location FROM experiments")
    assert own.exists() == has_runs


def test_artifacts_put_elsewhere_by_hand_stay_there(copied: Path, template: Path, tmp_path: Path) -> None:
    large_disk = (copied / "mlruns" / "artifacts").rename(tmp_path / "artifacts")
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        run_sql(copied, f"UPDATE {table} SET {column} = replace({column}, ?, ?)", f"{template}/mlruns", str(tmp_path))
    run_sql(copied, "DELETE FROM logged_models")
    run_sql(copied, "DELETE FROM model_versions")
    check_place(copied)
    relocate(copied)
    assert (large_disk.as_uri(),) in run_sql(copied, "SELECT artifact_location FROM experiments")


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
        read_refusal(copy, name)
    relocate(copy)
    places = dict(run_sql(copy, "SELECT name, artifact_location FROM experiments"))
    assert (places["inside"], places["beside"]) == (str(copy / "mlruns" / "mine"), str(copy / "own"))


def test_an_experiment_that_another_program_made_beside_the_file_is_noticed_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "project"

    def write() -> None:
        client = open_store(build_default_uri(folder), EXPERIMENT).client
        client.create_experiment("foreign", artifact_location=(folder / "mlruns" / "artifacts").as_uri())
        write_run(open_store(build_default_uri(folder), "foreign"))

    folder.mkdir()
    run_forked(write)
    run_sql(folder, "DELETE FROM experiment_tags")
    moved = Path(shutil.copytree(folder, tmp_path / "copy"))
    state = (moved / "mlruns").rename(moved / "results")
    with pytest.raises(StoreError, match="experiment foreign"):
        refuse_moved_store(f"sqlite:///{state}/mlflow.db", "foreign")
    relocate_store(f"sqlite:///{state}/mlflow.db")
    refuse_moved_store(f"sqlite:///{state}/mlflow.db", "foreign")
