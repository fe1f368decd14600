"""A write-up's page: what it states beside what was measured, in Markdown; the same store gives the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fmnist_sweep.data import LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.files import write_file_atomically
from fmnist_sweep.reading import read_head
from fmnist_sweep.report.documented.figure_rows import DECIMALS, list_figure_rows
from fmnist_sweep.report.documented.page_content import WriteUpPage
from fmnist_sweep.report.documented.provenance import render_omissions, render_runs
from fmnist_sweep.report.documented.recipe_results import (
    RecipeResults,
    compute_f1,
    compute_spread,
    count_confusions,
    format_spread,
)
from fmnist_sweep.report.documented.rules import BEST_PUBLISHED, MIN_RUNS, RULES, is_credible, judge_conclusion
from fmnist_sweep.report.documented.write_ups import SEEDS, StatedFigure
from fmnist_sweep.report.markdown import format_list, format_table
from fmnist_sweep.training.evaluation import find_most_confused

_MARKER = "<!-- Made by: fmnist-sweep documented render"
_CONFUSION_COUNT = 6


def write_page(folder: Path, name: str, text: str) -> Path:
    """Write a page in place of an earlier one. Errors: ConfigError where another file stands there."""
    path = folder / f"{name}.md"
    if path.exists() and not _is_own_page(path):
        raise ConfigError(f"{path} was not made by this command and is left alone: name another folder with --out.")
    write_file_atomically(path, text.encode())
    return path


def _is_own_page(path: Path) -> bool:
    try:
        return read_head(path, len(_MARKER.encode())) == _MARKER.encode()
    except OSError:  # a folder, a pipe, or a file of somebody else
        return False


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
        render_omissions(page),
        *(["## Remarks", format_list(page.write_up.remarks)] if page.write_up.remarks else []),
        "## How the verdicts come about",
        format_list(RULES),
        "## Runs",
        *render_runs(page),
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
