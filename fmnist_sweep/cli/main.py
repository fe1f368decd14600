"""The verbs beside the sweep itself; fmnist-sweep --help lists them."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

from fmnist_sweep import __version__
from fmnist_sweep.cli.compare import compare
from fmnist_sweep.cli.documented import documented
from fmnist_sweep.cli.options import EXPERIMENT, URI
from fmnist_sweep.cli.predict import predict
from fmnist_sweep.cli.promote import promote
from fmnist_sweep.cli.registry import history, rollback
from fmnist_sweep.cli.reproduce import reproduce
from fmnist_sweep.errors import ConfigError, UserError
from fmnist_sweep.report.figures.canvas import encode_png
from fmnist_sweep.text import create_console, echo, make_printable


class _Verbs(click.Group):
    """A group whose verbs end with one sentence and the documented exit code where the user can mend it."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            from fmnist_sweep.text import mask_credentials

            echo(f"fmnist-sweep: {make_printable(mask_credentials(str(error)))}", err=True)
            context.exit(error.exit_code)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Browse sweeps, promote models, look at the data. The sweep itself: python -m fmnist_sweep --help"""


@main.command()
@URI
@EXPERIMENT
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="On 127.0.0.1.")
def ui(uri: str | None, experiment: str, port: int) -> None:
    """Browse sweeps, studies and trials in the MLflow UI, until Ctrl-C."""
    from fmnist_sweep.tracking.store import open_existing_store, resolve_store_uri
    from fmnist_sweep.tracking.ui import build_runs_page_path, build_ui_command

    address = resolve_store_uri(uri)
    if address.startswith("http"):
        raise ConfigError(f"--uri={uri}: a tracking server has a UI of its own; open that address in a browser.")
    store = open_existing_store(uri, experiment)
    if not _is_free(port):
        raise ConfigError(f"--port={port}: another program listens there; name a free one.")
    echo(f"{store.uri}\nhttp://127.0.0.1:{port}{build_runs_page_path(store)}  (Ctrl-C ends it)")
    sys.stdout.flush()
    os.execv(sys.executable, build_ui_command(store, port))  # noqa: S606 - no shell is wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@main.command()
@URI
@EXPERIMENT
@click.option("--study", "study_id", default=None, help="Of this study.")
@click.option("--sweep", "sweep_id", default=None, help="Of this sweep; default: the latest one.")
@click.option("--data-dir", default=lambda: os.environ.get("FMNIST_DATA_DIR") or None, help="Folder of the data files.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A new file to write it to.")
def report(
    uri: str | None,
    experiment: str,
    study_id: str | None,
    sweep_id: str | None,
    data_dir: str | None,
    out: Path | None,
) -> None:
    """Write the report of a study or sweep, also of one that is still under way: one HTML page.

    Every finished study and sweep has its report in MLflow and in mlruns/reports/; this makes it anew.
    """
    from fmnist_sweep.report.publish import rebuild_report
    from fmnist_sweep.tracking.store import open_existing_store

    if study_id is not None and sweep_id is not None:
        raise ConfigError("--study and --sweep exclude each other: give one of them, or none.")
    if out is not None and out.exists():
        raise ConfigError(f"--out={out}: there is a file already; name a new one.")
    store = open_existing_store(uri, experiment)
    path, missing_pictures = rebuild_report(store, study_id=study_id, sweep_id=sweep_id, data_dir=data_dir, out=out)
    if missing_pictures:
        echo(f"without pictures: {make_printable(missing_pictures)}", err=True)
    echo(path)


@main.command()
@URI
def studies(uri: str | None) -> None:
    """List the studies begun here: how far each is, who runs it, the command that continues it."""
    from fmnist_sweep.cli.studies import list_study_progress
    from fmnist_sweep.study.journal import JournalDamaged
    from fmnist_sweep.tracking.store import locate_state_folder

    state = locate_state_folder(uri)
    entries = list(list_study_progress(state))
    if not entries:
        echo(f"no study was begun in {state}: python -m fmnist_sweep -m optimizer=rmsprop,adam begins two.")
    for entry in entries:
        if isinstance(entry, JournalDamaged):
            echo(f"{make_printable(str(entry))}\n")
            continue
        best = "" if entry.best is None else f"; best validation accuracy {entry.best:.4f}"
        echo(
            f"{entry.name}  {make_printable(entry.label)}\n  {make_printable(entry.state)}; {entry.trials} trials{best}"
        )
        echo(f"  {make_printable(entry.location)}\n  {entry.command}\n")


@main.command()
@click.argument("overrides", nargs=-1)
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Where to draw examples."
)
def data(overrides: tuple[str, ...], picture: Path | None) -> None:
    """Check the data: shapes, values, labels, duplicates, a picture of the ten labels.

    OVERRIDES are those of a sweep: data=kaggle_csv data.dir=FOLDER data.limit=5000. The test images are opened for
    counting only, and the opening is recorded in mlruns/test_openings.jsonl.
    """
    from fmnist_sweep.config.compose import compose_data
    from fmnist_sweep.data import format_fallback_banner, load_splits, summarize_data
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.data_summary import draw_examples, render_summary
    from fmnist_sweep.tracking.store import locate_ledger

    if picture is not None and picture.exists():
        raise ConfigError(f"--picture={picture}: there is a file already; name a new one.")
    config = compose_data(overrides)
    splits = load_splits(config)
    screen = create_console()
    if splits.origin.fallback_reason:
        screen.print(format_fallback_banner(splits.origin), style="bold yellow", markup=False, highlight=False)
    screen.print(render_summary(summarize_data(config, locate_ledger())))
    path = picture or locate_ledger().parent / f"examples-{splits.tag.replace(':', '-')}.png"
    write_file_atomically(path, encode_png(draw_examples(splits)))
    echo(f"examples of the ten labels: {path}")


for verb in (compare, promote, history, rollback, reproduce, predict, documented):
    main.add_command(verb)

if __name__ == "__main__":
    main()
