"""The verb `ui`: the MLflow UI on a store."""

from __future__ import annotations

import socket
import sys

import click

from fmnist_sweep.cli.options import EXPERIMENT, URI
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.masking import mask_address
from fmnist_sweep.text import echo


@click.command()
@URI
@EXPERIMENT
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
def ui(uri: str | None, experiment: str, port: int) -> None:
    """Browse sweeps, studies and trials in the MLflow UI, until Ctrl-C."""
    from fmnist_sweep.tracking.store import open_existing_store, resolve_store_uri
    from fmnist_sweep.tracking.ui_pages import build_runs_page_path
    from fmnist_sweep.tracking.ui_server import serve_ui

    if resolve_store_uri(uri).startswith("http"):
        raise ConfigError(
            f"--uri={mask_address(str(uri))}: a tracking server has a UI of its own; open that address in a browser."
        )
    store = open_existing_store(uri, experiment)
    if not _is_free(port):
        raise ConfigError(f"--port={port}: another program listens there; name a free one.")
    echo(f"{store.masked_uri}\nhttp://127.0.0.1:{port}{build_runs_page_path(store)}  (Ctrl-C ends it)")
    sys.stdout.flush()
    serve_ui(store, port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
