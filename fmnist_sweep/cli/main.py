"""fmnist-sweep: the verbs beside the sweep itself; fmnist-sweep --help lists them."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fmnist_sweep import __version__
from fmnist_sweep.cli.card import card
from fmnist_sweep.cli.compare import compare
from fmnist_sweep.cli.data import data
from fmnist_sweep.cli.documented import documented
from fmnist_sweep.cli.export import export
from fmnist_sweep.cli.new import new
from fmnist_sweep.cli.predict import predict
from fmnist_sweep.cli.promote import promote
from fmnist_sweep.cli.registry import history, rollback
from fmnist_sweep.cli.relocate import relocate
from fmnist_sweep.cli.report import report
from fmnist_sweep.cli.reproduce import reproduce
from fmnist_sweep.cli.studies import studies
from fmnist_sweep.cli.ui import ui
from fmnist_sweep.errors import ConfigError, ExitCode, StoreError, UserError
from fmnist_sweep.masking import print_masked_traceback
from fmnist_sweep.process.streams import has_lost_output
from fmnist_sweep.text import echo, make_printable, quote_text, shorten_sentence


class _Verbs(click.Group):
    """A group whose verbs end a UserError with its one sentence and its exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home it cannot write to, when Keras imports it
        try:
            return super().main(*arguments, **options)
        except OSError as error:  # click has answered a reader that went away
            if not has_lost_output():
                raise
            echo(f"fmnist-sweep: standard output cannot be written ({error.strerror}).", err=True)
            sys.exit(ExitCode.STORE)

    def invoke(self, context: click.Context) -> Any:
        sys.excepthook = print_masked_traceback
        try:
            with _shorten_refusals():
                return super().invoke(context)
        except UserError as error:
            echo(f"fmnist-sweep: {make_printable(str(error))}", err=True)
            context.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click's own, as after --help
        except Exception as error:
            from fmnist_sweep.tracking.connection import explain_lost_store

            sentence = explain_lost_store(error)
            if sentence is None:
                raise
            echo(f"fmnist-sweep: {make_printable(str(StoreError(sentence)))}", err=True)
            context.exit(ExitCode.STORE)


@contextmanager
def _shorten_refusals() -> Iterator[None]:
    """Quote what was typed in a few characters where click or the system refuses it."""
    try:
        yield
    except click.UsageError as error:
        sentence = error.format_message()
        if sentence == shorten_sentence(sentence):
            raise
        raise click.UsageError(shorten_sentence(sentence), error.ctx) from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = quote_text(error.filename)
        raise ConfigError(f"{name}: no file can have so long a name; give a shorter one.") from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Browse sweeps, promote models, look at the data. The sweep itself: python -m fmnist_sweep --help"""


_READING_VERBS = (ui, report, studies, data, compare, history, card, predict, export)
_WORKING_VERBS = (promote, rollback, reproduce, documented, relocate, new)
for verb in (*_READING_VERBS, *_WORKING_VERBS):
    main.add_command(verb)

if __name__ == "__main__":
    main()
