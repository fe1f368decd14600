"""A canary in every place of a password: no file, no store and no output of any command has it in the end."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from fmnist_sweep.data import open_test
from fmnist_sweep.errors import ExitCode
from tests.conftest import Command, data_config
from tests.support.in_process import clean_environment, run_command, run_verb
from tests.support.servers import Server

CANARY = "CANARY"
TINY = (
    *("data.limit=100", "data.images=100", "model.filters=4", "model.conv_layers=1", "model.dense_units=8"),
    *("train.epochs=1", "search.max_trials=1", "executor=in_process"),
)
# Every download fails, and the reason for it goes into banners and notes.
ENVIRONMENT = {
    "MLFLOW_TRACKING_USERNAME": "ann",
    "MLFLOW_TRACKING_PASSWORD": f"p@{CANARY}1/{CANARY}2",
    "HTTP_PROXY": f"http://ann:{CANARY}3@127.0.0.1:9",
    "HTTPS_PROXY": f"http://ann:{CANARY}3@127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
    "SOME_SECRET": f"{CANARY}4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


def refuse_canary(place: str, content: str | bytes) -> None:
    found = content if isinstance(content, bytes) else content.encode()
    at = found.find(CANARY.encode())
    assert at < 0, f"{place}: ...{found[max(0, at - 100) : at + 40]!r}"


def refuse_canary_in_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            refuse_canary(str(path), path.read_bytes())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.mark.slow
def test_nothing_that_a_sweep_and_all_verbs_leave_has_a_password(
    server: Server, warm_sweep: Command, tmp_path: Path
) -> None:
    address = server.address.replace("://", f"://ann:p@{CANARY}5@")
    work = tmp_path / "work"
    environment = {**ENVIRONMENT, "KERAS_HOME": str(tmp_path / "keras")}
    uri = f"tracking.uri={address}"
    ended: list[subprocess.CompletedProcess[str]] = [
        warm_sweep("-m", "seed=1,2", *TINY, uri, *more, cwd=work, environment=environment)
        for more in ((), ("plan=true",))
    ]
    assert [done.returncode for done in ended] == [0, 0], ended
    assert "2 trials" in ended[0].stdout
    assert "Nothing to do" in ended[1].stdout
    here = clean_environment(**environment)
    trials = json.loads(run_verb("compare", "--json", "--uri", address, cwd=work, environment=here).stdout)
    pair = [trial["run_id"] for trial in trials]
    verbs = (
        ("compare", *pair),
        ("compare", "nobody", "nothing"),
        ("compare", "--experiment", "none"),
        ("report",),
        ("report", "--study", "none"),
        ("studies",),
        ("promote", "--run", pair[0], "plan=true"),
        ("history",),
        ("rollback",),
        ("predict", "none.png"),
        ("reproduce", "1"),
        ("documented", "render", "003"),
        ("ui",),
    )
    for words in verbs:
        done = run_verb(*words, "--uri", address, cwd=work, environment=here)
        assert done.returncode != ExitCode.BUG, (words, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        ended.append(done)
    ended.append(run_command("--cfg", "job", "-m", *TINY, uri, cwd=work, environment=here))
    for number, done in enumerate(ended):
        refuse_canary(f"the output of command {number}", done.stdout + done.stderr)
    refuse_canary_in_files(tmp_path)
    refuse_canary_in_files(server.folder)
    (tmp_path / "check").write_text(CANARY)
    with pytest.raises(AssertionError):  # it would be seen
        refuse_canary_in_files(tmp_path)


def test_the_ledger_says_the_command_without_its_password(tmp_path: Path) -> None:
    config = data_config(source="drawn")
    for option in ("--uri=http://ann:{}@x@host", "http://host?token={}", "postgresql://ann:a {}'b@host/db"):
        with mock.patch.object(sys, "argv", ["fmnist-sweep", "data", option.format(CANARY)]):
            open_test(config, reason=f"http://ann:p@{CANARY}@host", ledger=tmp_path / "ledger.jsonl")
    refuse_canary_in_files(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [shlex.split(line["command"])[-1] for line in lines] == [
        "--uri=http://***@host",
        "http://host?token=***",
        "postgresql://***@host/db",
    ]


@pytest.mark.parametrize(
    "address",
    [
        f"http://ann:p@{CANARY}@127.0.0.1:9",
        f"http://ann:p/{CANARY}@127.0.0.1:9",
        f"http://127.0.0.1:9/?token={CANARY}",
        f"https://{CANARY}:{CANARY}@127.0.0.1:9/x?y={CANARY}",
        f"http://ann:{CANARY}@[::1",
        f"postgresql://ann:{CANARY}:5/x@127.0.0.1:9/db",
        f"postgresql://ann:p@{CANARY}@127.0.0.1:9/db",
        f"postgresql://127.0.0.1:9/db?password={CANARY}&nonsense={CANARY}",
        f"mysql://ann:{CANARY}@127.0.0.1:9/db?ssl_password={CANARY}",
        f"postgresql+x{CANARY[:0]}://ann:{CANARY}@127.0.0.1:9/db",
        f"sqlite:////nowhere/x.db?password={CANARY}",
        f"sqlite://ann:{CANARY}@/nowhere/x.db",
        f"ftp://ann:{CANARY} {CANARY}@host",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 0)  # a minute of them
    here = clean_environment()
    for done in (
        run_verb("compare", "--uri", address, cwd=tmp_path, environment=here),
        run_verb("ui", "--uri", address, cwd=tmp_path, environment=here),
    ):
        assert done.returncode in (2, 4), done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        refuse_canary(address, done.stdout + done.stderr)
