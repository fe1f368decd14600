"""Runs looked up in the store: by their tags, by id, the newest, those of a sweep that has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.datasets import count_validation_images
from fmnist_sweep.tracking.names import KIND_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fmnist_sweep.tracking.store import Store

_PAGE_SIZE = 1000


def is_id(text: str) -> bool:
    """Whether a text may be an id: ASCII letters and digits, which change no condition or path that they are put in."""
    return text.isascii() and text.isalnum()


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    status: RUNNING, FINISHED, FAILED or KILLED. is_active: False for a deleted run. params: all of them text.
    start_time, end_time: in ms since 1970. images: how many it was validated on; None if it does not say.
    """

    run_id: str
    name: str
    status: str
    is_active: bool
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    start_time: int
    end_time: int | None
    images: int | None


def search_runs(store: Store, tags: Mapping[str, str]) -> list[StoredRun]:
    """The active runs with these tags. A key that begins with `attributes.` means an attribute, not a tag."""
    return filter_runs(store, [_build_condition(tags)])


def filter_runs(store: Store, conditions: Sequence[str]) -> list[StoredRun]:
    """The active runs that meet all conditions, each in MLflow's filter language; for this room alone."""
    return _query_runs(store, [store.experiment_id], " and ".join(conditions))


def search_all_experiments(store: Store, tags: Mapping[str, str]) -> list[StoredRun]:
    """The active runs with these tags in all experiments of a store."""
    experiments = read_all_pages(
        lambda token: store.client.search_experiments(max_results=_PAGE_SIZE, page_token=token)
    )
    return _query_runs(store, [str(each.experiment_id) for each in experiments], _build_condition(tags))


def list_newest_runs(store: Store, tags: Mapping[str, str], limit: int) -> list[StoredRun]:
    """The active runs with these tags that began last, the newest first."""
    order = ["attributes.start_time DESC"]
    runs = store.client.search_runs([store.experiment_id], _build_condition(tags), max_results=limit, order_by=order)
    return [_build_run(run) for run in runs]


def list_ended_sweeps(store: Store) -> list[StoredRun]:
    """The runs of sweeps whose command has ended, the latest end first: an extended sweep ends later than it began."""
    runs = filter_runs(store, [f"tags.`{KIND_TAG}` = 'sweep'", "attributes.status != 'RUNNING'"])
    return sorted(runs, key=lambda run: -(run.end_time or 0))


def read_all_pages(read_page: Callable[[str | None], Any]) -> list[Any]:
    """The entries of all pages of a search. read_page: takes a page's token, None for the first page."""
    entries: list[Any] = []
    token: str | None = None
    while True:
        page = read_page(token)
        entries += page
        token = page.token
        if not token:
            return entries


def _query_runs(store: Store, experiments: list[str], condition: str) -> list[StoredRun]:
    runs = read_all_pages(
        lambda token: store.client.search_runs(experiments, condition, max_results=_PAGE_SIZE, page_token=token)
    )
    return [_build_run(run) for run in runs]


def _build_run(run: Run) -> StoredRun:
    return StoredRun(
        run_id=str(run.info.run_id),
        name=str(run.info.run_name),
        status=str(run.info.status),
        is_active=run.info.lifecycle_stage == "active",
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        images=count_validation_images(run),
    )


def _build_condition(tags: Mapping[str, str]) -> str:
    names = {key: key if key.startswith("attributes.") else f"tags.`{key}`" for key in tags}
    return " and ".join(f"{names[key]} = {quote_value(value)}" for key, value in tags.items())


def quote_value(value: str) -> str:
    """A value in quotation marks, as in a condition. Raises StoreError for one with both kinds of these marks.

    MLflow's filter language has no escapes.
    """
    quotes = [quote for quote in ("'", '"') if quote not in value]
    if not quotes:
        raise StoreError(f"{value!r} cannot be looked up in a store: it has both kinds of quotation marks.")
    return f"{quotes[0]}{value}{quotes[0]}"


def read_run(store: Store, run_id: str) -> StoredRun | None:
    """The run with this id, deleted or not; None if the store has none."""
    from mlflow.exceptions import MlflowException

    try:
        return _build_run(store.client.get_run(run_id))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def find_run(store: Store, run_id: str) -> StoredRun | None:
    """The run that a user or a tag names, as read_run has it; None also for text that is no run id."""
    from mlflow.exceptions import MlflowException

    try:
        return read_run(store, run_id)
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":
            return None
        raise


def read_run_name(store: Store, run_id: str) -> str | None:
    """The name of a run; None if the store does not say."""
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_run(run_id).info.run_name)
    except MlflowException:
        return None


def read_run_params(store: Store, run_id: str) -> Mapping[str, str]:
    """The logged parameters of a run, all of them text."""
    params: Mapping[str, str] = store.client.get_run(run_id).data.params
    return params


def is_run_active(store: Store, run_id: str) -> bool:
    """Whether the store has this run and it is not deleted."""
    return read_active_run(store, run_id) is not None


def is_run_finished(store: Store, run_id: str) -> bool:
    """Whether the store has this run, not deleted and with everything that belongs to it."""
    run = read_active_run(store, run_id)
    return run is not None and run.status == "FINISHED"


def read_active_run(store: Store, run_id: str) -> StoredRun | None:
    """The run with this id; None if the store has none, or only a deleted one."""
    run = read_run(store, run_id)
    return run if run is not None and run.is_active else None
