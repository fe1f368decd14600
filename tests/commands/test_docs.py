"""The documented commands: each is composed, parsed or run as it stands, and nothing is left undocumented.

A fenced block marked `sh` holds commands. The slow tests also run those of `sh run` as they stand, in an empty folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hydra.core.override_parser.overrides_parser import OverridesParser

from fmnist_sweep.cli.main import main
from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import find_conf_folder
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.training.own_code import activate_plugins
from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS, build_environment
from tests.test_rooms import FOR_ALL, ROOMS

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = {"sh", "text", "yaml", "ini", "python", "dockerfile", ""}
# What can be neither parsed nor composed here, by its first word, and why.
NEITHER = {
    "sbatch": "Slurm",
    "kubectl": "Kubernetes",
    "docker": "containers",
    "ray": "a cluster of Ray",
    "python -m pip": "installs packages",
    "python -m venv": "makes an environment",
    ".": "a shell's environment",
    "cd": "a shell's folder",
    "umask": "a shell's permissions",
    "export": "a shell's variables",
    "read": "asks for a password",
    "eval": "a shell's completion",
    "ssh": "another machine",
    "curl": "a server",
    "mlflow": "a server",
    "openssl": "draws a secret",
    "mkdir": "a shell's folder",
    "tar": "copies a folder",
    "pg_dump": "PostgreSQL",
    "pg_restore": "PostgreSQL",
    "python -c": "Python of one line",
}
COMPLETION_SETUP = "completion"  # the block that defines a function of the shell


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. mark: the words after its first three backticks."""

    page: Path
    line: int
    mark: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def list_blocks() -> Iterator[Block]:
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        start: int | None = None
        for number, line in enumerate(lines, 1):
            if not line.lstrip().startswith("```"):
                continue
            if start is None:
                start = number
                continue
            indent = len(line) - len(line.lstrip())
            mark = tuple(lines[start - 1].strip().removeprefix("```").split())
            yield Block(page, start, mark, "\n".join(each[indent:] for each in lines[start : number - 1]))
            start = None
        assert start is None, f"{page}:{start}: a block without an end"


BLOCKS = tuple(list_blocks())
SHELL_BLOCKS = tuple(block for block in BLOCKS if block.mark[:1] == ("sh",))
RUN_BLOCKS = tuple(block for block in SHELL_BLOCKS if block.mark[1:] == ("run",))


def split_commands(text: str) -> list[list[str]]:
    """The words of each simple command of a shell's text; without comments, redirections and variables before it."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|>")
        lexer.whitespace_split = True
        words: list[str] = []
        skips_next = False
        for word in [*lexer, ";"]:
            if skips_next:
                skips_next = False
            elif set(word) == {">"}:
                skips_next = True
            elif set(word) <= set("();&|"):
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                commands += [words] if words else []
                words = []
            else:
                words.append(word)
    return commands


def list_commands() -> list[tuple[Block, list[str]]]:
    return [
        (block, _name_as_in_a_path(words))
        for block in SHELL_BLOCKS
        if COMPLETION_SETUP not in block.mark
        for words in split_commands(block.text)
    ]


def _name_as_in_a_path(words: list[str]) -> list[str]:
    return [words[0].removeprefix(".venv/bin/"), *words[1:]]


COMMANDS = list_commands()


def select_commands(*beginning: str) -> list[tuple[Block, list[str]]]:
    """The commands that begin with these words, without them."""
    size = len(beginning)
    return [(block, words[size:]) for block, words in COMMANDS if tuple(words[:size]) == beginning]


def find_reason(words: Sequence[str]) -> str | None:
    """Why a command can be neither composed nor parsed; the name in NEITHER, or None when it can."""
    return next((name for name in NEITHER if words[: len(name.split())] == name.split()), None)


def expand_jobs(words: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each job of a `python -m fmnist_sweep` command."""
    parsed = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    choices = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line or ""]
        for each in parsed
    ]
    assert "-m" in words or all(len(values) == 1 for values in choices), "several values need -m"
    for job in product(*choices):
        yield list(job)


@cache
def check_job(overrides: tuple[str, ...]) -> None:
    compose_job(overrides)


