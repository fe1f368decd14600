"""The verb `export`: take a registered version along in other formats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import DATA_DIR, EXPERIMENT, PLUGINS, URI
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.text import create_console, echo
from fmnist_sweep.tracking.names import CHAMPION_ADDRESS, MODEL_NAME

if TYPE_CHECKING:
    from rich.table import Table

    from fmnist_sweep.tracking.exports import VersionExport


@click.command()
@click.argument("model", default=CHAMPION_ADDRESS)
@URI
@EXPERIMENT
@click.option("--to", "formats", required=True, metavar="FORMATS", help="onnx, litert, saved_model, or several: a,b.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=None,
    help=f"A new folder for the files. Default: {MODEL_NAME}-VERSION in the working directory.",
)
@DATA_DIR
@PLUGINS
def export(
    model: str,
    uri: str | None,
    experiment: str,
    formats: str,
    folder: Path | None,
    data_dir: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Export MODEL, such as models:/fashion-mnist@champion, to ONNX, LiteRT or TensorFlow's SavedModel.

    Each file is loaded in its own runtime in a fresh process and must give the version's stored validation predictions;
    only then does the folder appear, with export.json, which says what goes in and comes out. A table shows bytes,
    milliseconds an image on one core, and accuracy. Nothing is overwritten.
    """
    from fmnist_sweep.interrupts import end_at_signals
    from fmnist_sweep.tracking.exports import export_version
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.training.export_formats import parse_formats
    from fmnist_sweep.training.own_code import activate_typed

    chosen = parse_formats(formats)
    activate_typed(plugins)
    store, version = open_version(uri, experiment, model)
    folder = folder or Path(f"{version.model_name}-{version.number}")
    try:
        with end_at_signals() as raise_if_ended:
            exported = export_version(
                store, version, chosen, folder, data_dir, lambda line: echo(line, err=True), raise_if_ended
            )
    except KeyboardInterrupt:
        echo("Interrupted: nothing was kept.", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    create_console(highlight=False, markup=False).print(_build_table(exported))
    echo(
        f"on {exported.image_count:,} validation images; stored accuracy {exported.accuracy:.4f}. Of probabilities at "
        f"most {exported.tolerance.difference:g} may differ, and {exported.tolerance.changed:.1%} of labels: "
        f"{exported.tolerance.reason}."
    )
    echo(folder)


def _build_table(exported: VersionExport) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("format", no_wrap=True)
    for head in ("bytes", "ms, one\nimage", "ms, one\nof many", "accuracy", "labels\nchanged", "largest\ndifference"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in exported.files:
        table.add_row(
            each.export_format.name,
            f"{each.size_bytes:,}",
            f"{each.milliseconds:.3f}",
            f"{each.batch_milliseconds:.3f}",
            f"{each.accuracy:.4f}",
            f"{each.changed}",
            f"{each.difference:.1e}",
        )
    return table
