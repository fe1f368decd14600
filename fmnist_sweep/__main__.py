"""The Hydra application: python -m fmnist_sweep. Hydra composes every job; the project's own loop runs them."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fmnist_sweep.config.commands import build_continuing_command
from fmnist_sweep.config.compose import check_job, explain_hydra_errors, register_recipes, replace_tunables
from fmnist_sweep.config.folders import find_conf_folder
from fmnist_sweep.config.foreign import check_config_folder, refuse_composed_code
from fmnist_sweep.config.job import Job
from fmnist_sweep.errors import ConfigError, ExitCode, UserError
from fmnist_sweep.text import make_printable, mask_credentials

_HYDRA_FLAGS = frozenset(
    ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
)


def compose_jobs() -> list[Job]:
    """Every job of the command line, composed and checked, in Hydra's order; ConfigError names the first mistake."""
    configs: list[tuple[DictConfig, HydraConf]] = []

    @hydra.main(version_base="1.3", config_path=str(find_conf_folder()), config_name="config")
    def collect(raw: DictConfig) -> None:
        configs.append((raw, HydraConfig.get()))  # checked below: Hydra prints what fails in a job

    folder = check_config_folder(sys.argv[1:])
    register_recipes()
    sys.argv[1:] = replace_tunables(sys.argv[1:])
    with _provide_scratch_folder(), _let_hydra_raise(), explain_hydra_errors(), refuse_composed_code():
        collect()
    flags = () if folder is None else ("--config-dir", str(folder))  # for the command that repeats a trial
    return [replace(check_job(raw, hydra_conf), flags=flags) for raw, hydra_conf in configs]


@contextmanager
def _provide_scratch_folder() -> Iterator[None]:
    """A folder for the files Hydra insists on writing in a multirun; gone when the jobs are composed."""
    with tempfile.TemporaryDirectory(prefix="fmnist_sweep-") as folder:
        OmegaConf.register_new_resolver("fmnist_scratch", lambda: folder, replace=True)
        yield


@contextmanager
def _let_hydra_raise() -> Iterator[None]:
    """Let Hydra raise its errors instead of printing them and leaving, so that they become one sentence."""
    name = "HYDRA_FULL_ERROR"
    previous = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ[name]
        else:
            os.environ[name] = previous


def main() -> int:
    """Compose, then run; returns the exit code."""
    command = mask_credentials(shlex.join(["python", "-m", "fmnist_sweep", *sys.argv[1:]]))
    try:
        jobs = compose_jobs()
        if not jobs and _HYDRA_FLAGS.isdisjoint(argument.split("=")[0] for argument in sys.argv[1:]):
            raise ConfigError("Hydra handed back no job: hydra/launcher and hydra/sweeper must be the basic ones.")
        if not jobs:
            return ExitCode.DONE
        from fmnist_sweep.interrupts import Stop, route_signals
        from fmnist_sweep.report.terminal import open_view
        from fmnist_sweep.sweep.run import run_sweep

        with open_view() as screen:
            stop = Stop(screen.say)
            with route_signals(stop):
                return run_sweep(jobs, command, screen, stop)
    except UserError as error:
        print(f"fmnist_sweep: {make_printable(mask_credentials(str(error)))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        with suppress(OSError):
            print(f"Interrupted. The same command continues: {build_continuing_command(command)}")
        _exit_at_once(ExitCode.INTERRUPTED)


def _exit_at_once(code: int) -> NoReturn:
    """End here and now: everything is written, and TensorFlow, broken off in an operation, may crash on its way out."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the terminal may be closed
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
