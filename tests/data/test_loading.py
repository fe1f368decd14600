"""Reading, splitting, recording and summing up: what `load`, `open_test` and `summarize` promise."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fmnist_sweep.data import (
    DataConfig,
    format_fallback_banner,
    load_splits,
    open_test,
    summarize_data,
)
from fmnist_sweep.data import sources as sources_module
from fmnist_sweep.data.drawn import draw_images
from fmnist_sweep.errors import DataError
from tests.conftest import data_config, needs_fashion_mnist
from tests.support.caches import clear_splits_cache

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


config = data_config


def real(**given: Any) -> DataConfig:
    return config(dir=os.environ["FMNIST_DATA_DIR"], **given)


def image_bytes(images: NDArray[np.uint8], side: int = 28) -> bytes:
    header = b"".join(number.to_bytes(4, "big") for number in (2051, len(images), side, side))
    return header + images.tobytes()


def label_bytes(labels: NDArray[np.int64]) -> bytes:
    return (2049).to_bytes(4, "big") + len(labels).to_bytes(4, "big") + labels.astype(np.uint8).tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four well-formed small files: 200 train and 33 test images."""
    folder = tmp_path / "idx"
    for stream, count, names in (
        ("train", 200, (TRAIN_IMAGES, TRAIN_LABELS)),
        ("test", 33, (TEST_IMAGES, TEST_LABELS)),
    ):
        images, labels = draw_images(count, 7, stream="train" if stream == "train" else "test")
        write(folder / f"{names[0]}.gz", image_bytes(images))
        write(folder / f"{names[1]}.gz", label_bytes(labels))
    return folder


@pytest.fixture(autouse=True)
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    clear_splits_cache()


def replace(folder: Path, name: str, images: NDArray[np.uint8], labels_name: str, labels: NDArray[np.int64]) -> None:
    write(folder / f"{name}.gz", image_bytes(images))
    write(folder / f"{labels_name}.gz", label_bytes(labels))


# --- the config


def test_every_setting_is_named_so_that_defaults_live_in_yaml_only() -> None:
    with pytest.raises(ValidationError):
        DataConfig(source="drawn")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 19},
        {"validation": 0.0},
        {"validation": 1.0},
        {"source": "mnist"},
        {"split_seed": -1},
        {"x": 1},
        {"images": 10**12},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)


# --- the files


def test_small_files_load_as_read_only_arrays_that_are_not_canonical(folder: Path) -> None:
    splits = load_splits(config(dir=str(folder)))
    assert splits.train.images.shape == (160, 28, 28, 1)
    assert splits.train.images.dtype == np.uint8
    assert splits.validation.labels.dtype == np.int64
    assert splits.origin.source == "fashion_mnist"
    assert splits.origin.location == str(folder)
    assert not splits.origin.canonical
    assert splits.tag == f"fashion_mnist:{splits.sha256[:12]}"
    for split in (splits.train, splits.validation):
        assert not any(array.flags.writeable for array in (split.images, split.labels, split.index))


@pytest.mark.parametrize("naming", ["{}", "{}.gz", "dotted", "dotted.gz"])
def test_the_files_are_found_under_each_of_their_usual_names(folder: Path, naming: str) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        (folder / f"{name}.gz").unlink()
        write(
            folder / naming.replace("dotted", "{}").format(name.replace("-idx", ".idx") if "dot" in naming else name),
            content,
        )
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


def test_load_never_opens_a_test_file(folder: Path) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TEST_IMAGES, TEST_LABELS):
        poison = folder / f"{name}.gz"
        poison.unlink()
        os.mkfifo(poison)  # opening it would wait for ever
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


def assert_one_sentence(error: pytest.ExceptionInfo[DataError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    for word in words:
        assert word in text


@pytest.mark.parametrize("fallback", [None, "drawn"])
def test_a_named_folder_that_lacks_a_file_is_an_error_and_never_a_fallback(folder: Path, fallback: Any) -> None:
    (folder / f"{TRAIN_LABELS}.gz").unlink()
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), fallback=fallback))
    assert_one_sentence(error, TRAIN_LABELS, "missing", "data.dir")


def test_a_named_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(tmp_path / "nowhere"), fallback="drawn"))
    assert_one_sentence(error, "nowhere", "not a folder")


def test_a_truncated_gzip_file_is_named(folder: Path) -> None:
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), fallback="drawn"))
    assert_one_sentence(error, str(path), "download it again")


