"""What starts a shared tracking server: the compose file says what it should, the script refuses what cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS

DEPLOY = ROOT / "deploy"


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_only_the_tracking_server_is_published_and_only_to_this_machine() -> None:
    services = _compose()["services"]
    assert services.keys() == {"database", "mlflow"}
    assert "ports" not in services["database"]
    for published in services["mlflow"]["ports"]:
        assert published.startswith("127.0.0.1:")
    (command,) = services["mlflow"]["command"][2:]
    (hosts,) = re.findall(r'--allowed-hosts "(.+)"', command)
    assert all(host.split(":")[0] in ("127.0.0.1", "localhost") for host in hosts.split(","))
    assert "--serve-artifacts" in command


def test_each_container_is_asked_for_its_health_and_the_server_waits_for_the_database() -> None:
    services = _compose()["services"]
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in services.values())
    assert services["mlflow"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    compile(services["mlflow"]["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_what_must_last_is_in_named_volumes_and_the_password_in_a_secret() -> None:
    compose = _compose()
    assert compose["volumes"].keys() == {"database", "artifacts"}
    for service in compose["services"].values():
        assert {volume.split(":")[0] for volume in service["volumes"]} < compose["volumes"].keys()
        assert service["secrets"] == ["database_password"]
    assert "POSTGRES_PASSWORD" not in compose["services"]["database"]["environment"]
    assert compose["secrets"] == {"database_password": {"file": "./database-password"}}


def test_the_servers_command_is_a_shell_script_without_a_password() -> None:
    *shell, script = _compose()["services"]["mlflow"]["command"]
    assert shell == ["sh", "-euc"]
    script = script.replace("$$", "$")
    assert "postgresql+psycopg2://mlflow@database" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=LIMIT_SECONDS)


def test_the_image_has_the_versions_of_the_sweeps() -> None:
    lines = (DEPLOY / "Dockerfile").read_text()
    (source, target) = re.findall(r"^COPY (\S+) (\S+)$", lines, re.MULTILINE)[0]
    assert (ROOT / _compose()["services"]["mlflow"]["build"]["dockerfile"]).is_file()
    assert (ROOT / source).is_file()
    assert f"--constraint {target} mlflow psycopg2-binary" in lines


def _refused(*arguments: str, python: str = sys.executable) -> str:
    """What the script says when it cannot start: one sentence, code 2."""
    done = subprocess.run(
        [str(DEPLOY / "tracking-server.sh"), *arguments],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "name the folder"),
        (("one", "two"), "expected one folder"),
        (("--bind", "x"), "--bind is no option"),
        (("--port",), "--port needs a value"),
        (("--port", "http", "folder"), "http: expected a number"),
        (("--host", "0.0.0.0", "folder"), "--allowed-hosts"),
        *(
            (("--host", "0.0.0.0", "--allowed-hosts", names, "folder"), "expected names such as tracker.example.org")
            for names in (
                *("*", "*:5000", "*.example.org", "tracker.example.org,*:5000", "tracker*", "**", "a,,b", "tracker?"),
                *("http://tracker", "tracker:port", "tracker/x", "[::1", "a b", "[a-z]*:5000"),
            )
        ),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in _refused(*arguments)


@pytest.mark.parametrize("missing", ["mlflow", "psycopg2", "flask_wtf"])
def test_a_missing_package_is_named_before_anything_is_made(tmp_path: Path, missing: str) -> None:
    python = tmp_path / "python"  # one that has everything else
    python.write_text(f"#!/bin/sh\ncase $2 in *\"'{missing}'\"*) exit 1 ;; esac\n")
    python.chmod(0o755)
    assert missing in _refused("--auth", str(tmp_path / "folder"), python=str(python))
    assert not (tmp_path / "folder").exists()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name, because the address of a socket in it has at most about a hundred characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_database_of_a_version_that_is_not_installed_is_left_alone(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    data = tmp_path / "folder" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("1\n")
    assert "no PostgreSQL 1 found" in _refused(str(tmp_path / "folder"), python=str(python))
    assert [path.name for path in (tmp_path / "folder").rglob("*")] == ["postgres", "PG_VERSION"]
