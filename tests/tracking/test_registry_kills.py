"""What a kill at any step leaves of a move, a rollback or a registration, and the same command again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fmnist_sweep.tracking.store import Store
from tests.support.versions import Logged, run_forks

# The process is killed before and after each call of the client that changes something; what it reads between them
# changes nothing. Loading a model changes nothing either, and other tests do it.
_KILLED = """
def reset(store):
    if versions.get_registered_model(store) is not None:
        store.client.delete_registered_model("fashion-mnist")
    if told["what"] == "register":
        return
    for one in told["models"]:
        versions.register_version(store, one["run_id"], one["model_id"], tags=one["tags"], description="x")
    for version in ("1", "2", "3")[: 1 if told["what"] == "move" else 3]:
        moves.move_alias(store, "champion", version, kind="promoted", why="before.", command="x")
def act(store):
    moves.load_version = lambda *_: None
    if told["what"] == "rollback":
        moves.roll_back_champion(store, None, "x")
        return
    with lock_registry(store):
        if told["what"] == "move":
            moves.move_alias(store, "champion", "2", kind="promoted", why="a test.", command="x")
            return
        one = told["models"][0]
        for word in ("first", "second"):
            tags = {**one["tags"], "a": word}
            versions.register_version(store, one["run_id"], one["model_id"], tags=tags, description=word)
def struck(number):
    def job(store):
        reset(store)
        moments = 0
        def moment():
            nonlocal moments
            moments += 1
            if moments == number:
                os.kill(os.getpid(), signal.SIGKILL)
        def around(call):
            def changing(*arguments, **named):
                moment()
                try:
                    return call(*arguments, **named)
                finally:
                    moment()
            return changing
        for name in dir(store.client):
            if name.startswith(("create_", "set_", "update_", "delete_")):
                setattr(store.client, name, around(getattr(store.client, name)))
        act(store)
    return job
def report(store):
    history = [[move.version, move.previous, move.kind, move.completed] for move in moves.list_moves(store)]
    found = [[version.run_id, version.tags.get("a"), version.description] for version in versions.list_versions(store)]
    standing = moves.read_alias_states(store)["champion"]
    print(json.dumps({"champion": standing.version, "by hand": standing.is_manual, "history": history, "found": found}))
def again(store):
    report(store)
    act(store)
    report(store)
number, status = 0, -signal.SIGKILL
while status == -signal.SIGKILL:
    number += 1
    status = ended(fork(struck(number)))
    if status == -signal.SIGKILL:
        assert ended(fork(again)) == 0
sys.exit(abs(status))
"""


def _struck(filled: tuple[Store, list[Logged]], what: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The registry after a kill at each moment, and after the same command again."""
    runs = [{"run_id": one.run_id, "model_id": one.model_id, "tags": one.tags} for one in filled[1][:3]]
    printed = run_forks(filled[0], _KILLED, {"what": what, "models": runs})
    reports = [json.loads(line) for line in printed.splitlines()]
    return list(zip(reports[::2], reports[1::2], strict=True))


@pytest.mark.slow
def test_a_move_killed_at_any_step_leaves_a_champion_and_is_completed_by_the_same_command(
    filled: tuple[Store, list[Logged]],
) -> None:
    before, after, cut_short = (
        ["1", None, "promoted", True],
        ["2", "1", "promoted", True],
        ["2", "1", "promoted", False],
    )
    struck = _struck(filled, "move")
    # Before and after: the move is told, the alias is moved, the move is marked as completed.
    states = [("1", [before]), *[("1", [before, cut_short])] * 2, *[("2", [before, after])] * 3]
    assert [(killed["champion"], killed["history"]) for killed, _ in struck] == states
    for killed, again in struck:
        assert not killed["by hand"]
        assert (again["champion"], again["history"]) == ("2", [before, after])


@pytest.mark.slow
def test_a_rollback_killed_at_any_step_goes_one_step_back_when_typed_again(filled: tuple[Store, list[Logged]]) -> None:
    struck = _struck(filled, "rollback")
    assert [killed["champion"] for killed, _ in struck] == ["3", "3", "3", "2", "2", "2"]
    for killed, again in struck[:-1]:
        assert not killed["by hand"]
        assert again["champion"] == "2"
        assert [step for step in again["history"] if step[2] == "rolled back"] == [["2", "3", "rolled back", True]]
    # Once it is marked as completed, it has been done: the same words mean another step.
    assert struck[-1][1]["champion"] == "1"


@pytest.mark.slow
def test_a_registration_killed_at_any_step_gives_one_version_a_run(filled: tuple[Store, list[Logged]]) -> None:
    struck = _struck(filled, "register")
    assert len(struck) == 10
    for killed, again in struck:
        assert len(killed["found"]) <= 1
        assert again["found"] == [[filled[1][0].run_id, "second", "second"]]
