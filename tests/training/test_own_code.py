"""Plugins as packages: read with all their source, and imported from it where they are not installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import METRICS
from fmnist_sweep.study.folder import list_study_folders
from fmnist_sweep.tracking.store import build_default_uri, locate_state_folder, open_existing_store
from fmnist_sweep.tracking.trials import read_trials
from fmnist_sweep.training import own_code
from fmnist_sweep.training.own_code import PluginSource, activate_plugins, find_installed_plugins
from tests.support.in_process import run_command
from tests.support.small import TINY

SCORE = """\
from fmnist_sweep.plugins import metric
from my_package.numbers import VALUE

@metric
def score(labels, probabilities):
    return VALUE
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    path = list(sys.path)
    yield
    activate_plugins([])
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def install(folder: Path, value: int, version: str = "1.0") -> Path:
    """What installing a package leaves behind."""
    package, about = folder / "my_package", folder / "my_package.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    about.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "numbers.py").write_text(f"VALUE = {value}\n")
    (package / "scores.py").write_text(SCORE)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-package\nVersion: {version}\n")
    (about / "entry_points.txt").write_text("[fmnist_sweep.plugins]\nscores = my_package.scores\n")
    return folder


def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> PluginSource:
    with monkeypatch.context() as changed:
        changed.syspath_prepend(str(folder))
        (source,) = find_installed_plugins()
    return source


def test_a_package_is_named_by_its_version_and_all_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(install(tmp_path / "a", 1), monkeypatch)
    assert (source.name, source.version, source.module) == ("my-package", "1.0", "my_package.scores")
    assert [path for path, _ in source.files] == [f"my_package/{name}.py" for name in ("__init__", "numbers", "scores")]
    assert source.fingerprint.startswith("1.0:")
    assert source == read(install(tmp_path / "b", 1), monkeypatch)
    others = [read(install(tmp_path / "c", 2), monkeypatch), read(install(tmp_path / "d", 1, "1.1"), monkeypatch)]
    assert len({each.fingerprint for each in [source, *others]}) == 3


def test_a_package_is_used_where_it_is_not_installed_and_each_source_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (read(install(tmp_path / str(value), value), monkeypatch) for value in (1, 2))
    assert find_installed_plugins() == []
    for source, value in ((first, 1), (second, 2), (first, 1)):
        activate_plugins([source])
        assert METRICS["score"](None, None) == value
    activate_plugins([])
    assert "score" not in METRICS


def test_a_package_that_cannot_be_imported_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(tmp_path, 1)
    (folder / "my_package/scores.py").write_text("import a_library_that_is_missing\n")
    source = read(folder, monkeypatch)
    with pytest.raises(ConfigError, match=r"plugin my-package cannot be imported \(ModuleNotFoundError: No module"):
        activate_plugins([source])


def test_two_plugins_that_register_one_name_are_refused_and_none_of_them_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = read(install(tmp_path, 1), monkeypatch)
    (tmp_path / "mine.py").write_text(SCORE.replace("from my_package.numbers import VALUE\n", "VALUE = 3\n"))
    file = own_code.read_plugin_file(str(tmp_path / "mine.py"))
    with pytest.raises(ConfigError, match=r"mine.py: the metric score: there already is one of my-package"):
        activate_plugins([package, file])
    assert "score" not in METRICS
    assert own_code.list_active() == []


def test_metrics_of_an_installed_package_are_logged_of_every_trial_and_make_it_no_other_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.syspath_prepend(str(install(tmp_path / "site", 3)))
    words = (*TINY, "search=grid", "executor=in_process")
    ended = run_command(*words, cwd=work)
    assert ended.returncode == 0, ended.stderr
    (trial,) = read_trials(open_existing_store(build_default_uri(work), "fashion-mnist"), {})
    assert trial.metrics["val_score"] == 3
    (study,) = list_study_folders(locate_state_folder(build_default_uri(work)))
    assert "plugins" not in study.read_record().about["identity"]
    install(tmp_path / "site", 4, version="2.0")
    again = run_command(*words, cwd=work)
    assert again.returncode == 0, again.stderr
    assert len(list_study_folders(locate_state_folder(build_default_uri(work)))) == 1
    assert "rehearsing" not in again.stdout
