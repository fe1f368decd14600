"""The first champion, from end to end: real sweeps on real images, the real command, a real store and registry.

The tests tell one story in one folder, a step a fixture; each step needs those before it: a plan, other data, the first
champion. What comes after it is in test_promotion_rival.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from fmnist_sweep.analysis.proportions import measure_share
from fmnist_sweep.data import LABELS
from fmnist_sweep.tracking.names import SHA256_TAG
from fmnist_sweep.tracking.registry import CHAMPION
from fmnist_sweep.tracking.store import build_default_uri
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from tests.conftest import Command, needs_fashion_mnist
from tests.support.in_process import run_verb
from tests.support.promotions import (
    HERE,
    SWEEP,
    TWO,
    Step,
    artifact,
    best_trial,
    epochs,
    idx_files,
    model_file,
    nothing_changed,
    opened,
    predict_registered,
    step,
    swept,
    training_pixels,
)

pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """A sweep of two trials, which are trained on mirror images, too."""
    plain = [override for override in SWEEP if override != "train.augmentation.flip=false"]
    return swept(tmp_path_factory.mktemp("story"), warm_sweep, *plain, "train.augmentation.flip=true")


@pytest.fixture(scope="module")
def planned(folder: Path) -> Step:
    return step(folder, run_verb, "promote", *TWO, "plan=true")


@pytest.fixture(scope="module")
def planned_by_default(folder: Path, planned: Step) -> Step:
    """The plan of the first champion, when nobody says how many seeds."""
    return step(folder, run_verb, "promote", *HERE, "plan=true")


@pytest.fixture(scope="module")
def other_data(folder: Path, planned_by_default: Step, tmp_path_factory: pytest.TempPathFactory) -> Step:
    place = idx_files(tmp_path_factory.mktemp("other"), 2000, 100)
    return step(folder, run_verb, "promote", *TWO, "--data-dir", str(place))


@pytest.fixture(scope="module")
def promoted(folder: Path, other_data: Step, warm_verb: Command) -> Step:
    return step(folder, warm_verb, "promote", *TWO)


@needs_fashion_mnist
def test_a_plan_says_what_would_be_trained_and_makes_nothing(planned: Step) -> None:
    assert planned.code == 0, planned.error
    best = best_trial(planned.before).info.run_name
    assert f"to train with fresh seeds: {best} (2 seeds)" in planned.out
    assert not epochs(planned.out)
    assert nothing_changed(planned)
    assert not planned.after.aliases
    assert not planned.after.kind("promotion")


@needs_fashion_mnist
def test_the_first_champion_has_nobody_to_beat_and_takes_few_seeds(planned_by_default: Step) -> None:
    assert planned_by_default.code == 0, planned_by_default.error
    assert "there is no champion to beat, and no gain over it to find: 5 fresh seeds each" in planned_by_default.out
    best = best_trial(planned_by_default.before).info.run_name
    assert f"to train with fresh seeds: {best} (5 seeds)" in planned_by_default.out
    assert nothing_changed(planned_by_default)


@needs_fashion_mnist
def test_the_best_within_a_limit_is_what_would_be_promoted(folder: Path, planned: Step) -> None:
    small = min(planned.before.kind("trial"), key=lambda run: run.data.metrics["parameters"])
    limit = f"parameters={small.data.metrics['parameters']:.0f}"
    limited = step(folder, run_verb, "promote", *TWO, "plan=true", "--within", limit)
    assert limited.code == 0, limited.error
    assert f"to train with fresh seeds: {small.info.run_name} (2 seeds)" in limited.out
    assert nothing_changed(limited)


@needs_fashion_mnist
def test_other_images_than_the_trial_was_scored_on_are_noticed(other_data: Step) -> None:
    assert other_data.code == 3
    assert "--data-dir" in other_data.told
    assert nothing_changed(other_data)


@needs_fashion_mnist
def test_the_best_trial_trained_again_with_fresh_seeds_becomes_the_champion(promoted: Step) -> None:
    assert promoted.code == 0, promoted.out + promoted.error
    assert promoted.error == ""
    state = promoted.after
    assert state.aliases == {CHAMPION: "1"}
    assert "models:/fashion-mnist@champion is now version 1 (before: nothing)" in promoted.out
    (promotion,), (finalist,), confirmations = map(state.kind, ("promotion", "finalist", "confirmation"))
    assert finalist.data.tags["mlflow.parentRunId"] == promotion.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in confirmations} == {finalist.info.run_id}
    assert "mlflow.parentRunId" not in promotion.data.tags
    assert {run.info.status for run in (promotion, finalist, *confirmations)} == {"FINISHED"}
    trial = best_trial(state)
    assert [run.data.params["seed"] for run in confirmations] == ["10001", "10002"]
    assert trial.data.params["seed"] not in {"10001", "10002"}
    for run in confirmations:
        assert run.data.params | {"seed": ""} == trial.data.params | {"seed": ""}


@needs_fashion_mnist
def test_a_version_says_what_it_is_where_it_comes_from_and_how_it_is_built_again(folder: Path, promoted: Step) -> None:
    state = promoted.after
    version = state.versions["1"]
    tags, run, trial = version.tags, state.runs[version.run_id], best_trial(state)
    told = {key: tags[f"fmnist.{key}"] for key in ("study_id", "trial_id", "sweep_id", "data", "precision", "machine")}
    assert told == {key: trial.data.tags[f"fmnist.{key}"] for key in told}
    assert tags["fmnist.trial_run"] == trial.info.run_id
    assert tags["fmnist.name"] == trial.info.run_name
    assert tags["fmnist.canonical"] == "true"
    assert tags["fmnist.verdict"] == "first"
    assert tags["fmnist.against"] == "nobody"
    assert (tags["fmnist.seed"], tags["fmnist.seeds"]) == (run.data.params["seed"], "2")
    assert re.fullmatch(r"[0-9a-f]{12}", tags["fmnist.config_hash"])
    assert tags["fmnist.git"] == run.data.tags["fmnist.git"]
    assert {"tensorflow", "keras", "numpy"} <= json.loads(tags["fmnist.versions"]).keys()
    assert tags[SHA256_TAG] == hashlib.sha256(model_file(folder, run).read_bytes()).hexdigest()
    assert tags["fmnist.size_bytes"] == str(model_file(folder, run).stat().st_size)
    assert int(tags["fmnist.parameters"]) == trial.data.metrics["parameters"]
    assert 0 < float(tags["fmnist.latency_ms"]) < 1000
    for key in ("fmnist.weights_sha256", "fmnist.predictions_sha256"):
        assert re.fullmatch(r"[0-9a-f]{64}", tags[key])
    words = shlex.split(tags["fmnist.command"])
    assert words[:3] == ["python", "-m", "fmnist_sweep"]
    assert {f"seed={tags['fmnist.seed']}", "data.limit=2000"} <= set(words)
    confirmations = state.kind("confirmation")
    chosen = max(confirmations, key=lambda each: each.data.metrics["best_val_accuracy"])
    assert version.run_id == chosen.info.run_id
    scores = [each.data.metrics["test_accuracy"] for each in confirmations]
    assert float(tags["fmnist.test_accuracy"]) == chosen.data.metrics["test_accuracy"]
    assert float(tags["fmnist.test_accuracy_mean"]) == pytest.approx(np.mean(scores))
    assert float(tags["fmnist.test_accuracy_sd"]) == pytest.approx(np.std(scores, ddof=1))


@needs_fashion_mnist
def test_the_evidence_is_kept_with_the_promotion_and_the_description_names_it(folder: Path, promoted: Step) -> None:
    state = promoted.after
    (promotion,) = state.kind("promotion")
    version = state.versions["1"]
    assert version.tags["fmnist.promotion"] == promotion.info.run_id
    assert promotion.data.tags["fmnist.verdict"] == "first"
    assert promotion.data.tags["mlflow.note.content"].startswith("**Promotion**: first")
    place = f"promotion/{version.tags['fmnist.decision']}/against-nobody"
    found = json.loads(artifact(folder, promotion.info.run_id, f"{place}/evidence.json"))
    assert (found["verdict"], found["champion"]) == ("first", None)
    assert found["candidates"]["rivals"] == 2
    (finalist,) = found["finalists"]
    assert {run["run_id"] for run in finalist["runs"]} == {run.info.run_id for run in state.kind("confirmation")}
    assert found["registered"][SHA256_TAG] == version.tags[SHA256_TAG]
    assert found["judgement"]["comparisons"] == 1
    page = artifact(folder, promotion.info.run_id, f"{place}/evidence.html").decode()
    assert "<title>Promotion: first</title>" in page
    assert found["judgement"]["rule_text"] in page
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)  # readable without a network
    for picture in ("accuracies.png", "recalls.png"):
        assert artifact(folder, promotion.info.run_id, f"{place}/{picture}").startswith(b"\x89PNG")
    assert version.description.startswith(f"**{version.tags['fmnist.name']}**: first.")
    assert f"{place}/evidence.html" in version.description
    assert version.tags["fmnist.command"] in version.description


@needs_fashion_mnist
def test_a_second_accuracy_is_averaged_with_mirror_images_and_decides_nothing(promoted: Step) -> None:
    confirmations = promoted.after.kind("confirmation")
    mirrored = [run.data.metrics["test_accuracy_mirrored"] for run in confirmations]
    for run, value in zip(confirmations, mirrored, strict=True):
        assert 0.3 < value < 1
        assert f"test accuracy {run.data.metrics['test_accuracy']:.4f}, averaged with mirror images {value:.4f}" in (
            promoted.out
        )
    sentence = f"have a test accuracy of {np.mean(mirrored):.4f} ± {np.std(mirrored, ddof=1):.4f} (n=2). It decides"
    assert sentence in promoted.after.versions["1"].description
    assert sentence in promoted.out


@needs_fashion_mnist
def test_a_version_has_a_card_which_is_shown_written_and_missed(folder: Path, promoted: Step, tmp_path: Path) -> None:
    version = promoted.after.versions["1"]
    run = promoted.after.runs[version.run_id]
    stored = Path(run.info.artifact_uri.removeprefix("file://"), "model_card.md")
    card = stored.read_text()
    shown = run_verb("card", cwd=folder)
    assert (shown.returncode, shown.stdout) == (0, card), shown.stderr
    test = read_test_predictions(opened(folder), run.info.run_id, run.info.run_name)
    assert f"| test accuracy of this model | {measure_share(test.correct_mask)} | 10,000 |" in card
    for label, name in enumerate(LABELS):
        recall = test.correct_mask[test.labels == label].mean()
        assert f"| {name} | 1,000 | {recall:.4f} |" in card
    assert "1,800 images, `fashion_mnist:" in card
    assert f"    {version.tags['fmnist.command']}\n" in card
    out = tmp_path / "card.md"
    assert run_verb("card", "1", "--out", str(out), cwd=folder).returncode == 0
    assert out.read_text() == card
    refused = run_verb("card", "1", "--out", str(out), cwd=folder)
    assert refused.returncode == 2
    assert "there is a file already" in refused.stderr
    stored.unlink()  # as a release left it that wrote no cards
    try:
        missed = run_verb("card", cwd=folder)
    finally:
        stored.write_text(card)
    assert missed.returncode == 4
    assert missed.stderr.count("\n") == 1
    assert "version 1 of models:/fashion-mnist has no model card" in missed.stderr


@needs_fashion_mnist
def test_the_test_images_are_opened_once_for_all_that_is_compared(folder: Path, promoted: Step) -> None:
    confirmations = promoted.after.kind("confirmation")
    (opening,) = promoted.after.ledger
    name = f"{promoted.after.versions['1'].tags['fmnist.decision']}-1"
    assert opening["reason"].startswith(f"opening {name} of the test images: ")
    assert opening["images"] == 10_000
    assert all(run.info.run_id in opening["reason"] for run in confirmations)
    store = opened(folder)
    for run in confirmations:
        assert run.data.tags["fmnist.test_opening"] == name
        assert run.data.tags["fmnist.test_opened"]
        told = read_test_predictions(store, run.info.run_id, run.info.run_name)
        assert told.probabilities.shape == (10_000, len(LABELS))
        assert run.data.metrics["test_accuracy"] == told.correct_mask.mean()
    for trial in promoted.after.kind("trial"):
        assert "fmnist.test_opened" not in trial.data.tags
        assert "test_accuracy" not in trial.data.metrics


@needs_fashion_mnist
@pytest.mark.parametrize("asked", ["the sweep", "the run", "the study", "from elsewhere"])
def test_what_is_champion_already_is_promoted_again_by_nothing(
    folder: Path, promoted: Step, tmp_path: Path, asked: str
) -> None:
    trial = best_trial(promoted.after)
    arguments: dict[str, tuple[str, ...]] = {
        "the sweep": (),
        "the run": ("--run", trial.info.run_id),
        "the study": ("--study", trial.data.tags["fmnist.study_id"]),
        "from elsewhere": ("--uri", build_default_uri(folder), "--sweep", trial.data.tags["fmnist.sweep_id"]),
    }
    cwd = tmp_path if asked == "from elsewhere" else folder
    again = step(folder, run_verb, "promote", *arguments[asked], *TWO, cwd=cwd)
    assert again.code == 0, again.error
    assert "models:/fashion-mnist@champion is still version 1" in again.out
    assert "TensorFlow" not in again.out
    assert nothing_changed(again)
    assert not list(tmp_path.iterdir())


@needs_fashion_mnist
def test_the_champion_labels_a_picture_as_the_registered_model_does(
    folder: Path, promoted: Step, tmp_path: Path
) -> None:
    from PIL import Image

    pixels = training_pixels(1)
    Image.fromarray(pixels[0, :, :, 0]).save(tmp_path / "garment.png")
    done = run_verb("predict", str(tmp_path / "garment.png"), "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expected = predict_registered(folder, pixels)[0]
    (image,) = told["images"]
    np.testing.assert_allclose([image["probabilities"][label] for label in LABELS], expected, atol=1e-5)
    assert image["label"] == LABELS[int(expected.argmax())]
    version = promoted.after.versions["1"]
    assert (told["model"]["version"], told["model"]["run_id"]) == ("1", version.run_id)
    assert told["model"]["test_accuracy"] == float(version.tags["fmnist.test_accuracy"])


@needs_fashion_mnist
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--run", "0" * 32), 8, "has no run"),
        (("--run", "STUDY"), 8, "a FINISHED trial is needed"),
        (("--sweep", "x' or 'a' = 'a"), 8, "is no id"),
        (("--run", "a", "--study", "b"), 2, "exclude each other"),
        (("train.epochs=3",), 2, "expected overrides of promote, executor"),
        (("data.dir=elsewhere",), 2, "use --data-dir instead"),
        (("promote.seeds=1",), 2, "promote.seeds=1"),
        (("--study", "0123456789ab"), 8, "has no finished trial"),
        (("--within", "parameters=5"), 8, "has no finished trial of so little; the least is "),
        (("--within", "filters=5"), 2, "--within filters=5: expected parameters, bytes or milliseconds"),
    ],
)
def test_what_cannot_be_promoted_is_refused_in_one_sentence(
    folder: Path, promoted: Step, arguments: tuple[str, ...], code: int, told: str
) -> None:
    study = promoted.after.kind("study")[0]
    refused = step(folder, run_verb, "promote", *(study.info.run_id if word == "STUDY" else word for word in arguments))
    assert refused.code == code, refused.out + refused.error
    assert told in refused.told
    assert nothing_changed(refused)
