"""The IDX files of a folder: found by what they hold, and what is wrong with one is said in one sentence."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_sweep.data import load_splits
from fmnist_sweep.errors import DataError
from tests.conftest import data_config as config
from tests.conftest import needs_fashion_mnist
from tests.support.caches import clear_splits_cache
from tests.support.idx_files import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    assert_one_sentence,
    encode_images,
    encode_labels,
    write_file,
)

pytestmark = pytest.mark.usefixtures("fresh_home")


@pytest.mark.parametrize("naming", ["{}", "{}.gz", "dotted", "dotted.gz"])
def test_the_files_are_found_under_each_of_their_usual_names(folder: Path, naming: str) -> None:
    expected = load_splits(config(dir=str(folder))).sha256
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        (folder / f"{name}.gz").unlink()
        write_file(
            folder / naming.replace("dotted", "{}").format(name.replace("-idx", ".idx") if "dot" in naming else name),
            content,
        )
    clear_splits_cache()
    assert load_splits(config(dir=str(folder))).sha256 == expected


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
    write_file(path, content + change if change else content[:-784])
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
    write_file(folder / f"{TRAIN_LABELS}.gz", encode_labels(np.arange(199) % 10))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, TRAIN_LABELS, "200 images", "199 labels")


def test_a_label_of_10_is_an_error_with_its_position(folder: Path) -> None:
    labels = np.arange(200) % 10
    labels[17] = 10
    write_file(folder / f"{TRAIN_LABELS}.gz", encode_labels(labels))
    with pytest.raises(DataError) as error:
        load_splits(config(dir=str(folder)))
    assert_one_sentence(error, "found 10 at position 17")


def test_images_of_another_size_are_an_error(folder: Path) -> None:
    write_file(folder / f"{TRAIN_IMAGES}.gz", encode_images(np.zeros((200, 32, 32), np.uint8), side=32))
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
        (encode_images(np.zeros((200, 28, 28), np.uint8))[:16], "too long"),
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
