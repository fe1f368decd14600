"""A user's own images are read as they are, from every kind of file; what cannot be is refused in one sentence."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmnist_sweep.data import DataConfig, Splits, load_splits, open_test
from fmnist_sweep.data.data_config import choose_data_schema
from fmnist_sweep.data.own.parts import choose_test_mask
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.errors import DataError
from tests.support.own_images import SHAPES, draw_shapes, encode_idx, write_idx, write_npz, write_pictures


def config(source: str, folder: Path, **changes: Any) -> DataConfig:
    pictures = {"size": None, "channels": None} if source == "folder" else {}
    values = {"name": None, "labels": None, "limit": None, "validation": 0.2, "include_validation": False}
    cut = {"split_seed": 0, "test": 0.25, "test_seed": 0}
    return choose_data_schema(source).model_validate(
        {"source": source, "dir": str(folder), **values, **cut, **pictures, **changes}
    )


@pytest.mark.parametrize(("source", "own"), [("npz", {}), ("folder", {"size": [10, 12], "channels": 3})])
def test_the_config_of_any_source_can_be_sent_to_a_worker(tmp_path: Path, source: str, own: dict[str, Any]) -> None:
    data = config(source, tmp_path, name="x", **own)
    sent = pickle.loads(pickle.dumps(data))
    assert sent == data
    assert hash(sent) == hash(data)
    assert sent.settings == ({"size": (10, 12), "channels": 3} if own else {})


def describe(splits: Splits) -> tuple[str, tuple[int, int, int], tuple[str, ...]]:
    return splits.description.name, splits.description.image_shape, splits.description.labels


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_of_another_size_are_read_and_their_labels_named(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path / "bars", packed=packed)
    splits = load_splits(config("idx", tmp_path / "bars", labels=list(SHAPES)))
    assert describe(splits) == ("bars", (12, 16, 1), SHAPES)
    images, labels = draw_shapes(90)
    assert np.array_equal(splits.train.images, images[splits.train.index])
    assert np.array_equal(splits.validation.labels, labels[splits.validation.index])
    test = open_test(config("idx", tmp_path / "bars", labels=list(SHAPES)), reason="a test", ledger=tmp_path / "ledger")
    assert np.array_equal(test.images, draw_shapes(30, seed=1)[0])
    assert (tmp_path / "ledger").read_text().count("a test") == 1


def test_labels_without_names_are_called_by_their_numbers_whatever_these_are(tmp_path: Path) -> None:
    write_idx(tmp_path)
    labels = (draw_shapes(90)[1] * 3 + 1).astype(np.uint8)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encode_idx(labels)))
    splits = load_splits(config("idx", tmp_path, name="odd"))
    assert splits.description.labels == ("1", "4", "7")
    assert set(splits.train.labels.tolist()) == {0, 1, 2}


def test_an_npz_file_in_colour_has_the_names_of_its_labels(tmp_path: Path) -> None:
    write_npz(tmp_path / "shapes.npz")
    splits = load_splits(config("npz", tmp_path / "shapes.npz"))
    assert describe(splits) == ("shapes", (10, 10, 3), SHAPES)
    reordered = load_splits(config("npz", tmp_path, name="x", labels=["standing", "cross", "lying"]))
    assert np.array_equal(reordered.train.labels, (draw_shapes(90)[1][reordered.train.index] + 1) % 3)
    assert reordered.sha256 != splits.sha256


def test_names_of_labels_are_part_of_what_a_study_is_and_the_name_of_the_data_is_not(tmp_path: Path) -> None:
    write_idx(tmp_path / "bars")
    hashes = [
        load_splits(config("idx", tmp_path / "bars", **changes)).sha256
        for changes in ({}, {"name": "other"}, {"labels": list(SHAPES)})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_pictures_below_train_and_test_are_resized_where_it_was_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "pics" / "train", 60)
    write_pictures(tmp_path / "pics" / "test", 15, seed=1)
    (tmp_path / "pics" / "train" / "cross" / "notes.txt").write_text("not a picture")
    with pytest.raises(DataError, match=r"has 12x16 pixels and .*000.png 24x32: .* data.size=\[24,32\]"):
        load_splits(config("folder", tmp_path / "pics"))
    data = config("folder", tmp_path / "pics", size=[12, 16])
    splits = load_splits(data)
    assert describe(splits) == ("pics", (12, 16, 3), SHAPES)
    said = capsys.readouterr().err
    assert "20 of 60 pictures were resized to 12x16 pixels (height x width), most of them from 24x32" in said
    assert "1 files below" in said
    images, _ = draw_shapes(60, channels=3)
    by_label = np.argsort(np.arange(60) % 3, kind="stable")  # as the folders come
    plain = splits.train.index[by_label[splits.train.index] % 3 != 0]
    assert np.array_equal(splits.train.images[np.isin(splits.train.index, plain)], images[by_label[plain]])
    assert len(open_test(data, reason="a test", ledger=tmp_path / "ledger").labels) == 15


def test_grey_pictures_have_one_channel_and_jpeg_is_read(tmp_path: Path) -> None:
    write_pictures(tmp_path / "grey", 30, suffix="jpg", channels=1)
    splits = load_splits(config("folder", tmp_path / "grey", size=[12, 16]))
    assert splits.description.image_shape == (12, 16, 1)
    coloured = load_splits(config("folder", tmp_path / "grey", size=12, channels=3))
    assert coloured.description.image_shape == (12, 12, 3)


def test_a_folder_without_a_test_part_is_cut_by_the_pictures_themselves(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics", 60)
    data = config("folder", tmp_path / "pics", size=[12, 16])
    splits = load_splits(data)
    test = open_test(data, reason="a test", ledger=tmp_path / "ledger")
    seen = {image.tobytes() for split in (splits.train, splits.validation) for image in split.images}
    assert len(seen) + len(test.labels) == 60
    assert not seen & {image.tobytes() for image in test.images}
    assert set(test.labels.tolist()) == {0, 1, 2}
    other = open_test(
        config("folder", tmp_path / "pics", size=[12, 16], test_seed=1), reason="x", ledger=tmp_path / "l"
    )
    assert {image.tobytes() for image in other.images} != {image.tobytes() for image in test.images}


def test_pictures_that_come_later_are_cut_too_and_move_no_other(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics", 60)
    data = config("folder", tmp_path / "pics", size=[12, 16])
    before = open_test(data, reason="a test", ledger=tmp_path / "ledger")
    write_pictures(tmp_path / "more", 90, seed=5)
    for path in (tmp_path / "more").rglob("*.png"):
        path.rename(tmp_path / "pics" / path.parent.name / f"new-{path.name}")
    after = open_test(data, reason="a test", ledger=tmp_path / "ledger")
    kept, grown = ({image.tobytes() for image in split.images} for split in (before, after))
    assert kept < grown


def test_an_image_stays_on_its_side_of_the_cut_when_others_come_and_equal_ones_stay_together() -> None:
    keys = [bytes([number]) for number in range(100)]
    values = np.arange(100) % 2
    mask = choose_test_mask(keys, values, 0.2, 0)
    assert np.array_equal(choose_test_mask(keys[:50], values[:50], 0.2, 0), mask[:50])
    assert 0.1 < mask.mean() < 0.3
    doubled = choose_test_mask(keys * 2, np.concatenate([values, values]), 0.2, 0)
    assert np.array_equal(doubled, np.concatenate([mask, mask]))
    assert choose_test_mask(keys[:6], values[:6], 1e-9, 0).sum() == 2  # one of each label at least


@pytest.mark.parametrize("shape", [(12, 16, 1), (10, 9, 3), (28, 28, 1)])
def test_near_twins_are_found_among_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, *shape)).astype(np.uint8)
    near = np.clip(images[:2].astype(int) + 4, 0, 255).astype(np.uint8)
    assert find_near_twins(np.concatenate([near, 255 - images[2:4]]), images).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["a", "b"], r"data.labels names 2 labels, .* have 3 \(0, 1, 2\): give a name for each"),
        (None, "no IDX file of train labels"),
    ],
)
def test_labels_that_are_missing_are_one_sentence(tmp_path: Path, labels: list[str] | None, sentence: str) -> None:
    write_idx(tmp_path)
    if labels is None:
        (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=sentence):
        load_splits(config("idx", tmp_path, name="x", labels=labels))


def test_images_of_one_label_only_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics", 30)
    for label in SHAPES[1:]:
        (tmp_path / "pics" / label).rename(tmp_path / label)
    with pytest.raises(DataError, match=r"of one label only \(cross\): expected at least two"):
        load_splits(config("folder", tmp_path / "pics", size=8))


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics" / "train", 12)
    (tmp_path / "pics" / "test").mkdir()
    path = tmp_path / "pics" / "train" / "cross" / "000.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"000\.png: the picture is damaged or incomplete"):
        load_splits(config("folder", tmp_path / "pics", size=8))


def test_labels_of_test_images_that_no_training_image_has_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(encode_idx(np.full(30, 9, np.uint8)))
    with pytest.raises(DataError, match=r"test images of .* have the label 9, which no training image has"):
        open_test(config("idx", tmp_path, name="x"), reason="a test", ledger=tmp_path / "ledger")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (encode_idx(np.zeros((3, 4), np.uint8)), "no IDX file of bytes with 3 or 4 dimensions"),
        (encode_idx(np.zeros((3, 4, 4), np.uint8))[:-1], "not as long as its header says: expected 48"),
        (encode_idx(np.zeros((3, 4, 4), np.uint8)) + b"x", "not as long as its header says"),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, "announces"),
        (encode_idx(np.zeros((3, 1000, 4), np.uint8)), "shape 1000x4x1: expected 1 to 512"),
        (b"\x1f\x8b damaged", "cannot be unpacked"),
        (b"", "found an empty file"),
    ],
)
def test_damaged_idx_files_are_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        load_splits(config("idx", tmp_path, name="x"))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": np.zeros(3)}, r"expected the arrays x_train and y_train or .*, found a"),
        ({"x_train": np.zeros((3, 4, 4)), "y_train": np.arange(3)}, "type float64 .* expected whole numbers from 0"),
        ({"x_train": np.full((3, 4, 4), 256), "y_train": np.arange(3)}, "values from 256 to 256"),
        ({"x_train": np.zeros((3, 4, 4, 2), int), "y_train": np.arange(3)}, "4x4x2: expected"),
        ({"x_train": np.zeros((3, 4, 4), int), "y_train": np.arange(4)}, "a name for each of the 3 images"),
        ({"x_train": np.array([{}]), "y_train": np.arange(1)}, "cannot be read"),
    ],
)
def test_npz_files_without_images_are_one_sentence(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        load_splits(config("npz", tmp_path / "x.npz"))


def test_a_test_array_is_not_read_with_the_training_images(tmp_path: Path) -> None:
    images, labels = draw_shapes(30)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, x_test=np.array([{}]), y_test=labels)
    data = config("npz", tmp_path / "x.npz")
    load_splits(data)
    with pytest.raises(DataError, match="cannot be read"):
        open_test(data, reason="a test", ledger=tmp_path / "ledger")


def test_pictures_larger_than_can_be_learnt_from_ask_for_a_size(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (600, 20)).save(tmp_path / "a" / "wide.png")
    with pytest.raises(DataError, match="20x600 pixels: expected at most 512"):
        load_splits(config("folder", tmp_path, name="x", test=1e-9))
