"""What others wrote into a store: damaged descriptions end in one sentence, and no name steers the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from click.testing import CliRunner, Result
from mlflow.entities import Run
from rich.text import Text

from fmnist_sweep.cli import studies as progress
from fmnist_sweep.cli.main import main
from fmnist_sweep.cli.studies import StudyProgress
from fmnist_sweep.errors import DataError, ExitCode, StoreError
from fmnist_sweep.report import terminal
from fmnist_sweep.report.leaderboard import LeaderboardEntry
from fmnist_sweep.text import create_console, make_lines_printable, make_printable
from fmnist_sweep.tracking import aliases as moves
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import store as stores
from fmnist_sweep.tracking.datasets import count_validation_images
from fmnist_sweep.tracking.run_files import log_files
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.trial_data import build_data_config, load_trial_splits
from fmnist_sweep.tracking.trials import StoredTrial, read_trials
from tests.conftest import Command

# Clears the screen, sets the window's title, goes back over the line, begins one of its own, turns the text round.
EVIL = "good\x1b[2J\x1b]0;owned\x07\r\x9b31m\nforged line\u202e"
SPELLED = r"good\x1b[2J\x1b]0;owned\x07\r\x9b31m\nforged line\u202e"
STEERING = "\x1b\x07\r\x9b\u202e"
SECTION = {"source": "drawn", "limit": None, "validation": 0.2, "split_seed": 0, "images": 200, "drawn_seed": 0}


# --- a trial's config.yaml


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two trials whose names, parameters and failures steer a terminal."""
    made = stores.open_store(stores.build_default_uri(tmp_path_factory.mktemp("hostile")), "fashion-mnist")
    for number in range(2):
        ids = {"fmnist.study_id": "s1", "fmnist.trial_id": f"000{number}"}
        run_id = start_run(made, RunInfo("trial", EVIL, ids, "a test"), may_exist=False)
        made.client.set_tag(run_id, "fmnist.data", "drawn:0ce7efdbf3a4")
        made.client.set_tag(run_id, "fmnist.failure", EVIL)
        made.client.log_param(run_id, "model.builder", f"{number}{EVIL}")
        made.client.set_terminated(run_id, "FAILED")
    return made


