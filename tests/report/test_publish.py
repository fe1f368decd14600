"""Where reports go: in the store, at hand beside it, and made anew by the real command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fmnist_sweep.report.publish import read_findings, save_report
from fmnist_sweep.study.journal import JournalEvent, read_first_and_last
from fmnist_sweep.tracking import own_runs
from fmnist_sweep.tracking.queries import StoredRun, search_runs
from fmnist_sweep.tracking.run_files import read_artifact
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store
from fmnist_sweep.tracking.trials import read_trials, read_trials_of_journals
from tests.conftest import Command
from tests.support.in_process import run_verb
from tests.support.servers import Server

SWEEP = ["-m", "optimizer=rmsprop,adam", "data=drawn", "data.images=400", "train.epochs=1", "search.max_trials=2"]
SMALL = (
    "model.filters=4",
    "model.conv_layers=1",
    "model.dense_units=8",
    "train.precision=float32",
    "executor=in_process",
)


def verb(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_verb("report", *words, cwd=folder)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """One tiny sweep of two studies; its last words are in said.txt."""
    folder = tmp_path_factory.mktemp("reports")
    done = warm_sweep(*SWEEP, *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_existing_store(build_default_uri(folder), "fashion-mnist")


def test_every_study_and_the_sweep_has_its_report_at_hand_and_it_is_the_one_in_the_store(
    folder: Path, store: Store
) -> None:
    found = sorted((folder / "mlruns" / "reports").iterdir())
    assert [path.name.partition("-")[0] for path in found] == ["study", "study", "sweep"]
    logged = {read_artifact(store, run.run_id, "report.html") for run in parents(store)}
    assert {path.read_bytes() for path in found} == logged
    assert len(logged) == 3


def parents(store: Store) -> list[StoredRun]:
    return [run for kind in ("study", "sweep") for run in search_runs(store, {"fmnist.kind": kind})]


def test_a_report_at_hand_survives_that_the_folder_is_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-a", str(folder), str(moved)], check=True)
    (report,) = (moved / "mlruns" / "reports").glob("sweep-*")
    assert report.resolve().is_relative_to(moved)
    assert b"</html>" in report.read_bytes()[-100:]


def test_the_sweep_says_where_its_report_is(folder: Path) -> None:
    (line,) = (line for line in (folder / "said.txt").read_text().splitlines() if line.startswith("report: "))
    assert Path(line.removeprefix("report: ")).is_file()


def test_the_verb_makes_the_report_of_the_latest_sweep_anew_with_pictures(folder: Path) -> None:
    done = verb(folder)
    page = Path(done.stdout.strip()).read_text()
    assert "Best of 4 trials" in page
    assert "DRAWN" in page
    assert page.count("data:image/png;base64") >= 2
    assert done.stderr == ""


def test_the_verb_makes_the_report_of_one_study_as_a_file_of_its_own(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    study = search_runs(store, {"fmnist.kind": "study"})[0]
    out = tmp_path / "study.html"
    verb(folder, "--study", study.tags["fmnist.study_id"], "--out", str(out))
    assert "Best of 2 trials" in out.read_text()


def test_trials_of_several_studies_come_study_by_study_and_each_journal_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sweep,) = search_runs(store, {"fmnist.kind": "sweep"})
    journals = sweep.tags["fmnist.journals"].split()
    separate = [trial for journal in journals for trial in read_trials(store, {"fmnist.journal": journal})]
    read: list[Path] = []

    def count(path: Path) -> tuple[JournalEvent, JournalEvent]:
        read.append(path)
        return read_first_and_last(path)

    monkeypatch.setattr(own_runs, "read_first_and_last", count)
    for order in (journals, journals[::-1], [*journals, journals[0]]):
        read.clear()
        trials = read_trials_of_journals(store, order)
        assert [trial.tags["fmnist.journal"] for trial in trials] == [j for j in dict.fromkeys(order) for _ in (1, 2)]
        assert sorted(trial.run_id for trial in trials) == sorted(trial.run_id for trial in separate)
        assert len(read) == len(set(read)) == 3  # of two studies and their sweep
    assert read_trials_of_journals(store, journals) == separate


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--study", "0123456789ab"], "has no study 0123456789ab"),
        (["--sweep", "../etc"], "letters and digits only"),
        (["--study", "a", "--sweep", "b"], "exclude each other"),
        (["--out", "said.txt"], "there is a file already"),
    ],
    ids=["unknown", "no id", "both", "there already"],
)
def test_what_cannot_be_is_refused_in_one_sentence(folder: Path, words: list[str], sentence: str) -> None:
    said = verb(folder, *words, code=2).stderr
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"], ids=["empty", "torn", "other"])
def test_damaged_predictions_keep_no_report_from_being_made(folder: Path, store: Store, content: bytes) -> None:
    (sweep,) = search_runs(store, {"fmnist.kind": "sweep"})
    best = sweep.tags["fmnist.best_run"]
    (path,) = (folder / "mlruns" / "artifacts").glob(f"{best}/artifacts/predictions.npz")
    kept = path.read_bytes()
    path.write_bytes(content)
    try:
        found = read_findings(store, [run.run_id for run in search_runs(store, {"fmnist.kind": "trial"})], {})
    finally:
        path.write_bytes(kept)
    assert found.best is not None and found.best.run_id == best and not found.is_comparable


def test_a_report_that_cannot_be_at_hand_keeps_no_sweep_from_being_closed(warm_sweep: Command, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "reports").write_text("a file stands here")
    done = warm_sweep(*SWEEP[2:5], "search.max_trials=1", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout and "the tracking store is away" not in done.stdout
    assert "report: " not in done.stdout
    store = open_existing_store(build_default_uri(tmp_path), "fashion-mnist")
    assert all(read_artifact(store, run.run_id, "report.html") for run in parents(store))


def test_where_no_link_can_be_made_the_report_at_hand_is_a_copy(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    (sweep,) = search_runs(store, {"fmnist.kind": "sweep"})
    path = save_report(store, sweep.run_id, "unlinked", b"the page")
    assert path.read_bytes() == b"the page" and not path.is_symlink()
    path.unlink()


@pytest.mark.slow
def test_where_the_store_is_a_server_the_report_at_hand_is_a_file_of_its_own(
    warm_sweep: Command, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with Server(tmp_path / "server") as server:
        where = [f"tracking.uri={server.address}", "search.max_trials=1", "executor=in_process"]
        done = warm_sweep(*SWEEP[2:5], *where, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        store = open_existing_store(server.address, "fashion-mnist")
        (sweep,) = search_runs(store, {"fmnist.kind": "sweep"})
        logged = read_artifact(store, sweep.run_id, "report.html")
    (path,) = (tmp_path / "mlruns" / "reports").glob("sweep-*")
    assert not path.is_symlink()
    assert path.read_bytes() == logged
