"""Runs looked up in the store: by their tags, by id, the newest, those of a sweep that has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from fmnist_sweep.errors import StoreError
from fmnist_sweep.tracking.datasets import count_validation_images
from fmnist_sweep.tracking.foreign import Misfit, check_run, select_fitting
from fmnist_sweep.tracking.names import JOURNAL_TAG, KIND_TAG
from fmnist_sweep.tracking.own_runs import leave_out_unknown_runs

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fmnist_sweep.tracking.store import Store

_PAGE_SIZE = 1000
_STATUS, _NAME = "attributes.status", "attributes.run_name"
# What may stand between quotation marks in MLflow's filter language, which has no escapes.
_PLAIN_VALUE = re.compile(r"[^'\"`\\%\x00-\x1f\x7f\ud800-\udfff]*")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.:/ -]+")
_MAX_CONDITIONS = 41  # in one search; SQLite joins at most 64 tables
_MAX_IDS = 200  # in one search


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


def search_runs(store: Store, tags: Mapping[str, str], params: Mapping[str, str] | None = None) -> list[StoredRun]:
    """The active runs with these tags and parameters. Those that no sweep leaves are named and left out.

    A key of tags that is `attributes.status` or `attributes.run_name` means that attribute.
    """
    runs = _query_runs(store, [store.experiment_id], _build_condition(tags, params or {}))
    return _select(store, runs, tags, params or {})


def search_runs_of_journals(store: Store, journals: Sequence[str], kind: str) -> list[StoredRun]:
    """The active runs of a kind that name one of these journals, as search_runs has them, in no order.

    The journals are read once for all of them, not once for each.
    """
    runs: list[StoredRun] = []
    for journal in dict.fromkeys(journals):
        tags = {KIND_TAG: kind, JOURNAL_TAG: journal}
        found = _query_runs(store, [store.experiment_id], _build_condition(tags, {}))
        runs += [run for run in found if run.tags.get(JOURNAL_TAG) == journal]
    return _select(store, runs, {KIND_TAG: kind}, {})


def search_runs_by_prefix(store: Store, prefix: str) -> list[StoredRun]:
    """The active runs whose id begins with these hexadecimal digits."""
    runs = _query_runs(store, [store.experiment_id], f"attributes.run_id LIKE '{prefix}%'") if is_id(prefix) else []
    return _select(store, [run for run in runs if run.run_id.startswith(prefix)], {}, {})


def search_deleted_runs(store: Store, tags: Mapping[str, str]) -> list[StoredRun]:
    """The deleted runs with these tags that began last, at most a page of them."""
    from mlflow.entities import ViewType

    order = ["attributes.start_time DESC"]
    runs = store.client.search_runs(
        [store.experiment_id], _build_condition(tags, {}), ViewType.DELETED_ONLY, _PAGE_SIZE, order_by=order
    )
    return _select(store, [_build_run(run) for run in runs], tags, {})


def search_all_experiments(store: Store, tags: Mapping[str, str]) -> list[StoredRun]:
    """The active runs with these tags in all experiments of a store, as search_runs has them."""
    experiments = read_all_pages(
        lambda token: store.client.search_experiments(max_results=_PAGE_SIZE, page_token=token)
    )
    runs = _query_runs(store, [str(each.experiment_id) for each in experiments], _build_condition(tags, {}))
    return _select(store, runs, tags, {})


def read_runs(store: Store, run_ids: Sequence[str]) -> list[StoredRun]:
    """The active runs with these ids, as search_runs has them; an id that the store does not have is passed over."""
    ids = [run_id for run_id in dict.fromkeys(run_ids) if is_id(run_id)]
    runs: list[StoredRun] = []
    for start in range(0, len(ids), _MAX_IDS):
        listed = ", ".join(f"'{run_id}'" for run_id in ids[start : start + _MAX_IDS])
        runs += _query_runs(store, [store.experiment_id], f"attributes.run_id IN ({listed})")
    return _select(store, runs, {}, {})


def list_newest_runs(
    store: Store, tags: Mapping[str, str], limit: int, *, include_unknown: bool = False
) -> list[StoredRun]:
    """The active runs with these tags that began last, the newest first, as search_runs has them.

    include_unknown: also those that the journal which they name does not know.
    """
    return list(islice(_iterate_newest_runs(store, tags, max(limit, 10), include_unknown), limit))


def _iterate_newest_runs(
    store: Store, tags: Mapping[str, str], page_size: int, include_unknown: bool
) -> Iterator[StoredRun]:
    order, condition, token = ["attributes.start_time DESC"], _build_condition(tags, {}), None
    while True:
        page = store.client.search_runs(
            [store.experiment_id], condition, max_results=page_size, order_by=order, page_token=token
        )
        yield from _select(store, [_build_run(run) for run in page], tags, {}, include_unknown=include_unknown)
        token = page.token
        if not token:
            return


def _select(
    store: Store,
    runs: Sequence[StoredRun],
    tags: Mapping[str, str],
    params: Mapping[str, str],
    *,
    include_unknown: bool = False,
) -> list[StoredRun]:
    """The runs that have these tags and parameters, of which a search may leave out some, that fit, and are known."""
    matching = [
        run
        for run in runs
        if all(_read_field(run, key) == value for key, value in tags.items())
        and all(run.params.get(key) == value for key, value in params.items())
    ]
    fitting = select_fitting(store, "run", matching, check_run, lambda run: run.run_id)
    return fitting if include_unknown else leave_out_unknown_runs(store, fitting)


def _read_field(run: StoredRun, key: str) -> str | None:
    return run.status if key == _STATUS else run.name if key == _NAME else run.tags.get(key)


def list_ended_sweeps(store: Store) -> list[StoredRun]:
    """The runs of sweeps whose command has ended, the latest end first: an extended sweep ends later than it began."""
    runs = [run for run in search_runs(store, {KIND_TAG: "sweep"}) if run.status != "RUNNING"]
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


def _build_condition(tags: Mapping[str, str], params: Mapping[str, str]) -> str:
    """The condition of a search for as many of these as its language has words and room for."""
    named = [(key if key in (_STATUS, _NAME) else f"tags.`{key}`", key, value) for key, value in tags.items()]
    named += [(f"params.`{key}`", key, value) for key, value in params.items()]
    conditions = [
        f"{name} = '{value}'"
        for name, key, value in named
        if _PLAIN_KEY.fullmatch(key) and _PLAIN_VALUE.fullmatch(value)
    ]
    return " and ".join(conditions[:_MAX_CONDITIONS])


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
    """The run that a user or a tag names, as read_run has it; None also for text that is no run id.

    Raises StoreError for a run that no sweep leaves.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = read_run(store, run_id)
        if run is not None:
            check_run(run)
        return run
    except Misfit as error:
        raise StoreError(f"run {run_id} is not what fmnist-sweep writes: {error}; name another one.") from None
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
    """The logged parameters of a run, all of them text. Raises KeyError if the store has no such run."""
    run = read_run(store, run_id)
    if run is None:
        raise KeyError(f"run {run_id}")
    return run.params


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
