"""After the first champion, from end to end: it is rebuilt and served, and another trial is promoted beside it.

The tests tell one story in one folder, a step a fixture; each step needs those before it: the first champion, a rival
that is interrupted, tampered with, and a challenger, and newer sweeps that are passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from fmnist_sweep.data import LABELS
from fmnist_sweep.tracking.registry import CHALLENGER, CHAMPION
from tests.conftest import LIMIT_SECONDS, Command, needs_fashion_mnist
from tests.support.in_process import run_verb
from tests.support.promotions import (
    HERE,
    SMALL,
    SWEEP,
    TWO,
    State,
    Step,
    another_model_file,
    artifact,
    epochs,
    interrupt,
    look,
    model_file,
    model_with_code,
    nothing_changed,
    opened,
    predict_registered,
    step,
    swept,
    training_pixels,
    worst_trial,
)
from tests.support.served_models import serve_champion
from tests.support.zygote import Zygote

pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """A sweep of two trials."""
    return swept(tmp_path_factory.mktemp("story"), warm_sweep, *SWEEP)


@pytest.fixture(scope="module")
def promoted(folder: Path, warm_verb: Command) -> Step:
    """The first champion."""
    return step(folder, warm_verb, "promote", *TWO)


@pytest.fixture(scope="module")
def planned_beside_a_champion(folder: Path, promoted: Step) -> Step:
    """The plan for another trial, when nobody says how many seeds."""
    rival = worst_trial(promoted.after).info.run_id
    return step(folder, run_verb, "promote", "--run", rival, *HERE, "plan=true")


@pytest.fixture(scope="module")
def interrupted(folder: Path, promoted: Step, planned_beside_a_champion: Step, zygote: Zygote) -> Step:
    """Another trial's promotion, with Ctrl-C in its second training."""
    return interrupt(folder, zygote, "promote", "--run", worst_trial(promoted.after).info.run_id, *TWO)


@pytest.fixture(scope="module")
def tampered(folder: Path, interrupted: Step, warm_verb: Command) -> Step:
    """The same command, when the first training's model file was replaced by the champion's."""
    first = next(run for run in _rivals(interrupted.after) if run.info.status == "FINISHED")
    champion = interrupted.after.runs[interrupted.after.versions["1"].run_id]
    with another_model_file(folder, first, model_file(folder, champion).read_bytes()):
        return step(folder, warm_verb, "promote", "--run", _rival(interrupted), *TWO)


@pytest.fixture(scope="module")
def with_code(
    folder: Path, tampered: Step, warm_verb: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Step, Path]:
    """The same command, when that file carries code and the checksum was faked to fit; and what the code would make."""
    content, ran = model_with_code(tmp_path_factory.mktemp("evil"))
    with another_model_file(folder, _rivals(tampered.after)[0], content, hashlib.sha256(content).hexdigest()):
        return step(folder, warm_verb, "promote", "--run", _rival(tampered), *TWO), ran


@pytest.fixture(scope="module")
def challenged(folder: Path, with_code: tuple[Step, Path], warm_verb: Command) -> Step:
    """The same command, when nothing is in its way any more."""
    return step(folder, warm_verb, "promote", "--run", _rival(with_code[0]), *TWO)


def _rival(before: Step) -> str:
    """The run that is promoted beside the champion."""
    return str(worst_trial(before.after).info.run_id)


def _rivals(state: State) -> list[Any]:
    return state.confirmations(worst_trial(state).info.run_name)


@pytest.mark.slow
@needs_fashion_mnist
def test_the_champion_is_rebuilt_bit_for_bit(folder: Path, promoted: Step, warm_verb: Command) -> None:
    again = step(folder, warm_verb, "reproduce")
    assert again.code == 0, again.out + again.error
    assert "identical bit for bit: every weight and every predicted probability" in again.out
    assert nothing_changed(again)


@pytest.mark.slow
@needs_fashion_mnist
def test_mlflow_serves_the_champion_for_raw_pixels(folder: Path, promoted: Step) -> None:
    pixels = training_pixels(3)
    with serve_champion(folder) as address:
        answer = requests.post(f"{address}/invocations", json={"inputs": pixels.tolist()}, timeout=LIMIT_SECONDS)
    assert answer.status_code == 200, answer.text
    given = np.array(answer.json()["predictions"])
    assert given.shape == (3, len(LABELS))
    np.testing.assert_allclose(given, predict_registered(folder, pixels), atol=1e-5)


