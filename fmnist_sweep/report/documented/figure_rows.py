"""The stated figures of a write-up beside what was measured, a row a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fmnist_sweep.report.documented.recipe_results import RecipeResults, format_spread
from fmnist_sweep.report.documented.rules import FigureVerdict, is_credible, judge_figure
from fmnist_sweep.report.documented.write_ups import StatedFigure, WriteUp

_ACCURACIES = ("accuracy", "val_accuracy", "test_accuracy")
_FIGURE_NAMES = {
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
DECIMALS = {"epochs": 1, "best_epoch": 1, "parameters": 0, "fit_seconds": 0, "cpu_seconds": 0}


@dataclass(frozen=True)
class FigureRow:
    """One figure of one model. verdict: None where nothing is stated or nothing measured."""

    recipe: str
    name: str
    statement: str
    measurement: str
    verdict: FigureVerdict | None = None


def list_figure_rows(write_up: WriteUp, results: Mapping[str, RecipeResults]) -> Iterator[FigureRow]:
    for recipe, figures in write_up.figures.items():
        recipe_results = results[recipe]
        if not recipe_results.runs:
            for kind, figure in figures.items():
                yield FigureRow(recipe, _FIGURE_NAMES.get(kind, "accuracy"), _format_figure(figure), "not run yet")
            if not figures:
                yield FigureRow(recipe, "–", "–", "not run yet")
            continue
        for kind, name in _FIGURE_NAMES.items():
            stated_figure, values = _find_figure(figures, kind), recipe_results.read_values(kind)
            if kind == "test_accuracy_unseen" and not any(
                run.test and run.test.twin_mask.any() for run in recipe_results.runs
            ):
                continue
            if not values:
                yield FigureRow(recipe, name, _format_figure(stated_figure), "not measured yet")
                continue
            if kind == "gap":
                if {"accuracy", "val_accuracy"} <= set(figures):
                    stated_gap = figures["accuracy"].value - figures["val_accuracy"].value
                    yield FigureRow(recipe, name, f"{stated_gap:.4f}", format_spread(values))
                continue
            verdict = None if stated_figure is None else _judge_credible_figure(stated_figure, kind, values)
            yield FigureRow(
                recipe,
                name,
                _format_figure(stated_figure),
                format_spread(values, DECIMALS.get(kind, 4)),
                verdict,
            )


def _find_figure(figures: Mapping[str, StatedFigure], kind: str) -> StatedFigure | None:
    """Find what a write-up states of a figure; an accuracy that it does not label stands for each kind."""
    return figures.get(kind) or (figures.get("unlabelled") if kind in _ACCURACIES else None)


def _format_figure(figure: StatedFigure | None) -> str:
    return "–" if figure is None else figure.text.replace(">", "above")


def _judge_credible_figure(figure: StatedFigure, kind: str, values: Sequence[float]) -> FigureVerdict:
    verdict = judge_figure(figure, kind, values)
    if kind == "test_accuracy" and not is_credible(figure):
        return FigureVerdict(verdict.is_reached, f"**not credible as a test accuracy**; {verdict.text}")
    return verdict
