"""`fmnist-sweep predict`: real picture files, a real model registered in a real store, the real command."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from fmnist_sweep.cli.main import main
from fmnist_sweep.cli.predict import predict, predict_probabilities
from fmnist_sweep.data import FASHION_MNIST, LABELS
from fmnist_sweep.data.pictures.photographs import Photograph, read_photograph
from fmnist_sweep.errors import ExitCode, StoreError
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.predictions import draw_predictions
from fmnist_sweep.tracking import registry as versions
from fmnist_sweep.tracking import version_files
from fmnist_sweep.tracking.models import log_model
from fmnist_sweep.tracking.names import MODEL_NAME, SHA256_TAG
from fmnist_sweep.tracking.store import Store, build_default_uri, open_store
from fmnist_sweep.tracking.store_lock import lock_registry
from tests.conftest import Command
from tests.support.environments import ODD
from tests.support.process import VERB, run
from tests.support.small import splits

main.add_command(predict)  # as the command itself does


def _network() -> Any:
    """A model that tells an image of `small.splits` by the bright row band of its label."""
    import keras

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    weights = np.zeros((28, 28, 10))
    for label in range(10):
        weights[2 * label + 4 : 2 * label + 6, :, label] = 1e-3
    model.layers[-1].set_weights([weights.reshape(784, 10), np.zeros(10)])
    return model


def _register(store: Store, content: bytes, **tags: str) -> str:
    made = store.client.create_run(store.experiment_id, run_name="filters 4")
    model = log_model(store, made, content, splits().validation, FASHION_MNIST)
    tags = {SHA256_TAG: hashlib.sha256(content).hexdigest(), **tags}
    with lock_registry(store):
        version = versions.register_version(store, made.info.run_id, model.model_id, tags=tags, description="a test")
    return version.number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions, the first of them the champion, and pictures of a bag and a dress."""
    folder = tmp_path_factory.mktemp("predict")
    store = open_store(build_default_uri(folder), "fashion-mnist")
    _network().save(folder / "model.keras")
    content = (folder / "model.keras").read_bytes()
    first = _register(store, content, **{"fmnist.test_accuracy": "0.9123"})
    store.client.set_registered_model_alias(MODEL_NAME, versions.CHAMPION, first)
    _register(store, content)
    for label, name in ((8, "bag.png"), (3, "dress.png")):
        Image.fromarray(_image(label)).save(folder / name)
    large = Image.new("RGB", (400, 420), "white")
    large.paste((20, 40, 120), (100, 100, 300, 300))
    large.save(folder / "large.jpg")
    two = Image.new("L", (400, 200), 255)
    two.paste(40, (60, 60, 140, 140))
    two.paste(40, (260, 60, 340, 140))
    two.save(folder / "two.png")
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def _image(label: int) -> NDArray[np.uint8]:
    image = np.zeros((28, 28), np.uint8)
    image[2 * label + 4 : 2 * label + 6, 1:-1] = 220
    return image


def _predict(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments])


def _photographs(count: int, name: str = "a bag.png") -> list[Photograph]:
    thumbnail = np.full((84, 168, 3), 200, np.uint8)
    return [Photograph(name, _image(place % 10)[:, :, None], thumbnail, ["cropped"], []) for place in range(count)]


def _written(figure: Figure) -> list[str]:
    return [
        line for patch in figure.artists if isinstance(patch, PathPatch) for line in str(patch.get_label()).split("\n")
    ]


def test_the_command_says_who_answered_the_likeliest_labels_and_what_was_done(folder: Path, warm_verb: Command) -> None:
    done = warm_verb("predict", "bag.png", "large.jpg", "--top", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "models:/fashion-mnist/1, test accuracy 0.9123 on Fashion-MNIST's own images; expect less on others"
    )
    assert lines[1] == "bag.png" and lines[2].split()[0] == "Bag" and float(lines[2].split()[1].strip("%")) > 90
    assert lines[4] == "  (taken as it is)"
    assert lines[5] == "large.jpg" and lines[-1].startswith("  (colour converted to grey (ITU-R 601 luma); bright")
    assert len(lines) == 9 and done.stderr == ""