def test_every_block_says_what_it_is_and_no_command_hides_in_an_indented_one() -> None:
    assert len(SHELL_BLOCKS) > 30
    for block in BLOCKS:
        assert (*block.mark, "")[0] in LANGUAGES, f"{block}: {block.mark}"
        assert not block.mark[1:] or block in RUN_BLOCKS or COMPLETION_SETUP in block.mark, block
    for page in PAGES:
        hidden = re.findall(r"^    (?:python|fmnist-sweep|make) .*", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert not hidden, f"{page}: {hidden}"


def test_every_command_is_of_a_kind_that_is_checked_here_or_named_as_one_that_cannot_be() -> None:
    checked = ("python -m fmnist_sweep", "fmnist-sweep", "make", "pytest", "deploy/tracking-server.sh", ".ci/run")
    reasons = set()
    for block, words in COMMANDS:
        is_script = words[0] == "python" and words[1].endswith(".py")
        reason = find_reason(words)
        reasons.add(reason)
        is_checked = is_script or any(words[: len(each.split())] == each.split() for each in checked)
        assert is_checked != (reason is not None), f"{block}: {shlex.join(words)}"
    assert reasons - {None} == set(NEITHER), "a name in the list that no page needs"


def test_every_documented_sweep_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = select_commands("python", "-m", "fmnist_sweep")
    assert len(sweeps) > 20
    for block, words in sweeps:
        if "--help" in words:
            continue
        if "plugins=my_models.py" in words:  # in the project that `fmnist-sweep new` writes
            monkeypatch.chdir(ROOT / "fmnist_sweep/assets/project")
            assert compose_jobs(words)
            activate_plugins([])
            continue
        for overrides in expand_jobs(words):
            try:
                check_job(tuple(overrides))
            except Exception as error:
                raise AssertionError(f"{block}: {shlex.join(words)}: {error}") from error


def test_the_refusals_that_the_docs_show_are_what_is_said() -> None:
    shown = "\n".join(block.text for block in BLOCKS if block.mark == ("text",) and block.text.startswith("$ "))
    refusals = re.findall(r"^\$ python -m fmnist_sweep (.*)\nfmnist_sweep: ([^$]*)", shown, re.MULTILINE)
    assert len(refusals) > 1
    for overrides, sentence in refusals:
        with pytest.raises(ConfigError) as refused:
            compose_job(shlex.split(overrides))
        assert str(refused.value).split() == sentence.split()


def test_every_exit_code_is_documented_and_no_other() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == [code.value for code in ExitCode]


def parse_verb(words: Sequence[str]) -> None:
    """Parse a `fmnist-sweep` command as click does, without running it."""
    command: click.Command = main
    context: click.Context | None = None
    rest = list(words)
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context)
        assert rest, "a verb is missing"
        name = rest.pop(0)
        if name == "--help":
            return
        verb = command.get_command(context, name)
        assert verb is not None, f"no verb {name}"
        command = verb
    parsed = command.make_context(command.name, rest, parent=context)
    if command.name in ("promote", "data"):
        check_job(("search=grid", *parsed.params["overrides"]))


def test_every_documented_verb_parses() -> None:
    verbs = select_commands("fmnist-sweep")
    assert len(verbs) > 20
    for block, words in verbs:
        try:
            parse_verb(words)
        except click.ClickException as error:
            raise AssertionError(f"{block}: {shlex.join(words)}: {error.format_message()}") from error


def test_what_is_passed_to_make_and_pytest_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block, words in select_commands("make"):
        for word in words:
            name, is_variable, value = word.partition("=")
            pattern = rf"\b{name}\b.*=|\$\({name}\)|\$\(if \$\({name}\)" if is_variable else rf"^{name}:"
            assert re.search(pattern, makefile, re.MULTILINE), f"{block}: {word}"
            check_paths(block, shlex.split(value))
    for block, words in select_commands("pytest"):
        check_paths(block, words)


def check_paths(block: Block, words: Sequence[str]) -> None:
    for word in words:
        assert not word.startswith("tests/") or (ROOT / word.split("::")[0]).exists(), f"{block}: {word}"


def test_every_documented_script_exists_and_has_the_options_it_is_given() -> None:
    scripts = [(block, words) for block, words in COMMANDS if re.search(r"\.(py|sh)$| \.ci/run", " ".join(words[:2]))]
    for block, words in scripts:
        path, *arguments = words[1:] if words[0] == "python" else words
        source = (ROOT / path).read_text(encoding="utf-8")
        for argument in arguments:
            assert not argument.startswith("--") or argument.split("=")[0] in source, f"{block}: {argument}"


