"""What promotions decide in stores of their own: real sweeps on real images, the real command."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking.models import hash_file
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.registry import CHAMPION
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.conftest import Command, needs_fashion_mnist
from tests.support.promotions import (
    HERE,
    SMALL,
    SWEEP,
    TWO,
    artifact,
    best_trial,
    epochs,
    idx_files,
    look,
    model_file,
    model_id,
    nothing_changed,
    opened,
    step,
    swept,
    worst_trial,
)
from tests.support.zygote import Zygote


@pytest.mark.slow
@needs_fashion_mnist
def test_a_better_one_takes_the_place_a_worse_one_does_not_and_a_rollback_gives_it_back(
    warm_sweep: Command, warm_verb: Command, tmp_path: Path
) -> None:
    how = ("promote.seeds=3", "promote.class_drop=1.0", *HERE)
    hardly = ("data.limit=2000", "model.filters=4", "train.epochs=1", *SMALL)
    swept(tmp_path, warm_sweep, *hardly, "optimizer.learning_rate=1e-5")
    first = step(tmp_path, warm_verb, "promote", *how)
    assert first.code == 0, first.out + first.error
    swept(tmp_path, warm_sweep, "data.limit=2000", "model.filters=8", "train.epochs=3", *SMALL)
    better = step(tmp_path, warm_verb, "promote", *how)
    assert better.code == 0, better.out + better.error
    assert better.after.aliases == {CHAMPION: "2"}
    assert better.after.versions["2"].tags["fmnist.verdict"] == "better"
    assert better.after.versions["2"].tags["fmnist.against"] == "1"
    swept(tmp_path, warm_sweep, *hardly, "optimizer.learning_rate=1e-6")
    worse = step(tmp_path, warm_verb, "promote", *how)
    assert worse.code == 8, worse.out + worse.error
    assert "nothing is registered" in worse.out
    assert worse.error == ""
    assert worse.after.versions.keys() == {"1", "2"}
    assert worse.after.aliases == {CHAMPION: "2"}
    promotion = worse.after.kind("promotion")[-1]
    assert promotion.data.tags["fmnist.verdict"] == "worse"
    place = re.search(r"evidence: (\S+)/evidence\.html of run (\w+)", worse.out)
    assert place is not None
    assert place[2] == promotion.info.run_id
    found = json.loads(artifact(tmp_path, promotion.info.run_id, f"{place[1]}/evidence.json"))
    assert (found["verdict"], found["registered"], found["champion"]["version"]) == ("worse", None, "2")
    again = step(tmp_path, warm_verb, "promote", *how)
    assert again.code == 8, again.out + again.error
    assert again.after.ledger == again.before.ledger
    assert {run.info.run_id for run in again.after.kind("confirmation")} == {
        run.info.run_id for run in again.before.kind("confirmation")
    }
    history = warm_verb("history", cwd=tmp_path)
    assert history.returncode == 0, history.stderr
    assert re.search(r"champion +– +1 +promoted", history.stdout)
    assert re.search(r"champion +1 +2 +promoted", history.stdout)
    back = step(tmp_path, warm_verb, "rollback")
    assert back.code == 0, back.error
    assert back.after.aliases == {CHAMPION: "1"}


@pytest.mark.slow
@needs_fashion_mnist
def test_a_champion_that_was_never_trained_with_fresh_seeds_is_and_is_compared_with(
    warm_sweep: Command, warm_verb: Command, tmp_path: Path
) -> None:
    swept(tmp_path, warm_sweep, *SWEEP)
    store, trial = opened(tmp_path), worst_trial(look(tmp_path))
    tags = {SHA256_TAG: hash_file(model_file(tmp_path, trial))}
    with lock_registry(store):
        versions.register_version(store, trial.info.run_id, model_id(trial), tags=tags, description="as before")
    store.client.set_registered_model_alias(MODEL_NAME, CHAMPION, "1")
    judged = step(tmp_path, warm_verb, "promote", *TWO)
    assert judged.code in (0, 9), judged.out + judged.error
    assert "version 1 (the champion) has 0 fresh seeds and will get 2, like the finalists" in judged.out
    best = best_trial(judged.after)
    for each in (best, trial):
        assert len(judged.after.confirmations(each.info.run_name)) == 2
    version = judged.after.versions["2"]
    assert version.tags["fmnist.trial_run"] == best.info.run_id
    assert version.tags["fmnist.against"] == "1"
    place = f"promotion/{version.tags['fmnist.decision']}/against-1/evidence.json"
    found = json.loads(artifact(tmp_path, version.tags["fmnist.promotion"], place))
    assert found["champion"]["name"] == trial.info.run_name
    assert len(judged.after.ledger) == 1
    again = step(tmp_path, warm_verb, "promote", *TWO)
    assert again.code == judged.code, again.out + again.error
    assert again.after.ledger == judged.after.ledger
    assert again.after.versions.keys() == {"1", "2"}
    assert not epochs(again.out)


@pytest.mark.slow
@needs_fashion_mnist
def test_finalists_trained_on_all_images_say_so_and_are_rebuilt_bit_for_bit(
    warm_sweep: Command, warm_verb: Command, tmp_path: Path
) -> None:
    # Trained on all images for as many epochs as were best, these two are one.
    stopping = "train.early_stopping=null,{monitor: val_loss, patience: 5, min_delta: 0.0}"
    swept(tmp_path, warm_sweep, "-m", stopping, "data.limit=2000", "model.filters=8", "train.epochs=2", *SMALL)
    done = step(tmp_path, warm_verb, "promote", "promote.include_validation=true", *TWO)
    assert done.code == 0, done.out + done.error
    confirmations, trial = done.after.kind("confirmation"), best_trial(done.after)
    assert len(confirmations) == 2
    for run in confirmations:
        counts = {entry.tags[0].value: json.loads(entry.dataset.profile) for entry in run.inputs.dataset_inputs}
        assert counts["train"]["images"] == 2000
        assert run.data.tags["fmnist.data"] != trial.data.tags["fmnist.data"]
        config = yaml.safe_load(artifact(tmp_path, run.info.run_id, "config.yaml"))
        assert config["data"]["include_validation"] is True
        assert config["train"]["epochs"] == trial.data.metrics["best_epoch"] == run.data.metrics["best_epoch"]
        assert "data.include_validation=true" in artifact(tmp_path, run.info.run_id, "overrides.txt").decode()
    version = done.after.versions["1"]
    assert done.after.aliases == {CHAMPION: "1"}
    assert version.run_id == confirmations[0].info.run_id  # the first seed: none can be chosen
    reproduced = warm_verb("reproduce", cwd=tmp_path)
    assert reproduced.returncode == 0, reproduced.stdout + reproduced.stderr
    assert "identical bit for bit" in reproduced.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    swept(elsewhere, warm_sweep, *shlex.split(version.tags["fmnist.command"])[3:])
    (repeat,) = look(elsewhere).kind("trial")
    assert repr(repeat.data.metrics["best_val_accuracy"]) == version.tags["fmnist.val_accuracy"]
    settled = step(tmp_path, warm_verb, "promote", "promote.include_validation=true", *TWO)
    assert settled.code == 0, settled.error
    assert nothing_changed(settled)


@pytest.mark.slow
def test_a_finalist_that_fails_with_one_seed_is_out_and_the_others_are_decided_about(
    zygote: Zygote, warm_sweep: Command, tmp_path: Path
) -> None:
    data, work = idx_files(tmp_path / "data", 200, 100), tmp_path / "work"
    work.mkdir()
    swept(work, warm_sweep, f"data.dir={data}", "model.filters.values=[4,8]", "train.epochs=1", *SMALL)
    arguments = ["promote", "--any-data", "--data-dir", str(data), *TWO]
    environment = {"PROMOTION": json.dumps({"arguments": arguments, "seed": 10002})}
    done = zygote.ask("tests.support.promotion_steps:promoted_with_a_failure", work, environment=environment)
    assert done.code == 0, done
    (failing,) = [run for run in look(work).kind("trial") if run.data.params["model.filters"] == "8"]
    assert f"{failing.info.run_name} is out: its training failed with seed 10002." in done.stdout
    state = look(work)
    assert state.aliases == {CHAMPION: "1"}
    assert state.runs[state.versions["1"].run_id].data.params["model.filters"] == "4"
    scored = [run for run in state.kind("confirmation") if "fmnist.test_opened" in run.data.tags]
    assert {run.data.params["model.filters"] for run in scored} == {"4"}
    assert all(run.info.run_id in state.ledger[0]["reason"] for run in scored)
    (promotion,) = state.kind("promotion")
    place = f"promotion/{state.versions['1'].tags['fmnist.decision']}/against-nobody/evidence.json"
    found = json.loads(artifact(work, promotion.info.run_id, place))
    assert any("failed with seed 10002" in remark for remark in found["remarks"])
    # Alone it leaves nothing to decide about.
    alone = ["promote", "--run", failing.info.run_id, *arguments[1:]]
    environment = {"PROMOTION": json.dumps({"arguments": alone, "seed": 10002})}
    refused = zygote.ask("tests.support.promotion_steps:promoted_with_a_failure", work, environment=environment)
    assert refused.code == 8, refused
    assert "every finalist failed with at least one seed" in refused.stderr
    assert look(work).ledger == state.ledger


@pytest.mark.slow
def test_files_of_other_images_are_noticed_and_promoted_only_on_purpose(
    warm_sweep: Command, warm_verb: Command, tmp_path: Path
) -> None:
    data, work = idx_files(tmp_path / "data", 200, 100), tmp_path / "work"
    work.mkdir()
    elsewhere = {"FMNIST_DATA_DIR": ""}
    done = warm_sweep(f"data.dir={data}", "model.filters=4", "train.epochs=1", *SMALL, cwd=work, environment=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "not that of the canonical Fashion-MNIST images" in done.stdout
    hint = next(line for line in done.stdout.splitlines() if line.startswith("promote the best: "))
    words = [*shlex.split(hint.removeprefix("promote the best: fmnist-sweep ")), *TWO]
    assert "--data-dir" not in words
    refused = warm_verb(*words, cwd=work, environment=elsewhere)
    assert refused.returncode == 8
    assert "--any-data" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not look(work).versions
    meant = warm_verb(*words, "--any-data", cwd=work, environment=elsewhere)
    assert meant.returncode == 0, meant.stdout + meant.stderr
    assert f"images: from {data}, where those of" in meant.stdout  # named to the sweep alone
    state = look(work)
    assert state.versions["1"].tags["fmnist.canonical"] == "false"
    assert state.ledger[0]["images"] == 100