@pytest.mark.slow
@needs_fashion_mnist
def test_a_plan_beside_a_champion_says_when_it_looks_and_what_is_expected(
    planned_beside_a_champion: Step, challenged: Step
) -> None:
    assert planned_beside_a_champion.code == 0, planned_beside_a_champion.error
    told = planned_beside_a_champion.out
    assert re.search(r"a look at the validation images after 4, 6, 8, 11 and 14 of them only ever ends", told)
    # 15 seeds of the finalist, and 13 that the champion lacks; a training takes seconds.
    assert re.search(r"At most 28 \((\d+ min )?\d+ s\) trainings; expected \d+ \(.+?\) if no finalist is better", told)
    assert re.search(r"if one gains 0\.50 points, which is found with a probability of \d\d%", told)
    assert nothing_changed(planned_beside_a_champion)
    # A number of seeds that was asked for has its chance, too.
    assert re.search(r"promote\.seeds=2: a gain of 0\.50 points is found with a probability of \d%", challenged.out)


@pytest.mark.slow
@needs_fashion_mnist
def test_an_interrupted_promotion_keeps_what_was_trained_and_opens_nothing(interrupted: Step) -> None:
    assert interrupted.code == 130, interrupted.out + interrupted.error
    assert "Traceback" not in interrupted.error
    first, second = _rivals(interrupted.after)
    assert (first.info.status, second.info.status) == ("FINISHED", "KILLED")
    assert interrupted.after.ledger == interrupted.before.ledger
    assert interrupted.after.aliases == {CHAMPION: "1"}
    assert interrupted.after.versions.keys() == {"1"}


@pytest.mark.slow
@needs_fashion_mnist
def test_the_same_command_continues_and_trains_nothing_twice(
    folder: Path, interrupted: Step, tampered: Step, challenged: Step
) -> None:
    first, second = _rivals(interrupted.after)
    assert epochs(tampered.out) == ["epoch 2/2"]
    assert not epochs(challenged.out)
    last = _rivals(challenged.after)
    assert [(run.data.params["seed"], run.info.status) for run in last] == [
        ("10001", "FINISHED"),
        ("10002", "FINISHED"),
    ]
    assert (last[0].info.run_id, last[0].info.end_time) == (first.info.run_id, first.info.end_time)
    cut_short = challenged.after.runs[second.info.run_id]
    assert cut_short.data.tags["fmnist.followed_by"] == last[1].info.run_id
    entries = opened(folder).client.get_metric_history(last[1].info.run_id, "val_accuracy")
    assert [entry.step for entry in entries] == [1, 2]


@pytest.mark.slow
@needs_fashion_mnist
def test_another_models_file_is_refused_by_its_checksum_before_the_test_images_are_opened(tampered: Step) -> None:
    assert tampered.code == 8, tampered.out
    assert "was altered after it was trained" in tampered.told
    assert tampered.after.aliases == {CHAMPION: "1"}
    assert tampered.after.versions.keys() == {"1"}
    assert tampered.after.ledger == tampered.before.ledger


@pytest.mark.slow
@needs_fashion_mnist
def test_a_file_that_carries_code_is_refused_without_running_it_though_its_checksum_fits(
    with_code: tuple[Step, Path],
) -> None:
    refused, ran = with_code
    assert refused.code == 8, refused.out
    assert "cannot be loaded safely" in refused.told
    assert not ran.exists()
    assert refused.after.aliases == {CHAMPION: "1"}
    assert refused.after.ledger == refused.before.ledger


@pytest.mark.slow
@needs_fashion_mnist
def test_a_rival_that_cannot_be_told_apart_becomes_challenger_and_the_champion_stays(
    folder: Path, challenged: Step
) -> None:
    assert challenged.code == 9, challenged.out + challenged.error
    assert challenged.after.aliases == {CHAMPION: "1", CHALLENGER: "2"}
    version = challenged.after.versions["2"]
    assert version.tags["fmnist.verdict"] == "cannot tell"
    assert version.tags["fmnist.against"] == "1"
    assert version.tags["fmnist.trial_run"] == worst_trial(challenged.after).info.run_id
    place = f"promotion/{version.tags['fmnist.decision']}/against-1/evidence.json"
    found = json.loads(artifact(folder, version.tags["fmnist.promotion"], place))
    assert found["champion"]["version"] == "1"
    (standing,) = found["judgement"]["standings"]
    assert standing["difference"]["low"] < 0 < standing["difference"]["high"]
    assert len(challenged.after.ledger) == 2
    # The champion's own trainings are not scored again.
    champions = challenged.after.confirmations(challenged.after.versions["1"].tags["fmnist.name"])
    assert not any(run.info.run_id in challenged.after.ledger[1]["reason"] for run in champions)


@pytest.mark.slow
@needs_fashion_mnist
def test_a_challenger_is_not_decided_about_twice(folder: Path, challenged: Step) -> None:
    again = step(folder, run_verb, "promote", "--run", _rival(challenged), *TWO)
    assert again.code == 9, again.error
    assert "challenger is still version" in again.out
    assert "TensorFlow" not in again.out
    assert nothing_changed(again)


