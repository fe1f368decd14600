"""The cost of a plan: each workload is timed once, and each study's share is forecast from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.config.plugin_words import describe_plugins
from fmnist_sweep.executors import Placement
from fmnist_sweep.search.estimates import estimate_epochs
from fmnist_sweep.sweep.forecast import Forecast, StudyWork, forecast_study, sum_forecasts
from fmnist_sweep.sweep.measurements import Measurements
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.training.probe import TrainingCost, measure_training_cost

if TYPE_CHECKING:
    from fmnist_sweep.executors.local import LocalExecutor

Costs = Mapping[str, TrainingCost]  # by `hash_workload`
_ENDS = ("epochs", "early_stopping", "schedule")  # of `train`


def hash_workload(planned: PlannedStudy) -> str:
    """Name what decides a study's time per epoch: models, batches and images. Studies that share it are timed once.

    Optimizers and seeds make little difference, and are left out; so is what decides the number of epochs.
    """
    settings, splits = planned.study.settings, planned.splits
    train = {key: value for key, value in settings["train"].items() if key not in _ENDS}
    image_counts = [len(splits.train.labels), len(splits.validation.labels)]
    plugins = describe_plugins(planned.study.job.plugins)
    own_code = [plugins] if plugins else []
    return hash_content([settings["model"], settings["regularization"], train, image_counts, *own_code])


def find_known_costs(plan: Sequence[PlannedStudy], placement: Placement, measurements: Measurements) -> Costs | None:
    """The costs of all workloads of a plan, if each was measured earlier with this placement."""
    costs = {workload: measurements.find_cost(workload, placement) for workload in _group_by_workload(plan)}
    known = {workload: cost for workload, cost in costs.items() if cost is not None}
    return known if len(known) == len(costs) else None


def measure_in_process(plan: Sequence[PlannedStudy], placement: Placement, measurements: Measurements) -> Costs:
    """Time each workload of a plan in this process, except for those measured earlier; by `hash_workload`."""
    return _measure_unknown(
        plan,
        placement,
        measurements,
        lambda planned: measure_training_cost(planned.study.settings, planned.splits),
    )


def measure_in_workers(
    plan: Sequence[PlannedStudy], executor: LocalExecutor, placement: Placement, measurements: Measurements
) -> Costs:
    """Time each workload of a plan in all workers at once, except for those measured earlier; by `hash_workload`."""
    return _measure_unknown(plan, placement, measurements, lambda planned: _measure_study_in_workers(executor, planned))


def _measure_study_in_workers(executor: LocalExecutor, planned: PlannedStudy) -> TrainingCost:
    """The mean time of an epoch and the longest start among the workers."""
    costs = executor.measure(planned.study.settings, planned.config.data, planned.study.job.plugins)
    mean_epoch_seconds = sum(cost.epoch_seconds for cost in costs) / len(costs)
    return TrainingCost(mean_epoch_seconds, costs[0].parameters, max(cost.start_seconds for cost in costs))


def _measure_unknown(
    plan: Sequence[PlannedStudy],
    placement: Placement,
    measurements: Measurements,
    measure: Callable[[PlannedStudy], TrainingCost],
) -> Costs:
    costs, measured = {}, {}
    for workload, planned in _group_by_workload(plan).items():
        cost = measurements.find_cost(workload, placement)
        if cost is None:
            cost = measured[workload] = measure(planned)
        costs[workload] = cost
    measurements.keep_costs(measured, placement)
    return costs


def _group_by_workload(plan: Sequence[PlannedStudy]) -> dict[str, PlannedStudy]:
    """The first study of each workload, of those that are not done."""
    studies: dict[str, PlannedStudy] = {}
    for planned in plan:
        if not planned.is_done:
            studies.setdefault(hash_workload(planned), planned)
    return studies


def forecast_plan(plan: Sequence[PlannedStudy], costs: Costs, slots: int) -> Forecast:
    """Forecast what is left of a plan with `slots` trials at once. costs: of each workload, by `hash_workload`."""
    forecasts = [
        forecast_study(costs[hash_workload(planned)], _describe_work(planned, slots))
        for planned in plan
        if not planned.is_done
    ]
    return sum_forecasts(forecasts, slots)


def _describe_work(planned: PlannedStudy, slots: int) -> StudyWork:
    config = planned.config
    minutes_spent = 0.0 if planned.record is None else planned.record.seconds / 60
    max_minutes = config.search.max_minutes
    return StudyWork(
        search_name=config.search.name,
        oracle=config.oracle,
        settings=planned.study.settings,
        trials=planned.ended_count + planned.trials_left,
        ended_trials=planned.ended_count,
        max_minutes=None if max_minutes is None else max(0.0, max_minutes - minutes_spent),
        keep_models=config.tracking.keep_models,
        validation_images=len(planned.splits.validation.labels),
        slots=min(slots, config.search.lookahead or slots),
        configurations=planned.configuration_count,
        is_limited=planned.is_limited,
    )


def estimate_epochs_left(planned: PlannedStudy) -> float:
    """About how many epochs a study still has to train. The screen makes the time left of it."""
    config = planned.config
    return estimate_epochs(config.search.name, config.oracle, planned.study.settings, planned.trials_left)
