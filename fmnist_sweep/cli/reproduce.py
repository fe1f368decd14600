"""The verb `reproduce`: train a registered version again and compare the result."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fmnist_sweep.cli.options import DATA_DIR, EXPERIMENT, PLUGINS, URI, check_new_file
from fmnist_sweep.errors import ExitCode
from fmnist_sweep.text import echo
from fmnist_sweep.tracking.names import CHAMPION_ADDRESS


@click.command()
@click.argument("model", default=CHAMPION_ADDRESS)
@URI
@EXPERIMENT
@DATA_DIR
@PLUGINS
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="New file for the model (.keras)."
)
def reproduce(
    model: str, uri: str | None, experiment: str, data_dir: str | None, plugins: tuple[str, ...], out: Path | None
) -> None:
    """Train MODEL, such as models:/fashion-mnist@champion, again, and compare the result with what was registered.

    The registry and the data are all it needs. On the same machine, with the same threads and versions, the weights are
    the same bit for bit; elsewhere the accuracy must agree within the noise of training seeds. The exit code is 10 if
    it does not.
    """
    from fmnist_sweep.config.compose import compose_job
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.promotion.reproduction import find_version_data_dir, read_version_record, reproduce_version
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.training.own_code import activate_typed

    check_new_file("--out", out)
    activate_typed(plugins)
    store, version = open_version(uri, experiment, model)
    record = read_version_record(version)
    echo(f"version {version.number}: {record.configuration.name}, seed {record.seed}, on {record.data_tag}")
    folder = data_dir or find_version_data_dir(store, version, record, echo)
    reproduction = reproduce_version(record, compose_job(["search=grid"]).config, folder, echo)
    if out is not None:
        write_file_atomically(out, reproduction.model)
    echo(f"validation accuracy {reproduction.accuracy:.6f}, registered {record.accuracy:.6f}")
    if reproduction.is_exact:
        echo("the rebuilt model is identical bit for bit: every weight and every predicted probability")
    else:
        causes = "; ".join(reproduction.differences) or "none is known"
        echo(f"the rebuilt model is not identical; differences between the trainings: {causes}")
        relation = "within" if reproduction.is_equivalent else "MORE THAN"
        echo(
            f"the accuracies differ by {abs(reproduction.accuracy - record.accuracy):.4f}, {relation} the "
            f"{record.noise:.4f} by which two training seeds differ in 95% of cases (sd {record.accuracy_sd:.4f} over "
            f"{record.seeds} seeds)"
        )
    sys.exit(ExitCode.DONE if reproduction.is_equivalent else ExitCode.NOT_REPRODUCED)
