"""Settings of MLflow in the environment: what is not followed is named, and what MLflow cannot read is refused."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.study.folder import SQLITE_PREFIX
from fmnist_sweep.text import echo, make_printable, shorten_text
from fmnist_sweep.tracking.names import DEFAULT_EXPERIMENT

# These choose another registry, experiment or run than the one that a command has by itself.
_UNUSED = ("MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
_said: list[str] = []  # in this process; a promotion opens its store more than once
_LEVELS = ("CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG", "NOTSET")


def name_unused_settings(uri: str | None, store_uri: str, experiment: str) -> None:
    """Say once in a process, on standard error, which settings are not followed, what is used, and how to use them.

    uri: the store as it was typed, None where nobody typed one; store_uri: its resolved address.
    """
    unused, advice = [], []
    named_uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if named_uri and uri is None and not _is_same_store(named_uri, store_uri):
        unused.append("MLFLOW_TRACKING_URI")
        advice.append(f"tracking.uri={_show(named_uri)} for a sweep, --uri {_show(named_uri)} for the other commands")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip()
    if name and experiment == DEFAULT_EXPERIMENT and name != experiment:
        unused.append("MLFLOW_EXPERIMENT_NAME")
        advice.append(f"tracking.experiment={_show(name)} or --experiment {_show(name)}")
    unused += [each for each in _UNUSED if os.environ.get(each)]
    if unused:
        settings = ", ".join(f"{each}={_show(os.environ[each])}" for each in unused)
        hint = f"; to use what they name, type {', and '.join(advice)}" if advice else ""
        _say_once(f"not followed: {settings}. The store is {_show(store_uri)}, experiment {experiment}{hint}.")


def _is_same_store(named_uri: str, store_uri: str) -> bool:
    if named_uri.startswith(SQLITE_PREFIX) and store_uri.startswith(SQLITE_PREFIX):
        files = (Path(each.removeprefix(SQLITE_PREFIX)).resolve() for each in (named_uri, store_uri))
        return next(files) == next(files)
    return named_uri.rstrip("/") == store_uri


def _say_once(text: str) -> None:
    if not _said:
        _said.append(text)
        echo(f"fmnist_sweep: {text}", err=True)


def _show(value: str) -> str:
    return shorten_text(make_printable(mask_credentials(value)), 200)


@cache
def refuse_unfit_settings(store_uri: str) -> None:
    """Raise ConfigError for a setting that MLflow cannot read, before it fails where it needs the value.

    Workspaces, which a server may have, would hide the experiments of a store in a file.
    """
    level = os.environ.get("MLFLOW_LOGGING_LEVEL")
    if level is not None and level.upper() not in _LEVELS:  # read when MLflow is imported
        raise ConfigError(f"MLFLOW_LOGGING_LEVEL={_show(level)}: expected one of {', '.join(_LEVELS)}; or unset it.")
    try:
        with pause_while_importing():
            import mlflow.environment_variables as settings
    except ValueError as error:  # some are read when MLflow is imported
        raise ConfigError(
            f"MLflow does not start: {make_printable(str(error))}; correct this setting or unset it."
        ) from None

    for setting in vars(settings).values():
        name = getattr(setting, "name", None)
        if isinstance(name, str) and name in os.environ and hasattr(setting, "get"):
            try:
                setting.get()
            except Exception as error:
                reason = " ".join(str(error).split())
                raise ConfigError(
                    f"{name}={_show(os.environ[name])}: MLflow cannot read this setting "
                    f"({shorten_text(reason, 300)}); correct it or unset it."
                ) from None
    if store_uri.startswith(SQLITE_PREFIX) and settings.MLFLOW_ENABLE_WORKSPACES.get():
        raise ConfigError("MLFLOW_ENABLE_WORKSPACES: a store in a file has no workspaces; unset this variable.")
