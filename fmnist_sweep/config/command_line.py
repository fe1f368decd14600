"""The command line of `python -m fmnist_sweep`: the jobs that it describes, or a question that Hydra answers itself."""

from __future__ import annotations

import argparse
import io
import itertools
import logging
import os
import string
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fmnist_sweep.config.arguments import parse_arguments
from fmnist_sweep.config.commands import build_sweep_command
from fmnist_sweep.config.compose import (
    MAIN_CONFIG,
    VERSION_BASE,
    add_folder,
    check_job,
    compose_config,
    compose_study,
    explain_hydra_errors,
    prepare_hydra,
    search_configs,
)
from fmnist_sweep.config.folders import find_conf_folder
from fmnist_sweep.config.foreign import check_arguments, check_completed_line
from fmnist_sweep.config.job import Job
from fmnist_sweep.config.known_keys import list_options
from fmnist_sweep.config.options import read_choice
from fmnist_sweep.config.overrides import is_override_of, quote_override_value, replace_tunables
from fmnist_sweep.config.plugin_words import split_plugins
from fmnist_sweep.config.sweep_size import refuse_large_sweep
from fmnist_sweep.config.text_values import parse_override, quote_texts
from fmnist_sweep.config.typed_overrides import check_typed_overrides
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.process.environ import restore_environment
from fmnist_sweep.text import quote_text
from fmnist_sweep.training.own_code import activate_typed

_QUESTIONS = ("help", "hydra_help", "cfg", "info", "shell_completion")  # that Hydra answers instead of running jobs
_COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")  # Hydra takes one of them


def compose_jobs(arguments: Sequence[str]) -> list[Job]:
    """Every job of a command line, composed and checked, in Hydra's order; none if it asks Hydra a question.

    Raises ConfigError, which names the first mistake, and SystemExit after some of Hydra's answers.
    """
    parsed = parse_arguments(arguments)
    plugin_files, overrides = split_plugins(parsed.overrides)
    parsed = replace(parsed, overrides=overrides)
    folder, options = check_arguments(parsed), parsed.options
    _refuse_conflicting_options(options)
    is_multirun = options.multirun or _is_multirun_mode(parsed.overrides)
    typed_overrides = quote_texts(parsed.overrides, is_multirun=is_multirun)
    options.overrides = replace_tunables(list(typed_overrides))
    if not any(getattr(options, question) for question in ("help", "hydra_help", "shell_completion")):
        is_shown = options.cfg or options.info
        check_typed_overrides(
            typed_overrides,
            is_multirun=is_multirun,
            build_sweep=None if is_shown else lambda words: build_sweep_command(["-m", *parsed.flags, *words]),
        )
    if any(getattr(options, question) for question in _QUESTIONS):
        _answer_question(options, folder)
        return []
    activate_typed(plugin_files)
    with search_configs(folder):
        parts = _expand_choices(options.overrides) if is_multirun else [options.overrides]
        configs = [compose_study(part) for part in parts]
    flags: tuple[str, ...] = (
        () if folder is None else ("--config-dir", str(folder))
    )  # for the command that repeats a trial
    jobs = [replace(check_job(config, typed_overrides, of_sweep=True), flags=flags) for config in configs]
    _set_log_levels(_read_loggers(configs[-1]))
    return jobs


def _refuse_conflicting_options(options: argparse.Namespace) -> None:
    for excluding in (_QUESTIONS, _COMMANDS):
        flags = [f"--{name.replace('_', '-')}" for name in excluding if getattr(options, name)]
        if len(flags) > 1:
            raise ConfigError(f"{', '.join(flags[:-1])} and {flags[-1]} exclude each other: give one of them.")
    if options.resolve and not (options.cfg or options.help):
        raise ConfigError("--resolve is for --cfg and --help: add one of them, or leave it out.")
    if options.package is not None and not options.cfg:
        raise ConfigError(f"--package {options.package} is for --cfg: add --cfg job, or leave it out.")


def _is_multirun_mode(overrides: Sequence[str]) -> bool:
    """Whether hydra.mode=MULTIRUN is among the overrides."""
    mode_overrides = [override for override in overrides if is_override_of(override, ("hydra.mode",))]
    if not mode_overrides:
        return False
    with search_configs():
        return bool(compose_config(mode_overrides).hydra.mode == RunMode.MULTIRUN)


