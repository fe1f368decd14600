"""Where the champion has been: the history in the registry, and the way back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fmnist_sweep.cli.registry import history, rollback
from fmnist_sweep.errors import PromotionRefused, StoreError
from fmnist_sweep.tracking.aliases import Move, MoveKind, list_moves, move_alias, read_alias_states, roll_back_champion
from fmnist_sweep.tracking.models import KERAS_FILE
from fmnist_sweep.tracking.names import MODEL_NAME
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION, find_aliased_version
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.support.process import LIMIT_SECONDS
from tests.support.versions import Logged, clear_registry, register_run


@pytest.fixture
def store(filled: tuple[Store, list[Logged]]) -> Iterator[Store]:
    """That store, with four versions and no alias."""
    clear_registry(filled[0])
    for one in filled[1]:
        register_run(filled[0], one)
    yield filled[0]


def _move(store: Store, version: str, alias: str = CHAMPION, kind: MoveKind = "promoted") -> Move:
    with lock_registry(store):
        return move_alias(store, alias, version, kind=kind, why="a test.", command="fmnist-sweep promote")


def _champion(store: Store) -> str | None:
    version = find_aliased_version(store, CHAMPION)
    return None if version is None else version.number


def _steps(store: Store) -> list[tuple[str | None, str, str]]:
    return [(move.previous, move.version, move.kind) for move in list_moves(store) if move.completed]


def test_a_move_is_told_with_what_the_registry_itself_keeps(store: Store) -> None:
    with lock_registry(store):
        move_alias(
            store,
            CHAMPION,
            "2",
            kind="promoted",
            why="0.9312 on the test images, 0.004 more than version 1.",
            command="fmnist-sweep promote --uri http://ada:secret@host:5000",
        )
    (told,) = list_moves(store)
    assert (told.number, told.alias, told.version, told.previous, told.completed) == (1, CHAMPION, "2", None, True)
    assert told.why == "0.9312 on the test images, 0.004 more than version 1."
    assert told.command == "fmnist-sweep promote --uri http://***@host:5000"
    assert told.user
    assert datetime.fromisoformat(told.time).utcoffset() is not None
    tags = store.client.get_registered_model(MODEL_NAME).tags
    assert list(tags) == ["fmnist.move.0001"]
    assert json.loads(tags["fmnist.move.0001"])["version"] == "2"
    assert "secret" not in str(tags)


def test_what_is_so_already_is_not_told_twice(store: Store) -> None:
    first = _move(store, "1")
    assert _move(store, "1") == first
    _move(store, "2")
    _move(store, "2", CHALLENGER, "challenger")
    _move(store, "2")
    _move(store, "2", CHALLENGER, "challenger")
    assert _steps(store) == [(None, "1", "promoted"), ("1", "2", "promoted"), (None, "2", "challenger")]
    assert [move.number for move in list_moves(store)] == [1, 2, 3]


def test_more_words_than_the_registrys_database_takes_are_cut(store: Store) -> None:
    with lock_registry(store):
        for version, words in (("1", "é" * 9000), ("2", "\x01" * 9000), ("3", "\udcff" * 10)):
            move_alias(store, CHAMPION, version, kind="promoted", why=words, command=words)
    tags = store.client.get_registered_model(MODEL_NAME).tags
    assert max(len(value) for value in tags.values()) <= 5000
    assert list_moves(store)[0].why.startswith("ééé")
    assert len(list_moves(store)) == 3


def test_the_moves_stay_in_order_past_four_digits(store: Store) -> None:
    _move(store, "1")
    tags = store.client.get_registered_model(MODEL_NAME).tags
    store.client.set_registered_model_tag(MODEL_NAME, "fmnist.move.9999", tags["fmnist.move.0001"])
    _move(store, "2")
    assert [move.number for move in list_moves(store)] == [1, 9999, 10000]


def test_a_version_that_is_not_there_leaves_no_move(store: Store) -> None:
    with pytest.raises(StoreError, match="there are versions 4, 3, 2, 1"):
        _move(store, "9")
    assert list_moves(store) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json", '{"version": 3}'])
def test_a_tag_that_holds_no_move_is_named_left_out_and_kept(
    store: Store, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _move(store, "1")
    store.client.set_registered_model_tag(MODEL_NAME, "fmnist.move.0002", text)
    assert [move.number for move in list_moves(store)] == [1]
    assert "left out 1 tag" in (told := capsys.readouterr().err) and "fmnist.move.0002" in told
    _move(store, "2")
    assert [move.number for move in list_moves(store)] == [1, 3]
    assert get_registered_model_tags(store)["fmnist.move.0002"] == text


def get_registered_model_tags(store: Store) -> dict[str, str]:
    tags: dict[str, str] = store.client.get_registered_model(MODEL_NAME).tags
    return tags


def test_a_move_after_which_there_is_no_number_is_named(store: Store) -> None:
    _move(store, "1")
    taken = get_registered_model_tags(store)["fmnist.move.0001"]
    store.client.set_registered_model_tag(MODEL_NAME, "fmnist.move.999999999", taken)
    with pytest.raises(StoreError, match=r"fmnist\.move\.999999999"):
        _move(store, "2")


def test_two_rollbacks_in_a_row_go_two_steps_back(store: Store) -> None:
    for version in ("1", "2", "3"):
        _move(store, version)
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "2"
    assert _champion(store) == "2"
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"
    with pytest.raises(PromotionRefused, match=r"before version 1; name one with --to \(2, 3 can be named\)"):
        roll_back_champion(store, None, "fmnist-sweep rollback")
    assert _champion(store) == "1"
    assert _steps(store)[3:] == [("3", "2", "rolled back"), ("2", "1", "rolled back")]
    _move(store, "4")
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"


def test_a_rollback_to_a_named_version_leads_only_to_one_that_was_champion(store: Store) -> None:
    for version in ("1", "2", "3"):
        _move(store, version)
    for to, told in (
        ("3", "is already the champion: name an earlier champion (1, 2 can be named)"),
        ("champion", "is already the champion"),
        ("4", "was never champion"),
    ):
        with pytest.raises(PromotionRefused) as refused:
            roll_back_champion(store, to, "fmnist-sweep rollback")
        assert told in str(refused.value)
    with pytest.raises(StoreError):
        roll_back_champion(store, "9", "fmnist-sweep rollback")
    assert roll_back_champion(store, "1", "fmnist-sweep rollback").previous == "3"
    # A step forward again, to one that was rolled back from: what was before it now is version 1.
    assert roll_back_champion(store, "models:/fashion-mnist/3", "fmnist-sweep rollback").version == "3"
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"


def test_with_no_champion_before_there_is_nothing_to_roll_back_to(store: Store) -> None:
    with pytest.raises(PromotionRefused, match="nothing to roll back to"):
        roll_back_champion(store, None, "fmnist-sweep rollback")
    _move(store, "1")
    with pytest.raises(PromotionRefused, match="was champion before version 1"):
        roll_back_champion(store, None, "fmnist-sweep rollback")
    assert _champion(store) == "1"


def test_a_version_that_was_deleted_is_passed_over(store: Store) -> None:
    for version in ("1", "2", "3"):
        _move(store, version)
    store.client.delete_model_version(MODEL_NAME, "2")
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"
    _move(store, "4")
    store.client.delete_model_version(MODEL_NAME, "4")  # and the alias with it
    assert _champion(store) is None
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"


def test_a_model_that_was_altered_never_becomes_champion_again(
    store: Store, filled: tuple[Store, list[Logged]]
) -> None:
    _move(store, "1")
    _move(store, "2")
    location = store.client.get_logged_model(filled[1][0].model_id).artifact_location.removeprefix("file://")
    file = Path(location, KERAS_FILE)
    file.write_bytes(filled[1][1].content)
    try:
        with pytest.raises(PromotionRefused, match="was altered"):
            roll_back_champion(store, None, "fmnist-sweep rollback")
    finally:
        file.write_bytes(filled[1][0].content)
    assert _champion(store) == "2"
    assert len(list_moves(store)) == 2


def _by_hand(store: Store, version: str) -> None:
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, version)


def test_an_alias_moved_by_hand_is_told_apart_and_taken_into_account(store: Store) -> None:
    _by_hand(store, "1")
    assert list_moves(store) == []
    assert read_alias_states(store)[CHAMPION].is_manual
    assert not read_alias_states(store)[CHALLENGER].is_manual
    _move(store, "2")
    assert not read_alias_states(store)[CHAMPION].is_manual
    _by_hand(store, "3")
    standing = read_alias_states(store)[CHAMPION]
    assert (standing.is_manual, standing.version) == (True, "3")
    assert standing.newest_move is not None
    assert standing.newest_move.completed
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "2"
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"
    assert not read_alias_states(store)[CHAMPION].is_manual


def test_a_champion_moved_back_by_hand_can_be_promoted_again(store: Store) -> None:
    _move(store, "1")
    _move(store, "2")
    _by_hand(store, "1")
    _move(store, "2")
    assert _champion(store) == "2"
    assert _steps(store) == [(None, "1", "promoted"), ("1", "2", "promoted"), ("1", "2", "promoted")]
    assert roll_back_champion(store, None, "fmnist-sweep rollback").version == "1"


def _verb(store: Store, verb: str, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(
        history if verb == "history" else rollback,
        ["--uri", store.uri, *arguments],
        catch_exceptions=False,
    )


def test_the_history_lists_versions_and_moves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.client.set_model_version_tag(MODEL_NAME, "1", "fmnist.test_accuracy", "0.91234")
    store.client.set_model_version_tag(MODEL_NAME, "1", "fmnist.verdict", "no worse [bold]")
    _move(store, "1")
    _move(store, "2")
    monkeypatch.setattr(sys, "argv", ["fmnist-sweep", "rollback", "--to", "1"])
    done = _verb(store, "rollback", "--to", "1")
    assert "models:/fashion-mnist@champion is now version 1 (before: version 2)" in done.output
    told = _verb(store, "history").output
    for words in ("0.9123", "no worse [bold]", "filters 4", "champion", "fmnist-sweep rollback --to 1", "rolled back"):
        assert words in told
    assert "by other means" not in told
    _by_hand(store, "3")
    assert "champion points at version 3" in _verb(store, "history").output


def test_the_history_of_a_move_that_was_cut_short_says_how_it_is_completed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    _move(store, "1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store.client, "set_registered_model_alias", fails)
        _move(store, "2")
    told = _verb(store, "history").output
    assert "move 2 to version 2 was interrupted" in told
    assert "(interrupted)" in told


def test_an_empty_registrys_history_says_how_it_begins(filled: tuple[Store, list[Logged]]) -> None:
    clear_registry(filled[0])
    assert "fmnist-sweep promote" in _verb(filled[0], "history").output


def test_help_of_the_verbs_needs_neither_mlflow_nor_tensorflow() -> None:
    script = (
        "import sys; from fmnist_sweep.cli import registry as verbs\n"
        "for verb in (verbs.history, verbs.rollback):\n"
        "    verb.main(['--help'], standalone_mode=False)\n"
        "assert not {'mlflow', 'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=LIMIT_SECONDS, capture_output=True)