@pytest.mark.parametrize("change", [b"", b"extra"])
def test_a_file_of_the_wrong_length_is_named_with_both_lengths(folder: Path, change: bytes) -> None:
    path = folder / f"{TRAIN_IMAGES}.gz"
    content = gzip.decompress(path.read_bytes())
    write(path, content + change if change else content[:-784])
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, str(path), str(len(content)), "too long" if change else "truncated")


def test_garbage_named_gz_is_an_error(folder: Path) -> None:
    path = folder / f"{TRAIN_LABELS}.gz"
    path.write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, str(path), "found a web page")


def test_images_and_labels_swapped_is_an_error_that_says_so(folder: Path) -> None:
    images, labels = folder / f"{TRAIN_IMAGES}.gz", folder / f"{TRAIN_LABELS}.gz"
    images.rename(folder / "aside")
    labels.rename(images)
    (folder / "aside").rename(labels)
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, str(images), "found an IDX labels file", "swapped")


@needs_fashion_mnist
def test_canonical_train_and_test_files_swapped_are_both_named(tmp_path: Path) -> None:
    source = Path(os.environ["FMNIST_DATA_DIR"])
    swapped = {TRAIN_IMAGES: TEST_IMAGES, TRAIN_LABELS: TEST_LABELS}
    for name, content in swapped.items():
        shutil.copy(source / f"{content}.gz", tmp_path / f"{name}.gz")
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(tmp_path), fallback="drawn"))
    assert_one_sentence(error, f"expected {TRAIN_IMAGES}", f"found the content of {TEST_IMAGES}")


def test_labels_that_do_not_match_the_images_are_an_error(folder: Path) -> None:
    write(folder / f"{TRAIN_LABELS}.gz", label_bytes(np.arange(199) % 10))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, TRAIN_LABELS, "200 images", "199 labels")


def test_a_label_of_10_is_an_error_with_its_position(folder: Path) -> None:
    labels = np.arange(200) % 10
    labels[17] = 10
    write(folder / f"{TRAIN_LABELS}.gz", label_bytes(labels))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "found 10 at position 17")


def test_images_of_another_size_are_an_error(folder: Path) -> None:
    write(folder / f"{TRAIN_IMAGES}.gz", image_bytes(np.zeros((200, 32, 32), np.uint8), side=32))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "expected 28 x 28 pixels, found 32 x 32")


KINDS = ("plain", "gzip", "zip")


def pack(content: bytes, kind: str) -> bytes:
    if kind != "zip":
        return gzip.compress(content) if kind == "gzip" else content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("anything", content)
    return archive.getvalue()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_by_what_it_is_whatever_its_name(folder: Path, suffix: str, kind: str) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        (folder / f"{name}.gz").unlink()
        (folder / f"{name}{suffix}").write_bytes(pack(content, kind))
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-10],
    "too long": lambda content: content + b"x",
    "empty": lambda content: b"",
    "a web page": lambda content: b"<html>log in</html>",
    "a torn gzip": lambda content: gzip.compress(content)[:-10],
    "of other images": lambda content: (2050).to_bytes(4, "big") + content[4:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_does_not_hide_a_whole_one_beside_it(
    folder: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        (folder / name).write_bytes(DAMAGES[damage](gzip.decompress((folder / f"{name}.gz").read_bytes())))
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected
    said = capsys.readouterr().err
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        assert f"{folder / name}.gz is used instead of a damaged file beside it: {folder / name} is" in said


def test_a_folder_of_csv_files_gives_a_hint(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist_train.csv").touch()
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(tmp_path), fallback="drawn"))
    assert_one_sentence(error, "add data=kaggle_csv", str(tmp_path))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_said_at_once(folder: Path, make: Callable[[Path], Any]) -> None:
    (folder / f"{TRAIN_IMAGES}.gz").unlink()
    make(folder / f"{TRAIN_IMAGES}.gz")
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, TRAIN_IMAGES, "not a file")


@pytest.mark.parametrize("folder_name", ["x" * 5000, "a\0b", "~no-such-user/data", "{file}", "{file}/below"])
def test_a_folder_that_cannot_be_one_is_one_sentence(tmp_path: Path, folder_name: str) -> None:
    (tmp_path / "file").touch()
    for source in ("fashion_mnist", "kaggle_csv"):
        with pytest.raises(DataError) as error:
            load_splits(config(source=source, dir=folder_name.format(file=tmp_path / "file")))
        assert_one_sentence(error, "data.dir")
        assert len(str(error.value)) < 1500


