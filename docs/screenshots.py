"""The docs' pictures of the MLflow UI: a real store, the real `fmnist-sweep ui`, Chromium without a window.

    python -m fmnist_sweep -m optimizer=rmsprop,adam
    python docs/screenshots.py . docs/pictures

The first argument is a folder with a store in which a sweep of at least two trials has ended; of several, the latest is
shown. Needs Chromium, chromedriver and the extra `dev`. A page that reports a script error ends it with code 1.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selenium.webdriver.remote.webelement import WebElement

from fmnist_sweep.tracking.queries import list_newest_runs, search_runs
from fmnist_sweep.tracking.store import Store, build_default_uri, open_existing_store
from fmnist_sweep.tracking.trials import read_trials_of_journals
from tests.support.browser import Page, chromium
from tests.support.served import Served

# Tall enough for the UI to draw its charts, which it does only when they are on the screen.
WIDTH, HEIGHT = 1500, 1100


@dataclass(frozen=True)
class Shown:
    """A served store and the runs that are looked at; trials: the best first."""

    page: Page
    root: str
    printed: str
    experiment: str
    sweep: str
    studies: list[str]
    trials: list[str]

    def open(self, run_id: str, tab: str = "") -> None:
        self.page.open(f"{self.root}/#/experiments/{self.experiment}/runs/{run_id}{tab}")


def sweeps(shown: Shown) -> None:
    """The tree of a sweep, its studies and their trials."""
    shown.page.open(shown.printed)
    for run_id in (shown.sweep, *shown.studies):
        shown.page.find(f"[row-id='{run_id}'] button").click()
    for run_id in shown.trials:
        shown.page.find(f"[row-id='{run_id}'] a")


def trial(shown: Shown) -> None:
    """A trial: what it came to, its settings and figures."""
    shown.open(shown.trials[0])
    shown.page.find("div", "Hardest label")


def curves(shown: Shown) -> None:
    """A trial's curves by epoch."""
    shown.open(shown.trials[0], "/model-metrics")
    card = shown.page.find("[data-testid='experiment-view-compare-runs-card']", "accuracy")
    shown.page.driver.execute_script("arguments[0].scrollIntoView()", card)
    shown.page.find("[data-testid='experiment-view-compare-runs-card'] .scatterlayer path.js-line")


def confusion_matrix(shown: Shown) -> None:
    """A trial's confusion matrix among its artifacts."""
    shown.open(shown.trials[0], "/artifacts")
    shown.page.find("[role='treeitem'], li, span", "confusion_matrix.png").click()
    shown.page.find("img", met=_is_drawn)


def report(shown: Shown) -> None:
    """The sweep's report in the artifact viewer."""
    shown.open(shown.sweep, "/artifacts")
    shown.page.find("[role='treeitem'], li, span", "report.html").click()
    shown.page.driver.switch_to.frame(shown.page.find("iframe"))
    try:
        shown.page.find("html[data-drawn]")
    finally:
        shown.page.driver.switch_to.default_content()


def comparison(shown: Shown) -> None:
    """Trials beside each other in MLflow's own comparison."""
    runs = quote(json.dumps(shown.trials[:4]))
    experiments = quote(json.dumps([shown.experiment]))
    shown.page.open(f"{shown.root}/#/compare-runs?runs={runs}&experiments={experiments}")
    shown.page.find(".js-plotly-plot .main-svg")
    shown.page.find("*", "Run details")


def _is_drawn(element: WebElement) -> bool:
    width = element.get_property("naturalWidth")
    return isinstance(width, int) and width > 0


LOOKS: tuple[Callable[[Shown], None], ...] = (sweeps, trial, curves, confusion_matrix, report, comparison)


def look(folder: Path, out: Path) -> list[str]:
    """Take every picture; returns what the pages complained about."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Served(folder, Path(scratch, "ui.log")) as (root, printed),
        chromium(Path(scratch, "profile"), (WIDTH, HEIGHT)) as driver,
    ):
        return take_pictures(Page(driver), root, printed, folder, out)


def take_pictures(page: Page, root: str, printed: str, folder: Path, out: Path, still: float = 1.5) -> list[str]:
    """Take every picture of the store in a folder that is served at `root`; still: seconds without a change before."""
    store = open_existing_store(build_default_uri(folder), "fashion-mnist")
    sweep, studies, trials = _latest(store)
    out.mkdir(parents=True, exist_ok=True)
    complaints = []
    shown = Shown(page, root, printed, store.experiment_id, sweep, studies, trials)
    page.open(printed)
    for show in LOOKS:
        show(shown)
        page.settle(still)
        page.driver.save_screenshot(str(out / f"{show.__name__}.png"))
        complaints += [f"{show.__name__}: {message}" for message in page.errors()]
        print(out / f"{show.__name__}.png")
    return complaints


def _latest(store: Store) -> tuple[str, list[str], list[str]]:
    sweep = list_newest_runs(store, {"fmnist.kind": "sweep", "attributes.status": "FINISHED"}, 1)[0]
    studies = search_runs(store, {"fmnist.kind": "study", "mlflow.parentRunId": sweep.run_id})
    trials = read_trials_of_journals(store, sweep.tags["fmnist.journals"].split())
    finished = sorted((t for t in trials if t.accuracy is not None), key=lambda t: -(t.accuracy or 0.0))
    ids = [study.run_id for study in studies]
    return sweep.run_id, ids, [trial.run_id for trial in finished]


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:3])
    if found := look(folder.resolve(), out.resolve()):
        sys.exit("\n".join(found))
