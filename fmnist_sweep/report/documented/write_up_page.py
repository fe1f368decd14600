"""A write-up's page: what it states beside what was measured, in Markdown; the same store gives the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.files import write_file_atomically
from fmnist_sweep.report.documented.figure_rows import DECIMALS, list_figure_rows
from fmnist_sweep.report.documented.recipe_results import (
    RecipeResults,
    compute_f1,
    compute_spread,
    count_confusions,
    format_spread,
    read_results,
)
from fmnist_sweep.report.documented.recipe_runs import WriteUpRuns
from fmnist_sweep.report.documented.rules import BEST_PUBLISHED, MIN_RUNS, RULES, is_credible, judge_conclusion
from fmnist_sweep.report.documented.write_ups import SEEDS, StatedFigure, WriteUp
from fmnist_sweep.report.markdown import format_list, format_table
from fmnist_sweep.tracking.names import (
    DATA_TAG,
    EXECUTOR_TAG,
    GIT_TAG,
    KIND_TAG,
    PLATFORM_TAG,
    PYTHON_TAG,
    SWEEP_ID_TAG,
)
from fmnist_sweep.tracking.queries import search_runs
from fmnist_sweep.tracking.store import Store
from fmnist_sweep.training.evaluation import find_most_confused

_MARKER = "<!-- Made by: fmnist-sweep documented render"
_CONFUSION_COUNT = 6


@dataclass(frozen=True)
class WriteUpPage:
    """All that a page shows. results: by recipe. sweep_tags: of the sweeps that trained the runs."""

    write_up: WriteUp
    recipe_runs: WriteUpRuns
    results: Mapping[str, RecipeResults]
    sweep_tags: Sequence[Mapping[str, str]]
    overrides: Sequence[str]

    def format_command(self, verb: str, *options: str) -> str:
        return shlex.join(["fmnist-sweep", "documented", verb, self.write_up.number, *options, *self.overrides])


def read_page(store: Store, write_up: WriteUp, recipe_runs: WriteUpRuns, overrides: Sequence[str]) -> WriteUpPage:
    """Read from the store all that a page shows. Errors: StoreError."""
    sweep_ids = sorted({str(run.trial.tags[SWEEP_ID_TAG]) for run in recipe_runs.all_runs})
    sweeps = [run for sweep_id in sweep_ids for run in search_runs(store, {KIND_TAG: "sweep", SWEEP_ID_TAG: sweep_id})]
    results = read_results(store, recipe_runs)
    return WriteUpPage(write_up, recipe_runs, results, [sweep.tags for sweep in sweeps], overrides)


def write_page(folder: Path, name: str, text: str) -> Path:
    """Write a page in place of an earlier one. Errors: ConfigError where another file stands there."""
    path = folder / f"{name}.md"
    if path.exists() and not path.read_bytes().startswith(_MARKER.encode()):
        raise ConfigError(f"{path} was not made by this command and is left alone: name another folder with --out.")
    write_file_atomically(path, text.encode())
    return path


def render_write_up_page(page: WriteUpPage) -> str:
    """Render the page as Markdown."""
    parts = [
        f"{_MARKER} {page.write_up.number}. What is changed by hand is lost. -->",
        f"# {page.write_up.name}, reproduced",
        f"*{page.write_up.title}*. {page.write_up.about}",
        *_render_warnings(page),
        "## In short",
        _render_summary(page),
        "## Figures",
        _render_figures(page),
        *_render_notes(page),
        *_render_readings(page),
        "## Cost",
        _render_costs(page),
        "## Conclusions",
        _render_conclusions(page),
        *_render_details(page),
        "## What was left open, and how it was filled",
        _render_omissions(page),
        *(["## Remarks", format_list(page.write_up.remarks)] if page.write_up.remarks else []),
        "## How the verdicts come about",
        format_list(RULES),
        "## Runs",
        *_render_runs(page),
    ]
    return "\n\n".join(parts) + "\n"


def _render_warnings(page: WriteUpPage) -> Iterator[str]:
    if any(run.is_drawn for run in page.recipe_runs.all_runs):
        yield (
            "> **Drawn stand-in.** These runs saw images that this project drew itself, not Fashion-MNIST: every "
            "figure below is worthless but as a test of the commands."
        )
    if page.overrides:
        yield f"> Not the documented set-up: changed by `{shlex.join(page.overrides)}`."
    missing = [recipe for recipe, runs in page.recipe_runs.runs.items() if not runs]
    incomplete = [recipe for recipe, runs in page.recipe_runs.runs.items() if 0 < len(runs) < MIN_RUNS]
    if missing:
        yield f"> Not run yet: {', '.join(missing)}. To run: `{page.format_command('run', '--seeds', SEEDS)}`"
    if incomplete:
        yield (
            f"> Fewer than {MIN_RUNS} seeds: {', '.join(incomplete)}. To run more: "
            f"`{page.format_command('run', '--seeds', SEEDS)}`"
        )


def _render_figures(page: WriteUpPage) -> str:
    rows = [
        [f"`{row.recipe}`", row.name, row.statement, row.measurement, row.verdict.text if row.verdict else ""]
        for row in list_figure_rows(page.write_up, page.results)
    ]
    return format_table(["model", "figure", "stated", "measured: mean ± sd", "verdict"], rows, right=(2, 3))


def _render_summary(page: WriteUpPage) -> str:
    rows = [row for row in list_figure_rows(page.write_up, page.results) if row.verdict is not None]
    lines = []
    for is_reached, word in {True: "reached", False: "not reached", None: "without a verdict yet"}.items():
        names: dict[str, list[str]] = {}
        for row in rows:
            if row.verdict is not None and row.verdict.is_reached is is_reached:
                names.setdefault(row.recipe, []).append(row.name)
        if names:
            models = "; ".join(f"`{recipe}` {', '.join(figure_names)}" for recipe, figure_names in names.items())
            lines.append(f"Stated figures {word}: {models}.")
    lines += [
        f"{figure.text} of `{recipe}` is not credible as a test accuracy."
        for recipe, statement in page.write_up.figures.items()
        for kind, figure in statement.items()
        if kind == "unlabelled" and not is_credible(figure)
    ]
    lines += [
        f"*{statement['claim'].rstrip('.')}*: {judge_conclusion(statement, page.results).verdict}."
        for statement in page.write_up.conclusions
    ]
    return format_list(lines)


def _render_notes(page: WriteUpPage) -> Iterator[str]:
    if any("unlabelled" in figures for figures in page.write_up.figures.values()):
        yield "The write-up does not say which accuracy its figure is: it is held against each."
    yield (
        "*Training* figures are means over the batches of the epoch while it trains, with dropout on, as Keras prints "
        "them and as the write-ups give them: the weights still change meanwhile, so they are not the accuracy of any "
        "one model. *Validation* is on images of the training file that no model was trained on; *last epoch* is what "
        "a write-up sees at its end; *best epoch* is the one with the highest validation accuracy, an optimistic "
        "choice, and the one whose model is kept. *Test* is of that model on the test images, which decided nothing "
        "here. n counts trainings, each with a seed of its own."
    )
    tests = [run.test for results in page.results.values() for run in results.runs if run.test is not None]
    if tests:
        twin_count = int(tests[0].twin_mask.sum())
        verb = "is" if twin_count < 2 else "are"
        yield (
            f"{twin_count or 'None'} of the {len(tests[0].labels):,} test images {verb} nearly an image of the "
            "training file: at most 7 grey levels a pixel away (root mean square)."
        )
    if any(
        recipe_results.runs and not recipe_results.is_tested for recipe_results in page.results.values()
    ) and not any(run.is_drawn for run in page.recipe_runs.all_runs):
        yield f"The test images were not opened for all of these runs yet: `{page.format_command('test')}`."


def _render_readings(page: WriteUpPage) -> Iterator[str]:
    """Say, of figures that cannot be test accuracies, what they may be instead by the runs."""
    for recipe, figures in page.write_up.figures.items():
        figure, recipe_results = figures.get("unlabelled"), page.results[recipe]
        if figure is None or is_credible(figure) or not recipe_results.runs:
            continue
        yield f"**{figure.text} of `{recipe}`** {_describe_reading(figure, recipe_results)}"


def _describe_reading(figure: StatedFigure, recipe_results: RecipeResults) -> str:
    tests, longest = recipe_results.read_values("test_accuracy"), max(len(run.history) for run in recipe_results.runs)
    first_epochs = [_find_first_epoch(run.history, figure.value) for run in recipe_results.runs]
    epochs = [epoch for epoch in first_epochs if epoch is not None]
    gains = [
        run.history[-1]["accuracy"] - run.history[-2]["accuracy"] for run in recipe_results.runs if len(run.history) > 1
    ]
    test_text = f" This network reaches {format_spread(tests)}." if tests else ""
    epochs_text = f", first in epoch {min(epochs)} to {max(epochs)}," if epochs else ""
    gain_text = f", which added {compute_spread(gains).mean:+.4f}" if gains else ""
    return (
        f"lies above {BEST_PUBLISHED}, the best published test accuracies: it is not credible as one.{test_text} "
        f"As a training accuracy it is reached in {len(epochs)} of {len(first_epochs)} runs{epochs_text} within "
        f"{longest} epochs: the last one's is {format_spread(recipe_results.read_values('accuracy'))}{gain_text}. The "
        f"validation accuracy then is {format_spread(recipe_results.read_values('val_accuracy'))}."
    )


def _find_first_epoch(history: Sequence[Mapping[str, float]], accuracy: float) -> int | None:
    return next((epoch for epoch, row in enumerate(history, 1) if row["accuracy"] >= accuracy), None)


def _render_costs(page: WriteUpPage) -> str:
    kinds = {
        "parameters": "parameters",
        "epochs": "epochs",
        "best_epoch": "best epoch",
        "fit_seconds": "fit, seconds by the clock",
        "cpu_seconds": "fit, CPU seconds",
    }
    rows = [
        [f"`{recipe}`", *(_format_cost(recipe_results, kind) for kind in kinds)]
        for recipe, recipe_results in page.results.items()
        if recipe_results.runs
    ]
    if not rows:
        return "Nothing was run yet."
    note = "Seconds are those of the machine at the time, beside whatever else it ran."
    return f"{format_table(['model', *kinds.values()], rows, right=range(1, 6))}\n\n{note}"


def _format_cost(recipe_results: RecipeResults, kind: str) -> str:
    values = recipe_results.read_values(kind)
    if kind == "parameters" and len(set(values)) == 1:
        return f"{values[0]:,.0f}"
    return format_spread(values, DECIMALS[kind]) if values else "not measured"


def _render_conclusions(page: WriteUpPage) -> str:
    rows = []
    for conclusion in page.write_up.conclusions:
        judgement = judge_conclusion(conclusion, page.results)
        rows.append([conclusion["claim"], judgement.measurement, judgement.verdict])
    return format_table(["the write-up concludes", "measured", "verdict"], rows)


def _render_details(page: WriteUpPage) -> Iterator[str]:
    """Tables of the labels' scores and the commonest confusions, for the recipes that a conclusion is about."""
    recipes = dict.fromkeys(conclusion["recipe"] for conclusion in page.write_up.conclusions)
    for recipe in recipes:
        recipe_results = page.results[recipe]
        if not recipe_results.runs:
            continue
        scores = compute_f1(recipe_results)
        order = sorted(LABELS, key=lambda label: compute_spread([score[label] for score in scores]).mean)
        rows = [[label, format_spread([score[label] for score in scores])] for label in order]
        yield f"F1 of each label, `{recipe}` on the {recipe_results.image_source}, the lowest first:"
        yield format_table(["label", "F1: mean ± sd"], rows, right=(1,))
        matrices = count_confusions(recipe_results)
        common = find_most_confused(np.sum(matrices, axis=0).tolist(), LABELS, _CONFUSION_COUNT)
        pairs = [
            [
                true,
                predicted,
                format_spread([float(m[LABELS.index(true), LABELS.index(predicted)]) for m in matrices], 1),
            ]
            for true, predicted, _ in common
        ]
        yield f"Its {_CONFUSION_COUNT} commonest confusions, in images:"
        yield format_table(["label", "taken for", "images: mean ± sd"], pairs, right=(2,))


