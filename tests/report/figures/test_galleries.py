"""The figures of an error analysis say what its values say, and an empty one says so."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import BboxImage, imread
from matplotlib.patches import PathPatch
from numpy.typing import NDArray

from fmnist_sweep.analysis.confidence import Calibration, measure_calibration
from fmnist_sweep.analysis.labelling import Suspect, Suspects
from fmnist_sweep.analysis.mistakes import ClassScore, ConfusedPair, score_classes
from fmnist_sweep.analysis.proportions import Proportion
from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.galleries import draw_confused_pairs, draw_reliability, draw_suspects
from fmnist_sweep.training.evaluation import count_confusion

IMAGES = np.random.default_rng(0).integers(1, 256, (60, 28, 28, 1), dtype=np.uint8)


def _pixels(figure: Figure) -> NDArray[Any]:
    return np.asarray(imread(io.BytesIO(encode_png(figure))))


def _outlines(figure: Figure) -> list[PathPatch]:
    return [artist for artist in figure.artists if isinstance(artist, PathPatch)]


def _written(figure: Figure) -> list[str]:
    return [line for outline in _outlines(figure) for line in str(outline.get_label()).split("\n")]


def _mosaic(figure: Figure) -> NDArray[Any]:
    (image,) = (artist for artist in figure.artists if isinstance(artist, BboxImage))
    return np.asarray(image.get_array())


def _said(figure: Figure) -> list[str]:
    assert _pixels(figure).shape[1] == 900 and not figure.artists
    return [text.get_text() for text in figure.texts]


def _suspects(count: int, trials: int = 12) -> Suspects:
    found = tuple(Suspect(row, "Shirt", "Coat", trials - row % 2, 0.97, 0.01, True) for row in range(count))
    return Suspects(trials, 60, found, (), (), 0.1, 0.2)


def _calibration(n: int = 500) -> Calibration:
    random = np.random.default_rng(0)
    return measure_calibration(random.integers(0, 10, n), random.dirichlet(np.full(10, 0.3), n))


def _scores() -> list[ClassScore]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 400)  # and no ankle boot
    predicted = np.where(random.random(400) < 0.02 * labels, 9, labels)
    return score_classes(count_confusion(labels, predicted, LABELS), LABELS)


def _inside(figure: Figure) -> bool:
    """Whether all text written as outlines lies within the figure."""
    encode_png(figure)
    width, height = figure.get_size_inches() * 100
    boxes = [outline.get_window_extent() for outline in _outlines(figure)]
    assert boxes
    return all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)


def test_confused_pairs_are_rows_of_images_with_what_was_taken_for_what() -> None:
    pairs = [
        ConfusedPair("Shirt", "T-shirt/top", 41, 41 / 600, 30, (5, 2)),
        ConfusedPair("Coat", "Shirt", 1200, 0.2, 0, (7,)),
    ]
    figure = draw_confused_pairs(pairs, IMAGES, "a trial")

    assert _written(figure) == [
        "Shirt taken for T-shirt/top: 41 (6.8%)",
        "Coat taken for Shirt: 1,200 (20.0%)",
        "the other way: 30",
        "the other way: 0",
    ]
    mosaic = _mosaic(figure)
    assert np.array_equal(mosaic[:28, 4:32], IMAGES[5, :, :, 0])
    assert np.array_equal(mosaic[:28, 41:69], IMAGES[2, :, :, 0])
    assert np.array_equal(mosaic[39:67, 4:32], IMAGES[7, :, :, 0])
    assert not mosaic[:, 78:].any()
    assert _pixels(figure).shape == (52 + 24 + 2 * 39 * 3, 900, 4)


def test_a_pair_shows_eight_examples_at_most() -> None:
    mosaic = _mosaic(
        draw_confused_pairs([ConfusedPair("Coat", "Shirt", 20, 0.1, 0, tuple(range(20)))], IMAGES, "a trial")
    )
    assert np.array_equal(mosaic[:28, 4 + 7 * 37 : 32 + 7 * 37], IMAGES[7, :, :, 0])
    assert mosaic.shape == (39, 8 * 37)


def test_captions_of_confused_pairs_lie_within_the_figure_and_off_the_images() -> None:
    pairs = [ConfusedPair("T-shirt/top", "Ankle boot", 6000, 1.0, 6000, tuple(range(8)))] * 6
    figure = draw_confused_pairs(pairs, IMAGES, "a trial")
    assert _inside(figure)
    pixels = _pixels(figure)
    for row in range(6):
        top = 52 + 24 + row * 39 * 3
        assert pixels[top - 22 : top, :, :3].min() < 0.5  # a caption
        assert (pixels[top - 1, :, :3] == 1).all()  # a white line between it and the images


def test_suspected_labels_are_shown_with_given_agreed_label_and_agreement() -> None:
    figure = draw_suspects(_suspects(10), IMAGES, "a study")
    assert _written(figure)[:6] == ["Shirt", "→ Coat", "12/12, 97%", "Shirt", "→ Coat", "11/12, 97%"]
    assert len(_written(figure)) == 30
    mosaic = _mosaic(figure)
    assert np.array_equal(mosaic[:28, 41:69], IMAGES[1, :, :, 0])
    assert np.array_equal(mosaic[46:74, 4:32], IMAGES[8, :, :, 0])
    assert _inside(figure)


def test_captions_of_suspects_lie_between_the_rows_of_images() -> None:
    figure = draw_suspects(_suspects(16), np.full((16, 28, 28, 1), 128, np.uint8), "a study")
    pixels = _pixels(figure)[:, :, :3]
    for bottom in (52 + 84, 52 + 138 + 84):  # of the images of the first and second row
        assert (pixels[bottom - 84 : bottom, 18:102] == pixels[bottom - 40, 60]).all()
        captions = pixels[bottom : bottom + 54, 18:102]
        assert captions.min() < 0.3 and (captions[-4:] == 1).all()


def test_at_most_so_many_suspects_are_shown() -> None:
    assert len(_written(draw_suspects(_suspects(50), IMAGES, "a study"))) == 3 * 32
    assert len(_written(draw_suspects(_suspects(50), IMAGES, "a study", limit=5))) == 3 * 5


def test_reliability_puts_accuracy_against_confidence_with_intervals_and_counts() -> None:
    found = _calibration()
    figure = draw_reliability(found, "a trial")
    upper, lower = figure.axes

    points = np.asarray({line.get_label(): line for line in upper.get_lines()}["this model"].get_xydata())
    assert points.tolist() == [[b.confidence, b.accuracy.value] for b in found.bins]
    bars = [np.asarray(segment)[:, 1].tolist() for segment in upper.collections[0].get_segments()]  # type: ignore[attr-defined]
    assert bars == [[b.accuracy.low, b.accuracy.high] for b in found.bins]
    heights = [(bar.get_x(), bar.get_height()) for bar in lower.patches]  # type: ignore[attr-defined]
    assert heights == [(pytest.approx(b.low), b.count) for b in found.bins]


def test_reliability_says_its_figures_within_its_page() -> None:
    found = _calibration()
    figure = draw_reliability(found, "a trial")
    words = " ".join(_written(figure))
    assert f"{found.ece:.4f}, where a perfectly calibrated model would show {found.ece_if_calibrated:.4f}" in words
    assert "overconfident by" in words
    assert _inside(figure)


def test_reliability_of_a_single_image_can_be_drawn() -> None:
    found = measure_calibration(np.array([1]), np.array([[0.1, 0.9]]))
    figure = draw_reliability(found, "a trial")
    assert "underconfident by 0.1000" in " ".join(_written(figure))
    assert _pixels(figure).shape == (640, 900, 4)


def test_what_is_empty_is_said_instead_of_drawn() -> None:
    nothing = Calibration((), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, Proportion.from_counts(0, 0))
    assert "No mistakes" in _said(draw_confused_pairs([], IMAGES, "a trial"))
    assert "No predictions" in _said(draw_reliability(nothing, "a trial"))
    assert "No image on which 12 trials agree against its label" in _said(
        draw_suspects(_suspects(0), IMAGES, "a study")
    )


def test_suspects_of_a_single_trial_are_not_drawn_but_explained() -> None:
    figure = draw_suspects(_suspects(0, trials=1), IMAGES, "a study")
    assert any(text.startswith("Nothing can be told") for text in _said(figure))


def test_rows_beyond_the_images_and_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="reach to row 7, but there are 5 images"):
        draw_suspects(_suspects(10), IMAGES[:5], "a study")
    with pytest.raises(ValueError, match=r"\(60, 784\)"):
        draw_confused_pairs([ConfusedPair("Coat", "Shirt", 1, 0.1, 0, (1,))], IMAGES.reshape(60, 784), "a trial")


def test_drawing_leaves_pyplot_and_the_other_rooms_libraries_alone() -> None:
    check = (
        "import sys, numpy, fmnist_sweep.report.figures.galleries as g\n"
        "assert 'matplotlib' not in sys.modules\n"
        "g.draw_confused_pairs([], numpy.zeros((0, 28, 28, 1), numpy.uint8), 't')\n"
        "sys.exit(bool({'matplotlib.pyplot', 'mlflow', 'keras', 'tensorflow', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
