"""What every test module shares: the real command as a process, and CI's rule that nothing is skipped."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# before anything imports them
for name in (
    "audit",
    "forks",
    "idx_files",
    "journals",
    "kaggle_files",
    "refusals",
    "relocation_checks",
    "searches",
    "victims",
):
    pytest.register_assert_rewrite(f"tests.support.{name}")

from fmnist_sweep.data import DataConfig  # noqa: E402
from tests.support import memory, order, process  # noqa: E402
from tests.support.caches import compose_once, pack_once  # noqa: E402
from tests.support.process import LIMIT_SECONDS as LIMIT_SECONDS  # noqa: E402
from tests.support.process import run as run  # noqa: E402
from tests.support.tables import copy_tables  # noqa: E402
from tests.support.zygote import VERB, Zygote  # noqa: E402

Command = Callable[..., process.Done]

# A shell ignores it for what it starts in the background, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

needs_fashion_mnist = pytest.mark.skipif(
    not os.environ.get("FMNIST_DATA_DIR"),
    reason="needs Fashion-MNIST: put its four IDX files in a folder and set FMNIST_DATA_DIR to it",
)


def data_config(**given: Any) -> DataConfig:
    """A small, strict data section, changed as given."""
    values: dict[str, Any] = {
        "source": "fashion_mnist",
        "dir": None,
        "download": False,
        "limit": None,
        "validation": 0.2,
        "include_validation": False,
        "split_seed": 0,
        "fallback": None,
        "images": 200,
        "drawn_seed": 0,
    }
    return DataConfig(**(values | given))


@pytest.fixture(scope="session")
def sweep() -> Command:
    """The real command in a fresh interpreter: sweep("-m", "optimizer=rmsprop,adam", cwd=folder)."""
    return partial(process.run, *process.SWEEP)


@pytest.fixture(scope="session")
def verb() -> Command:
    """The other verbs in a fresh interpreter: verb("promote", cwd=folder)."""
    return partial(process.run, *process.VERB)


@pytest.fixture(scope="module", autouse=True)
def _freeze_what_stays() -> None:
    """Keep the collector from searching what is imported and collected by now: half a second for each trial trained.

    What is made since, it searches more rarely than by default, which would be a twentieth of the time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once a run, by whichever process needs it first (take a FileLock)."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Zygote]:
    """The warm process that forks the project's commands: zygote.run("optimizer=adam", cwd=folder)."""
    with Zygote(tmp_path_factory.mktemp("zygote"), shared_folder / "tables.db") as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def quick_stores(shared_folder: Path) -> Iterator[Callable[[Path], None]]:
    """Stores that this process makes get copies of tables that were made once.

    Its value is what makes a store's tables outside of tests.
    """
    from fmnist_sweep.tracking import connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_make_tables", connection._make_tables)  # put back at the end
        yield copy_tables(shared_folder / "tables.db")


@pytest.fixture
def slow_stores(quick_stores: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that this process makes get tables of their own."""
    from fmnist_sweep.tracking import connection

    monkeypatch.setattr(connection, "_make_tables", quick_stores)


@pytest.fixture(scope="session")
def warm_sweep(zygote: Zygote) -> Command:
    """`sweep` as a fork of the warm process: a second instead of eight."""
    return zygote.run


@pytest.fixture(scope="session")
def warm_verb(zygote: Zygote) -> Command:
    """`verb` as a fork of the warm process."""
    return partial(zygote.run, entry=VERB)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' folders in memory where there is room, and what sweeps measure out of the user's home."""
    memory.move_to_memory()
    pack_once()
    compose_once()
    cache = tempfile.TemporaryDirectory(prefix="measured-")
    config.add_cleanup(cache.cleanup)
    os.environ["FMNIST_SWEEP_CACHE"] = cache.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hand out the longest files first, where several processes share them."""
    if hasattr(config, "workerinput"):
        order.sort_longest_first(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests counted; the last word of each count."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if order.MEASURED in os.environ:
        order.write_seconds(report for report in reports if isinstance(report, pytest.TestReport))
    counts = dict(pair for report in reports for pair in getattr(report, "user_properties", ()))
    for name, count in counts.items():
        terminalreporter.write_line(f"{name}: {count}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With FMNIST_SWEEP_NO_SKIPS set, as in CI, a skipped test fails the run."""
    if not os.environ.get("FMNIST_SWEEP_NO_SKIPS"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("skipped tests fail this run: FMNIST_SWEEP_NO_SKIPS is set", red=True)
