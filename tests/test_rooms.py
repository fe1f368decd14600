"""The rooms of the package: imports run one way, and each foreign library is imported in its one room."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "fmnist_sweep"
# A room may import itself, those after it, and the modules at the top level that are for all.
ROOMS = (
    "cli",
    "promotion",
    "sweep",
    "executors",
    "report",
    "analysis",
    "tracking",
    "study",
    "config",
    "training",
    "data",
    "search",
    "process",
)
FOR_ALL = {
    "errors",
    "files",
    "interrupts",
    "masking",
    "plugins",
    "reading",
    "text",
}
ENTRANCES = {"__init__", "__main__", "api", "guest"}  # may import any room
ONE_DOOR = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "keras_tuner": {"search"},
    "optuna": {"search"},
    "ray": {"executors"},
    "mlflow": {"tracking"},
}


@dataclass(frozen=True)
class Import:
    """One import, for type checking or not: the file, the line and the dotted module."""

    path: Path
    line: int
    module: str

    @property
    def room(self) -> str:
        parts = self.path.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else self.path.stem

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def list_imports() -> Iterator[Import]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (Import(path, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module is not None, f"{path}:{node.lineno}: a relative import"
                yield Import(path, node.lineno, node.module)
                yield from (Import(path, node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


IMPORTS = list(list_imports())


def test_every_folder_is_a_room_and_says_what_it_is_for() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))


def test_every_module_at_the_top_level_is_for_all_or_an_entrance() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == FOR_ALL | ENTRANCES


def test_imports_run_one_way() -> None:
    rank = {room: place for place, room in enumerate(ROOMS)}
    wrong = []
    for each in IMPORTS:
        parts = each.module.split(".")
        if each.room in ENTRANCES or parts[0] != "fmnist_sweep" or len(parts) < 2 or parts[1] not in rank:
            continue
        if each.room in FOR_ALL or rank[parts[1]] < rank[each.room]:
            wrong.append(str(each))
    assert not wrong


@pytest.mark.parametrize("library", ONE_DOOR)
def test_a_foreign_library_is_imported_in_its_one_room(library: str) -> None:
    assert [str(each) for each in IMPORTS if each.module.split(".")[0] == library], "the test looks for nothing"
    wrong = [
        str(each) for each in IMPORTS if each.module.split(".")[0] == library and each.room not in ONE_DOOR[library]
    ]
    assert not wrong


def list_nodes(*but: str) -> Iterator[tuple[Path, ast.AST]]:
    """The nodes of all modules but some rooms and files, which are named by their paths in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if not {path.relative_to(PACKAGE).parts[0], str(path.relative_to(PACKAGE))} & set(but):
            yield from ((path, node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def test_only_tracking_uses_the_client_of_a_store() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in list_nodes("tracking")
        if isinstance(node, ast.Attribute) and node.attr == "client"
    ]
    assert not wrong


def test_tags_are_named_in_one_module() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in list_nodes("tracking/names.py")
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"fmnist\.[a-z0-9_.]*", node.value)
    ]
    assert not wrong


def test_no_two_classes_or_public_functions_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                    continue  # a signature of the function that follows
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name != "main"} == {}


def test_no_module_is_imported_under_another_name() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    renamed = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {alias.name} as {alias.asname}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and f"{node.module}.{alias.name}" in modules
    ]
    assert renamed == []
