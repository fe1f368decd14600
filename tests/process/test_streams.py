"""A command shows what it has to say on every terminal, and on none."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.process import SWEEP, VERB, run, start

BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
PREPARE = "from fmnist_sweep.process.interpreter import prepare_process; prepare_process(); import sys, os; "
# Text of ours, of a user's, of another script, half of a character, and a byte of a name that is no text.
SAY = PREPARE + r"print('✓ a · b ± c ≈ d – e … ▁█ ü 鞋 \ud83d \udcff', file=sys.std%s)"


def test_every_character_of_the_sources_has_a_plain_one() -> None:
    """What is printed of them; a letter with an accent in somebody's name may be spelled out."""
    from fmnist_sweep.process.streams import _PLAIN

    sources = (path.read_text() for path in (ROOT / "fmnist_sweep").rglob("*.py") if path.name != "streams.py")
    used = {character for source in sources for character in BEYOND_ASCII.findall(source)}
    assert len(used) > 10
    assert used <= _PLAIN.keys()
    assert all(value.isascii() and value.isprintable() for value in _PLAIN.values())


@pytest.mark.parametrize("stream", ["out", "err"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "ascii:strict", "koi8-r"])
def test_a_stream_spells_out_what_its_encoding_lacks(stream: str, encoding: str, tmp_path: Path) -> None:
    ended = run("-c", SAY % stream, cwd=tmp_path, environment={"PYTHONIOENCODING": encoding})
    assert ended.returncode == 0, ended
    shown = ended.stdout if stream == "out" else ended.stderr
    assert r"\ud83d \udcff" in shown
    if encoding.startswith("ascii"):
        assert shown == "+ a - b +/- c ~ d - e ... .# \\xfc \\u978b \\ud83d \\udcff\n"
    if encoding == "utf-8":
        assert shown.startswith("✓ a · b ± c ≈ d – e … ▁█ ü 鞋 ")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_are_opened_so_that_no_file_takes_their_numbers(closed: tuple[int, ...], tmp_path: Path) -> None:
    code = PREPARE + (
        "print('out'); print('err', file=sys.stderr); os.write(2, b'from C'); sys.stdin.read(0)\n"
        "with open('file', 'w') as file: assert file.fileno() > 2, file.fileno()"
    )
    closing = "; ".join(f"os.close({number})" for number in closed)
    start_it = f"os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {code!r}])"
    ended = run("-c", f"import os; {closing}; {start_it}", cwd=tmp_path)
    assert ended.returncode == 0, ended
    assert ended.stdout == ("" if 1 in closed else "out\n")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_a_verb_answers_with_its_code_where_nobody_hears_it(closed: str, tmp_path: Path) -> None:
    numbers = {"stdout": (1,), "stderr": (2,), "both": (1, 2)}[closed]
    closing = "; ".join(f"os.close({number})" for number in numbers)
    words = f"[sys.executable, *{VERB!r}, 'compare']"
    ended = run("-c", f"import os, sys; {closing}; os.execv(sys.executable, {words})", cwd=tmp_path)
    assert ended.returncode == 4, ended  # there is no store


def test_a_verb_whose_reader_goes_away_ends_without_a_word_about_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(*VERB, "--help", cwd=tmp_path, stdout=writing) as process:
        os.close(writing)
        ended = process.end()
    assert ended.stderr == "" and ended.returncode in (0, 1)


def test_a_full_disk_behind_standard_output_is_said_in_a_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full, start(*VERB, "--help", cwd=tmp_path, stdout=full.fileno()) as process:
        ended = process.end()
    assert ended.returncode == 4
    assert ended.stderr.startswith("fmnist-sweep: standard output cannot be written (No space left on device)")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("option", [("PYTHONWARNINGS", "error"), ("PYTHONWARNINGS", "default,error::UserWarning")])
def test_warnings_are_no_errors_neither_here_nor_in_children(option: tuple[str, str], tmp_path: Path) -> None:
    code = PREPARE + "import warnings; warnings.warn('x'); print(repr(os.environ['PYTHONWARNINGS']))"
    ended = run("-c", code, cwd=tmp_path, environment=dict([option]))
    assert ended.returncode == 0, ended
    assert "error" not in ended.stdout
    assert run("-W", "error", "-c", PREPARE + "import warnings; warnings.warn('x')", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("code", [0, 4])
def test_the_sweep_command_answers_a_lost_reader_and_a_full_disk_in_the_same_way(code: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    with start(*SWEEP, "--version", cwd=tmp_path, stdout=full if code else writing) as process:
        ended = process.end()
    os.close(writing)
    os.close(full)
    assert ended.returncode == code
    assert ended.stderr.count("\n") == bool(code) and "Traceback" not in ended.stderr
