"""Configs read the variables of a short list only, whoever wrote them and however deep the interpolation stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.errors import ExitCode
from tests.support.in_process import clean_environment, run_command

QUICK = ("data=drawn", "data.images=200", "plan=true")
SECRET = "s3cr3tCANARY"
READ = "${oc.env:SOME_SECRET}"
ENVIRONMENT = clean_environment(SOME_SECRET=SECRET, FMNIST_SWEEP_SEED="3", FMNIST_DATA_DIR="/nowhere")

OVERRIDES = {
    "a folder": (f"data.dir='{READ}'",),
    "a number": (f"seed={READ}",),
    "the store": (f"tracking.uri=http://127.0.0.1:9/{READ}",),
    "a part of a text": (f"tracking.experiment=a{READ}b",),
    "a default": ("tracking.experiment=${oc.env:SOME_SECRET,none}",),
    "decoded": (f"seed='${{oc.decode:{READ}}}'",),
    "selected": (f"tracking.experiment='${{oc.select:nothing,{READ}}}'",),
    "a name that is put together": ("+train.x=SOME_SECRET", "seed='${oc.env:${train.x}}'"),
    "an option": (f"model={READ}",),
    "a sweep": ("-m", f"seed=1,{READ}"),
    "a logger": (f"hydra.verbose={READ}",),
    "another case": ("seed=${oc.env:fmnist_data_dir}",),
    "a longer name": ("seed=${oc.env:FMNIST_DATA_DIR_2}",),
    "a question": ("--cfg", "job", "--resolve", f"tracking.experiment={READ}"),
    "the help": ("--cfg", "hydra", "--resolve", f"hydra.verbose={READ}"),
}


def check_refused(stderr: str, stdout: str) -> None:
    assert SECRET not in stderr + stdout
    assert len(stderr.splitlines()) == 1, stderr
    assert re.search(r"may not read the environment variable (SOME_SECRET|fmnist_data_dir|FMNIST_DATA_DIR_2):", stderr)


@pytest.mark.parametrize("words", OVERRIDES.values(), ids=OVERRIDES)
def test_an_override_reads_no_other_variable(words: tuple[str, ...], tmp_path: Path) -> None:
    given = (*words, *QUICK) if words[0] in ("-m", "--cfg") else (*QUICK, *words)
    ended = run_command(*given, cwd=tmp_path, environment=ENVIRONMENT)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr + ended.stdout
    check_refused(ended.stderr, ended.stdout)
    assert not list(tmp_path.iterdir())


FILES = {
    "experiment=evil": ("experiment/evil.yaml", f"# @package _global_\ntracking: {{experiment: '{READ}'}}\n"),
    "experiment=option": ("experiment/option.yaml", f"# @package _global_\ndefaults:\n  - override /model: {READ}\n"),
    "experiment=created": (
        "experiment/created.yaml",
        "# @package _global_\ntracking: \"${oc.create:{uri: null, experiment: '" + READ + "', keep_models: all}}\"\n",
    ),
    "tracking=server": (
        "tracking/server.yaml",
        "uri: 'http://127.0.0.1:9/${oc.env:SOME_SECRET}'\nexperiment: x\nkeep_models: all\n",
    ),
    "model=nested": (
        "model/nested.yaml",
        "builder: cnn\nfilters: 4\nconv_layers: 1\nkernel_size: 3\ndense_units: '${oc.decode:" + READ + "}'\n",
    ),
}


@pytest.mark.parametrize("choice", FILES)
def test_a_file_from_elsewhere_reads_no_other_variable(choice: str, tmp_path: Path) -> None:
    name, content = FILES[choice]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content)
    work = tmp_path / "work"
    work.mkdir()
    ended = run_command("--config-dir", str(tmp_path), *QUICK, choice, cwd=work, environment=ENVIRONMENT)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr + ended.stdout
    check_refused(ended.stderr, ended.stdout)
    assert not list(work.iterdir())


def test_the_variables_of_the_list_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMNIST_DATA_DIR", "/some/folder")
    monkeypatch.setenv("FMNIST_SWEEP_SEED", "3")
    config = compose_job(["seed='${oc.decode:${oc.env:FMNIST_SWEEP_SEED}}'"]).config
    assert (config.data.dir, config.settings["seed"]) == ("/some/folder", 3)
    monkeypatch.delenv("FMNIST_DATA_DIR")
    assert compose_job([]).config.data.dir is None


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (("seed=${data.dir}",), "seed=${data.dir} (command line)"),
        (("optimizer.learning_rate=${tracking.uri}",), "optimizer.learning_rate=${tracking.uri} (command line)"),
        (("train.schedule.name=${tracking.uri}",), "train.schedule.name=${tracking.uri} (command line)"),
        (("tracking.experiment=${tracking.uri}",), "tracking.experiment=${tracking.uri} (command line)"),
        (("seed='${oc.decode:${tracking.uri}}'",), "seed=${oc.decode:${tracking.uri}} (command line)"),
    ],
)
def test_an_error_quotes_a_value_as_it_was_written(words: tuple[str, ...], quoted: str, tmp_path: Path) -> None:
    secrets = (f"tracking.uri=postgresql://ann:{SECRET}@host/db", "data.dir=/home/a-folder")
    ended = run_command(*QUICK, *secrets, *words, cwd=tmp_path, environment=ENVIRONMENT)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert quoted in ended.stderr
    assert SECRET not in ended.stderr


@pytest.mark.parametrize(
    ("variable", "override"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "tracking.uri=http://127.0.0.1:9"),
        ("MLFLOW_TRACKING_TOKEN", "tracking.uri=http://127.0.0.1:9"),
        ("RAY_AUTH_TOKEN", "executor.address=127.0.0.1:9"),
    ],
)
def test_a_file_sends_no_password_of_the_environment_to_an_address_of_its_own(
    variable: str, override: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    key, _, address = override.partition("=")
    section, _, name = key.partition(".")
    (tmp_path / "experiment" / "mine.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - override /executor: ray\n{section}: {{{name}: '{address}'}}\n"
    )
    given = ("--config-dir", str(tmp_path), "experiment=mine", *QUICK)
    environment = clean_environment(**{variable: SECRET})
    ended = run_command(*given, cwd=tmp_path, environment=environment)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert f"{key}={address} (a config file): {variable}" in ended.stderr
    assert SECRET not in ended.stderr
    assert f"{variable} of" not in run_command(*given, override, cwd=tmp_path, environment=environment).stderr