def test_a_folder_of_many_files_is_described_by_a_few(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03d}{'x' * 200}").touch()
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(tmp_path)))
    assert_one_sentence(error, "007x", ", ...")
    assert len(str(error.value)) < 1500


def bomb(header: bytes) -> bytes:
    # gzip files one after the other are one: gigabytes in a small file, made in no time.
    return gzip.compress(header) + gzip.compress(bytes(2**24)) * 400


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (image_bytes(np.zeros((200, 28, 28), np.uint8))[:16], "too long"),
        (b"".join(number.to_bytes(4, "big") for number in (2051, 2**32 - 1, 28, 28)), "announces 4,294,967,295"),
        (b"".join(number.to_bytes(4, "big") for number in (2051, 1, 2**16, 2**16)), "found 65536 x 65536"),
        (b"", "first bytes 00000000"),
    ],
)
def test_a_gzip_that_unpacks_to_gigabytes_takes_no_memory(folder: Path, header: bytes, words: str) -> None:
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(bomb(header))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            load_splits(config(dir=str(folder)))
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert_one_sentence(error, TRAIN_IMAGES, words)


# --- the split


def test_the_split_is_stratified_and_covers_every_image_once(folder: Path) -> None:
    splits = load_splits(config(dir=str(folder), validation=0.25))
    assert np.bincount(splits.validation.labels).tolist() == [5] * 10
    assert np.bincount(splits.train.labels).tolist() == [15] * 10
    together = np.concatenate([splits.train.index, splits.validation.index])
    assert sorted(together.tolist()) == list(range(200))


def test_index_points_at_the_image_in_its_file(folder: Path) -> None:
    images, labels = draw_images(200, 7)
    split = load_splits(config(dir=str(folder))).validation
    assert np.array_equal(images[split.index], split.images)
    assert np.array_equal(labels[split.index], split.labels)


def test_the_same_seed_splits_alike_and_another_seed_differently(folder: Path) -> None:
    first = load_splits(config(dir=str(folder), split_seed=1))
    clear_splits_cache()
    assert load_splits(config(dir=str(folder), split_seed=1)).sha256 == first.sha256
    assert load_splits(config(dir=str(folder), split_seed=2)).sha256 != first.sha256


@pytest.mark.parametrize("limit", [30, 57, 199])
def test_limit_takes_exactly_that_many_images_in_proportion(limit: int, folder: Path) -> None:
    labels = np.array([0] * 65 + [label for label in range(1, 10) for _ in range(15)])
    replace(folder, TRAIN_IMAGES, draw_images(200, 7)[0], TRAIN_LABELS, labels)
    splits = load_splits(config(dir=str(folder), limit=limit))
    taken = np.bincount(np.concatenate([splits.train.labels, splits.validation.labels]), minlength=10)
    assert taken.sum() == limit
    assert np.abs(taken - limit * np.bincount(labels) / 200).max() < 1


def test_a_limit_beyond_the_file_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder), limit=201))
    assert_one_sentence(error, "data.limit=201", "200 training images")


def test_a_label_with_one_image_cannot_be_split(folder: Path) -> None:
    labels = np.arange(200) % 9
    labels[3] = 9
    write(folder / f"{TRAIN_LABELS}.gz", label_bytes(labels))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "found 1 of label 9 (Ankle boot)")


def test_train_images_equal_to_a_validation_image_are_removed_and_counted(folder: Path) -> None:
    images, labels = draw_images(100, 7)
    replace(folder, TRAIN_IMAGES, np.concatenate([images, images]), TRAIN_LABELS, np.concatenate([labels, labels]))
    splits = load_splits(config(dir=str(folder)))
    held_out = {image.tobytes() for image in splits.validation.images}
    assert splits.removed_duplicates > 0
    assert not held_out.intersection(image.tobytes() for image in splits.train.images)
    assert len(splits.train.labels) + len(splits.validation.labels) + splits.removed_duplicates == 200


def test_a_label_whose_images_are_all_alike_cannot_be_split(folder: Path) -> None:
    images, labels = draw_images(200, 7)
    images[labels == 4] = images[labels == 4][0]
    replace(folder, TRAIN_IMAGES, images, TRAIN_LABELS, labels)
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "label 4 (Coat)")


def test_load_reads_once_in_a_process_and_never_mixes_up_configs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[DataConfig] = []
    read_train = sources_module.read_train

    def counted(data: DataConfig) -> Any:
        reads.append(data)
        return read_train(data)

    monkeypatch.setattr(sources_module, "read_train", counted)
    one, other = config(dir=str(folder)), config(dir=str(folder), limit=100)
    assert load_splits(one) is load_splits(config(dir=str(folder)))
    assert load_splits(other).sha256 != load_splits(one).sha256
    assert len(reads) == 2


