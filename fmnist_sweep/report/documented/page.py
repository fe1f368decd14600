"""A write-up's page: what it states beside what was measured, in Markdown; the same store gives the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_sweep.config.job import flat
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.report.documented import rules as verdicts
from fmnist_sweep.report.documented.rules import Measured
from fmnist_sweep.report.documented.write_ups import SEEDS, Figure, Found, WriteUp
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.training.evaluation import most_confused

_MARK = "<!-- Made by: fmnist-sweep documented render"
_ACCURACIES = ("accuracy", "val_accuracy", "test_accuracy")
_FIGURES = {
    "accuracy": "training accuracy (last epoch)",
    "loss": "training loss (last epoch)",
    "val_loss": "validation loss (last epoch)",
    "val_accuracy": "validation accuracy (last epoch)",
    "gap": "training minus validation accuracy (last epoch)",
    "epochs": "epochs trained",
    "best_val_accuracy": "validation accuracy (best epoch)",
    "test_accuracy": "test accuracy (best epoch)",
    "test_accuracy_unseen": "the same without the near twins of training images",
    "test_loss": "test loss (best epoch)",
}
_DECIMALS = {"epochs": 1, "best_epoch": 1, "parameters": 0, "fit_seconds": 0, "cpu_seconds": 0}
_CONFUSIONS = 6


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    store: Store
    write_up: WriteUp
    found: Found
    overrides: Sequence[str]

    @property
    def measured(self) -> dict[str, Measured]:
        return {recipe: Measured(recipe, runs) for recipe, runs in self.found.runs.items()}

    def command(self, verb: str, *options: str) -> str:
        return shlex.join(["fmnist-sweep", "documented", verb, self.write_up.number, *options, *self.overrides])


def write(folder: Path, name: str, text: str) -> Path:
    """Write a page, in place of an earlier one. Errors: ConfigError where a file stands there that is none."""
    path = folder / f"{name}.md"
    if path.exists() and not path.read_bytes().startswith(_MARK.encode()):
        raise ConfigError(f"{path} was not made by this command and is left alone: name another folder with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path


def render(page: Page) -> str:
    """The page as Markdown."""
    measured = page.measured
    parts = [
        f"{_MARK} {page.write_up.number}. What is changed by hand is lost. -->",
        f"# {page.write_up.name}, reproduced",
        f"*{page.write_up.title}*. {page.write_up.about}",
        *_warnings(page),
        "## In short",
        _short(page, measured),
        "## Figures",
        _figures(page, measured),
        *_notes(page, measured),
        *_readings(page, measured),
        "## Cost",
        _costs(measured),
        "## Conclusions",
        _conclusions(page, measured),
        *_details(page, measured),
        "## What was left open, and how it was filled",
        _left_open(page),
        *(["## Remarks", _list(page.write_up.remarks)] if page.write_up.remarks else []),
        "## How the verdicts come about",
        _list(verdicts.RULES),
        "## Runs",
        *_runs(page, measured),
    ]
    return "\n\n".join(parts) + "\n"


def _warnings(page: Page) -> Iterator[str]:
    if any(run.is_drawn for run in page.found.all):
        yield (
            "> **Drawn stand-in.** These runs saw images that this project drew itself, not Fashion-MNIST: every "
            "figure below is worthless but as a test of the commands."
        )
    if page.overrides:
        yield f"> Not the documented set-up: changed by `{shlex.join(page.overrides)}`."
    missing = [recipe for recipe, runs in page.found.runs.items() if not runs]
    few = [recipe for recipe, runs in page.found.runs.items() if 0 < len(runs) < verdicts.LEAST]
    if missing:
        yield f"> Not run yet: {', '.join(missing)}. To run: `{page.command('run', '--seeds', SEEDS)}`"
    if few:
        yield (
            f"> Fewer than {verdicts.LEAST} seeds: {', '.join(few)}. To run more: "
            f"`{page.command('run', '--seeds', SEEDS)}`"
        )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; right: the columns of numbers."""
    rule = ["---:" if place in right else "---" for place in range(len(heads))]
    lines = [heads, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


@dataclass(frozen=True)
class _Row:
    """One figure of one model. verdict: None where nothing is stated or nothing measured."""

    recipe: str
    name: str
    stated: str
    measured: str
    verdict: verdicts.Verdict | None = None


def _rows(page: Page, measured: Mapping[str, Measured]) -> Iterator[_Row]:
    for recipe, stated in page.write_up.stated.items():
        one = measured[recipe]
        if not one.runs:
            for kind, figure in stated.items():
                yield _Row(recipe, _FIGURES.get(kind, "accuracy"), _words(figure), "not run yet")
            if not stated:
                yield _Row(recipe, "–", "–", "not run yet")
            continue
        for kind, name in _FIGURES.items():
            found, values = _stated(stated, kind), one.values(kind)
            if kind == "test_accuracy_unseen" and not any(run.test and run.test.seen.any() for run in one.runs):
                continue
            if not values:
                yield _Row(recipe, name, _words(found), "not measured yet")
                continue
            if kind == "gap":
                if {"accuracy", "val_accuracy"} <= set(stated):
                    said = stated["accuracy"].value - stated["val_accuracy"].value
                    yield _Row(recipe, name, f"{said:.4f}", verdicts.summary(values))
                continue
            verdict = None if found is None else _verdict(found, kind, values)
            yield _Row(recipe, name, _words(found), verdicts.summary(values, _DECIMALS.get(kind, 4)), verdict)


def _stated(stated: Mapping[str, Figure], kind: str) -> Figure | None:
    """What the write-up states of a figure; an accuracy that it does not label is held against each."""
    return stated.get(kind) or (stated.get("unlabelled") if kind in _ACCURACIES else None)


def _words(figure: Figure | None) -> str:
    return "–" if figure is None else figure.text.replace(">", "above")


def _verdict(figure: Figure, kind: str, values: Sequence[float]) -> verdicts.Verdict:
    verdict = verdicts.figure(figure, kind, values)
    if kind == "test_accuracy" and not verdicts.is_credible(figure):
        return verdicts.Verdict(verdict.reached, f"**not credible as a test accuracy**; {verdict.text}")
    return verdict


def _figures(page: Page, measured: Mapping[str, Measured]) -> str:
    rows = [
        [f"`{row.recipe}`", row.name, row.stated, row.measured, row.verdict.text if row.verdict else ""]
        for row in _rows(page, measured)
    ]
    return _table(["model", "figure", "stated", "measured: mean ± sd", "verdict"], rows, right=(2, 3))


def _short(page: Page, measured: Mapping[str, Measured]) -> str:
    judged = [row for row in _rows(page, measured) if row.verdict is not None]
    lines = []
    for reached, word in {True: "reached", False: "not reached", None: "without a verdict yet"}.items():
        names: dict[str, list[str]] = {}
        for row in judged:
            if row.verdict is not None and row.verdict.reached is reached:
                names.setdefault(row.recipe, []).append(row.name)
        if names:
            models = "; ".join(f"`{recipe}` {', '.join(found)}" for recipe, found in names.items())
            lines.append(f"Stated figures {word}: {models}.")
    lines += [
        f"{figure.text} of `{recipe}` is not credible as a test accuracy."
        for recipe, stated in page.write_up.stated.items()
        for kind, figure in stated.items()
        if kind == "unlabelled" and not verdicts.is_credible(figure)
    ]
    lines += [
        f"*{stated['claim'].rstrip('.')}*: {verdicts.conclusion(stated, measured).verdict}."
        for stated in page.write_up.conclusions
    ]
    return _list(lines)


def _notes(page: Page, measured: Mapping[str, Measured]) -> Iterator[str]:
    if any("unlabelled" in stated for stated in page.write_up.stated.values()):
        yield "The write-up does not say which accuracy its figure is: it is held against each."
    yield (
        "*Training* figures are means over the batches of the epoch while it trains, with dropout on, as Keras prints "
        "them and as the write-ups give them: the weights still change meanwhile, so they are not the accuracy of any "
        "one model. *Validation* is on images of the training file that no model was trained on; *last epoch* is what "
        "a write-up sees at its end; *best epoch* is the one with the highest validation accuracy, an optimistic "
        "choice, and the one whose model is kept. *Test* is of that model on the test images, which decided nothing "
        "here. n counts trainings, each with a seed of its own."
    )
    tests = [run.test for run in page.found.all if run.test is not None]
    if tests:
        seen = int(tests[0].seen.sum())
        yield (
            f"{seen or 'None'} of the {len(tests[0].labels):,} test images {'is' if seen < 2 else 'are'} nearly an "
            "image of the training file: at most 7 grey levels a pixel away (root mean square)."
        )
    if any(one.runs and not one.tested for one in measured.values()) and not any(
        run.is_drawn for run in page.found.all
    ):
        yield f"The test images were not opened for all of these runs yet: `{page.command('test')}`."


def _readings(page: Page, measured: Mapping[str, Measured]) -> Iterator[str]:
    """For figures that cannot be test accuracies: what they may be instead, by the runs."""
    for recipe, stated in page.write_up.stated.items():
        figure, one = stated.get("unlabelled"), measured[recipe]
        if figure is None or verdicts.is_credible(figure) or not one.runs:
            continue
        yield f"**{figure.text} of `{recipe}`** {_reading(figure, one)}"


def _reading(figure: Figure, one: Measured) -> str:
    tests, longest = one.values("test_accuracy"), max(len(run.history) for run in one.runs)
    reached = [_first(run.history, figure.value) for run in one.runs]
    epochs = [epoch for epoch in reached if epoch is not None]
    gains = [run.history[-1]["accuracy"] - run.history[-2]["accuracy"] for run in one.runs if len(run.history) > 1]
    ours = f" This network reaches {verdicts.summary(tests)}." if tests else ""
    when = f", first in epoch {min(epochs)} to {max(epochs)}," if epochs else ""
    rising = f", which added {verdicts.spread(gains).mean:+.4f}" if gains else ""
    return (
        f"lies above {verdicts.BEST_PUBLISHED}, the best published test accuracies: it is not credible as one.{ours} "
        f"As a training accuracy it is reached in {len(epochs)} of {len(reached)} runs{when} within {longest} epochs: "
        f"the last one's is {verdicts.summary(one.values('accuracy'))}{rising}. The validation accuracy then is "
        f"{verdicts.summary(one.values('val_accuracy'))}."
    )


def _first(history: Sequence[Mapping[str, float]], accuracy: float) -> int | None:
    return next((epoch for epoch, row in enumerate(history, 1) if row["accuracy"] >= accuracy), None)


def _costs(measured: Mapping[str, Measured]) -> str:
    kinds = {
        "parameters": "parameters",
        "epochs": "epochs",
        "best_epoch": "best epoch",
        "fit_seconds": "fit, seconds by the clock",
        "cpu_seconds": "fit, CPU seconds",
    }
    rows = [[f"`{recipe}`", *(_cost(one, kind) for kind in kinds)] for recipe, one in measured.items() if one.runs]
    if not rows:
        return "Nothing was run yet."
    note = "Seconds are those of the machine at the time, beside whatever else it ran."
    return f"{_table(['model', *kinds.values()], rows, right=range(1, 6))}\n\n{note}"


def _cost(one: Measured, kind: str) -> str:
    values = one.values(kind)
    if kind == "parameters" and len(set(values)) == 1:
        return f"{values[0]:,.0f}"
    return verdicts.summary(values, _DECIMALS[kind]) if values else "not measured"


def _conclusions(page: Page, measured: Mapping[str, Measured]) -> str:
    rows = []
    for stated in page.write_up.conclusions:
        judgement = verdicts.conclusion(stated, measured)
        rows.append([stated["claim"], judgement.measured, judgement.verdict])
    return _table(["the write-up concludes", "measured", "verdict"], rows)


def _details(page: Page, measured: Mapping[str, Measured]) -> Iterator[str]:
    """Scores of the labels and the commonest confusions, of the recipes that a conclusion is about."""
    about = dict.fromkeys(stated["recipe"] for stated in page.write_up.conclusions)
    for recipe in about:
        one = measured[recipe]
        if not one.runs:
            continue
        scores = verdicts.f1(one)
        order = sorted(LABELS, key=lambda label: verdicts.spread([score[label] for score in scores]).mean)
        rows = [[label, verdicts.summary([score[label] for score in scores])] for label in order]
        yield f"F1 of each label, `{recipe}` on the {one.judged_on}, the lowest first:"
        yield _table(["label", "F1: mean ± sd"], rows, right=(1,))
        matrices = verdicts.confusions(one)
        common = most_confused(sum(matrices).tolist(), LABELS, _CONFUSIONS)
        pairs = [
            [true, taken, verdicts.summary([float(m[LABELS.index(true), LABELS.index(taken)]) for m in matrices], 1)]
            for true, taken, _ in common
        ]
        yield f"Its {_CONFUSIONS} commonest confusions, in images:"
        yield _table(["label", "taken for", "images: mean ± sd"], pairs, right=(2,))


def _left_open(page: Page) -> str:
    flat = {recipe: _settings(page, recipe) for recipe in page.found.jobs}
    rows = []
    for entry in page.write_up.left_open:
        filled = {
            recipe: ", ".join(f"`{key}={settings[key]}`" for key in entry.keys if key in settings)
            for recipe, settings in flat.items()
        }
        rows.append([entry.what, _alike(filled), entry.why])
    return _table(["left open", "filled with", "because"], rows)


def _settings(page: Page, recipe: str) -> dict[str, Any]:
    config = page.found.jobs[recipe].config
    return flat({**config.settings, "data": config.data.model_dump()})


def _alike(filled: Mapping[str, str]) -> str:
    """What each recipe has, recipes that have the same together."""
    groups: dict[str, list[str]] = {}
    for recipe, text in filled.items():
        if text:
            groups.setdefault(text, []).append(recipe)
    if len(groups) == 1 and len(filled) == len(next(iter(groups.values()))):
        return next(iter(groups))
    return "; ".join(f"{', '.join(recipes)}: {text}" for text, recipes in groups.items())


def _runs(page: Page, measured: Mapping[str, Measured]) -> Iterator[str]:
    seeds = ",".join(str(seed) for seed in sorted({run.seed for run in page.found.all})) or SEEDS
    commands = [page.command("run", "--seeds", seeds), page.command("test"), page.command("render")]
    yield "\n".join(f"    {command}" for command in commands)
    if not page.found.all:
        return
    facts = [f"{name}: {', '.join(sorted(values))}" for name, values in _facts(page).items() if values]
    yield _list([*facts, *(f"not counted: {reason}" for reason in page.found.left_out)])
    rows = [
        [f"`{run.recipe}`", str(run.seed), f"`{run.trial.study_id}`", f"`{run.trial.run_id}`"]
        for one in measured.values()
        for run in one.runs
    ]
    yield _table(["model", "seed", "study", "run"], rows, right=(1,))


def _facts(page: Page) -> dict[str, set[str]]:
    runs = page.found.all
    sweeps = {str(run.trial.tags["fmnist.sweep_id"]) for run in runs}
    from fmnist_sweep.tracking import runs as tracking

    above = [tags.data.tags for sweep in sweeps for tags in tracking.search(page.store, _sweep(sweep))]
    return {
        "data": {run.trial.tags["fmnist.data"] for run in runs},
        "precision": {run.precision for run in runs},
        "trained in": {run.trial.tags["fmnist.executor"] for run in runs if "fmnist.executor" in run.trial.tags},
        "commit of this project (+: changed since)": {run.trial.tags["fmnist.git"] for run in runs},
        "versions": {f"{name} {number}" for run in runs for name, number in run.identity["versions"].items()},
        "Python": {tags["fmnist.python"] for tags in above if "fmnist.python" in tags},
        "platform": {tags["fmnist.platform"] for tags in above if "fmnist.platform" in tags},
    }


def _sweep(sweep_id: str) -> dict[str, str]:
    return {"fmnist.kind": "sweep", "fmnist.sweep_id": sweep_id}
