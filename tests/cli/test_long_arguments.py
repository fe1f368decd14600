"""Whatever is typed for an option or argument of a verb, however long, is refused in a few lines, or taken."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fmnist_sweep.cli.main import main

# These run other processes, or a server.
LEFT_OUT = {("ui",), ("documented", "run")}


def list_parameters(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Each verb and the place of one of its parameters that take a value."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from list_parameters(inner, (*words, name))
    elif words not in LEFT_OUT:
        yield from ((words, place) for place, each in enumerate(command.params) if not getattr(each, "is_flag", False))


def build_line(words: tuple[str, ...], place: int, value: str) -> list[str]:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    parameter = command.params[place]
    others = [each for each in command.params if isinstance(each, click.Argument) and each.required]
    line = [*words, *("a" for each in others if each is not parameter)]
    return [*line, value] if isinstance(parameter, click.Argument) else [*line, parameter.opts[0], value]


@pytest.mark.parametrize(
    "value",
    [
        *("x" * 5000, "9" * 5000, "[" * 3000, "a/" * 2000),
        pytest.param(f"sqlite:///{'y' * 5000}", marks=pytest.mark.slow),
    ],
)
def test_a_long_word_is_never_a_traceback_and_never_quoted_whole(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    lines = [build_line(words, place, value) for words, place in list_parameters(main)]
    assert len(lines) > 30
    for line in lines:
        if line[0] == "data" and value == "a/" * 2000:  # a folder that is made, and the data are downloaded first
            continue
        done = CliRunner().invoke(main, line)
        told = "".join(traceback.format_exception(*done.exc_info)) if done.exc_info else ""
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{line[:2]}: {told[-1500:]}"
        assert len(done.output) < 2600, f"{line[:2]}: {done.output[:300]}"
    assert list(tmp_path.iterdir()) == []
