"""A config is data: what could make Hydra import or call code is refused before it does, whoever wrote it and how."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fmnist_sweep.config.arguments import parse_arguments
from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.foreign import check_arguments, check_config_file
from fmnist_sweep.errors import ConfigError, ExitCode
from tests.conftest import Command
from tests.support import ROOT
from tests.support.in_process import clean_environment, run_command

QUICK = ("data=drawn", "data.images=200", "plan=true")
CALLBACK = "x: {_target_: trap.Callback}\n"
LOGGING = "version: 1\nhandlers: {x: {class: trap.Handler}}\nroot: {handlers: [x]}\n"


def check(arguments: Sequence[str]) -> Path | None:
    return check_arguments(parse_arguments(arguments))


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A working directory with a module that leaves the file `ran` when it is imported."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "trap.py").write_text(
        f"import logging, pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class Callback: pass\nclass Handler(logging.StreamHandler): pass\n"
    )
    return folder


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def check_refused(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert not (folder.parent / "ran").exists()
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert done.stderr.startswith("fmnist_sweep: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert "a config is data" in done.stderr
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["trap.py"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("+hydra.callbacks.x._target_=trap.Callback",), id="callbacks"),
        pytest.param(("-m", "++hydra.launcher._target_=trap.Callback"), id="launcher"),
        pytest.param(("hydra.searchpath=[pkg://trap]",), id="searchpath"),
        pytest.param(("--cfg", "job", "+hydra.job_logging.handlers.x={class: trap.Handler}"), id="logging"),
    ],
)
def test_no_override_makes_hydra_import_what_it_names(words: tuple[str, ...], sweep: Command, trapped: Path) -> None:
    check_refused(sweep(*words, *QUICK, cwd=trapped), trapped)


NAMING_CODE = ("+hydra.callbacks.x._target_=trap.Callback", "hydra.searchpath=[pkg://trap]")
SPELLINGS = (
    *("hydra.callbacks.x._target_=a.b", "+hydra.callbacks={x:{_target_:a.b}}", "++hydra.callbacks.x={_target_: a.b}"),
    *("+hydra={callbacks:{x:{_target_:a.b}}}", "~hydra.launcher", "~hydra.sweeper=x", "hydra/launcher=joblib"),
    *("+hydra/callbacks=own", "hydra/job_logging=../../own", "hydra/launcher@hydra.callbacks=basic"),
    *("+model@hydra.callbacks=own", "+model@_global_.hydra.callbacks=own", "model@model:hydra.callbacks=own"),
    *("hydra.searchpath=[pkg://a]", "hydra.sweeper.params={+hydra.callbacks.x._target_: a.b}", "+experiment@hydra=own"),
    *("hydra.job.env_set={LD_PRELOAD: x}", "+hydra.job.env_set.LD_PRELOAD=x", "hydra.job_logging.handlers.x.()=a.b"),
    *("hydra.hydra_logging={handlers: {x: {(): a.b}}}", "hydra.mode.x=1", "hydra.help.template=x", "~hydra.mode"),
    *("hydra.callbacks='{x: {_target_: a.b}}'", "hydra.launcher=${model}", " hydra.launcher=x", "hydra . launcher=x"),
)


@pytest.mark.parametrize("override", SPELLINGS)
def test_every_spelling_that_leads_into_hydras_section_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check([*QUICK, override])
    assert override in str(refused.value)
    assert "expected hydra.mode or hydra.verbose:" in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        *(("--help",), ("--hydra-help",), ("--cfg", "job"), ("-c", "all", "--resolve"), ("-m", "model=cnn,two_conv")),
        *(("--info",), ("-i", "searchpath"), ("hydra.verbose=true",), ("+hydra.mode=MULTIRUN",), ("hydra.run.dir=x",)),
        *(("model.hydrant=3",), ("tracking.experiment=hydra",), ("data.dir=/data/hydra",), ("hydra.sweep.dir=x",)),
    ],
)
def test_what_hydra_documents_and_names_no_code_stays_allowed(words: tuple[str, ...]) -> None:
    assert check(words) is None


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--hydra-help",), ("--cfg", "hydra"), ("--info", "all"), ("--cfg", "job", "hydra.verbose=true")],
)
def test_hydras_own_answers_still_come(words: tuple[str, ...], warm_sweep: Command, trapped: Path) -> None:
    done = warm_sweep(*words, *QUICK, cwd=trapped)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
    assert done.stdout


FOREIGN: dict[str, tuple[dict[str, str], str]] = {
    "a recipe": (
        {"experiment/own.yaml": f"# @package _global_\nhydra:\n  callbacks:\n    {CALLBACK}"},
        "experiment/own.yaml: the key hydra",
    ),
    "a group in another package": (
        {"model/own.yaml": f"# @package hydra.callbacks\n{CALLBACK}"},
        "model/own.yaml: a @package of hydra",
    ),
    "a group of hydra's": ({"hydra/job_logging/own.yaml": LOGGING}, "hydra/job_logging/own.yaml: a folder named hydra"),
    "a defaults list": (
        {"model/own.yaml": "defaults:\n  - /log@hydra.job_logging: x\n", "log/x.yaml": LOGGING},
        "model/own.yaml: hydra in the defaults",
    ),
    "a target below a list": ({"model/own.yaml": "a: [[{_target_: trap.Callback}]]\n"}, "the key _target_"),
    "a factory": ({"model/own.yaml": "a: {'()': trap.Callback}\n"}, "the key ()"),
    "an escaped key": ({"model/own.yaml": '"\\x68ydra": {callbacks: {}}\n'}, "the key hydra"),
}


def read_chosen(folder: Path, *choices: str) -> str:
    """The sentence with which the choice of a file of a folder is refused."""
    with pytest.raises(ConfigError) as refused:
        compose_jobs(["--config-dir", str(folder), *QUICK, *choices])
    return str(refused.value)


CHOSEN = [kind for kind in FOREIGN if kind != "a group of hydra's"]


@pytest.mark.parametrize("kind", CHOSEN)
def test_a_chosen_config_that_names_code_is_refused_by_its_file(kind: str, tmp_path: Path) -> None:
    files, told = FOREIGN[kind]
    group = next(iter(files)).partition("/")[0]
    assert told in read_chosen(written(tmp_path, files), f"{group}=own")


@pytest.mark.parametrize("kind", CHOSEN)
@pytest.mark.parametrize("through", ["model", "experiment"])
def test_a_config_that_names_code_is_refused_when_a_defaults_list_chooses_it(
    kind: str, through: str, tmp_path: Path
) -> None:
    files, told = FOREIGN[kind]
    group = next(iter(files)).partition("/")[0]
    option = "own" if group == through else f"/{group}@_here_: own"
    outer = f"{'# @package _global_' * (through == 'experiment')}\ndefaults:\n  - {option}\n"
    assert told in read_chosen(written(tmp_path, {**files, f"{through}/outer.yaml": outer}), f"{through}=outer")


@pytest.mark.parametrize("name", ["hydra/job_logging/own.yaml", "./hydra/own.yaml", "model/../hydra/own.yaml"])
def test_no_file_of_a_folder_named_hydra_is_taken(name: str) -> None:
    with pytest.raises(ConfigError, match="a folder named hydra"):
        check_config_file(Path("/own", name), name, "{}")


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_chosen_is_not_read(kind: str, tmp_path: Path) -> None:
    files = {f"other/{name}": content for name, content in FOREIGN[kind][0].items()}
    written(tmp_path, {**files, **FOREIGN[kind][0], "model/mine.yaml": "builder: mlp\ndense_widths: [8]\n"})
    (job,) = compose_jobs(["--config-dir", str(tmp_path), *QUICK, "model=mine"])
    assert job.config.settings["model"]["dense_widths"] == [8]


@pytest.mark.parametrize("line", ["epoch: 3", "trian: {epochs: 3}", "data: {dri: x}"])
def test_a_mistake_in_a_recipe_of_ones_own_is_located_in_it(line: str, tmp_path: Path) -> None:
    sentence = read_chosen(
        written(tmp_path, {"experiment/own.yaml": f"# @package _global_\n{line}\n"}), "experiment=own"
    )
    assert f"({tmp_path}/experiment/own.yaml): unknown key" in sentence


@pytest.mark.parametrize("flag", ["--cfg=job", "--info=config", "--help"])
def test_no_question_reads_a_file_of_the_folder_unchecked(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the key hydra"):
        compose_jobs([flag, "--config-dir", str(written(tmp_path, FOREIGN["a recipe"][0])), "experiment=own"])


@pytest.mark.parametrize("flag", ["--config-dir", "-cd", "--config-d"])
def test_every_spelling_of_the_flag_has_its_folder_searched(
    flag: str, warm_sweep: Command, trapped: Path, tmp_path: Path
) -> None:
    own = written(tmp_path / "own", FOREIGN["a recipe"][0])
    check_refused(warm_sweep(flag, str(own), *QUICK, "experiment=own", cwd=trapped), trapped)


# What the search of the folder does not see, and Hydra would act on.
UNSEEN: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a file outside of it": (
        {"out.yaml": f"# @package _global_\nhydra:\n  callbacks:\n    {CALLBACK}", "own/model/a.yaml": "{}"},
        ("experiment=../../out",),
    ),
    "logging outside of it": (
        {"out.yaml": "# @package _global_\nhydra:\n  job_logging: {handlers: {x: {class: trap.Handler}}}\n"},
        ("-m", "experiment=../../out,model_3"),
    ),
    "a hidden folder": (
        {
            "own/.hidden/x.yaml": f"# @package hydra.callbacks\n{CALLBACK}",
            "own/experiment/own.yaml": "# @package _global_\ndefaults:\n  - /.hidden: x\n",
        },
        ("experiment=own",),
    ),
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_no_search_of_files_finds_is_refused_once_composed(
    kind: str, warm_sweep: Command, trapped: Path, tmp_path: Path
) -> None:
    files, words = UNSEEN[kind]
    written(tmp_path / "x", {"own/model/any.yaml": "{}", **files})
    check_refused(warm_sweep("--config-dir", str(tmp_path / "x" / "own"), *words, *QUICK, cwd=trapped), trapped)


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--cfg=job", "--info=config"])
@pytest.mark.parametrize("override", NAMING_CODE)
def test_no_question_to_hydra_spares_an_override_its_check(flag: str, override: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(override)):
        check([flag, override, *QUICK])


@pytest.mark.parametrize(
    ("flag", "override"),
    list(zip(("--help", "--hydra-help", "--cfg=job", "--info=config"), (*NAMING_CODE, *NAMING_CODE), strict=True)),
)
def test_no_question_to_hydra_runs_what_it_names(flag: str, override: str, warm_sweep: Command, trapped: Path) -> None:
    check_refused(warm_sweep(flag, override, *QUICK, cwd=trapped), trapped)


def test_help_does_not_configure_logging_with_what_is_outside_of_the_folder(
    warm_sweep: Command, trapped: Path, tmp_path: Path
) -> None:
    files, _ = UNSEEN["logging outside of it"]
    written(tmp_path / "x", {"own/model/any.yaml": "{}", **files})
    words = ("--help", "experiment=../../out")
    check_refused(warm_sweep("--config-dir", str(tmp_path / "x" / "own"), *words, *QUICK, cwd=trapped), trapped)


TRAPPED_LOGGING = "hydra_logging: {handlers: {x: {class: trap.Handler}}, root: {handlers: [x]}}"


@pytest.mark.parametrize("other", [("-sc",), ("-c", "job"), ("--hydra-help",), ("--info",)])
def test_a_second_question_does_not_spare_the_first_one_its_check(
    other: tuple[str, ...], warm_sweep: Command, trapped: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "x" / "own"
    written(
        folder.parent, {"own/model/any.yaml": "{}", "out.yaml": f"# @package _global_\nhydra: {{{TRAPPED_LOGGING}}}\n"}
    )
    done = warm_sweep("-h", *other, "--config-dir", str(folder), "experiment=../../out", *QUICK, cwd=trapped)
    assert not (tmp_path / "ran").exists()
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "exclude each other" in done.stderr


def test_help_comes_from_the_config_that_was_checked(warm_sweep: Command, trapped: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    words = ("--help", "--config-dir", str(own), "experiment=own")
    recipe = "# @package _global_\ndefaults:\n  - /.hidden: {}\n"
    written(own, {".hidden/plain.yaml": "{}", ".hidden/1.yaml": f"# @package _global_\nhydra: {{{TRAPPED_LOGGING}}}\n"})
    # What Hydra's own composing for --help would find changed is not read at all.
    written(own, {"experiment/own.yaml": recipe.format("${oc.env:HYDRA_FULL_ERROR,plain}")})
    done = warm_sweep(*words, cwd=trapped)
    assert not (tmp_path / "ran").exists()
    assert done.returncode == ExitCode.CONFIG
    assert "may not read the environment variable HYDRA_FULL_ERROR" in done.stderr
    written(own, {"experiment/own.yaml": recipe.format("plain")})
    done = warm_sweep(*words, cwd=trapped)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("^experiment: .*model_3.* own", done.stdout, re.MULTILINE)


def test_what_is_completed_makes_hydra_import_nothing(warm_sweep: Command, trapped: Path) -> None:
    line = "python fmnist_sweep hydra.searchpath=[pkg://trap] optimizer=ad"
    check_refused(warm_sweep("-sc", "query=bash", cwd=trapped, environment={"COMP_LINE": line}), trapped)


def test_what_is_begun_of_hydras_settings_is_completed(warm_sweep: Command, trapped: Path) -> None:
    line = "python fmnist_sweep hydra.verbose=true hydra.mo"
    done = warm_sweep("-sc", "query=bash", cwd=trapped, environment={"COMP_LINE": line})
    assert (done.returncode, done.stdout.split()) == (0, ["hydra.mode="]), done.stderr


def test_completion_without_a_line_is_one_sentence(tmp_path: Path) -> None:
    ended = run_command("-sc", "query=bash", cwd=tmp_path, environment=clean_environment())
    assert ended.returncode == ExitCode.CONFIG
    assert "COMP_LINE" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        *(("-m", "--cfg", "job"), ("-m", "--info"), ("--run", "-sc"), ("-c", "job", "-i"), ("-r", "-m")),
        *(("--help", "--cfg", "job"), ("--hydra-help", "-sc")),
    ],
)
def test_options_that_exclude_each_other_are_refused_before_anything_is_composed(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    ended = run_command("model.nosuch=3", *words, cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert re.fullmatch("fmnist_sweep: --.* and --.* exclude each other: give one of them.\n", ended.stderr)


@pytest.mark.parametrize("override", ["+hydra.callbacks.x._target_=trap.Callback", "hydra.searchpath=[pkg://trap]"])
def test_what_is_composed_within_another_command_is_checked_as_well(override: str) -> None:
    with pytest.raises(ConfigError, match="a config is data"):
        compose_job([override])


def test_no_config_is_composed_without_its_check() -> None:
    calls = [
        (path.name, line.strip())
        for path in sorted((ROOT / "fmnist_sweep" / "config").glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(hydra\.(compose|main)|load_configuration)\(|hydra\._internal.* import", line)
    ]
    assert calls == [
        ("arguments.py", "from hydra._internal.utils import get_args_parser"),
        ("command_line.py", "ask = hydra.main(str(find_conf_folder()), MAIN_CONFIG, VERSION_BASE)"),
        ("compose.py", "config = hydra.compose(name, list(overrides), return_hydra_config=True)"),
    ]


@pytest.mark.parametrize("flag", ["--config-path", "-cp", "--config-name", "-cn", "--config-n", "--config-p"])
def test_another_main_config_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="experiment=NAME"):
        check([flag, "pkg://trap"])


def test_no_pickle_of_a_config_is_read() -> None:
    with pytest.raises(ConfigError, match="pickle"):
        check(["--experimental-rerun=config.pickle"])


def test_a_folder_of_plain_configs_is_taken_whatever_else_lies_in_it(tmp_path: Path) -> None:
    files = {
        "model/own.yaml": "# as hydra reads it\nbuilder: mlp\ndense_widths: [8]\n",
        "broken.yaml": "hydra: [\n",
        "loop.yaml": "a: &a [*a, hydra]\n",
        "tagged.yaml": "hydra: !!python/object/apply:os.system [touch ran]\n",
        ".venv/hydra/config.yaml": "_target_: x\n",
        "notes.txt": "_target_: x\n",
    }
    assert check(["--config-dir", str(written(tmp_path, files)), *QUICK]) == tmp_path
    assert not Path("ran").exists()


@pytest.mark.parametrize("key", ["1", "off", "2.5"])
def test_a_key_that_is_no_text_is_refused_by_name(key: str, tmp_path: Path) -> None:
    own = written(tmp_path / "own", {"experiment/own.yaml": f"# @package _global_\n{key}: 3\n"})
    ended = run_command("--config-dir", str(own), *QUICK, "experiment=own", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert f"{ {'off': 'false'}.get(key, key) }=3" in ended.stderr


def test_a_config_that_is_no_yaml_is_one_sentence_that_names_it(
    warm_sweep: Command, trapped: Path, tmp_path: Path
) -> None:
    own = written(tmp_path / "own", {"model/own.yaml": "builder: [\n"})
    done = warm_sweep("--config-dir", str(own), *QUICK, "model=own", cwd=trapped)
    assert done.returncode == ExitCode.CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert str(own / "model" / "own.yaml") in done.stderr


def test_a_folder_of_results_is_not_read_for_what_nobody_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, {f"{number}/config.yaml": "model:\n  filters: 3\n" for number in range(3)})

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError(f"it reads {arguments}")

    for name in ("io.open", "os.scandir", "os.listdir"):
        monkeypatch.setattr(name, refuse)
    assert check(["--config-dir", str(tmp_path)]) == tmp_path.resolve()