# --- the test split


def test_each_opening_of_the_test_split_is_a_line_in_the_ledger(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "new" / "folder" / "openings.jsonl"
    split = open_test(config(dir=str(folder)), reason="confirmation of trial 3", ledger=ledger)
    open_test(config(dir=str(folder)), reason="once more", ledger=ledger)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["confirmation of trial 3", "once more"]
    assert lines[0]["sha256"] == lines[1]["sha256"]
    assert lines[0]["time"].endswith("+00:00")
    assert lines[0]["source"] == "fashion_mnist"
    assert lines[0]["location"] == str(folder)
    assert lines[0]["command"]
    assert split.images.shape == (33, 28, 28, 1)
    assert split.index.tolist() == list(range(33))
    assert not split.images.flags.writeable


def test_the_ledger_does_not_name_the_home_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ledger = tmp_path / "openings.jsonl"
    open_test(config(dir=str(folder)), reason="r", ledger=ledger)
    assert json.loads(ledger.read_text())["location"] == "~/idx"


def test_the_test_split_stays_closed_when_its_opening_cannot_be_recorded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        open_test(config(dir=str(folder)), reason="r", ledger=tmp_path / "file" / "openings.jsonl")
    assert_one_sentence(error, "openings.jsonl", "stays closed")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_the_test_split_stays_closed_where_the_ledger_keeps_nothing(
    folder: Path, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    make(tmp_path / "openings.jsonl")
    with pytest.raises(DataError) as error:
        open_test(config(dir=str(folder)), reason="r", ledger=tmp_path / "openings.jsonl")
    assert_one_sentence(error, "openings.jsonl", "stays closed")


def test_a_missing_test_file_is_an_error_and_not_recorded(folder: Path, tmp_path: Path) -> None:
    (folder / f"{TEST_IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=TEST_IMAGES):
        open_test(config(dir=str(folder), fallback="drawn"), reason="r", ledger=tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


# --- the summary


def test_the_summary_counts_duplicates_within_and_across_files(folder: Path, tmp_path: Path) -> None:
    images, labels = draw_images(100, 7)
    replace(
        folder,
        TRAIN_IMAGES,
        np.concatenate([images, images[:3]]),
        TRAIN_LABELS,
        np.append(labels, labels[:3]),
    )
    test, test_labels = draw_images(30, 7, stream="test")
    test[5], test[6], test[7] = images[0], images[1], test[8]
    replace(folder, TEST_IMAGES, test, TEST_LABELS, test_labels)
    summary = summarize_data(config(dir=str(folder)), tmp_path / "ledger")
    assert (summary.train_duplicates, summary.test_duplicates, summary.test_in_train) == (3, 1, 2)
    assert summary.validation_in_train == 0
    assert summary.train_table == (103, 785)
    assert summary.missing == 0
    assert "fmnist-sweep data" in (tmp_path / "ledger").read_text()


def test_the_banner_says_what_why_and_how_to_get_the_real_data() -> None:
    banner = format_fallback_banner(load_splits(config(fallback="drawn")).origin)
    for words in ("NOT Fashion-MNIST", "data.download is false", "FMNIST_DATA_DIR", "data.dir", "promoted"):
        assert words in banner


@needs_fashion_mnist
def test_the_real_fashion_mnist_is_canonical_balanced_and_repeats_no_image(tmp_path: Path) -> None:
    summary = summarize_data(real(validation=0.1), tmp_path / "ledger")
    assert summary.origin.canonical
    assert summary.train_table == (60_000, 785)
    assert summary.test_table == (10_000, 785)
    assert summary.images["train file"] == (6000,) * 10
    assert summary.images["validation split"] == (600,) * 10
    assert summary.images["test file"] == (1000,) * 10
    assert summary.pixel_range == (0, 255)
    # Measured, byte for byte: the canonical files repeat no image, within or across them.
    assert (summary.train_duplicates, summary.test_duplicates, summary.test_in_train) == (0, 0, 0)
    assert summary.removed_duplicates == 0


def test_importing_the_room_imports_nothing_heavy() -> None:
    heavy = ["tensorflow", "pandas", "requests", "matplotlib", "rich", "kagglehub", "sklearn"]
    code = f"import sys, fmnist_sweep.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