def _expand_choices(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a multirun: every combination of what is to be swept over.

    Order and spelling are those of Hydra's basic sweeper: labels and the commands that continue studies hold them.
    """
    hydra_overrides: list[str] = []
    choices: dict[str, list[str]] = {}
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed_overrides = parser.parse_overrides(list(overrides))
    refuse_large_sweep(parsed_overrides)
    for override in parsed_overrides:
        key = override.get_key_element()
        if override.is_hydra_override():
            if override.is_sweep_override():
                raise ConfigError(f"{override.input_line}: Hydra's own settings cannot be swept over: give one value.")
            hydra_overrides.append(str(override.input_line))
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in _list_values(override)]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [[*hydra_overrides, *combination] for combination in itertools.product(*choices.values())]


def _list_values(override: Override) -> list[str]:
    """The values to make studies of. Raises ConfigError if there is none."""
    try:
        values = list(override.sweep_string_iterator())
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{override.input_line} (command line): cannot be listed ({error}).") from None
    if not values:
        options = ", ".join(list_options(override.key_or_group))
        raise ConfigError(
            f"{quote_text(override.input_line)} (command line): no option of {override.key_or_group} matches; choose "
            f"some of {options}."
        )
    return values


def _read_loggers(config: DictConfig) -> list[str]:
    """The names of the loggers that are to log everything: "" for all if hydra.verbose is true. Raises ConfigError."""
    with explain_hydra_errors():
        verbose: Any = OmegaConf.select(config, "hydra.verbose")
        if OmegaConf.is_config(verbose):
            verbose = OmegaConf.to_container(verbose, resolve=True)
    match verbose:
        case None | False:
            return []
        case True:
            return [""]
        case str(name):
            return [name]
        case list(names) if all(isinstance(name, str) for name in names):
            return names
        case _:
            raise ConfigError(
                f"hydra.verbose={quote_override_value(verbose)} (command line): expected true, false, the name of a "
                "logger, or a list of names."
            )


def _set_log_levels(loggers: Sequence[str]) -> None:
    """Let libraries log errors only, but these loggers everything."""
    logging.getLogger().setLevel(logging.ERROR)
    for name in loggers:
        logging.getLogger(name).setLevel(logging.DEBUG)


def _answer_question(options: argparse.Namespace, folder: Path | None) -> None:
    """Answer --help, or let Hydra answer --cfg and the like, once it is known that the config names no code.

    Hydra composes again to answer, and what it composes then can be another config: an interpolation may depend on the
    time or on the environment. For --help it would configure logging with it, so that --help is answered from the
    checked config. For the others it only prints.
    """
    flags = _write_question(options)
    if options.shell_completion:
        _check_completion(options.overrides)
    elif options.hydra_help:
        flags, options.overrides = (
            ["--hydra-help"],
            [],
        )  # composed without conf/config.yaml: overrides could only change Hydra's own
    else:
        if options.help:
            options.overrides = [word for word in options.overrides if read_choice(word) is None]
        _refuse_choices(options.overrides)
        with search_configs(folder):
            config = compose_config(_drop_sweeps(options.overrides) if options.help else options.overrides)
            if options.help:
                print(_format_help(config))
                return
            if options.package is not None and not OmegaConf.is_config(OmegaConf.select(config, options.package)):
                sections = ", ".join(str(key) for key in config if OmegaConf.is_config(config[key]))
                raise ConfigError(f"--package {options.package}: no such section; choose one of {sections}.")
    prepare_hydra()
    ask = hydra.main(str(find_conf_folder()), MAIN_CONFIG, VERSION_BASE)
    arguments = [*flags, "--", *options.overrides]
    with _replace_arguments(arguments), add_folder(folder), _let_hydra_raise(), explain_hydra_errors(), _mask_output():
        ask(_run_nothing)()


def _refuse_choices(overrides: Sequence[str]) -> None:
    """Refuse a choice of options where Hydra itself composes: it has one option of each group."""
    for choice in filter(None, map(read_choice, overrides)):
        raise ConfigError(
            f"{choice.shown}: Hydra shows one option of a group; write {choice.group}={choice.options[0]} here, or "
            "plan=true for what the study searches."
        )


def _write_question(options: argparse.Namespace) -> list[str]:
    """The options of a question as Hydra reads them, without --config-dir: `add_folder` stands for it."""
    values = {"--cfg": options.cfg, "--package": options.package, "--info": options.info}
    flags = [word for flag, value in values.items() if value is not None for word in (flag, value)]
    switches = {"--resolve": options.resolve, "--shell-completion": options.shell_completion}
    return [*flags, *(flag for flag, is_given in switches.items() if is_given)]


def _drop_sweeps(overrides: Sequence[str]) -> list[str]:
    """The overrides that are not for several studies: --help shows what all of them have."""
    parsed_overrides = {override: parse_override(override) for override in overrides}
    return [word for word, parsed in parsed_overrides.items() if parsed is None or not parsed.is_sweep_override()]


def _check_completion(overrides: Sequence[str]) -> None:
    """Check the command line that a shell is to complete: Hydra composes its words."""
    line = os.environ.get("COMP_LINE")
    if line is not None:
        check_completed_line(line)
    elif any(is_override_of(override, ("query",)) for override in overrides):
        raise ConfigError("-sc query=SHELL completes the line in the environment variable COMP_LINE: set it.")


def _format_help(config: DictConfig) -> str:
    """What --help prints, as Hydra fills in its template."""
    instance = GlobalHydra.instance().hydra
    assert instance is not None
    groups = instance.format_config_groups(lambda group: group.split("/")[0] != "hydra")
    return string.Template(config.hydra.help.template).safe_substitute(APP_CONFIG_GROUPS=groups)


def _run_nothing(config: DictConfig) -> None:
    raise AssertionError("Hydra was asked a question and ran a job")


@contextmanager
def _replace_arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra, which reads sys.argv, read these."""
    previous = sys.argv[1:]
    sys.argv[1:] = arguments
    try:
        yield
    finally:
        sys.argv[1:] = previous


@contextmanager
def _mask_output() -> Iterator[None]:
    """Print what the block prints, without the credentials of a store's address."""
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            yield
    finally:
        print(mask_credentials(output.getvalue()), end="")


@contextmanager
def _let_hydra_raise() -> Iterator[None]:
    """Let Hydra raise its errors, which are then explained, instead of printing them and leaving."""
    name = "HYDRA_FULL_ERROR"
    with restore_environment(name):
        os.environ[name] = "1"
        yield
