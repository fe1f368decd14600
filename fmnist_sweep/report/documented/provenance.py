"""The sections of a write-up's page that say how its runs came about: settings, commands, versions, runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fmnist_sweep.config.keys import flatten_config
from fmnist_sweep.report.documented.page_content import WriteUpPage
from fmnist_sweep.report.documented.write_ups import SEEDS
from fmnist_sweep.report.markdown import format_list, format_table
from fmnist_sweep.tracking.names import EXECUTOR_TAG, GIT_TAG, PLATFORM_TAG, PYTHON_TAG


def render_omissions(page: WriteUpPage) -> str:
    """Render what the write-up leaves open, and the settings that filled it, as a table."""
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


def render_runs(page: WriteUpPage) -> Iterator[str]:
    """Render the commands that repeat the runs, the facts that the runs share, and a table of the runs."""
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
        "data": {run.trial.data for run in runs},
        "precision": {run.precision for run in runs},
        "trained in": {run.trial.tags[EXECUTOR_TAG] for run in runs if EXECUTOR_TAG in run.trial.tags},
        "commit of this project (+: changed since)": {run.trial.tags.get(GIT_TAG, "unknown") for run in runs},
        "versions": {f"{name} {number}" for run in runs for name, number in run.identity["versions"].items()},
        "Python": {tags[PYTHON_TAG] for tags in page.sweep_tags if PYTHON_TAG in tags},
        "platform": {tags[PLATFORM_TAG] for tags in page.sweep_tags if PLATFORM_TAG in tags},
    }
