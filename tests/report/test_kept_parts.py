"""Parts of reports that are kept: what is kept is what would be computed, and anything else is computed anew."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fmnist_sweep.analysis import importance
from fmnist_sweep.analysis.importance import Importance, SettingImportance
from fmnist_sweep.analysis.settings import VariedSetting
from fmnist_sweep.data.twins import find_near_twins
from fmnist_sweep.files import pack_arrays
from fmnist_sweep.report import kept_parts
from fmnist_sweep.report.figures.canvas import draw_message, encode_png
from fmnist_sweep.report.kept_parts import KeptParts

SETTINGS = [VariedSetting("model.filters", (8, 16, None, 32), log=True, same_as=("model.units",))]
ACCURACIES = [0.5, 0.1 + 0.2, None, 0.7]
IMAGES = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28, 1)


@pytest.fixture
def parts(tmp_path: Path) -> KeptParts:
    return KeptParts(tmp_path / "parts")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The settings whose importance was computed, each time; two refits are enough."""
    monkeypatch.setattr(importance, "_REFITS", 2)
    computed: list[object] = []

    def count(*inputs: Any) -> Importance:
        computed.append(inputs[0])
        return importance.measure_importance(*inputs)

    monkeypatch.setattr(kept_parts, "measure_importance", count)
    return computed


def test_importance_is_kept_as_it_was_computed(parts: KeptParts, measured: list[object]) -> None:
    values = tuple(range(12))
    settings = [VariedSetting("model.filters", values, same_as=("model.units",))]
    inputs: Any = (settings, [value / 13 for value in values], list(values))
    first = parts.measure_importance(*inputs)
    assert isinstance(first.settings[0], SettingImportance) and first.settings[0].same_as == ("model.units",)
    assert first == parts.measure_importance(*inputs) == importance.measure_importance(*inputs)
    assert len(measured) == 1


def test_nothing_to_rank_is_kept_with_its_reason(parts: KeptParts, measured: list[object]) -> None:
    first = parts.measure_importance(SETTINGS, ACCURACIES, [0, 1, 2, 3])
    assert first == parts.measure_importance(SETTINGS, ACCURACIES, [0, 1, 2, 3])
    assert first.no_ranking_reason is not None and len(measured) == 1


@pytest.mark.parametrize(
    "other",
    [
        ([], ACCURACIES, [0, 1, 2, 3]),
        ([VariedSetting("model.filters", (8, 16, None, 33), True, ("model.units",))], ACCURACIES, [0, 1, 2, 3]),
        ([VariedSetting("model.filters", (8, 16, "None", 32), True, ("model.units",))], ACCURACIES, [0, 1, 2, 3]),
        ([VariedSetting("model.filters", (8, 16, None, 32), True)], ACCURACIES, [0, 1, 2, 3]),
        (SETTINGS, [0.5, 0.3, None, 0.7], [0, 1, 2, 3]),
        (SETTINGS, ACCURACIES, [0, 1, 1, 3]),
    ],
    ids=["no settings", "a value", "a text", "the same as", "the last bit of an accuracy", "the groups"],
)
def test_whatever_decides_the_importance_tells_it_apart(parts: KeptParts, measured: list[object], other: Any) -> None:
    parts.measure_importance(SETTINGS, ACCURACIES, [0, 1, 2, 3])
    parts.measure_importance(*other)
    assert len(measured) == 2


def test_other_code_or_libraries_compute_anew(
    parts: KeptParts, measured: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.measure_importance(SETTINGS, ACCURACIES, [0, 1, 2, 3])
    monkeypatch.setattr(kept_parts, "version", lambda name: "0")
    kept_parts._digest_code.cache_clear()
    try:
        parts.measure_importance(SETTINGS, ACCURACIES, [0, 1, 2, 3])
    finally:
        kept_parts._digest_code.cache_clear()
    assert len(measured) == 2


@pytest.mark.parametrize("damage", ["torn", "a folder", "empty", "a byte"])
def test_a_damaged_file_is_computed_anew(tmp_path: Path, parts: KeptParts, damage: str) -> None:
    expected = parts.find_near_twins(IMAGES[:2], IMAGES[1:])
    (file,) = (tmp_path / "parts").iterdir()
    content = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        changed = {"torn": content[:-3], "empty": b"", "a byte": content[:-1] + bytes([content[-1] ^ 1])}[damage]
        file.write_bytes(changed)
    assert parts.find_near_twins(IMAGES[:2], IMAGES[1:]).tolist() == expected.tolist()
    assert list((tmp_path / "parts").iterdir()) == [file], "nothing half written is left"


def test_twins_are_kept_for_these_images_alone(parts: KeptParts) -> None:
    for images in (IMAGES[:2], IMAGES[2:4]):
        for _ in range(2):
            assert parts.find_near_twins(images, IMAGES[3:]).tolist() == find_near_twins(images, IMAGES[3:]).tolist()


def test_a_picture_is_kept_byte_for_byte_and_one_with_other_words_is_drawn(parts: KeptParts) -> None:
    drawn: list[str] = []

    def draw(title: str, text: str) -> Figure:
        drawn.append(text)
        return draw_message(title, text)

    once = encode_png(draw_message("Title", "text"))
    assert [parts.draw_picture(draw, "Title", "text") for _ in range(2)] == [once, once]
    assert parts.draw_picture(draw, "Title", "other") != once
    assert parts.draw_picture(draw, "Titlete", "xt") != once  # the same characters
    assert drawn == ["text", "other", "xt"]


def test_packed_content_is_kept_but_never_taken_for_other_content(tmp_path: Path, parts: KeptParts) -> None:
    first = parts.pack(b"one script")
    (file,) = (tmp_path / "parts").iterdir()
    assert gzip.decompress(first) == b"one script"
    for planted in (gzip.compress(b"another script"), b"no archive", first[:-1]):
        file.write_bytes(pack_arrays({}, {"gzip": np.frombuffer(planted, np.uint8)}))
        assert parts.pack(b"one script") == first
    file.write_bytes(pack_arrays({}, {"gzip": np.frombuffer(gzip.compress(b"one script", 1), np.uint8)}))
    assert parts.pack(b"one script") == gzip.compress(b"one script", 1)  # what is kept is used


def test_numbers_are_kept_to_the_last_bit_for_their_inputs(parts: KeptParts) -> None:
    computed: list[float] = []

    def divide(one: float, other: float) -> list[float]:
        computed.append(one)
        return [one / other] if other else []

    assert [parts.compute_numbers(divide, 1.0, 3.0) for _ in range(2)] == [[1 / 3]] * 2
    assert [parts.compute_numbers(divide, 1.0, 0.0) for _ in range(2)] == [[]] * 2
    assert computed == [1.0, 1.0]


def test_nothing_is_kept_without_a_folder_and_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file stands here")
    for folder in (None, tmp_path / "file" / "parts"):
        parts = KeptParts(folder)
        for _ in range(2):
            assert parts.find_near_twins(IMAGES[:1], IMAGES).tolist() == [True]
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_the_folder_does_not_grow_for_ever(tmp_path: Path, parts: KeptParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_parts, "MAX_FILES", 2)
    for number in range(4):
        parts.find_near_twins(IMAGES[number : number + 1], IMAGES[:0])
    assert len(list((tmp_path / "parts").iterdir())) == 2


def test_a_value_that_cannot_be_told_apart_is_refused(parts: KeptParts) -> None:
    with pytest.raises(TypeError, match="object"):
        parts.draw_picture(draw_message, object())