@pytest.fixture(scope="module")
def shell_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which `python` and `fmnist-sweep` are those of this checkout."""
    folder = tmp_path_factory.mktemp("bin")
    scripts = {
        "python": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n',
        "fmnist-sweep": f"#!{sys.executable}\nfrom fmnist_sweep.cli.main import main\n\nmain()\n",
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return build_environment({"PATH": path, "PYTHONPATH": str(ROOT)})


def run_shell(text: str, folder: Path, environment: dict[str, str]) -> str:
    """What bash prints for this text; every command must end with code 0."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_blocks_are_run() -> None:
    assert {block.page.name for block in RUN_BLOCKS} >= {"README.md"}


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN_BLOCKS, ids=str)
def test_a_marked_block_runs_as_it_stands(block: Block, tmp_path: Path, shell_environment: dict[str, str]) -> None:
    run_shell(block.text, tmp_path, shell_environment)


def test_the_documented_completion_completes(tmp_path: Path, shell_environment: dict[str, str]) -> None:
    (setup,) = [block.text for block in SHELL_BLOCKS if COMPLETION_SETUP in block.mark]
    line = "python -m fmnist_sweep -m data=drawn optimizer=ad"
    words = shlex.join(line.split())
    ask = f"COMP_LINE='{line}'; COMP_WORDS=({words}); _complete_fmnist_sweep; echo ${{COMPREPLY[*]}}"
    shown = run_shell(f"set +eu\n{setup}\n{ask}", tmp_path, shell_environment)
    assert shown.split() == ["optimizer=adam", "optimizer=adamw"]


def test_the_documented_completion_of_verbs_completes(tmp_path: Path, shell_environment: dict[str, str]) -> None:
    (setup,) = [block.text for block in SHELL_BLOCKS if "_FMNIST_SWEEP_COMPLETE" in block.text]
    ask = "COMP_WORDS=(fmnist-sweep pro); COMP_CWORD=1; _fmnist_sweep_completion fmnist-sweep; echo ${COMPREPLY[*]}"
    assert run_shell(f"set +eu\n{setup}\n{ask}", tmp_path, shell_environment).split() == ["promote"]


@pytest.mark.parametrize("name", main.commands)
def test_every_verb_has_help(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 4


def test_every_verb_and_every_option_group_is_documented() -> None:
    for verb in main.commands:
        assert any(words[:1] == [verb] for _, words in select_commands("fmnist-sweep")), f"fmnist-sweep {verb}"
    table = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for path in find_conf_folder().glob("[!h]*/*.yaml"):
        group, option = path.parent.name, path.stem
        (row,) = re.findall(rf"^\| `{group}` \|.*$", table, re.MULTILINE)
        assert f"`{option}`" in row, f"{group}={option}"


def test_every_link_of_a_page_leads_somewhere_and_the_index_has_every_page() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("[!R]*.md"):
        assert f"({page.name})" in index, page.name


def test_every_file_that_a_page_names_exists() -> None:
    for page in PAGES:
        for path in re.findall(
            r"`((?:tests|fmnist_sweep|conf|deploy|benchmarks)/[\w./]+)`", page.read_text(encoding="utf-8")
        ):
            assert "NAME" in path or "OPTION" in path or (ROOT / path).exists(), f"{page}: {path}"


def test_the_architecture_names_every_room_and_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for room in ROOMS:
        folder = ROOT / "fmnist_sweep" / room
        modules = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("[!_]*.py")}
        (names,) = re.findall(rf"^\| `{room}` \|.*\|(.*)\|$", text, re.MULTILINE)
        assert set(re.findall(r"`(.+?)`", names)) == modules, room


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_drawing_of_the_rooms_is_the_order_that_imports_are_held_to(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (drawing,) = [line for line in text.splitlines() if line.startswith("cli > ")]
    assert tuple(drawing.split(" > ")) == ROOMS
    (shared,) = [line for line in text.splitlines() if line.startswith("every room may import: ")]
    assert set(shared.partition(": ")[2].split(", ")) == FOR_ALL


def test_every_dependency_has_a_reason() -> None:
    import tomllib

    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        name = re.split(r"[<>=\[ ]", requirement)[0]
        assert f"**{name}**" in page, f"{name} has no reason in docs/installing.md"
