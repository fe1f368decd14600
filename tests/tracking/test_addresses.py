"""Which folder of this machine an address of artifacts names, and where it leads after a move."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.tracking.addresses import move_address, parse_local_address


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/a b/c", "/a b/c"),
        ("/a%20b#c?d", "/a%20b#c?d"),
        ("file:///a%20b/%C3%BC%23", "/a b/ü#"),
        ("file:/a/b/", "/a/b"),
        ("FILE:///a", "/a"),
        ("file://localhost/a", "/a"),
        ("//a/b", "/a/b"),
        ("file://host/a", None),
        ("file://[/a", None),
        ("s3://a/b", None),
        ("mlflow-artifacts:/a", None),
        ("models:/m-1", None),
        ("relative/a", None),
        ("", None),
        ("/a\0b", None),
        ("file:///a%00b", None),
        (None, None),
        (3, None),
    ],
)
def test_an_address_names_a_folder_of_this_machine_or_none(address: object, path: str | None) -> None:
    assert parse_local_address(address) == (None if path is None else Path(path))


def test_the_innermost_folder_decides_where_an_address_goes() -> None:
    moves = {Path("/a"): Path("/x y"), Path("/a/b"): Path("/z%")}
    assert move_address("file:///a/c/d", moves) == "file:///x%20y/c/d"
    assert move_address("/a/b/d", moves) == "/z%/d"
    assert move_address("file:///a/b", moves) == "file:///z%25"
    assert move_address("/ab/c", moves) is None