@pytest.fixture
def trial(store: Store) -> StoredTrial:
    return read_trials(store, {})[0]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "a second folder": (yaml.safe_dump({"data": {**SECTION, "dir": "/etc"}}).encode(), "the key dir"),
    "an unknown key": (yaml.safe_dump({"data": {**SECTION, "shell": "rm"}}).encode(), "shell"),
    "a wrong type": (yaml.safe_dump({"data": {**SECTION, "validation": "much"}}).encode(), "validation"),
    "a missing key": (b"data: {source: drawn}\n", "limit"),
    "keys that are no words": (b"data: {1: 2, source: drawn}\n", "1"),
    "a million million images": (yaml.safe_dump({"data": {**SECTION, "images": 10**12}}).encode(), "1000000;"),
    "a number past all floats": (yaml.safe_dump({"data": {**SECTION, "images": 10**400}}).encode(), "1000000;"),
    "more than can be drawn of": (yaml.safe_dump({"data": {**SECTION, "limit": 10**12}}).encode(), "limit"),
    "no mapping": (b"- data\n", "found none"),
    "a section that is none": (b"data: [drawn]\n", "found a list"),
    "nothing": (b"", "found none"),
    "code": (b"data: !!python/object/apply:os.system [touch ran]\n", "ConstructorError"),
    "no YAML": (b"data: {", "ParserError"),
    "no text": (b"\xff\xfe\x00\x01", "found none"),
    "no end of brackets": (b"[" * 5000, "found none"),
    "no such day": (b"data: 2020-99-99", "ValueError"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_foreign_config_yaml_is_one_sentence_that_names_the_trial(
    damage: str, store: Store, trial: StoredTrial, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, said = DAMAGED[damage]
    monkeypatch.chdir(tmp_path)
    log_files(store, trial.run_id, {"config.yaml": content})
    with pytest.raises(DataError) as refused:
        load_trial_splits(store, trial, None)
    told = str(refused.value)
    assert said in told
    assert trial.run_id in told or "limit" in said
    assert (len(told.splitlines()), told[-1]) == (1, ".")
    assert list(tmp_path.iterdir()) == []


def test_a_config_yaml_as_a_sweep_writes_it_is_read(store: Store, trial: StoredTrial) -> None:
    log_files(store, trial.run_id, {"config.yaml": yaml.safe_dump({"data": SECTION}).encode()})
    with pytest.raises(DataError, match="was scored on drawn:0ce7efdbf3a4"):  # so that the section was taken
        load_trial_splits(store, trial, None)
    assert build_data_config(SECTION, "here").dir == "here"


@pytest.mark.parametrize("profile", ["", "{", "[]", "7", '{"images": "many"}', '{"images": -1}', '{"images": true}'])
def test_a_damaged_dataset_says_nothing_of_how_many_images_there_were(profile: str) -> None:
    logged = SimpleNamespace(dataset=SimpleNamespace(profile=profile), tags=[SimpleNamespace(value="validation")])
    run = SimpleNamespace(inputs=SimpleNamespace(dataset_inputs=[logged]))
    assert count_validation_images(cast(Run, run)) is None


# --- names on a terminal


def harmless(shown: str) -> bool:
    return not any(character in shown for character in STEERING) and "forged line" not in shown.splitlines()


def test_a_text_is_printed_with_its_control_characters_spelled_out() -> None:
    assert make_printable(EVIL) == SPELLED
    assert make_lines_printable(EVIL) == SPELLED.replace(r"\n", "\n")
    for plain in ("T-shirt/top · cnn", "0.9000 ± 0.0100", "日本 ✓", "a\u00a0b", ""):
        assert make_printable(plain) == plain


def test_the_console_prints_no_control_character_but_its_own_styles() -> None:
    from rich.table import Table

    shown = io.StringIO()
    console = create_console(file=shown, force_terminal=True, color_system="standard", width=200)
    table = Table("name")
    table.add_row(Text(EVIL))
    for part in (EVIL, Text(EVIL), table):
        console.print(part, markup=False, highlight=False)
    assert harmless(shown.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\nforged line", ""))
    assert r"\x1b[2J" in shown.getvalue()
    console.print("bold", style="bold")
    assert "\x1b[1mbold\x1b[0m" in shown.getvalue()


def invoked(store: Store, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--uri", store.uri], env={"COLUMNS": "400"}, color=True)


def test_names_parameters_and_failures_steer_no_terminal(store: Store, trial: StoredTrial) -> None:
    other = read_trials(store, {})[1]
    listed = invoked(store, "compare", "--columns", "name,failure,model.builder")
    explained = invoked(store, "compare", trial.run_id, other.run_id)
    for done in (listed, explained):
        assert done.exit_code == 0, done.output
        assert r"\x1b[2J" in done.output
        assert harmless(done.output.replace("\nforged line", "")), done.output
    assert trial.name == SPELLED
    assert trial.failure == SPELLED


def test_an_error_that_names_a_trial_is_one_line(store: Store) -> None:
    done = invoked(store, "compare", "s1/0000", EVIL)
    assert done.exit_code == ExitCode.CONFIG
    assert harmless(done.output)
    assert len(done.output.splitlines()) == 1


def test_labels_of_studies_steer_no_terminal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyProgress("a", EVIL, f"running: {EVIL}", "1", None, f"command {EVIL}".replace("\n", ""), EVIL)
    monkeypatch.setattr(progress, "list_study_progress", lambda *_: [study])
    done = invoked(store, "studies")
    assert done.exit_code == 0
    assert harmless(done.output)
    assert SPELLED in done.output


def test_versions_and_moves_steer_no_terminal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"fmnist.name": EVIL, "fmnist.verdict": EVIL, "fmnist.test_accuracy": EVIL}
    version = SimpleNamespace(number="1", created=0, tags=tags, run_id="a")
    monkeypatch.setattr(versions, "list_versions", lambda _: [version])
    monkeypatch.setattr(versions, "read_aliases", lambda _: {EVIL: "1"})
    monkeypatch.setattr(moves, "list_moves", lambda _: [])
    monkeypatch.setattr(moves, "read_alias_states", lambda _: {})
    done = invoked(store, "history")
    assert done.exit_code == 0, done.output
    assert not any(character in done.output for character in STEERING)
    assert r"\x1b[2J" in done.output


def test_a_prediction_names_its_version_harmlessly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    def refused(*_: object) -> None:
        raise StoreError(f"{EVIL} is no version.")

    picture = Image.new("L", (28, 28))
    picture.paste(200, (6, 6, 20, 22))
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(stores, "open_existing_store", lambda *_: None)
    monkeypatch.setattr(versions, "resolve_version", refused)
    done = CliRunner().invoke(main, ["predict", str(tmp_path / "a.png")])
    assert done.exit_code == ExitCode.STORE
    assert harmless(done.output)


def test_what_a_sweep_and_a_promotion_say_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = LeaderboardEntry(trial_id="0", name=EVIL, state="failed", failure=EVIL, **_nothing())
    with terminal.open_view() as view:
        view.say(EVIL)
        view.begin_trial(record, 1, 1)
        view.end_trial(record)
        view.show_leaderboard(EVIL, [record])
    shown = capsys.readouterr().out
    assert shown.count(r"\x1b[2J") == 6
    assert not any(character in shown for character in STEERING)


def _nothing() -> dict[str, Any]:
    from dataclasses import MISSING, fields

    known = ("trial_id", "name", "state", "failure")
    return {
        field.name: None
        for field in fields(LeaderboardEntry)
        if field.name not in known and field.default is MISSING and field.default_factory is MISSING
    }


def test_json_spells_control_characters_out_too(store: Store) -> None:
    done = invoked(store, "compare", "--json")
    assert not any(character in done.output for character in STEERING)
    assert json.loads(done.output)


# --- a picture of the data


def test_the_picture_of_the_data_replaces_no_file_and_nothing_is_read_before(verb: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    done = verb("data", "data.dir=/nowhere", "--picture", str(mine), cwd=tmp_path)
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert done.stderr == f"fmnist-sweep: --picture={mine}: there is a file already; name a new one.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
    assert mine.read_text() == "mine"
