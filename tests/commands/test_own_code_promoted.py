"""A model of one's own on the whole path: swept, killed and continued, promoted, reproduced, used for prediction.

Once as a file that is typed; and as an installed package, as far as it differs: each process finds it, its version is
in its fingerprint, and it is missing by another name.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
import requests
from PIL import Image

from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.names import PLUGINS_TAG
from fmnist_sweep.tracking.store import build_default_uri
from tests.conftest import needs_fashion_mnist
from tests.support import ROOT
from tests.support.process import ANSWER_SECONDS, SWEEP, Done, run, start
from tests.support.promotions import artifact, look
from tests.support.steering import Steering
from tests.support.zygote import VERB, Zygote

pytestmark = [pytest.mark.slow, needs_fashion_mnist, pytest.mark.usefixtures("plain_figures")]

TEMPLATE = ROOT / "fmnist_sweep/assets/project"
WORDS = (
    *("--config-dir", "conf", "model=separable", "data.limit=500", "train=default", "train.epochs=2"),
    *("train.precision=float32", "optimizer.learning_rate=0.01", "model.filters=8", "model.blocks=1"),
    *("executor=local", "executor.workers=1", "executor.threads=1", "checkpoint.every_seconds=0"),
)
PROMOTE = ("promote", "promote.seeds=2", "executor=in_process", "executor.threads=1")


class Project:
    """A folder in which own code is used. naming: the words that name it in a sweep, and in a verb."""

    def __init__(
        self, zygote: Zygote, folder: Path, naming: tuple[tuple[str, ...], tuple[str, ...]], **environment: str
    ) -> None:
        self.zygote, self.folder, self.naming, self.environment = zygote, folder, naming, environment

    @property
    def is_file(self) -> bool:
        return bool(self.naming[0])

    def sweep(self, *words: str) -> None:
        """A sweep in fresh interpreters, its worker's too."""
        done = run(*SWEEP, *WORDS, *words, *self.naming[0], cwd=self.folder, environment=self.environment)
        assert done.returncode == ExitCode.DONE, done
        assert ("on from epoch" in done.stdout) == self.is_file, done

    def verb(self, *words: str, named: bool = True, environment: Mapping[str, str] | None = None) -> Done:
        names = self.naming[1] if named else ()
        given = self.environment if environment is None else environment
        return self.zygote.run(*words, *names, cwd=self.folder, environment=given, entry=VERB)


@pytest.fixture(scope="module", params=["file", "package"])
def project(
    request: pytest.FixtureRequest, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if request.param == "file":
        yield Project(zygote, folder, (("plugins=my_models.py",), ("--plugins", "my_models.py")))
        return
    # What installing a package leaves behind: its modules and its entry points, on the path.
    site = folder.parent / "site"
    (site / "my_package").mkdir(parents=True)
    (folder / "my_models.py").rename(site / "my_package/models.py")
    (site / "my_package/__init__.py").write_text("")
    about = site / "my_package-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[fmnist_sweep.plugins]\nmy_package = my_package.models\n")
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    yield Project(zygote, folder, ((), ()), PYTHONPATH=path)


