"""The verb `report`: the page of a study or sweep, written anew."""

from __future__ import annotations

from pathlib import Path

import click

from fmnist_sweep.cli.options import DATA_DIR, EXPERIMENT, PLUGINS, URI, check_new_file, refuse_together
from fmnist_sweep.text import echo, make_printable


@click.command()
@URI
@EXPERIMENT
@click.option("--study", "study_id", default=None, help="Report this study.")
@click.option("--sweep", "sweep_id", default=None, help="Report this sweep. Default: the latest one.")
@DATA_DIR
@PLUGINS
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A new file to write it to.")
def report(
    uri: str | None,
    experiment: str,
    study_id: str | None,
    sweep_id: str | None,
    data_dir: str | None,
    plugins: tuple[str, ...],
    out: Path | None,
) -> None:
    """Write the report of a study or sweep, finished or under way: one HTML page.

    Every finished study and sweep has its report in MLflow and in mlruns/reports/; this writes it anew.
    """
    from fmnist_sweep.report.publish import rebuild_report
    from fmnist_sweep.tracking.deleted import name_deleted_runs
    from fmnist_sweep.tracking.store import open_existing_store
    from fmnist_sweep.training.own_code import activate_typed

    refuse_together(study=study_id, sweep=sweep_id)
    check_new_file("--out", out)
    activate_typed(plugins)
    store = open_existing_store(uri, experiment)
    name_deleted_runs(store)
    path, missing_pictures = rebuild_report(store, study_id=study_id, sweep_id=sweep_id, data_dir=data_dir, out=out)
    if missing_pictures:
        echo(f"without pictures: {make_printable(missing_pictures)}", err=True)
    echo(path)
