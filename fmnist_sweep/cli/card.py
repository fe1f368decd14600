"""The verb `card`: print the model card of a registered version."""

from __future__ import annotations

from pathlib import Path

import click

from fmnist_sweep.cli.options import EXPERIMENT, URI, check_new_file
from fmnist_sweep.errors import ConfigError, StoreError
from fmnist_sweep.text import echo
from fmnist_sweep.tracking.names import CHAMPION_ADDRESS


@click.command()
@click.argument("model", default=CHAMPION_ADDRESS)
@URI
@EXPERIMENT
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A new file to write it to.")
def card(model: str, uri: str | None, experiment: str, out: Path | None) -> None:
    """Print the model card of MODEL, such as models:/fashion-mnist@champion, in Markdown.

    It says what the model is, what it was trained on, its figures with their intervals, label by label, what it must
    not be used for, and the command that rebuilds it. A promotion writes it with the version's run (model_card.md).
    """
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.model_card import MODEL_CARD_FILE
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.tracking.run_files import UnreadableArtifact, read_artifact

    check_new_file("--out", out)
    store, version = open_version(uri, experiment, model)
    try:
        content = None if version.run_id is None else read_artifact(store, version.run_id, MODEL_CARD_FILE)
        text = None if content is None else content.decode()
    except (UnreadableArtifact, UnicodeDecodeError) as error:
        raise StoreError(f"the model card of {version.full_name} cannot be read ({error}).") from None
    if text is None:
        raise StoreError(
            f"{version.full_name} has no model card: it was registered before promotions wrote one; its description "
            "and its tags in MLflow (fmnist-sweep ui) say what is known of it."
        )
    if out is None:
        echo(text.rstrip())
        return
    try:
        write_file_atomically(out, text.encode())
    except OSError as error:
        raise ConfigError(f"--out={out} cannot be written ({error.strerror or error}): name another.") from None
    echo(out)
