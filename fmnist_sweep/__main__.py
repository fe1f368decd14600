"""python -m fmnist_sweep: compose the jobs of the command line, then run them as one sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from fmnist_sweep import __version__
from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.commands import build_continuing_command, build_sweep_command, build_verb_command
from fmnist_sweep.errors import ConfigError, ExitCode, UserError
from fmnist_sweep.masking import print_masked_traceback
from fmnist_sweep.process.streams import has_lost_output
from fmnist_sweep.text import make_printable


def main() -> int:
    """Compose, then run; return the exit code."""
    sys.excepthook = print_masked_traceback
    command = build_sweep_command(sys.argv[1:])
    try:
        if "--version" in sys.argv[1:]:  # Hydra would answer with its own
            print(f"fmnist_sweep, version {__version__}")
            return ExitCode.DONE
        _refuse_verbs(sys.argv[1:])
        jobs = compose_jobs(sys.argv[1:])
        if not jobs:  # Hydra has answered a question
            return ExitCode.DONE
        from fmnist_sweep.interrupts import Stop, route_signals
        from fmnist_sweep.report.terminal import open_view
        from fmnist_sweep.sweep.run import run_sweep

        with open_view() as screen:
            stop = Stop(screen.say)
            with route_signals(stop):
                return run_sweep(jobs, command, screen, stop)
    except UserError as error:
        print(f"fmnist_sweep: {make_printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if not has_lost_output():
            raise
        if isinstance(error, BrokenPipeError):  # nobody reads on, as in `... --help | head`
            return ExitCode.DONE
        print(f"fmnist_sweep: standard output cannot be written ({error.strerror}).", file=sys.stderr)
        return ExitCode.STORE
    except KeyboardInterrupt:
        with suppress(OSError):
            print(f"Interrupted. The same command continues: {build_continuing_command(command)}")
        _exit_at_once(ExitCode.INTERRUPTED)


def _refuse_verbs(arguments: Sequence[str]) -> None:
    """Raise ConfigError for a word that is a verb of the other command."""
    words = [word for word in arguments if word.isidentifier()]
    if words:
        from fmnist_sweep.cli.main import main as verbs

        if words[0] in verbs.commands:
            position = list(arguments).index(words[0])
            command = build_verb_command(arguments[position:])
            raise ConfigError(f"{words[0]} is a verb of fmnist-sweep, not a word of the sweep: type {command!r}.")


def _exit_at_once(code: int) -> NoReturn:
    """End this process now: everything is written, and an interrupted TensorFlow may crash while it cleans up."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the terminal may be closed
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
