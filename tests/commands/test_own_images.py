"""A user's own images through the whole path: swept, reported, promoted, rebuilt, in a registry called after them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fmnist_sweep.data.description import parse_description
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.tracking.names import CONFIG_FILE, DESCRIPTION_TAG
from fmnist_sweep.tracking.registry import list_versions
from fmnist_sweep.tracking.run_files import read_artifact
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store, point_mlflow_at
from fmnist_sweep.tracking.trials import StoredTrial, read_trials
from tests.conftest import Command
from tests.support.in_process import run_command, run_verb
from tests.support.own_images import SHAPES, draw_shapes, write_idx, write_npz, write_pictures
from tests.support.promotions import epochs
from tests.support.zygote import Kill, Zygote

SMALL = (
    *("model.filters=4", "model.dense_units=8", "model.conv_layers=4", "optimizer.learning_rate=0.003"),
    *("regularization=none", "train=default", "train.batch_size=16", "train.precision=float32"),
    *("search=grid", "executor=in_process", "train.epochs=2"),
)

TWO = ("promote.seeds=2", "executor=in_process")


def opened(folder: Path, experiment: str) -> Store:
    return open_existing_store(build_default_uri(folder), experiment)


def read_only_trial(folder: Path, experiment: str) -> tuple[Store, StoredTrial]:
    store = opened(folder, experiment)
    (trial,) = read_trials(store, {})
    return store, trial


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MNIST-like files of 12x16 pixels and three labels, and a sweep of them."""
    folder = tmp_path_factory.mktemp("bars")
    write_idx(folder / "bars")
    ended = run_command(*SMALL, "data=idx", "data.dir=bars", f"data.labels=[{','.join(SHAPES)}]", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "bars: 12x16 pixels, grey; 3 labels" in ended.stdout
    assert "canonical" not in ended.stdout
    assert "mirrored" not in ended.stdout
    return folder


def test_a_trial_of_own_images_says_what_they_were(bars: Path) -> None:
    store, trial = read_only_trial(bars, "bars")
    assert store.model_name == "bars"
    assert trial.data_source == "idx"
    description = parse_description(trial.tags[DESCRIPTION_TAG])
    assert (description.name, description.image_shape, description.labels) == ("bars", (12, 16, 1), SHAPES)
    assert {key for key in trial.metrics if key.startswith("val_f1.")} == {f"val_f1.{label}" for label in SHAPES}
    content = read_artifact(store, trial.run_id, CONFIG_FILE)
    data = yaml.safe_load(content or b"")["data"]
    assert (data["name"], data["labels"]) == ("bars", list(SHAPES))
    assert not {"dir", "images", "drawn_seed", "download"} & set(data)
    confusion = json.loads(read_artifact(store, trial.run_id, "confusion_matrix.json") or b"")
    assert confusion["labels"] == list(SHAPES)
    assert len(confusion["matrix"]) == 3
    files = {file.path for file in store.client.list_artifacts(trial.run_id)}
    assert {"misclassified.png", "confusion_matrix.png"} <= files
    assert "misclassified_shirt.png" not in files


def test_their_model_takes_their_pixels_and_gives_a_probability_a_label(bars: Path) -> None:
    store, trial = read_only_trial(bars, "bars")
    run = store.client.get_run(trial.run_id)
    (output,) = run.outputs.model_outputs
    text = next(Path(bars, "mlruns").rglob(f"{output.model_id}/**/MLmodel")).read_text()
    signature = yaml.safe_load(text)["signature"]
    assert json.loads(signature["inputs"])[0]["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 12, 16, 1]}
    assert json.loads(signature["outputs"])[0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 3]}


def test_their_report_has_their_labels_and_no_garments(bars: Path) -> None:
    page = next((bars / "mlruns" / "reports").glob("sweep-*.html")).read_text()
    assert all(label in page for label in SHAPES)
    assert not any(word in page for word in ("Shirt", "upper body", "Sneaker"))


def test_an_experiment_is_for_images_of_one_name(bars: Path) -> None:
    ended = run_command(*SMALL, "data=drawn", "data.images=200", "tracking.experiment=bars", cwd=bars)
    assert ended.returncode == ExitCode.STORE
    assert "tracking.experiment=bars holds trials of bars, and these images are called fashion-mnist" in ended.stderr
    ended = run_command(*SMALL, "-m", "data=idx", "data.dir=bars", "data.name=one,two", cwd=bars)
    assert ended.returncode == ExitCode.CONFIG
    assert "these images are called one and two: type a command for each" in ended.stderr


def test_colour_images_are_swept_as_well(tmp_path: Path) -> None:
    write_npz(tmp_path / "shapes.npz", test=0)
    augmented = ("train.augmentation.shift=1", "train.augmentation.flip=true")
    ended = run_command(*SMALL, "data=npz", "data.dir=shapes.npz", "train.epochs=1", *augmented, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    _, trial = read_only_trial(tmp_path, "shapes")
    assert trial.state == "finished"
    assert trial.description.image_shape == (10, 10, 3)
    assert "resized" not in ended.stderr
    assert "training images are mirrored, which suits garments" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("source", ["npz", "folder"])
def test_colour_images_go_the_whole_way(
    tmp_path: Path, source: str, zygote: Zygote, warm_verb: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swept, killed and continued, promoted, rebuilt, asked and served, by commands in processes of their own."""
    import mlflow
    from mlflow.pyfunc.scoring_server import invocations

    monkeypatch.setenv("FMNIST_DATA_DIR", str(tmp_path))  # which is never taken for images of one's own
    write_npz(tmp_path / "shapes.npz", test=0)
    write_pictures(tmp_path / "shapes" / "train", 60)
    write_pictures(tmp_path / "shapes" / "test", 15, seed=1)
    given = {"npz": ("data.dir=shapes.npz",), "folder": ("data.dir=shapes", "data.size=[10,10]")}[source]
    words = (*SMALL, f"data={source}", *given, "checkpoint.every_seconds=0")
    assert zygote.run(*words, cwd=tmp_path, kill=Kill("file 0000/000001.npz", moment="after")).killed
    continued = zygote.run(*words, cwd=tmp_path)
    assert continued.returncode == 0, continued
    assert epochs(continued.stdout) == ["epoch 2/2"]
    assert ("resized" in continued.stdout + continued.stderr) == (source == "folder")
    promoted = warm_verb("promote", "--experiment", "shapes", *TWO, cwd=tmp_path)
    assert promoted.returncode == 0, promoted
    assert "models:/shapes@champion is now version 1" in promoted.stdout
    rebuilt = warm_verb("reproduce", "models:/shapes@champion", cwd=tmp_path)
    assert rebuilt.returncode == 0, rebuilt
    assert "identical bit for bit" in rebuilt.stdout
    Image.fromarray(draw_shapes(3, channels=3)[0][1]).save(tmp_path / "one.png")
    asked = warm_verb("predict", "one.png", "--model", "models:/shapes@champion", "--json", cwd=tmp_path)
    values = json.loads(asked.stdout)
    assert list(values["images"][0]["probabilities"]) == list(SHAPES)
    with point_mlflow_at(opened(tmp_path, "shapes")):
        model = mlflow.pyfunc.load_model("models:/shapes@champion")
    images = json.dumps({"inputs": draw_shapes(2, (10, 10), 3)[0].tolist()})
    answer = invocations(images, "application/json", model, model.metadata.get_input_schema())  # as it is served
    assert (answer.status, np.asarray(json.loads(answer.response)["predictions"]).shape) == (200, (2, 3))


def test_without_a_folder_nothing_is_created(tmp_path: Path) -> None:
    ended = run_command("data=folder", cwd=tmp_path)
    assert ended.returncode == ExitCode.DATA
    assert ended.stderr.count("\n") == 1
    assert "none is named: add data.dir=FOLDER" in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def champion(bars: Path) -> Path:
    """The same folder, with the sweep's only trial promoted to champion."""
    ended = run_verb("promote", "--experiment", "bars", *TWO, cwd=bars)
    assert ended.returncode == 0, ended.stderr
    assert f"images: from {bars / 'bars'}, where those of" in ended.stdout
    assert "models:/bars@champion is now version 1" in ended.stdout
    return bars


@pytest.mark.slow
def test_the_registered_model_is_called_after_the_images_and_knows_them(champion: Path) -> None:
    store = opened(champion, "bars")
    (version,) = list_versions(store)
    assert (version.model_name, version.data.labels, version.data.image_shape) == ("bars", SHAPES, (12, 16, 1))
    ended = run_verb("history", "--experiment", "bars", cwd=champion)
    assert ended.returncode == 0
    assert "champion" in ended.stdout
    ledger = (champion / "mlruns" / "test_openings.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in ledger] == [30]
    card = run_verb("card", "models:/bars@champion", cwd=champion).stdout
    assert "models:/bars/1" in card
    assert "They are a set of their own, called bars." in card
    assert all(label in card for label in SHAPES)


@pytest.mark.slow
def test_a_picture_is_labelled_as_the_training_pictures_were_read(champion: Path) -> None:
    Image.fromarray(draw_shapes(3)[0][1, :, :, 0]).save(champion / "as_it_is.png")
    Image.new("RGB", (40, 30), (200, 10, 10)).save(champion / "red.png")
    words = ("predict", "as_it_is.png", "red.png", "--model", "models:/bars@champion", "--picture", "seen.png")
    ended = run_verb(*words, cwd=champion)
    assert ended.returncode == 0, ended.stderr
    assert "models:/bars/1, test accuracy" in ended.stdout
    assert "on bars's own test images" in ended.stdout
    assert "(taken as it is)" in ended.stdout
    assert "(resized from 30x40 to 12x16 pixels (height x width); colour converted to grey" in ended.stdout
    assert (champion / "seen.png").is_file()
    ended = run_verb("predict", "as_it_is.png", "--experiment", "bars", "--json", cwd=champion)
    values = json.loads(ended.stdout)
    assert values["model"]["name"] == "bars"
    assert list(values["images"][0]["probabilities"]) == list(SHAPES)


@pytest.mark.slow
def test_a_champion_of_own_images_is_rebuilt_bit_for_bit(champion: Path) -> None:
    place = champion / "bars"
    ended = run_verb("reproduce", "models:/bars@champion", cwd=champion)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"images: from {place}, where those of version 1 of models:/bars were read" in ended.stdout
    assert "identical bit for bit" in ended.stdout


@pytest.mark.slow
def test_a_challenger_says_what_is_assumed_of_images_that_were_not_measured(champion: Path) -> None:
    changes = ("model.filters=5", "train.epochs=1")
    given = ("data=idx", "data.dir=bars", f"data.labels=[{','.join(SHAPES)}]")
    assert run_command(*SMALL, *given, *changes, cwd=champion).returncode == 0
    ended = run_verb("promote", "--experiment", "bars", "plan=true", "promote.gain=0.3", cwd=champion)
    assert ended.returncode == 0, ended.stderr
    assert "how trainings of bars spread was not measured: it is taken as on Fashion-MNIST" in ended.stdout


def test_the_documented_models_are_those_of_fashion_mnist(tmp_path: Path) -> None:
    ended = run_verb("documented", "run", "data=folder", "data.dir=x", cwd=tmp_path)
    assert ended.returncode == ExitCode.CONFIG
    assert "the documented models are of Fashion-MNIST" in ended.stderr


@pytest.mark.slow
def test_a_notebook_loads_and_asks_the_model_by_its_address(champion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fmnist_sweep as fs

    monkeypatch.chdir(champion)
    Image.fromarray(draw_shapes(3)[0][1, :, :, 0]).save("one.png")
    assert fs.load("models:/bars@champion").input_shape == (None, 12, 16, 1)
    frame = fs.predict(["one.png"], "models:/bars@champion")
    assert set(SHAPES) <= set(frame.columns)
    assert frame["label"][0] in SHAPES
