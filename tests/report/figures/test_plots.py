"""Figures say what the values say, at the size a browser shows, whatever happened in training."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import BboxImage, imread
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from numpy.typing import NDArray

from fmnist_sweep.data import LABELS
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.report.figures.plots import draw_confusion_matrix, draw_curves, draw_misclassified

NAN = float("nan")


def _history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "loss": 1 / (epoch + 1),
            "accuracy": 0.9 - 0.3 / (epoch + 1),
            "val_loss": 1 / (epoch + 1) + 0.05,
            "val_accuracy": 0.88 - 0.3 / (epoch + 1),
        }
        for epoch in range(epochs)
    ]


def _confusion() -> list[list[int]]:
    return (np.eye(10, dtype=int) * 90 + np.random.default_rng(0).integers(0, 3, (10, 10))).tolist()  # type: ignore[no-any-return]


def _mistakes(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, n)
    images = random.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)
    return images, labels, (labels + random.integers(1, 10, n)) % 10, random.uniform(0.3, 1.0, n)


def _pixels(figure: Figure, dpi: int = 100) -> NDArray[Any]:
    return np.asarray(imread(io.BytesIO(encode_png(figure, dpi))))


def _written(figure: Figure) -> list[str]:
    """What the outlined texts say, line by line."""
    outlines = [artist for artist in figure.artists if isinstance(artist, PathPatch)]
    return [line for outline in outlines for line in str(outline.get_label()).split("\n")]


def _images(figure: Figure) -> list[NDArray[Any]]:
    return [np.asarray(artist.get_array()) for artist in figure.artists if isinstance(artist, BboxImage)]


def _lines(figure: Figure, panel: int) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[panel].get_lines()}


def _points(line: Line2D) -> list[list[float]]:
    points: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return points


def _drawn(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    figure = draw_curves(history, best_epoch, "a trial")
    assert _pixels(figure).shape == (420, 900, 4)
    return figure


def test_curves_show_training_against_validation_in_two_panels() -> None:
    history = _history(5)
    figure = _drawn(history, 4)

    assert len(figure.axes) == 2
    for panel, key in enumerate(("accuracy", "loss")):
        lines = _lines(figure, panel)
        for label, name in (("training", key), ("validation", f"val_{key}")):
            expected = [[place, epoch[name]] for place, epoch in enumerate(history, start=1)]
            assert _points(lines[label]) == expected


def test_curves_mark_and_name_the_best_epoch() -> None:
    figure = _drawn(_history(5), 4)

    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training", "validation", "best epoch: 4"]
    assert _points(_lines(figure, 0)["best epoch: 4"]) == [[4, pytest.approx(0.88 - 0.3 / 4)]]
    assert "0.805" in figure.axes[0].get_title(loc="left")


def test_curves_of_a_single_epoch_are_visible_points() -> None:
    figure = _drawn(_history(1), 1)

    assert _lines(figure, 0)["training"].get_marker() == "o"
    low, high = figure.axes[0].get_xlim()
    assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 100])
def test_epochs_are_whole_numbers_on_the_axis(epochs: int) -> None:
    figure = _drawn(_history(epochs), epochs)
    ticks = figure.axes[0].get_xticks()
    assert len(ticks) and np.array_equal(ticks, np.round(ticks))


def test_a_diverged_trial_still_has_curves() -> None:
    broken = {"loss": NAN, "accuracy": 0.1, "val_loss": float("inf"), "val_accuracy": 0.1}
    figure = _drawn([*_history(2), broken, broken], 2)

    validation = np.array(_points(_lines(figure, 1)["validation"]))
    assert np.isfinite(validation[:, 1]).tolist() == [True, True, False, False]


@pytest.mark.parametrize("best_epoch", [0, 1])
def test_a_trial_that_never_had_a_finite_value_still_has_curves(best_epoch: int) -> None:
    broken = {"loss": NAN, "accuracy": NAN, "val_loss": NAN, "val_accuracy": NAN}
    figure = _drawn([broken], best_epoch)
    assert "nan" not in figure.axes[0].get_title(loc="left")


def test_curves_without_a_best_epoch_mark_none() -> None:
    figure = _drawn(_history(3), 0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]


@pytest.mark.parametrize("loss", [1e9, 1e30, 1e-12, 1e38])
def test_losses_of_any_size_can_be_drawn(loss: float) -> None:
    _drawn([{**epoch, "loss": loss * (1 + epoch["loss"]) / 2} for epoch in _history(3)], 3)


@pytest.mark.parametrize(("epochs", "best", "sentence"), [(0, 0, "empty"), (3, 4, r"0\.\.3"), (3, -1, "is -1")])
def test_curves_refuse_a_best_epoch_outside_the_history(epochs: int, best: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw_curves(_history(epochs), best, "a trial")


def test_a_confusion_matrix_writes_every_count_but_zeros() -> None:
    confusion = [[8, 2, 0], [0, 70, 1], [3, 0, 0]]
    figure = draw_confusion_matrix(confusion, ("a", "b", "c"), "a trial")

    assert sorted(text for text in _written(figure) if text.isdigit()) == ["1", "2", "3", "70", "8"]
    assert {"a", "b", "c", "true", "predicted"} <= set(_written(figure))


def test_a_confusion_matrix_of_many_labels_has_their_names_and_no_counts_that_nobody_could_read() -> None:
    names = [f"label {number}" for number in range(60)]
    written = _written(draw_confusion_matrix(np.full((60, 60), 5).tolist(), names, "a trial"))
    assert set(names) <= set(written)
    assert "5" not in written


def test_mistakes_in_colour_and_of_any_size_are_shown_as_they_are() -> None:
    images = np.zeros((3, 10, 30, 3), np.uint8)
    images[..., 0] = 200
    labels, predicted = np.array([0, 1, 0]), np.array([1, 0, 1])
    figure = draw_misclassified(images, labels, predicted, np.array([0.5, 0.9, 0.7]), ("a", "b"), "a trial")
    (mosaic,) = _images(figure)
    assert mosaic.ndim == 3
    colours = {tuple(pixel) for pixel in mosaic.reshape(-1, 3).tolist()}
    assert colours == {(200, 0, 0), (255, 255, 255)}


def test_a_confusion_matrix_is_coloured_by_the_share_of_the_row() -> None:
    figure = draw_confusion_matrix([[9, 0], [90, 10]], ("a", "b"), "a trial")
    shares = _images(figure)[0] ** 2
    assert shares == pytest.approx(np.array([[1, 0], [0.9, 0.1]]))


def test_counts_of_a_confusion_matrix_lie_in_their_cells_true_down_predicted_across() -> None:
    full = _pixels(draw_confusion_matrix([[0, 5], [0, 0]], ("a", "b"), "a trial"))
    # Row "a", column "b" is the upper right cell, wholly dark; a label without images leaves its row white.
    upper_right, lower_left = full[80:120, 700:740, :3], full[640:680, 140:180, :3]
    assert upper_right.mean() < 0.4 < 0.9 < lower_left.mean()


def test_a_confusion_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a confusion matrix of 10 labels"):
        draw_confusion_matrix([[1, 2], [3, 4]], LABELS, "a trial")


def test_mistakes_are_shown_the_most_confident_first_with_true_and_predicted() -> None:
    images, labels, predicted = _mistakes(3)[:3]
    confidence = np.array([0.5, 0.9, 0.7])
    figure = draw_misclassified(images, labels, predicted, confidence, LABELS, "a trial")

    assert _written(figure) == [
        line
        for index, percent in ((1, 90), (2, 70), (0, 50))
        for line in (LABELS[labels[index]], f"→ {LABELS[predicted[index]]} {percent}%")
    ]
    (mosaic,) = _images(figure)
    assert np.array_equal(mosaic[:28, 4:32], images[1, :, :, 0])
    assert np.array_equal(mosaic[:28, 41:69], images[2, :, :, 0])


def test_images_labelled_rightly_are_passed_over() -> None:
    images, labels, predicted, confidence = _mistakes(6)
    predicted[:4] = labels[:4]
    figure = draw_misclassified(images, labels, predicted, confidence, LABELS, "a trial")
    assert len(_written(figure)) == 2 * 2


def test_at_most_so_many_mistakes_are_shown() -> None:
    assert len(_written(draw_misclassified(*_mistakes(100), LABELS, "a trial"))) == 2 * 40
    assert len(_written(draw_misclassified(*_mistakes(100), LABELS, "a trial", limit=9))) == 2 * 9


def test_a_model_without_mistakes_gets_a_sentence_instead() -> None:
    figure = draw_misclassified(*_mistakes(0), LABELS, "a trial")
    assert "No misclassified images" in [text.get_text() for text in figure.texts]
    assert _pixels(figure).shape[1] == 900


def test_mistakes_refuse_arrays_of_differing_lengths() -> None:
    images, labels, predicted, confidence = _mistakes(4)
    with pytest.raises(ValueError, match="lengths 4, 4, 3 and 4"):
        draw_misclassified(images, labels, predicted[:3], confidence, LABELS, "a trial")


@pytest.mark.parametrize("dpi", [50, 100, 200])
def test_a_png_has_the_pixels_its_dpi_asks_for(dpi: int) -> None:
    shape = _pixels(draw_confusion_matrix(_confusion(), LABELS, "a trial"), dpi).shape
    assert shape[:2] == (8 * dpi, 9 * dpi)


def test_the_same_values_give_the_same_bytes() -> None:
    first, second = (encode_png(draw_misclassified(*_mistakes(50), LABELS, "a trial")) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG\r\n")


def test_dollars_and_blanks_in_names_and_titles_are_drawn_as_they_are() -> None:
    figure = draw_confusion_matrix([[1, 2], [3, 4]], ("$a_{$", " "), "costs $5 or $6_")
    assert "$a_{$" in _written(figure)
    assert _pixels(figure).shape == (800, 900, 4)


@pytest.mark.parametrize("title", ["short", "long " * 40])
def test_a_title_stays_within_its_figure(title: str) -> None:
    figure = draw_curves(_history(2), 1, title)
    encode_png(figure)
    assert figure.texts[0].get_window_extent().x1 <= 900


def test_the_captions_of_neighbours_do_not_touch() -> None:
    images, _, _, _ = _mistakes(2)
    widest = (np.array([0, 0]), np.array([9, 9]), np.array([1.0, 1.0]))
    for names in (LABELS, (LABELS[9], *LABELS[1:9], LABELS[0])):
        labels, predicted, confidence = widest
        pixels = _pixels(draw_misclassified(images, labels, predicted, confidence, names, "a trial"))
        captions = pixels[52 + 84 : 52 + 84 + 32, :, :3].min(axis=(0, 2))
        border = 6 + 111  # the left margin and one cell
        between = captions[border - 3 : border + 3]
        assert captions[border - 60 : border + 60].min() < 0.5
        assert (between == 1).all()


def test_the_three_figures_of_a_trial_are_drawn_fast_enough_to_draw_them_for_each() -> None:
    def draw() -> float:
        started = time.process_time()
        encode_png(draw_curves(_history(20), 13, "a trial"))
        encode_png(draw_confusion_matrix(_confusion(), LABELS, "a trial"))
        encode_png(draw_misclassified(*_mistakes(200), LABELS, "a trial"))
        return time.process_time() - started

    # About 0.2 s once warm; the bound leaves room for slower machines and catches 40 Axes or a tight layout.
    assert min(draw() for _ in range(4)) < 1.0


def test_drawing_leaves_pyplot_and_the_other_rooms_libraries_alone() -> None:
    check = (
        "import sys, fmnist_sweep.report.figures.plots as p\n"
        "from fmnist_sweep.report.figures.canvas import encode_png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "encode_png(p.draw_confusion_matrix([[1]], ['a'], 't'))\n"
        "sys.exit(bool({'matplotlib.pyplot', 'mlflow', 'keras', 'tensorflow', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