@pytest.mark.slow
def test_it_follows_nothing_of_an_odd_environment_and_draws_all_the_same(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = run(*VERB, "predict", "bag.png", "--picture", str(picture), cwd=folder, environment=ODD)
    assert done.returncode == 0 and done.output.isascii(), done
    assert "Bag" in done.stdout and "not followed: MLFLOW_TRACKING_URI" in done.stderr.splitlines()[0]
    assert imread(picture).size > 0


def test_json_has_every_probability_and_the_version_that_answered() -> None:
    done = _predict("bag.png", "dress.png", "--json", "--top", "1")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["model"]["version"] == "1" and found["model"]["test_accuracy"] == 0.9123
    assert [image["label"] for image in found["images"]] == ["Bag", "Dress"]
    bag = found["images"][0]
    assert list(bag["probabilities"]) == list(LABELS) and sum(bag["probabilities"].values()) == pytest.approx(1)
    assert bag["top"] == [{"label": "Bag", "probability": bag["probabilities"]["Bag"]}]
    assert bag["file"] == "bag.png" and bag["assumptions"] == bag["warnings"] == []


def test_another_version_can_be_asked_and_one_without_a_test_score_says_so() -> None:
    done = _predict("bag.png", "--model", "models:/fashion-mnist/2")
    assert done.stdout.startswith("models:/fashion-mnist/2, no test accuracy recorded\nbag.png\n  Bag  ")
    assert json.loads(_predict("bag.png", "--model", "2", "--json").stdout)["model"]["test_accuracy"] is None


def test_the_probabilities_are_the_models_own() -> None:
    model, taken = _network(), [read_photograph(Path(name)) for name in ("bag.png", "large.jpg")]
    found = predict_probabilities(model, taken)
    expected = model(np.stack([photograph.pixels for photograph in taken])).numpy()
    assert found.shape == (2, 10) and found == pytest.approx(expected, abs=1e-6)


def test_a_model_of_something_else_is_refused() -> None:
    import keras

    other = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(StoreError, match=r"expected 10 probabilities per picture, found \(3,\) values"):
        predict_probabilities(other, _photographs(2))


def test_a_picture_of_the_answer_is_drawn_once_and_never_over_another_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.png"
    done = _predict("bag.png", "large.jpg", "--picture", str(path), "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["images"]
    assert "answer.png: each picture" in done.stderr
    before = path.read_bytes()
    assert np.asarray(imread(io.BytesIO(before))).shape == (52 + 2 * 240, 900, 4)
    again = _predict("bag.png", "--picture", str(path))
    assert again.exit_code == ExitCode.CONFIG and "there is a file already; name a new one." in again.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["answer.jpg", "none/answer.png", ""])
def test_a_place_where_no_picture_can_be_is_refused(tmp_path: Path, name: str) -> None:
    done = _predict("bag.png", "--picture", str(tmp_path / name))
    assert done.exit_code == ExitCode.CONFIG
    assert "expected a name that ends in .png, in a folder that exists" in done.stderr


def test_one_bad_file_among_good_ones_ends_it_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(version_files, "load_version", never)
    done = _predict("bag.png", str(tmp_path / "none.png"), "--picture", str(tmp_path / "answer.png"))
    assert done.exit_code == ExitCode.DATA and done.stdout == ""
    assert (
        done.stderr == f"fmnist-sweep: {tmp_path / 'none.png'}: expected a picture, found no such file: "
        "correct the name.\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_guess_is_said_below_the_pictures_name_and_listed_in_json() -> None:
    done = _predict("bag.png", "two.png")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and "Warning" not in lines[lines.index("bag.png") + 1]
    assert lines[lines.index("two.png") + 1].startswith("  Warning: It shows several things apart from each other")
    bag, two = json.loads(_predict("bag.png", "two.png", "--json").stdout)["images"]
    assert bag["warnings"] == [] and len(two["warnings"]) == 1 and two["warnings"][0].endswith(".")


def test_a_version_or_store_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    missing = _predict("bag.png", "--model", "models:/fashion-mnist@nobody")
    assert missing.exit_code == ExitCode.STORE and "has no version models:/fashion-mnist@nobody" in missing.stderr
    nowhere = _predict("bag.png", "--uri", f"sqlite:///{tmp_path}/mlflow.db", "--picture", f"{tmp_path}/answer.png")
    assert nowhere.exit_code == ExitCode.STORE and nowhere.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_more_labels_than_there_are_and_no_image_are_usage_errors() -> None:
    assert _predict("bag.png", "--top", "11").exit_code == 2
    assert "Missing argument 'IMAGE...'" in _predict().output


def test_too_many_images_for_one_page_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = _predict(*["none.png"] * 101, "--picture", str(tmp_path / "answer.png"))
    assert done.exit_code == ExitCode.CONFIG and "at most 100 images, but was given 101" in done.stderr


def test_the_figure_shows_each_picture_its_pixels_and_ten_bars() -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 2)
    figure = draw_predictions(_photographs(2), shares, "version 1")
    assert len(figure.axes) == 6
    for place in range(2):
        thumbnail, pixels, bars = figure.axes[3 * place : 3 * place + 3]
        assert np.asarray(thumbnail.images[0].get_array()).shape == (84, 168, 3)
        assert np.array_equal(np.asarray(pixels.images[0].get_array()), _image(place))
        widths = [bar.get_width() for bar in bars.patches if isinstance(bar, Rectangle)]
        assert widths == pytest.approx(shares[place].tolist())
    written = _written(figure)
    assert written.count("a bag.png") == 2 and written.count("cropped") == 2
    assert [label for label in written if label in LABELS] == [*LABELS, *LABELS]
    assert f"{shares[0][3]:.1%}" in written


def test_the_figure_shows_every_warning_whole_and_only_those_that_there_are() -> None:
    taken = _photographs(2)
    warnings = [f"Sentence {place} of a guess about the garment, its background and its light." for place in range(5)]
    taken[1].warnings.extend(warnings)
    written = _written(draw_predictions(taken, np.eye(10)[:2], "version 1"))
    assert [line for line in written if "Warning" in line] == [f"Warning: {each}" for each in warnings]


def test_everything_in_the_figure_lies_within_it() -> None:
    taken = _photographs(3, "folder/" * 40 + "$a_{$.png")
    taken[0].assumptions.extend(["turned to grey"] * 40)
    taken[2].warnings.extend(["A guess. " * 20] * 4)
    figure = draw_predictions(taken, np.eye(10)[:3], "version 1")
    assert "$a_{$.png" in _written(figure)[0]
    encode_png(figure)
    width, height = figure.get_size_inches() * 100
    for patch in figure.artists:
        box = patch.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height


def test_a_figure_of_other_shapes_or_too_many_pictures_is_refused_and_of_none_says_so() -> None:
    with pytest.raises(ValueError, match=r"2 pictures cannot have probabilities of shape \(3, 10\)"):
        draw_predictions(_photographs(2), np.zeros((3, 10)), "t")
    with pytest.raises(ValueError, match="at most 100 pictures"):
        draw_predictions(_photographs(101), np.zeros((101, 10)), "t")
    assert "No pictures" in [text.get_text() for text in draw_predictions([], np.zeros((0, 10)), "t").texts]
