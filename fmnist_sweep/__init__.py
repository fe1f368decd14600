"""Experiment-tracking hyperparameter sweeps for image classifiers, on Fashion-MNIST."""

from fmnist_sweep.process.interpreter import prepare_command

prepare_command()  # before anything else is imported, `typing` and `__future__` included

from collections.abc import Sequence  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

    from fmnist_sweep.api import Promoted, Sweep
    from fmnist_sweep.api import label_pictures as predict
    from fmnist_sweep.api import load_registered_model as load
    from fmnist_sweep.api import run_overrides as run
    from fmnist_sweep.errors import ConfigError, DataError, Locked, PromotionRefused, StoreError, UserError

__all__ = [
    "ConfigError",
    "DataError",
    "Locked",
    "Promoted",
    "PromotionRefused",
    "StoreError",
    "Sweep",
    "UserError",
    "__version__",
    "load",
    "predict",
    "run",
    "trials",
]
__version__ = "0.1.0"
# Where each name comes from, and its name there: imported when it is first asked for, so that commands begin at once.
_LAZY = {
    **{name: ("errors", name) for name in ("ConfigError", "DataError", "Locked", "PromotionRefused", "StoreError")},
    "UserError": ("errors", "UserError"),
    "Promoted": ("api", "Promoted"),
    "Sweep": ("api", "Sweep"),
    "load": ("api", "load_registered_model"),
    "predict": ("api", "label_pictures"),
    "run": ("api", "run_overrides"),
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value: object = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def trials(
    uri: str | None = None,
    experiment: str = "fashion-mnist",
    *,
    sweep: str | None = None,
    study: str | Sequence[str] | None = None,
    where: str | Sequence[str] = (),
    kinds: Sequence[str] = ("trial",),
) -> "pd.DataFrame":
    """All trials in a store as a pandas DataFrame, one row a trial, the first begun first.

        import fmnist_sweep

        table = fmnist_sweep.trials("sqlite:///mlruns/mlflow.db", where="model.filters>=48")
        table.groupby("optimizer.name")["best_val_accuracy"].describe()

    uri: of the store; default: mlruns/mlflow.db below the working directory. sweep, study: only of these, by id; study
    may be several. where: conditions KEY OP VALUE on any column, OP one of = != < <= > >= ~ (contains). kinds: of
    runs, by their tag fmnist.kind.

    Of a trial with several attempts the row is the latest's. Columns:

    - `run_id`, `name`, `kind`, `sweep_id`, `study_id`, `trial_id`, `attempt`, `state` (finished, failed, running,
      killed), `data` (source and hash of the images), `precision`
    - `best_val_accuracy` (of finished trials, else NaN), `low` and `high` (its 95 % Wilson interval), `images` (how
      many it was validated on), `best_epoch`, `last_val_loss` (of the last epoch), `parameters`,
      `size_bytes` (of the model's file), `ms_per_image` (of processor time, to predict one of many), `fit_seconds`,
      `cpu_seconds` (NaN where these were not measured), `began` and `ended` (UTC), `failure`
    - every parameter under its dotted name (`model.filters`, `seed`), as the number, truth value, list or text it was;
      one that is called like a column of these is left out
    - `val_f1.<label>` for the ten labels

    Runs that were deleted are left out. A warning (UserWarning) names them, with the command that restores them.

    Errors: fmnist_sweep.errors.StoreError where there is no store or experiment; ConfigError for an unknown sweep,
    study or key.
    """
    import warnings

    from fmnist_sweep.analysis.table import build_table
    from fmnist_sweep.cli.trial_tables import filter_by_conditions, parse_conditions
    from fmnist_sweep.tracking.deleted import describe_deleted_runs, list_deleted_runs
    from fmnist_sweep.tracking.store import open_existing_store
    from fmnist_sweep.tracking.trial_search import select_trials

    store = open_existing_store(uri, experiment)
    deleted_runs = list_deleted_runs(store)
    if deleted_runs:
        warnings.warn(describe_deleted_runs(store, deleted_runs), stacklevel=2)
    studies = (study,) if isinstance(study, str) else tuple(study or ())
    conditions = parse_conditions((where,) if isinstance(where, str) else tuple(where))
    selection = select_trials(store, sweep=sweep, studies=studies, kinds=kinds)
    return filter_by_conditions(build_table(selection), conditions).reset_index(drop=True)
