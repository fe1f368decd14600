"""A working directory with files named like modules that a command needs; each leaves a mark where it is imported."""

from __future__ import annotations

from pathlib import Path

# Of Python, of what all commands import, and of what only training, drawing or serving imports.
NAMES = (
    *("__future__", "dataclasses", "json", "multiprocessing", "queue", "random", "typing"),
    *("click", "hydra", "joblib", "keras", "matplotlib", "mlflow", "numpy", "ray", "uvicorn", "yaml"),
)
MARK = "imported"


def set_traps(folder: Path) -> Path:
    """Fill a folder, which is created, with such files; returns the file that will say which were imported."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(mark)!r}, 'a').write(__name__ + '\\n')\nraise SystemExit('a trap: ' + __name__)\n"
        )
    (folder / "pandas").mkdir(exist_ok=True)
    (folder / "pandas" / "__init__.py").write_text((folder / "numpy.py").read_text())
    return mark
