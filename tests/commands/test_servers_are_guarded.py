"""Servers answer this machine only, or users with a password."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.run_files import log_files, read_artifact
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.tracking.store import (
    Store,
    build_default_uri,
    locate_store_file,
    open_existing_store,
    open_store,
)
from tests.support.process import LIMIT_SECONDS
from tests.support.served import Served
from tests.support.servers import Server
from tests.support.traps import set_traps


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store without runs, in a folder of its own."""
    return open_store(build_default_uri(tmp_path_factory.mktemp("store")), "fashion-mnist")


@pytest.fixture(scope="module")
def served(empty_store: Store) -> Iterator[tuple[Served, str]]:
    """`fmnist-sweep ui` on it and its address, typed in a folder whose files must not be imported.

    Its environment holds what opens servers of other people.
    """
    folder = locate_store_file(empty_store.uri).parent.parent
    mark = set_traps(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
        patch.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*")
        patch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
        patch.setenv("_MLFLOW_STATIC_PREFIX", "/elsewhere")
        server = Served(folder)
    with server as (root, _):
        yield server, root
    assert not mark.exists(), mark.read_text()
    assert not (folder / "elsewhere.db").exists()


def test_the_ui_listens_on_this_machine_alone_and_refuses_every_other_name_for_it(
    served: tuple[Served, str], empty_store: Store
) -> None:
    _, root = served
    port = int(root.rpartition(":")[2])
    assert _listening(port) == {"127.0.0.1"}
    own = {host: _status(root, host) for host in (f"127.0.0.1:{port}", f"localhost:{port}")}
    names = ("10.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", "127.0.0.1:1")
    others = {host: _status(root, host) for name in names for host in (name, f"{name.split(':')[0]}.x:{port}")}
    assert own == dict.fromkeys(own, 200)
    assert others == dict.fromkeys(others, 403)
    answer = requests.post(
        f"{root}/api/2.0/mlflow/experiments/create",
        json={"name": "theirs"},
        headers={"Origin": "http://evil.example"},
        timeout=LIMIT_SECONDS,
    )
    assert answer.status_code == 403
    assert empty_store.client.get_experiment_by_name("theirs") is None


def test_pages_of_this_machine_may_call_the_ui_as_docs_sharing_says(served: tuple[Served, str]) -> None:
    """If MLflow's rule changes, the paragraph must, too."""
    _, root = served
    asked = {"max_results": 1}
    for origin, status in {
        "http://localhost:8888": 200,
        "http://127.0.0.1:1": 200,
        "http://[::1]:80": 200,
        "http://localhost.evil.example": 403,
        "http://192.168.0.1": 403,
        "null": 403,  # a page from a file
    }.items():
        address = f"{root}/api/2.0/mlflow/experiments/search"
        answer = requests.post(address, json=asked, headers={"Origin": origin}, timeout=LIMIT_SECONDS)
        assert answer.status_code == status, origin


def test_the_page_of_the_ui_keeps_mlflows_assistant_closed(served: tuple[Served, str]) -> None:
    """MLflow's script opens it unless this is stored; that the browser then shows none: tests/commands/test_ui.py."""
    _, root = served
    page = requests.get(root, timeout=LIMIT_SECONDS)
    scripts = re.findall(r'src="(static-files/static/js/main[^"]+)"', page.text)
    key = "mlflow.assistant.fab.autoOpenedOnFirstLoad"
    assert page.text.index(f"localStorage.setItem('{key}_v1','true')") < page.text.index("static-files/static/js/main")
    assert key in requests.get(f"{root}/{scripts[0]}", timeout=LIMIT_SECONDS).text
    assert int(page.headers["Content-Length"]) == len(page.content)


def test_the_ui_is_one_process_so_that_a_kill_leaves_nothing_behind(served: tuple[Served, str]) -> None:
    server, root = served
    _status(root, root.removeprefix("http://"))
    sessions = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            sessions[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[3])
    assert [pid for pid, session in sessions.items() if session == server.pid] == [server.pid]


def _status(root: str, host: str) -> int:
    address = f"{root}/api/2.0/mlflow/experiments/get?experiment_id=1"
    return requests.get(address, headers={"Host": host}, timeout=LIMIT_SECONDS).status_code


def _listening(port: int) -> set[str]:
    """The addresses that a TCP port of this machine is listened to on, as Linux' kernel lists them."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            address, at = line.split()[1].split(":")
            if int(at, 16) == port and line.split()[3] == "0A":
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


PASSWORD = "not-the-one-of-the-manual"


class _Guarded(Server):
    """A server that asks for users and passwords; its folder has the auth.ini."""

    def begin(self) -> None:
        hosts = self.address.removeprefix("http://")
        command = ["mlflow", "server", "--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", hosts.rpartition(":")[2], "--allowed-hosts", hosts]
        settings = {"MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env={**os.environ, **settings, "MLFLOW_FLASK_SERVER_SECRET_KEY": "a" * 48},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that asks for users and passwords, as docs/sharing.md says to start it."""
    pytest.importorskip("flask_wtf", reason="needs Flask-WTF: pip install -e '.[server]'")
    folder = tmp_path_factory.mktemp("guarded")
    settings = {"default_permission": "EDIT", "database_uri": f"sqlite:///{folder / 'users.db'}"}
    settings |= {"admin_username": "admin", "admin_password": PASSWORD}
    settings["authorization_function"] = "mlflow.server.auth:authenticate_request_basic_auth"
    lines = ["[mlflow]", *(f"{key} = {value}" for key, value in settings.items())]
    (folder / "auth.ini").write_text("\n".join(lines) + "\n")
    with _Guarded(folder) as server:
        yield server.address


@pytest.mark.slow
def test_a_guarded_server_answers_nobody_without_a_password(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"max_results": 1}
    api = ("api/2.0/mlflow/experiments/search", "ajax-api/2.0/mlflow/experiments/search", "graphql")
    asked = [requests.post(f"{guarded}/{path}", json=body, timeout=LIMIT_SECONDS).status_code for path in api]
    assert [*asked, requests.get(f"{guarded}/", timeout=LIMIT_SECONDS).status_code] == [401] * 4
    for user in (("admin", "password1234"), ("admin", ""), ("ann", PASSWORD)):
        assert requests.post(f"{guarded}/{api[0]}", json=body, auth=user, timeout=LIMIT_SECONDS).status_code == 401
    with pytest.raises(StoreError, match="MLFLOW_TRACKING_USERNAME"):
        open_store(guarded, "fashion-mnist")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    store = open_store(guarded, "fashion-mnist")
    run_id = start_run(store, RunInfo("sweep", "a sweep", {}, "a test"), may_exist=False)
    log_files(store, run_id, {"a.txt": b"1"})
    assert read_artifact(store, run_id, "a.txt") == b"1"


@pytest.mark.slow
def test_an_experiment_that_would_write_into_a_folder_of_this_machine_is_refused(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    client = open_store(guarded, "fashion-mnist").client
    for name, place in {"uri": tmp_path.as_uri(), "path": str(tmp_path)}.items():
        client.create_experiment(name, artifact_location=place)
        for opened in (open_store, open_existing_store):
            with pytest.raises(StoreError, match="folder of this machine"):
                opened(guarded, name)
    assert list(tmp_path.iterdir()) == []