def _render_omissions(page: WriteUpPage) -> str:
    settings_by_recipe = {recipe: _collect_settings(page, recipe) for recipe in page.recipe_runs.jobs}
    rows = []
    for entry in page.write_up.omissions:
        filled = {
            recipe: ", ".join(f"`{key}={settings[key]}`" for key in entry.keys if key in settings)
            for recipe, settings in settings_by_recipe.items()
        }
        rows.append([entry.what, _group_recipes(filled), entry.why])
    return format_table(["left open", "filled with", "because"], rows)


def _collect_settings(page: WriteUpPage, recipe: str) -> dict[str, Any]:
    config = page.recipe_runs.jobs[recipe].config
    return flatten_config({**config.settings, "data": config.data.model_dump()})


def _group_recipes(settings_text: Mapping[str, str]) -> str:
    """Join the recipes' settings in words, recipes with the same settings together."""
    groups: dict[str, list[str]] = {}
    for recipe, text in settings_text.items():
        if text:
            groups.setdefault(text, []).append(recipe)
    if len(groups) == 1 and len(settings_text) == len(next(iter(groups.values()))):
        return next(iter(groups))
    return "; ".join(f"{', '.join(recipes)}: {text}" for text, recipes in groups.items())


def _render_runs(page: WriteUpPage) -> Iterator[str]:
    seeds = ",".join(str(seed) for seed in sorted({run.seed for run in page.recipe_runs.all_runs})) or SEEDS
    commands = [
        page.format_command("run", "--seeds", seeds),
        page.format_command("test"),
        page.format_command("render"),
    ]
    yield "\n".join(f"    {command}" for command in commands)
    if not page.recipe_runs.all_runs:
        return
    facts = [f"{name}: {', '.join(sorted(values))}" for name, values in _collect_facts(page).items() if values]
    yield format_list([*facts, *(f"not counted: {reason}" for reason in page.recipe_runs.exclusions)])
    rows = [
        [f"`{run.recipe}`", str(run.seed), f"`{run.trial.study_id}`", f"`{run.trial.run_id}`"]
        for run in page.recipe_runs.all_runs
    ]
    yield format_table(["model", "seed", "study", "run"], rows, right=(1,))


def _collect_facts(page: WriteUpPage) -> dict[str, set[str]]:
    runs = page.recipe_runs.all_runs
    return {
        "data": {run.trial.tags[DATA_TAG] for run in runs},
        "precision": {run.precision for run in runs},
        "trained in": {run.trial.tags[EXECUTOR_TAG] for run in runs if EXECUTOR_TAG in run.trial.tags},
        "commit of this project (+: changed since)": {run.trial.tags[GIT_TAG] for run in runs},
        "versions": {f"{name} {number}" for run in runs for name, number in run.identity["versions"].items()},
        "Python": {tags[PYTHON_TAG] for tags in page.sweep_tags if PYTHON_TAG in tags},
        "platform": {tags[PLATFORM_TAG] for tags in page.sweep_tags if PLATFORM_TAG in tags},
    }