@pytest.fixture(scope="module")
def champion(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after a sweep and its promotion; with a file, the sweep was killed after an epoch and continued."""
    if project.is_file:
        steering = Steering(tmp_path_factory.mktemp("steering"))
        steering.hold(1)
        words = (*WORDS, *project.naming[0])
        with project.zygote.start(*words, cwd=project.folder, environment=steering.environment) as running:
            running.wait_for("epoch 1/2")
            running.kill()
        project.sweep()
    else:
        project.sweep("train.epochs=1")
    promoted = project.verb(*PROMOTE)
    assert promoted.returncode == ExitCode.DONE, promoted
    return project


def test_a_promoted_version_knows_its_plugin_and_the_studys_run_keeps_the_source(champion: Project) -> None:
    state = look(champion.folder)
    (version,) = state.versions.values()
    ((name, fingerprint),) = json.loads(version.tags[PLUGINS_TAG]).items()
    trial = state.kind("trial")[-1]
    assert trial.data.params[f"plugins.{name}"] == fingerprint
    (study,) = state.kind("study")
    is_file = champion.is_file
    kept = artifact(champion.folder, study.info.run_id, f"plugins/{name if is_file else 'my_package/models.py'}")
    assert kept == (TEMPLATE / "my_models.py").read_bytes()
    assert fingerprint.startswith("1.2:") != is_file


def test_it_is_reproduced_bit_for_bit_and_without_the_plugin_one_sentence_says_which_is_missing(
    champion: Project,
) -> None:
    again = champion.verb("reproduce")
    assert again.returncode == ExitCode.DONE, again
    assert "identical bit for bit" in again.stdout
    name = "my_models.py" if champion.is_file else "my-package"
    missing = champion.verb("reproduce", named=False, environment={})
    assert missing.returncode == ExitCode.CONFIG
    assert f"needs the plugin {name}, which is missing" in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_it_labels_pictures_and_not_without_its_plugin_or_with_another(champion: Project) -> None:
    picture = champion.folder / "bag.png"
    large = Image.new("L", (200, 200), 255)
    large.paste(40, (50, 50, 150, 150))
    large.save(picture)
    if not champion.is_file:
        return  # as with a file, of which this is known
    labelled = champion.verb("predict", "bag.png")
    assert labelled.returncode == ExitCode.DONE, labelled
    missing = champion.verb("predict", "bag.png", named=False, environment={})
    assert missing.returncode == ExitCode.CONFIG
    assert "which is missing" in missing.stderr
    source = champion.folder / "my_models.py"
    (champion.folder / "other").mkdir()
    (champion.folder / "other/my_models.py").write_text(source.read_text() + "\n# another\n")
    differs = champion.verb("predict", "bag.png", "--plugins", "other/my_models.py", named=False)
    assert differs.returncode == ExitCode.CONFIG
    assert "was trained with another my_models.py" in differs.stderr
    assert differs.stderr.count("\n") == 1


def test_it_is_served_by_the_documented_command(champion: Project) -> None:
    if not champion.is_file:
        return
    page = (ROOT / "docs/own-code.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^MLFLOW_TRACKING_URI=\S+ (python -c .*)$", page, re.MULTILINE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = shlex.split(command.replace("5001", str(port)))
    environment = {"MLFLOW_TRACKING_URI": build_default_uri(champion.folder)}
    with start(*words[1:], cwd=champion.folder, environment=environment) as running:
        address = f"http://127.0.0.1:{port}"
        running.wait_for(lambda: is_answering(f"{address}/ping"))
        images = {"inputs": np.zeros((2, 28, 28, 1), np.uint8).tolist()}
        answer = requests.post(f"{address}/invocations", json=images, timeout=ANSWER_SECONDS)
        assert np.asarray(answer.json()["predictions"]).shape == (2, 10)


def is_answering(address: str) -> bool:
    try:
        return requests.get(address, timeout=ANSWER_SECONDS).ok
    except requests.RequestException:
        return False


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'fmnist_sweep[ray]'")
def test_a_file_is_shipped_to_a_ray_cluster_and_what_raises_there_is_its_trials_failure(
    zygote: Zygote, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "my_models.py"
    # The rehearsal takes the larger number of filters.
    source.write_text(
        source.read_text().replace("    pixels = ", "    if filters == 4:\n        raise OSError\n    pixels = ")
    )
    words = [word for word in WORDS if not word.startswith(("executor", "model.filters", "data.limit"))]
    small = ("data=drawn", "data.images=200", "model.filters={tune: choice, values: [4, 8]}", "search=grid")
    on_ray = ("plugins=my_models.py", "executor=ray", "executor.threads=1", "executor.workers=1")
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("RAY_")}
    environment |= {"TMPDIR": gettempdir()}  # its sockets need a short path
    done = zygote.run(*words, *small, *on_ray, cwd=folder, environment=environment)
    assert done.returncode == ExitCode.SOME_FAILED, done
    states = sorted(run.info.status for run in look(folder).kind("trial"))
    assert states == ["FAILED", "FINISHED"]


def test_its_own_test_passes(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "project")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(words, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
