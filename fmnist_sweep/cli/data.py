"""The verb `data`: what the images are that a sweep would train on."""

from __future__ import annotations

from pathlib import Path

import click

from fmnist_sweep.cli.options import DATA_DIR_OVERRIDE, PLUGINS, add_data_dir, check_new_file
from fmnist_sweep.text import create_console, echo


@click.command()
@click.argument("overrides", nargs=-1)
@DATA_DIR_OVERRIDE
@PLUGINS
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A new file to draw examples in."
)
def data(overrides: tuple[str, ...], data_dir: str | None, plugins: tuple[str, ...], picture: Path | None) -> None:
    """Check the data: shapes, values, labels, duplicates, a picture of each label.

    OVERRIDES are those of a sweep: data=kaggle_csv data.limit=5000. The test images are opened only to
    be counted, and the opening is recorded in mlruns/test_openings.jsonl.
    """
    from fmnist_sweep.config.compose import compose_data
    from fmnist_sweep.data import format_fallback_banner, load_splits, summarize_data
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.data_summary import render_summary
    from fmnist_sweep.report.figures.canvas import encode_png
    from fmnist_sweep.report.figures.examples import draw_examples
    from fmnist_sweep.tracking.store import locate_ledger
    from fmnist_sweep.training.own_code import activate_typed

    check_new_file("--picture", picture)
    activate_typed(plugins)
    config = compose_data(add_data_dir(overrides, data_dir))
    splits = load_splits(config)
    screen = create_console()
    if splits.origin.fallback_reason:
        screen.print(format_fallback_banner(splits.origin), style="bold yellow", markup=False, highlight=False)
    screen.print(render_summary(summarize_data(config, locate_ledger())))
    path = picture or locate_ledger().parent / f"examples-{splits.tag.replace(':', '-')}.png"
    write_file_atomically(path, encode_png(draw_examples(splits)))
    labels = "the ten labels" if splits.description.is_fashion_mnist else "each label"
    echo(f"examples of {labels}: {path}")