@pytest.mark.slow
@needs_fashion_mnist
def test_more_seeds_after_the_test_images_were_opened_are_refused_before_anything_is_trained(
    folder: Path, challenged: Step
) -> None:
    for extra in ((), ("plan=true",)):
        more = step(folder, run_verb, "promote", "--run", _rival(challenged), "promote.seeds=4", *HERE, *extra)
        assert more.code == 8, more.out
        assert "--open-again" in more.told
        assert "TensorFlow" not in more.out
        assert nothing_changed(more)


@pytest.mark.slow
@needs_fashion_mnist
def test_a_second_opening_that_was_asked_for_is_counted_and_corrected_for(
    folder: Path, challenged: Step, warm_verb: Command
) -> None:
    rival, first = _rival(challenged), challenged.after.versions["2"].tags
    again = step(folder, warm_verb, "promote", "--run", rival, "promote.seeds=4", *HERE, "--open-again")
    assert again.code in (8, 9), again.out + again.error
    assert len(again.after.ledger) == len(again.before.ledger) + 1
    assert again.after.ledger[-1]["reason"].startswith(
        f"opening {first['fmnist.decision']}-2 of the test images, forced"
    )
    seeds = [run.data.params["seed"] for run in _rivals(again.after)]
    assert seeds == ["10001", "10002", "10003", "10004"]
    openings = [run.data.tags["fmnist.test_opening"].rsplit("-", 1)[1] for run in _rivals(again.after)]
    assert openings == ["1", "1", "2", "2"]
    assert "epoch 1/2" in again.out
    assert "seed 10001" not in "".join(re.findall(r"trial \d: .*", again.out))
    place = re.search(r"evidence: (\S+)/evidence\.html of run (\w+)", again.out)
    assert place is not None
    found = json.loads(artifact(folder, place[2], f"{place[1]}/evidence.json"))
    assert len(found["test_openings"]) == 2
    assert found["judgement"]["comparisons"] == 2
    # It is the second decision on these images, and the second opening for these finalists.
    assert found["judgement"]["level_used"] == pytest.approx(1 - 2 * 0.05 / 6 / 2)
    # What the first decision rests on is still there to be read.
    before = f"promotion/{first['fmnist.decision']}/against-1"
    assert before in challenged.after.versions["2"].description
    kept = json.loads(artifact(folder, first["fmnist.promotion"], f"{before}/evidence.json"))
    assert len(kept["test_openings"]) == 1


@pytest.fixture(scope="module")
def drawn(folder: Path, challenged: Step, warm_sweep: Command) -> Any:
    """A newer sweep in the same store, on drawn images: its one trial."""
    swept(folder, warm_sweep, "data=drawn", "data.images=200", "model.filters=4", "train.epochs=1", *SMALL)
    (found,) = [run for run in look(folder).kind("trial") if run.info.run_name.startswith("DRAWN · ")]
    return found


@pytest.mark.slow
@needs_fashion_mnist
def test_drawn_images_never_reach_the_registry(folder: Path, drawn: Any) -> None:
    for arguments in (("--run", drawn.info.run_id), ("--sweep", drawn.data.tags["fmnist.sweep_id"], "--any-data")):
        refused = step(folder, run_verb, "promote", *arguments, *TWO)
        assert refused.code == 8
        assert "not on Fashion-MNIST" in refused.told
        assert nothing_changed(refused)


@pytest.mark.slow
@needs_fashion_mnist
def test_a_newer_sweep_on_drawn_images_is_passed_over_and_said(folder: Path, drawn: Any) -> None:
    passed = step(folder, run_verb, "promote", *TWO)
    assert passed.code == 0, passed.error
    assert re.search("skipped DRAWN · .*: it has no finished trial on Fashion-MNIST", passed.out)
    assert "champion is still version 1" in passed.out


@pytest.mark.slow
@needs_fashion_mnist
def test_a_newer_sweep_whose_trials_all_failed_is_passed_over_and_said(
    folder: Path, challenged: Step, warm_sweep: Command, warm_verb: Command
) -> None:
    diverges = ("optimizer=sgd", "optimizer.learning_rate=10.0", "optimizer.momentum=0.9", "regularization.l2=1.0")
    tiny = ("data.limit=200", "model.filters=4", "train.epochs=1", "train.batch_size=4")
    failed = warm_sweep(*tiny, *SMALL, *diverges, cwd=folder)
    assert failed.returncode == 5, failed.stdout + failed.stderr
    assert "promote the best" not in failed.stdout
    passed = step(folder, warm_verb, "promote", *TWO)
    assert passed.code == 0, passed.error
    assert "it has no finished trial on Fashion-MNIST" in passed.out
    assert "champion is still version 1" in passed.out
