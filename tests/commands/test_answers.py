"""What makes the answers of verbs that only read quick: late imports, and no more questions for more trials."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.entities import Metric, Param

from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.tracking.store import Store, build_default_uri, open_store
from tests.support.in_process import run_verb

# What a list of trials, versions or studies needs none of.
UNUSED = ("tensorflow", "keras", "keras_tuner", "matplotlib", "plotly", "sklearn", "hydra", "omegaconf", "ray", "torch")


def write_trials(folder: Path, experiment: str, count: int) -> Store:
    """An experiment with a study of so many finished trials, as far as they are listed and reported."""
    store = open_store(build_default_uri(folder), experiment)
    data = {"fmnist.journal": "7", "fmnist.study_id": "5", "fmnist.data": "fashion_mnist:0ce7efdbf3a4"}
    about = {"fmnist.kind": "study", "mlflow.source.name": "python -m fmnist_sweep", **data}
    store.client.create_run(store.experiment_id, tags=about, run_name="study 5")
    for number in range(count):
        tags = {"fmnist.kind": "trial", "fmnist.trial_id": f"{number:04d}", **data}
        run_id = store.client.create_run(store.experiment_id, tags=tags).info.run_id
        score = Metric("best_val_accuracy", 0.5 + number / 100, 0, 0)
        store.client.log_batch(run_id, [score], [Param("model.filters", str(number))])
        store.client.set_terminated(run_id)
    return store


@contextmanager
def record_statements() -> Iterator[list[str]]:
    """The statements that databases are given within a block."""
    statements: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *arguments: Any) -> None:
        statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", record)


@pytest.mark.parametrize("words", [("compare",), ("compare", "--by-config"), ("history",), ("studies",)])
def test_six_trials_take_as_many_questions_as_two(words: tuple[str, ...], tmp_path: Path) -> None:
    counts = []
    for experiment, trials in (("two", 2), ("six", 6)):
        store = write_trials(tmp_path, experiment, trials)
        options = ("--uri", store.uri) if words == ("studies",) else ("--uri", store.uri, "--experiment", experiment)
        run_verb(*words, *options, cwd=tmp_path)  # the first opens the store, once for this process
        with record_statements() as statements:
            ended = run_verb(*words, *options, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert words[0] != "compare" or f"{trials} of {trials}" in ended.stdout
        counts.append(len([each for each in statements if each.lstrip().startswith("SELECT")]))
    assert counts[0] == counts[1]
    assert counts[0] > 0 or words == ("studies",)  # no study was begun there


@pytest.mark.slow
def test_lists_import_nothing_that_trains_draws_or_composes(tmp_path: Path) -> None:
    store = write_trials(tmp_path, "fashion-mnist", 2)
    code = (
        "import sys\nfrom fmnist_sweep.cli.main import main\n"
        "for words in (['compare'], ['compare', '--by-config'], ['history'], ['studies']):\n"
        f"    main([*words, '--uri', {store.uri!r}], standalone_mode=False)\n"
        f"assert 'mlflow' in sys.modules\nprint(sorted(set({UNUSED}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.slow
def test_a_report_of_trials_that_were_reported_before_trains_and_draws_nothing(tmp_path: Path) -> None:
    store = write_trials(tmp_path, "fashion-mnist", 8)
    words = ("report", "--study", "5", "--uri", store.uri)
    code = (
        "import sys\nfrom fmnist_sweep.cli.main import main\n"
        f"main({words!r}, standalone_mode=False)\nprint(sorted(set({UNUSED}) & set(sys.modules)))"
    )

    def report() -> tuple[Path, str, list[str]]:
        """The page, what was imported for it, and the parts that are kept. Each is a command of its own."""
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        *_, page, imported = done.stdout.splitlines()
        return Path(page), imported, sorted(path.name for path in tmp_path.glob("mlruns/report_parts/*"))

    page, imported, kept = report()
    assert imported != "[]" and kept
    before = page.read_bytes()
    assert b"model.filters" in before
    assert report() == (page, "[]", kept)
    assert page.read_bytes() == before


def test_help_and_mistakes_of_a_config_import_neither_mlflow_nor_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom fmnist_sweep.__main__ import main\nfrom fmnist_sweep.cli.main import main as verbs\n"
        "verbs(['compare', '--help'], standalone_mode=False)\n"
        "for words in (['model.filters=-3'], ['--cfg', 'job']):\n    sys.argv = ['fmnist_sweep', *words]\n    main()\n"
        f"unused = set({UNUSED}) - {{'hydra', 'omegaconf'}} | {{'mlflow', 'pandas', 'scipy', 'sqlalchemy'}}\n"
        "print(sorted(unused & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "model.filters" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_the_collector_leaves_alone_what_was_imported_and_is_on_again() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    sys.modules.pop("stringprep", None)
    try:
        with pause_while_importing():
            assert not gc.isenabled()
        assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)  # nothing was imported
        with pause_while_importing():
            import stringprep  # noqa: F401
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
